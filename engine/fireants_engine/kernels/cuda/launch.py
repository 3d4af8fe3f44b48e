"""From tensors to kernel launches; nothing here waits for the device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels.native.library import ABI, INSTALL

THREADS = 256
"""Of every block, `kThreads` of common.cuh."""

PARTS = 512
"""Most blocks per row of a kernel that leaves a part of a sum behind: enough to fill any device."""

_REAL = {torch.float32: "float", torch.float64: "double"}
_MOST_BLOCKS = 2**31 - 1


def _on_device(file, defines, kernel, grid, threads, arguments, like: Tensor) -> None:
    from fireants_kernels import driver  # pyright: ignore[reportMissingImports]

    stream = torch.cuda.current_stream(like.device)
    driver.launch(
        *(file, defines, kernel, grid, threads, arguments),
        device=like.device.index,
        stream=stream.cuda_stream,
    )


launcher: Callable[..., None] = _on_device
"""(file, defines, kernel, grid, threads, ctypes arguments, a tensor of the device): tests put the
CPU's shim here."""


@cache
def problem() -> str | None:
    """Why kernels cannot run on CUDA devices here; None where they can."""
    try:
        from fireants_kernels import (  # pyright: ignore[reportMissingImports]
            driver,
            nvrtc,
        )
    except ImportError:
        return f"Kernels 'cuda' are not installed; {INSTALL}, or choose auto or reference."
    try:
        driver.library()
        nvrtc.library()
    except (OSError, RuntimeError) as error:
        return f"Kernels 'cuda' cannot run here ({error}); choose auto or reference."
    if nvrtc.abi() != ABI:
        return (
            f"The CUDA kernels of the installed fireants-kernels speak version {nvrtc.abi()}, this "
            f"engine version {ABI}; install the ones made for it: {INSTALL}."
        )
    return None


def require() -> None:
    """Raises BackendUnavailableError where the kernels cannot run."""
    why = problem()
    if why:
        raise BackendUnavailableError(why)


def blocks(samples: int, most: int = _MOST_BLOCKS) -> int:
    """Blocks for so many samples, one thread each, or fewer whose threads take several."""
    return max(1, min(-(-samples // THREADS), most))


def _argument(value: Any) -> Any:
    """How a value reaches a kernel: tensors by pointer, ints as int64, floats as double."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_double(value)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return value


@dataclass(frozen=True)
class Kernels:
    """The kernels of one file, for tensors like one.

    like: gives type and device; defines: further names that the file is compiled with.
    """

    file: str
    like: Tensor
    defines: tuple[tuple[str, object], ...] = ()

    def __call__(self, kernel: str, grid: Sequence[int], *arguments: Any) -> None:
        """Launch with `grid` blocks (up to three numbers) of THREADS threads."""
        x, y, z = (*grid, 1, 1)[:3]
        if max(y, z) > 65535 or x > _MOST_BLOCKS:
            raise ValueError(f"{kernel}: a batch of {max(y, z)} rows is too large; use fewer")
        defines = {"REAL": _REAL[self.like.dtype], **dict(self.defines)}
        given = [_argument(a) for a in arguments]
        launcher(f"{self.file}.cuh", defines, kernel, (x, y, z), (THREADS, 1, 1), given, self.like)

    def parts(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Uninitialised memory on the device, in the tensors' type unless another is named."""
        return torch.empty(shape, dtype=dtype or self.like.dtype, device=self.like.device)


def largest(values: Tensor, results: int, out: Tensor) -> None:
    """The largest |value| of each of `results` equal shares of a tensor, NaN where one is."""
    reduce = Kernels("reduce", values)
    count = values.numel() // results
    share = blocks(count, max(1, min(PARTS, 4 * PARTS // results)))
    parts = reduce.parts(results, share)
    reduce("largest_part", (results, share), count, values, parts)
    reduce("largest", (results,), share, parts, out)
