"""How much memory a run will need, before it: from sizes alone, without torch and without images.

`forecast` says what a run takes *beyond* what its process holds when the images are loaded and the
run begins: the highest that its resident memory (on a GPU: what its arrays take there) rises above
that. The images as loaded, Python and torch are there already and do not count.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fireants_engine.errors import InputError
from fireants_engine.recipe.models import Recipe
from fireants_engine.workflows.arrays import MIB, Book, Habits
from fireants_engine.workflows.memory_of_images import Given, ImageSize
from fireants_engine.workflows.memory_of_run import Model

MARGIN = 1.15
"""What a forecast may be off by: as much more has to be free."""

_SHRINKS = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_HEAP_BELOW = 32 * MIB
"""glibc: smaller arrays lie in the heap (DEFAULT_MMAP_THRESHOLD_MAX on 64 bits)."""
_FIRST = 260 * MIB, 180 * MIB
"""What the first run of a window loads: torch and the engine, and at its end what draws it."""


@dataclass(frozen=True)
class Remedy:
    """A way to need less. text: what it is, for a button; loss: what it costs, in a few words.

    peak_bytes: its own forecast, None where that is not ours to say. Of the others what is not
    None replaces what the forecast was asked for.
    """

    text: str
    loss: str
    peak_bytes: int | None
    recipe: Recipe | None = None
    device: str | None = None
    pairs: int | None = None


@dataclass(frozen=True)
class Forecast:
    """peak_bytes: see the head of this file; parts: what it is made of at the worst moment.

    free_bytes: now, None where unknown; fits: with a margin of 15 %, None where unknown.
    """

    peak_bytes: int
    parts: Mapping[str, int]
    free_bytes: int | None
    device: str
    kernels: str
    fits: bool | None
    remedies: tuple[Remedy, ...] = ()

    @property
    def sentence(self) -> str:
        """One line for people."""
        need, free = as_text(self.peak_bytes), self.free_bytes
        if free is None:
            return f"Needs about {need} of memory; how much is free is unknown."
        if self.peak_bytes > free:
            return f"Needs about {need} of memory, but only {as_text(free)} are free."
        tight = "" if self.fits else ", which is tight"
        return f"Needs about {need} of {as_text(free)} free memory{tight}."


def as_text(size: float) -> str:
    """Bytes for people, in decimal units."""
    if size < 0.995e9:
        return f"{max(10, round(size / 1e7) * 10)} MB"
    return f"{size / 1e9:.1f} GB" if size < 9.95e9 else f"{size / 1e9:.0f} GB"


# ------------------------------------------------------------------ what there is
def free_memory(device: str = "cpu") -> int | None:
    """Bytes that a run could still take on `device`; None where nothing tells.

    CPU: what the system calls available, less where the process is held to a limit. CUDA: free on
    the card plus what torch keeps of it; only where torch is loaded already.
    """
    if device.startswith("cuda"):
        return _free_on_cuda(device)
    found = [size for size in (_available(), _below_limit()) if size is not None]
    return min(found) if found else None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # napari brings it
        import psutil  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _below_limit(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container leaves, None without a limit."""
    try:
        most = int((folder / "memory.max").read_text())
        return max(0, most - int((folder / "memory.current").read_text()))
    except (OSError, ValueError):
        return None


def _free_on_cuda(device: str) -> int | None:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():  # that takes seconds: left to a run
        return None
    index = int(device.partition(":")[2] or 0)
    kept = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return int(torch.cuda.mem_get_info(index)[0] + kept)


def in_use(device: str = "cpu") -> int | None:
    """Bytes that this process holds now on a device; None where nothing tells. Cheap."""
    if device.startswith("cuda"):
        torch: Any = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return None
        return int(torch.cuda.memory_reserved(int(device.partition(":")[2] or 0)))
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _page_size()
    except (OSError, ValueError, IndexError):
        pass
    try:
        import psutil  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        return None
    return int(psutil.Process().memory_info().rss)


def _page_size() -> int:
    import resource

    return resource.getpagesize()


def likely_device(device: str = "auto") -> str:
    """The device a run would take, as far as can be told without loading torch."""
    torch: Any = sys.modules.get("torch")
    if device != "auto":
        return "cuda:0" if device == "cuda" else device
    if torch is not None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    return "cuda:0" if driver else "cpu"


def likely_kernels(device: str, kernels: str = "auto") -> str:
    """The kernels a run would take on a device, likewise."""
    if kernels != "auto":
        return kernels
    if "fireants_engine.kernels.table" in sys.modules:
        from fireants_engine.kernels import select

        return select("auto", device)[0].name
    return "native" if device == "cpu" and find_spec("fireants_kernels") else "reference"


def habits_on(device: str, native: bool) -> Habits:
    """How memory is given and taken back there."""
    if device != "cpu" or platform.system() != "Linux":
        return Habits(lends=native and device == "cpu")
    name, version = platform.libc_ver()
    if name != "glibc":
        return Habits(lends=native)
    # before 2.38 a freed array is not used again for an aligned one of its own size
    old = tuple(int(n) for n in version.split(".")[:2]) < (2, 38)
    return Habits(native, _HEAP_BELOW, _SCATTERED[native] if old else 1.0)


_SCATTERED = {True: 1.0, False: 1.7}


