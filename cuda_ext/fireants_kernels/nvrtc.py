"""CUDA kernel text -> cubin, by NVRTC through ctypes, kept on disk.

NVRTC comes with every CUDA build of torch, or with `pip install nvidia-cuda-nvrtc`; it needs no
GPU. The kernels' files stand in `src/cuda` of the sources and in `cuda` of the installed package.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities, times ten, that every kernel is compiled for in the tests."""


class CompileError(RuntimeError):
    """NVRTC refuses a kernel; the message is its log."""


@cache
def sources() -> dict[str, str]:
    """File name -> text of all `.cuh` files and of the headers that they share with the CPU."""
    installed, checkout = _HERE / "cuda", _HERE.parent / "src"
    folders = [installed] if installed.is_dir() else [checkout, checkout / "cuda"]
    found = {}
    for folder in folders:
        for path in sorted([*folder.glob("*.cuh"), *folder.glob("*.h")]):
            found[path.name] = path.read_text(encoding="utf-8")
    return found


def abi() -> int:
    """Of the structs that the kernels' files expect; `kAbi` of shapes.h."""
    found = re.search(r"kAbi = (\d+);", sources().get("shapes.h", ""))
    return int(found.group(1)) if found else 0


def _candidates() -> Iterator[str]:
    """Where NVRTC may be: among Python's packages first, then wherever the system looks."""
    pattern = "nvrtc64_*.dll" if sys.platform == "win32" else "libnvrtc.so*"
    for key in ("purelib", "platlib"):
        root = Path(sysconfig.get_path(key)) / "nvidia"
        for path in sorted(root.glob(f"*/*/{pattern}"), reverse=True):
            if "builtins" not in path.name and ".alt." not in path.name:
                yield str(path)
    for version in ("13", "12", "11.2"):
        yield f"libnvrtc.so.{version}"
    yield "libnvrtc.so"


@cache
def library() -> ctypes.CDLL:
    """NVRTC; raises OSError where there is none."""
    for name in _candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(
        "NVRTC was not found; install a CUDA build of torch, or: pip install nvidia-cuda-nvrtc"
    )


def version() -> tuple[int, int]:
    """Of NVRTC, such as (13, 0)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _text_of(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library(), f"nvrtcGet{what}")(program, text)
    return text.raw


def compile_text(name: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """The cubin of the file `name` and NVRTC's log; raises CompileError."""
    lib, headers = library(), {k: v for k, v in sources().items() if k != name}
    texts = (ctypes.c_char_p * len(headers))(*(t.encode() for t in headers.values()))
    names = (ctypes.c_char_p * len(headers))(*(n.encode() for n in headers))
    program = ctypes.c_void_p()
    lib.nvrtcCreateProgram(
        ctypes.byref(program), sources()[name].encode(), name.encode(), len(headers), texts, names
    )
    flags = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    try:
        failed = lib.nvrtcCompileProgram(program, len(options), flags)
        log = _text_of(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if failed:
            raise CompileError(f"{name} with {' '.join(options)}:\n{log}")
        return _text_of(program, "CUBIN"), log
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def options(defines: Mapping[str, object], architecture: int, *more: str) -> tuple[str, ...]:
    """What NVRTC is told: real names for the target, C++17, `defines` as -D."""
    told = (f"-D{key}={value}" for key, value in sorted(defines.items()))
    return (f"--gpu-architecture=sm_{architecture}", "--std=c++17", *told, *more)


def cache_folder() -> Path:
    """Where cubins are kept; FIREANTS_CACHE names another place."""
    own = os.environ.get("FIREANTS_CACHE")
    if own:
        return Path(own) / "cubin"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "fireants" / "cubin"


def cubin(name: str, defines: Mapping[str, object], architecture: int) -> bytes:
    """The compiled file, from the disk where it was compiled before.

    The key is all that the result depends on: the text of all files, the options, NVRTC's version.
    A cache that cannot be written is done without.
    """
    told = options(defines, architecture)
    key = hashlib.sha256(repr((name, sorted(sources().items()), told, version())).encode())
    path = cache_folder() / f"{Path(name).stem}-sm{architecture}-{key.hexdigest()[:32]}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        pass
    code, _ = compile_text(name, told)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(code)
        part.replace(path)
    except OSError:
        pass
    return code
