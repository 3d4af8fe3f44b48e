"""Slides as layer data of napari: pyramids of which only what is seen is read. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import placed
from napari_fireants._preview import robust_limits
from napari_fireants._read_images import LayerData, Opened, described, title

if TYPE_CHECKING:
    from fireants_engine.io.slides import Slide

CHUNK = 1024
"""Pixels of a side of what is read at once."""


def is_slide(path: Path) -> bool:
    """A file that holds a slide; of folders an OME-Zarr image."""
    return path.is_file() or (path / "zarr.json").is_file() or (path / ".zattrs").is_file()


class Level:
    """A level of a slide as dask cuts it; a slice reads a box.

    channel: (Y, X) of that one; None: (Y, X, 3), in colours.
    """

    def __init__(self, slide: Slide, number: int, channel: int | None) -> None:
        self._slide, self._number, self._channel = slide, number, channel
        self.shape = (*slide.levels[number].shape, *((3,) if channel is None else ()))
        self.dtype, self.ndim = slide.dtype, len(self.shape)

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        """Slices without a step, one for each axis."""
        data = self._slide.read((box[0], box[1]), self._number)
        if self._channel is not None:
            return data[self._channel]
        return np.moveaxis(data[:3], 0, -1)[..., box[2]]


def open_slide(path: Path) -> Opened:
    """The undamaged levels of a slide as one layer in colours, or as one for each channel.

    The file stays open as long as a layer of it is. Where nobody knows the size of a pixel the
    layer has none. Raises InputError as the engine's reader.
    """
    from fireants_engine.io import slides

    slide = slides.open_slide(path, unknown="pixel")
    fine = [k for k, each in enumerate(slide.levels) if not each.fault]
    if not fine:
        slide.level(0)  # says what is wrong with it
    notes = [*slide.notes]
    if len(fine) < len(slide.levels):
        notes.append(
            f"{path.name}: {len(slide.levels) - len(fine)} of its {len(slide.levels)} levels are "
            "damaged; the others are shown."
        )
    look: dict[str, Any] = placed(slide.grid_of(fine[0])) if slide.sized else {}
    colours = slide.channels in (3, 4)
    layers: list[LayerData] = []
    for channel in (None,) if colours else range(slide.channels):
        data = [_lazy(Level(slide, k, channel)) for k in fine]
        one = look | {"name": title(path), "metadata": described(path, path if colours else None)}
        one |= {"rgb": colours, "multiscale": len(data) > 1}
        if channel is not None:
            one["contrast_limits"] = robust_limits(data[-1])
            one["name"] += "" if slide.channels == 1 else f" [{channel}]"
        layers.append((data if len(data) > 1 else data[0], one, "image"))
    return layers, notes


def _lazy(level: Level) -> Any:
    from dask.array.core import from_array

    chunks = tuple(min(CHUNK, n) for n in level.shape)
    empty = np.empty((0,) * level.ndim, level.dtype)
    return from_array(level, chunks=chunks, name=False, asarray=True, meta=empty)
