"""The C library of `fireants_kernels` seen from tensors: checked, called, its errors told."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_double, c_int, c_int64, c_uint64, c_void_p
from functools import cache

import torch
from torch import Tensor

from fireants_engine.errors import BackendUnavailableError, OutOfMemoryError

ABI = 1
"""Of the signatures, and of the structs that the modules beside this one mirror; `src/cpu/api.h`
has the same number."""

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


def checked(name: str, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors, dense; raises TypeError for another device or precision than float32/64.

    All have the type of the first.
    """
    first = next(t for t in tensors if t is not None)
    if first.dtype not in _SUFFIX:
        raise TypeError(f"{name}: native kernels take float32 and float64, not {first.dtype}")
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu":
            raise TypeError(
                f"{name}: native kernels run on the CPU, a tensor is on {tensor.device}"
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
    """`fireants_{name}_{f32|f64}(...)`: tensors by pointer, ints as int64, floats as double."""
    function = getattr(library(), f"fireants_{name}_{_SUFFIX[dtype]}")
    function.restype = c_int
    if function(*map(_argument, arguments)):
        raise OutOfMemoryError(
            f"Not enough memory for {name}; start at a coarser level, or close other programs."
        )
