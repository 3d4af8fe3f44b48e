"""The kernels of `fireants_kernels` seen from tensors: checked, called, their errors told."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_double, c_int, c_int64, c_uint64, c_void_p
from functools import cache

import torch
from torch import Tensor

from fireants_engine.errors import BackendUnavailableError, OutOfMemoryError

ABI = 4
"""Of the signatures, and of the structs that the modules beside this one mirror; `src/shapes.h` has
the same number."""

INSTALL = "pip install fireants-kernels (in a checkout: make kernels)"

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


@cache
def library() -> ctypes.CDLL:
    """The library; raises BackendUnavailableError where it is absent, broken or of another ABI."""
    try:
        import fireants_kernels  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BackendUnavailableError(
            f"Kernels 'native' are not installed; {INSTALL}, or choose auto or reference."
        ) from None
    try:
        found = fireants_kernels.cpu()
    except OSError as error:
        raise BackendUnavailableError(
            f"Kernels 'native' cannot be loaded ({error}); reinstall them: {INSTALL}."
        ) from None
    if found.fireants_abi() != ABI:
        raise BackendUnavailableError(
            f"The installed fireants-kernels {fireants_kernels.__version__} speak version "
            f"{found.fireants_abi()}, this engine version {ABI}; install the ones made for it: "
            f"{INSTALL}."
        )
    found.fireants_allocate.restype = c_void_p
    found.fireants_allocate.argtypes = [c_uint64]
    found.fireants_release.restype = None
    found.fireants_release.argtypes = [c_void_p]
    return found


def problem() -> str | None:
    """Why there are no native kernels; None where there are."""
    try:
        library()
    except BackendUnavailableError as error:
        return str(error)
    return None


def sizes3(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A 2D size as a 3D one of one plane."""
    z, y, x = (1,) * (3 - len(shape)) + tuple(shape)
    return z, y, x


_SHARE = 16384
"""Samples of a kernel that are worth waking a further thread for."""


def threads_for(samples: int) -> int:
    """How many threads a kernel of so many samples has work for, of those that torch may use."""
    return max(1, min(torch.get_num_threads(), samples // _SHARE))


def checked(name: str, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors, dense; raises TypeError for a device or a precision without kernels.

    All have the type of the first and lie on its device: the CPU or a CUDA device.
    """
    first = next(t for t in tensors if t is not None)
    if first.dtype not in _SUFFIX:
        raise TypeError(f"{name}: native kernels take float32 and float64, not {first.dtype}")
    if first.device.type not in _CALLS:
        raise TypeError(
            f"{name}: native kernels run on the CPU and on CUDA, a tensor is on {first.device}"
        )
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device != first.device:
            raise TypeError(
                f"{name}: tensors on {first.device} and {tensor.device}; move them to one of both"
            )
        if tensor.dtype != first.dtype:
            raise TypeError(f"{name}: tensors of {first.dtype} and {tensor.dtype}; use one of both")
    return [None if t is None else t.detach().contiguous() for t in tensors]


def _argument(value):
    """How a value reaches C."""
    if value is None or isinstance(value, Tensor):
        return c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, Structure):
        return ctypes.byref(value)
    if isinstance(value, float):
        return c_double(value)
    return c_int64(value)


def call(name: str, dtype: torch.dtype, *arguments) -> None:
    """The operation `name` on the device of its tensors: tensors by pointer, ints as int64, floats
    as double. Raises OutOfMemoryError."""
    device = next(a.device.type for a in arguments if isinstance(a, Tensor))
    _CALLS[device](name, dtype, *arguments)


def _on_cpu(name: str, dtype: torch.dtype, *arguments) -> None:
    """`fireants_{name}_{f32|f64}(...)` of the C library."""
    function = getattr(library(), f"fireants_{name}_{_SUFFIX[dtype]}")
    function.restype = c_int
    if function(*map(_argument, arguments)):
        raise OutOfMemoryError(
            f"Not enough memory for {name}; start at a coarser level, or close other programs."
        )


def _on_cuda(name: str, dtype: torch.dtype, *arguments) -> None:
    from fireants_engine.kernels import cuda

    cuda.call(name, dtype, *arguments)


_CALLS = {"cpu": _on_cpu, "cuda": _on_cuda}
"""How an operation is run, by the kind of device."""


def runs_in_cpp(tensor: Tensor) -> bool:
    """Whether the C++ kernels, not the CUDA ones, work on this tensor."""
    return _CALLS.get(tensor.device.type) is _on_cpu
