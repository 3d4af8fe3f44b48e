"""Fused kernels for fireants_engine: a C library for CPUs, loaded with ctypes.

`cpu()` gives the library. What its functions take stands in `src/cpu/api.h`; tensors meet them in
`fireants_engine.kernels.native`.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
_SUFFIXES = (".dll", ".pyd") if sys.platform == "win32" else (".so", ".dylib")


class LibraryError(OSError):
    """The library is missing or does not load."""


def _load(name: str) -> ctypes.CDLL:
    for suffix in _SUFFIXES:
        path = _HERE / f"{name}{suffix}"
        if path.is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError as error:
                raise LibraryError(f"{path.name} does not load on this machine: {error}") from error
    raise LibraryError(f"{name} is not in {_HERE}: the package was installed without being built")


@cache
def cpu() -> ctypes.CDLL:
    """The library for the best instruction set that this machine runs.

    Raises LibraryError when there is none or it does not load.
    """
    base = _load("fireants_cpu_base")
    return _load("fireants_cpu_v3") if base.fireants_cpu_level() >= 3 else base
