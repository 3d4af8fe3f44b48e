"""Keep the window answering while Python does heavy things in another thread.

Two things hold the interpreter, and with it the window, for longer than a person forgives:
loading torch's libraries (about half a second) and a full garbage collection of everything napari
and torch keep alive (as long again). The first can be done by the loader without holding the
interpreter; the second is avoided by taking what already lives out of the collector's sight.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LIBRARIES = ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so", "libtorch_python.so")
_frozen = 0
_loaded = threading.Event()
"""Torch is whole; while one thread still imports it, others find parts of it."""
_lock = threading.Lock()


def _load_libraries() -> None:
    """Map torch's big libraries through the system's loader, which runs without the GIL.

    Only a head start: whatever fails here is loaded, or reported, by `import torch` itself.
    """
    spec = importlib.util.find_spec("torch")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return
    try:
        load = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError):
        return
    load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name in _LIBRARIES:
        path = Path(spec.origin).parent / "lib" / name
        visible = os.RTLD_GLOBAL if "global" in name else 0
        if path.exists():
            load(str(path).encode(), os.RTLD_LAZY | visible)


def import_engine() -> None:
    """Import torch and the engine; call it from a worker thread.

    Torch's helper threads are asked to sleep while they wait. By default they spin, which steals
    the processor from the window, and beside any other busy program slows small steps many times.
    """
    waiting = "OMP_WAIT_POLICY" in os.environ
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        _load_libraries()
    collecting = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("fireants_engine.workflows.registration")
        _loaded.set()
    finally:
        if collecting:
            gc.freeze()  # or the next collection would look at all that the import made
            gc.enable()
        if not waiting:
            os.environ.pop("OMP_WAIT_POLICY", None)  # read once; not for child processes


@contextmanager
def quiet_heap() -> Iterator[None]:
    """Collections inside look only at objects made inside, so they take no time worth noticing."""
    global _frozen
    with _lock:
        _frozen += 1
        gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _frozen -= 1
            if not _frozen:
                gc.unfreeze()


def collect_later() -> None:
    """No collection before the window is next at rest: one looks at all of napari, which takes as
    long as a dock takes to open."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    if gc.isenabled() and QApplication.instance() is not None:
        gc.disable()
        QTimer.singleShot(0, gc.enable)


def release_memory() -> None:
    """Collect what a run left in cycles, and give cached CUDA memory back."""
    gc.collect()
    if _loaded.is_set():
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def trim_memory() -> None:
    """Give what is free back to the system. Takes some 25 ms, in which nobody gets memory: after
    a run, not after every picture."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
