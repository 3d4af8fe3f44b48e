"""Launching compiled kernels, by the CUDA driver through ctypes, in torch's own context."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from fireants_kernels.nvrtc import cubin


class CudaError(RuntimeError):
    """The driver refuses; the message is its own."""


@cache
def library() -> ctypes.CDLL:
    """The CUDA driver; raises OSError where there is none."""
    lib = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    check(lib.cuInit(0), lib)
    return lib


def check(code: int, lib: ctypes.CDLL | None = None) -> None:
    """Raises CudaError for a driver's answer that is not 0."""
    if code == 0:
        return
    text = ctypes.c_char_p()
    (lib or library()).cuGetErrorString(code, ctypes.byref(text))
    raise CudaError((text.value or b"unknown error").decode())


@cache
def context(device: int) -> ctypes.c_void_p:
    """The primary context of a device: the one that torch uses. It is kept for good."""
    handle, found = ctypes.c_int(), ctypes.c_void_p()
    check(library().cuDeviceGet(ctypes.byref(handle), device))
    check(library().cuDevicePrimaryCtxRetain(ctypes.byref(found), handle))
    return found


@cache
def architecture(device: int) -> int:
    """Compute capability times ten, such as 90."""
    handle, part = ctypes.c_int(), ctypes.c_int()
    check(library().cuDeviceGet(ctypes.byref(handle), device))
    digits = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        check(library().cuDeviceGetAttribute(ctypes.byref(part), attribute, handle))
        digits.append(part.value)
    return 10 * digits[0] + digits[1]


@cache
def _module(name: str, defines: tuple[tuple[str, object], ...], device: int) -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    code = cubin(name, dict(defines), architecture(device))
    check(library().cuModuleLoadData(ctypes.byref(found), code))
    return found


@cache
def _function(
    name: str, defines: tuple[tuple[str, object], ...], kernel: str, device: int
) -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    module = _module(name, defines, device)
    check(library().cuModuleGetFunction(ctypes.byref(found), module, kernel.encode()))
    return found


def launch(
    name: str,
    defines: Mapping[str, object],
    kernel: str,
    grid: tuple[int, int, int],
    threads: tuple[int, int, int],
    arguments: Sequence[ctypes._SimpleCData | ctypes.Structure | ctypes.Array],
    *,
    device: int,
    stream: int,
) -> None:
    """Put `kernel` of the file `name` on a stream of a device; returns at once."""
    check(library().cuCtxSetCurrent(context(device)))
    function = _function(name, tuple(sorted(defines.items())), kernel, device)
    places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
    check(
        library().cuLaunchKernel(
            function, *grid, *threads, 0, ctypes.c_void_p(stream), places, None
        )
    )
