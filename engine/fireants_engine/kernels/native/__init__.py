"""The kernels of `cuda_ext/src/cpu` (distribution fireants-kernels) on tensors of the CPU."""

from fireants_engine.kernels.native import descent, library, memory, smooth, warp

__all__ = ["descent", "library", "memory", "smooth", "warp"]
