"""What a run is given beside the two images: label maps, landmarks, further images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fireants_engine.deformations.pair import IMAGE, LABELS, LANDMARKS
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, Landmarks, check_registrable
from fireants_engine.ops.resample import as_label_values, warp_image, warp_labels
from fireants_engine.transforms import Affine, Transform

_REMEDY = {
    LABELS: "label maps of both images; give fixed labels and moving labels",
    LANDMARKS: "corresponding points; give landmarks",
}


@dataclass(frozen=True, eq=False)
class Extras:
    """What is given beside the pair: terms may use it, and what is there is measured.

    moving_labels, fixed_labels: label maps; landmarks: corresponding points; images: name ->
    (fixed, moving), further images in the space of the pair; files: role (fixed_mask,
    moving_mask, init, landmarks) -> path it came from, for the record.
    """

    moving_labels: Image | None = None
    fixed_labels: Image | None = None
    landmarks: Landmarks | None = None
    images: Mapping[str, tuple[Image, Image]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def check(self, fixed: Image, moving: Image) -> None:
        """Raise InputError for anything that does not fit the pair."""
        for labels in (self.moving_labels, self.fixed_labels):
            if labels is not None:
                _same_dimension(labels, fixed.dim)
                as_label_values(labels)
        if self.fixed_labels is not None and not self.fixed_labels.grid.same_space(fixed.grid):
            raise InputError(
                f"{self.fixed_labels.name}: the fixed labels lie on another grid than "
                f"{fixed.name}; resample them onto it."
            )
        for name, both in self.images.items():
            if name in (IMAGE, LABELS, LANDMARKS):
                raise InputError(f"An input cannot be named {name!r}; choose another name.")
            for image in both:
                _same_dimension(image, fixed.dim)
                check_registrable(image)
            if both[0].channels != both[1].channels:
                raise InputError(
                    f"Input {name!r}: {both[0].name} has {both[0].channels} channel(s) and "
                    f"{both[1].name} {both[1].channels}; give both the same."
                )

    def check_needs(self, needs: Iterable[tuple[str, str]], fixed: Image, moving: Image) -> None:
        """Raise InputError when a stage needs what is not there; needs: (stage, input name)."""
        for stage, name in needs:
            if self._has(name):
                continue
            what = _REMEDY.get(name, f"the input {name!r}; give it (--input {name} FIXED MOVING)")
            raise InputError(f"Stage {stage!r} has a term that needs {what}, or remove the term.")
        names = {name for _, name in needs}
        if LANDMARKS in names and self.landmarks is not None:
            self.landmarks.check_inside(fixed.grid, moving.grid)

    def _has(self, name: str) -> bool:
        if name == LABELS:
            return self.fixed_labels is not None and self.moving_labels is not None
        if name == LANDMARKS:
            return self.landmarks is not None
        return name == IMAGE or name in self.images

    def labels_on(self, fixed: Grid, moving: Grid) -> tuple[Image, Image]:
        """Both label maps on the images' grids; to be asked for after `check_needs`."""
        if self.fixed_labels is None or self.moving_labels is None:
            raise ValueError("there are no label maps of both images")
        return _labels_onto(self.fixed_labels, fixed), _labels_onto(self.moving_labels, moving)


@dataclass(frozen=True, eq=False)
class Case:
    """One pair to register, with everything it is given.

    initial: a transform fixed mm -> moving mm that replaces the recipe's start; name: for people.
    """

    fixed: Image
    moving: Image
    extras: Extras = field(default_factory=Extras)
    initial: Transform | None = None
    name: str = ""

    def check(self, needs: Iterable[tuple[str, str]] = ()) -> None:
        """Raise InputError unless everything fits and is there; needs: (stage, input name)."""
        if self.initial is not None and self.initial.dim != self.fixed.dim:
            path = self.extras.files.get("init")
            raise InputError(
                f"{'The' if path is None else f'{path}: the'} initial transform is "
                f"{self.initial.dim}D but {self.fixed.name} is {self.fixed.dim}D; give a transform "
                "of the same dimension."
            )
        self.extras.check(self.fixed, self.moving)
        self.extras.check_needs(needs, self.fixed, self.moving)

    def fits(self, other: Case) -> bool:
        """True when both can be in a batch: same channels, sizes and spacings (to 0.1 %)."""
        both = ((self.fixed, other.fixed), (self.moving, other.moving))
        return all(
            a.channels == b.channels
            and a.grid.size == b.grid.size
            and np.allclose(a.grid.spacing_mm, b.grid.spacing_mm, rtol=1e-3)
            for a, b in both
        )


def check_batch(cases: Sequence[Case]) -> None:
    """Raise InputError unless the cases can go through a run together."""
    if not cases:
        raise InputError("A batch needs at least one pair.")
    first = cases[0]
    for number, case in enumerate(cases[1:], start=2):
        if not case.fits(first):
            raise InputError(
                f"Pair {number} of the batch ({case.fixed.name}, {case.moving.name}) has another "
                f"size, spacing or number of channels than pair 1 ({first.fixed.name}, "
                f"{first.moving.name}); register them in separate batches."
            )


def _same_dimension(image: Image, dim: int) -> None:
    if image.dim != dim:
        raise InputError(
            f"{image.name} is {image.dim}D but the images are {dim}D; give one of the same "
            "dimension."
        )


def _labels_onto(labels: Image, grid: Grid) -> Image:
    if labels.grid.same_space(grid):
        return labels
    return warp_labels(labels, Affine.identity(grid.dim), grid)


def onto(image: Image, grid: Grid) -> Image:
    """`image` with its mask on `grid`, by their places in the world."""
    if image.grid.same_space(grid):
        return image
    still = Affine.identity(grid.dim)
    moved = warp_image(image, still, grid)
    if image.mask is None:
        return moved
    mask = Image(image.mask[None].float(), image.grid, name=f"{image.name}: its mask")
    return Image(moved.data, grid, warp_image(mask, still, grid).data[0] > 0.5, moved.name)
