"""What a run of these layers would need in memory, in words. No Qt, no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._layers import Snapshot, snapshot

if TYPE_CHECKING:
    from fireants_engine.recipe.models import Recipe
    from fireants_engine.workflows.forecast import Forecast, Remedy
    from fireants_engine.workflows.memory_of_images import ImageSize

_THIN = 4
"""Every n-th voxel along each axis is looked at for the number of labels."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The layers of a run as they are now; taken on the GUI thread, nothing is read."""

    recipe: Recipe
    device: str
    fixed: Snapshot
    moving: Snapshot
    masks: tuple[bool, bool]
    labels: tuple[Snapshot | None, Snapshot | None]


@dataclass(frozen=True)
class Told:
    """One line, how much it should alarm (good, note or error), what it is made of, a way out."""

    text: str
    tone: str
    details: str
    device: str
    remedy: Remedy | None = None


def asked(roles: Any, recipe: Recipe, device: str) -> Asked | None:
    """What a run of these layers would be given; None where they cannot be registered."""
    if roles.fixed is None or roles.moving is None or roles.fixed == roles.moving:
        return None
    try:
        both = snapshot(roles.fixed), snapshot(roles.moving)
        labels = [
            None if layer is None else snapshot(layer)
            for layer in (roles.moving_labels, roles.fixed_labels)
        ]
    except InputError:  # said by the inputs themselves
        return None
    if both[0].ndim != both[1].ndim:
        return None
    masks = roles.fixed_mask is not None, roles.moving_mask is not None
    return Asked(recipe, device, *both, masks, (labels[0], labels[1]))


def _size(source: Snapshot, mask: bool) -> ImageSize:
    """As `_layers.to_image` and the engine will hold it."""
    from fireants_engine.workflows.memory_of_images import ImageSize

    dtype = np.dtype(source.data.dtype)
    wide = dtype.kind == "u" and dtype.itemsize > 1  # torch has few unsigned types
    channels = 3 if source.rgb else 1
    itemsize = min(8, dtype.itemsize * 2) if wide else dtype.itemsize
    real = dtype == np.float32
    return ImageSize(source.size, source.spacing_mm, channels, itemsize, real, mask)


def _common_labels(labels: tuple[Snapshot | None, Snapshot | None], recipe: Recipe) -> int:
    """About how many labels both maps have; 0 where no term asks."""
    kinds = {term.kind for stage in recipe.stages if stage.enabled for term in stage.terms}
    first, second = labels
    if first is None or second is None or not kinds & {"dice", "contour"}:
        return 0
    found = []
    for source in (first, second):
        if not isinstance(source.data, np.ndarray):  # reading it may take long
            return 0
        found.append(set(np.unique(source.data[(slice(None, None, _THIN),) * source.ndim])))
    return len((found[0] & found[1]) - {0})


def tell(given: Asked) -> Told:
    """The forecast in words; takes a tenth of a second where it has to look for remedies."""
    from fireants_engine.workflows.forecast import forecast
    from fireants_engine.workflows.memory_of_images import Given

    labels = _common_labels(given.labels, given.recipe)
    return words(
        forecast(
            given.recipe,
            _size(given.fixed, given.masks[0]),
            _size(given.moving, given.masks[1]),
            device=given.device,
            given=Given(labels=labels, moving_labels=given.labels[0] is not None),
            window=True,
        )
    )


def words(found: Forecast) -> Told:
    """A forecast for a person."""
    from fireants_engine.workflows.forecast import as_text

    parts = sorted(found.parts.items(), key=lambda part: -part[1])
    details = ["Beyond what napari holds now, at the worst moment of a run:"]
    details += [f"{name}: {as_text(size)}" for name, size in parts]
    tone = {True: "good", False: "error", None: "good"}[found.fits]
    text, remedy = found.sentence, None
    if found.fits is False:
        close = found.free_bytes is not None and found.peak_bytes <= found.free_bytes
        tone = "note" if close else "error"
        remedy = next((r for r in found.remedies if r.recipe or r.device), None)
        details += [f"{r.text} (loss: {r.loss})" for r in found.remedies]
        if not found.remedies:
            text += " Crop the images, or close other programs."
    return Told(text, tone, "\n".join(details), found.device, remedy)


class Meter:
    """What a run has taken since it began."""

    def __init__(self, in_use: Callable[[str], int | None] | None = None) -> None:
        if in_use is None:
            from fireants_engine.workflows.forecast import in_use as found

            in_use = found
        self._in_use = in_use
        self._device = "cpu"
        self._before = 0
        self.most = 0

    def begin(self, device: str) -> None:
        self._device = device
        self._before = self._in_use(device) or 0
        self.most = 0

    def read(self) -> int | None:
        """Bytes beyond those at the beginning, None where nothing tells."""
        now = self._in_use(self._device)
        if now is None:
            return None
        grown = max(0, now - self._before)
        self.most = max(self.most, grown)
        return grown
