"""CUDA kernels in tests: on a GPU where FIREANTS_TEST_DEVICE names one (`make gpu-check`), else on
the CPU, compiled with the shim and launched as the driver would."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from fireants_engine.kernels import cuda
from fireants_engine.kernels.cuda import launch
from fireants_engine.kernels.native import library

SOURCES = Path(__file__).resolve().parents[3] / "cuda_ext" / "src"
COMPILER = shutil.which("g++")
DEVICE = os.environ.get("FIREANTS_TEST_DEVICE", "cpu")
_built = TemporaryDirectory(prefix="fireants-shim-")

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


@cache
def compiled(file: str, defines: tuple[tuple[str, object], ...]) -> ctypes.CDLL:
    """A `.cuh` file as a library of `shim_*` functions."""
    assert COMPILER is not None
    target = Path(_built.name) / f"{len(list(Path(_built.name).iterdir()))}.so"
    flags = [f"-D{name}={value}" for name, value in defines]
    subprocess.run(
        [
            *(COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", *WARNINGS, *flags),
            *(
                "-include",
                SOURCES / "shim" / "cuda_shim.h",
                f"-I{SOURCES}",
                f"-I{SOURCES / 'cuda'}",
            ),
            *("-x", "c++", SOURCES / "cuda" / file, "-o", target),
        ],
        check=True,
    )
    return ctypes.CDLL(str(target))


def run(file, defines, kernel, grid, threads, arguments, like) -> None:
    """Stands in for the driver's launch."""
    assert like.device.type == "cpu"
    function = getattr(compiled(file, tuple(sorted(defines.items()))), f"shim_{kernel}")
    places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
    function((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*threads), places)


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Inside, what the native kernels do on CPU tensors is done by the CUDA kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "launcher", run)
        patch.setitem(library._CALLS, "cpu", cuda.call)
        yield


@pytest.fixture(autouse=True)
def cuda_kernels() -> Iterator[None]:
    """For test modules to import: tensors are made on the device under test, or the shim runs."""
    if DEVICE == "cpu":
        if COMPILER is None:
            pytest.skip("the shim needs g++")
        with on_the_cpu():
            yield
        return
    with torch.device(DEVICE):
        yield