# ------------------------------------------------------------------ what will be
def forecast(
    recipe: Recipe,
    fixed: ImageSize,
    moving: ImageSize,
    *,
    device: str = "auto",
    kernels: str = "auto",
    given: Given | None = None,
    pairs: int = 1,
    window: bool = False,
    free_bytes: int | None = None,
) -> Forecast:
    """The peak of a run of `recipe` on images of these sizes, and what helps if it does not fit.

    device, kernels: as in `Execution`; given: what there is beside the pair; pairs: of a batch of
    one size; window: the images are layers that the run copies, and it makes pictures at the end.
    free_bytes: default what is free on the device now.

    The memory of a GPU and of the process are different: on CUDA the forecast is of the card. The
    same arrays are counted there; that has not been held against a GPU. Raises InputError for
    images of different dimensions.
    """
    if len(fixed.size) != len(moving.size):
        raise InputError(
            f"The fixed image is {len(fixed.size)}D and the moving image {len(moving.size)}D; "
            "choose two images of the same dimension."
        )
    if pairs < 1:
        raise InputError(f"A batch of {pairs} pairs; at least one is needed.")
    wanted = _Wanted(recipe, fixed, moving, given or Given(), pairs, window)
    where = likely_device(device)
    table = likely_kernels(where, kernels)
    book = wanted.book(where, table)
    free = free_memory(where) if free_bytes is None else free_bytes
    fits = None if free is None else _fits(book.peak, free)
    remedies = () if free is None or fits else tuple(_remedies(wanted, where, table, book, free))
    return Forecast(book.peak, dict(book.parts), free, where, table, fits, remedies)


def _fits(peak: int, free: int) -> bool:
    return peak * MARGIN <= free


@dataclass(frozen=True)
class _Wanted:
    """What a forecast was asked for."""

    recipe: Recipe
    fixed: ImageSize
    moving: ImageSize
    given: Given
    pairs: int
    window: bool

    def book(self, device: str, kernels: str) -> Book:
        native = kernels in ("native", "cuda")
        book = Book(habits_on(device, native))
        shown = self.window and device == "cpu"
        first = _FIRST if shown and "torch" not in sys.modules else (0, 0)
        if shown:
            book.load("libraries", first[0])
            for image in (self.fixed, self.moving):
                book.load("images", image.loaded)
        model = Model(self.recipe, self.fixed, self.moving, self.given, native, self.pairs)
        result = model.run(book)
        if shown:
            book.load("libraries", first[1])
            model.pictures(book, result)
        return book


def _remedies(
    wanted: _Wanted, device: str, kernels: str, book: Book, free: int
) -> Iterator[Remedy]:
    """What helps, the least loss first; each fits, or is the best there is."""
    if device == "cpu" and kernels == "reference":
        fused = wanted.book(device, "native").peak
        if fused < book.peak:
            yield Remedy("Install the fused kernels", "none", fused)
    fewer = wanted.pairs
    while fewer > 1:
        fewer = (fewer + 1) // 2
        peak = replace(wanted, pairs=fewer).book(device, kernels).peak
        if _fits(peak, free) or fewer == 1:
            yield Remedy(f"{fewer} pair(s) at once", "slower on a GPU", peak, pairs=fewer)
            break
    yield from _elsewhere(wanted, device)
    yield from _coarser(wanted, device, kernels, book, free)


def _elsewhere(wanted: _Wanted, device: str) -> Iterator[Remedy]:
    """Another device with room."""
    if device == "cpu":
        other, text, loss = "cuda:0", "Compute on the GPU", "none"
    else:
        other, text, loss = "cpu", "Compute on the CPU", "slower"
    room = free_memory(other)
    if room is None:
        return
    peak = wanted.book(other, likely_kernels(other)).peak
    if _fits(peak, room):
        yield Remedy(text, loss, peak, device=other)


def _coarser(wanted: _Wanted, device: str, kernels: str, book: Book, free: int) -> Iterator[Remedy]:
    """The finest level at a larger shrink: the smallest that fits, or the largest there is."""
    best: Remedy | None = None
    for shrink in _SHRINKS:
        recipe = at_least(wanted.recipe, shrink)
        if recipe == wanted.recipe:
            continue
        peak = replace(wanted, recipe=recipe).book(device, kernels).peak
        if peak < 0.98 * (
            book.peak if best is None or best.peak_bytes is None else best.peak_bytes
        ):
            text = f"End at voxels {shrink:g}× as large"
            best = Remedy(text, "details finer than that", peak, recipe=recipe)
        if best is not None and _fits(peak, free):
            break
    if best is not None:
        yield best


def at_least(recipe: Recipe, shrink: float) -> Recipe:
    """`recipe` with no level finer than `shrink`; levels that become alike are one."""
    values: dict[str, Any] = {}
    for number, stage in enumerate(recipe.stages):
        levels = stage.pyramid.levels
        if not stage.enabled or all(level.shrink >= shrink for level in levels):
            continue
        kept: list[dict[str, Any]] = []
        for level in levels:
            own = max(level.shrink, shrink)
            if kept and kept[-1]["shrink"] == own:
                kept[-1]["max_steps"] = max(kept[-1]["max_steps"], level.max_steps)
            else:
                kept.append({"shrink": own, "max_steps": level.max_steps})
        values[f"stages.{number}.pyramid.levels"] = kept
    return recipe.with_values(values) if values else recipe
