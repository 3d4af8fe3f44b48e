"""The kernels of `cuda_ext/src/cpu` (distribution fireants-kernels) on tensors of the CPU."""
