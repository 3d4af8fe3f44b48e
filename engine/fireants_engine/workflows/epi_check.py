"""Do the phase-encoding directions fit the images? Other ones are tried, quickly and coarsely.

What a pair can tell is its axis, and whether its two volumes are opposed. It cannot tell which of
the two is which: with both signs turned, the field of opposite sign explains the same images, so
the corrected images stay as they are and the map in Hz is negated. A field that is known decides
the sign of whatever is compared in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Image
from fireants_engine.ops import warp_image
from fireants_engine.pipeline import Control
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows.epi import Correction, Volume, correct, epi_recipe
from fireants_engine.workflows.epi_images import corrected, on_grid, unbent
from fireants_engine.workflows.epi_report import agreement, inside_object
from fireants_engine.workflows.registration import Execution

COARSE = 2
"""Finest shrink of a trial."""
LEAST = 8
"""Voxels along an axis that may be phase encoded."""
MARGIN = 0.02
"""Of correlation, by which another direction has to be better to be suggested."""
BOTH_SIGNS = (
    "Which of the two runs along its axis and which against it cannot be told from a pair: the "
    "corrected images are the same, the field in Hz has the other sign."
)


@dataclass(frozen=True)
class Trial:
    """Encodings, and how alike the images are that they lead to (correlation inside the object)."""

    encodings: tuple[Encoding, ...]
    correlation: float

    @property
    def directions(self) -> str:
        """As `j and j-`."""
        return " and ".join(one.direction for one in self.encodings)


@dataclass(frozen=True)
class Check:
    """Every direction that was tried, the one that was given first; before: without correction."""

    trials: tuple[Trial, ...]
    before: float
    note: str = ""

    @property
    def given(self) -> Trial:
        return self.trials[0]

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.correlation)

    @property
    def suggested(self) -> Trial | None:
        """What fits clearly better than what was given; None where nothing does."""
        above = self.best.correlation - max(self.given.correlation, self.before, 0.0)
        return self.best if above > MARGIN else None

    def sentence(self) -> str:
        """For people."""
        given = f"{self.given.directions} ({self.given.correlation:.2f})"
        if self.suggested is not None:
            best = f"{self.best.directions} ({self.best.correlation:.2f})"
            said = f"The images agree better with {best} than with {given} as given."
        elif self.given.correlation <= self.before:
            said = (
                f"No direction makes the images more alike than they are ({self.before:.2f}): do "
                "they show the same object, and are they bent at all?"
            )
        else:
            others = [trial.correlation for trial in self.trials[1:]]
            other = f", others give {max(others):.2f} at most" if others else ""
            said = f"The images fit {given}{other}."
        return f"{said} {self.note}".strip()


# ------------------------------------------------------------------ a pair
def candidates(volumes: Sequence[Volume]) -> list[tuple[Encoding, ...]]:
    """Two volumes' encodings as given, and opposed along every axis; of readouts that differ also
    with equal signs. Only one of each mirrored two (`BOTH_SIGNS`)."""
    first, second = (one.encoding for one in volumes)
    given = (first, second)
    size = volumes[0].image.grid.size
    out = [given] if first.signed_readout_s != second.signed_readout_s else []
    for axis in (first.axis, *(a for a in range(len(size)) if a != first.axis)):
        if size[axis] < LEAST:
            continue
        signs = [-first.sign]
        if first.readout_s != second.readout_s and second.readout_s and axis == first.axis:
            signs.append(first.sign)
        for sign in signs:
            one = replace(first, axis=axis), replace(second, axis=axis, sign=sign)
            if one not in out:
                out.append(one)
    return out


def try_directions(
    volumes: Sequence[Volume],
    *,
    execution: Execution | None = None,
    control: Control | None = None,
    on_trial: Callable[[int, int], None] = lambda _, __: None,
) -> Check:
    """Correct a pair coarsely with each of its `candidates`.

    control: its stop ends the check with what has been tried; on_trial: called with the number of
    trials done and in all. Raises InputError unless there are two volumes on one grid.
    """
    if len(volumes) != 2:
        raise InputError("Directions are tried with two volumes; leave further ones out.")
    images = [one.image for one in volumes]
    before = _alike(images)
    control = control or Control()
    given, asked = tuple(one.encoding for one in volumes), candidates(volumes)
    # two volumes that are bent alike tell no field: nothing would change
    trials = [] if asked[0] == given else [Trial(given, before)]
    for k, encodings in enumerate(asked):
        on_trial(k, len(asked))
        own = [Volume(image, one) for image, one in zip(images, encodings, strict=True)]
        try:
            found = correct(own, recipe=_coarse(encodings), execution=execution, control=control)
        except InputError:
            if not control.stopped:
                raise
            break
        if control.stopped:  # one that was cut short says nothing
            break
        trials.append(Trial(encodings, _alike(corrected(found))))
    if not trials:
        raise InputError("The check was stopped before any direction was tried; start it again.")
    return Check(tuple(trials), before, BOTH_SIGNS)


def _coarse(encodings: Sequence[Encoding]) -> Recipe:
    data = epi_recipe(encodings).to_dict()
    pyramid = data["stages"][0]["pyramid"]
    pyramid["levels"] = [level for level in pyramid["levels"] if level["shrink"] >= COARSE]
    return Recipe.from_dict(data, "epi-check")


def _alike(images: Sequence[Image]) -> float:
    """0 where an image is empty."""
    found = agreement(images, inside_object(images))["correlation"]
    return found if np.isfinite(found) else 0.0


# ------------------------------------------------------------------ in a known field
def try_field(volumes: Sequence[Volume], field: Distortion) -> Check:
    """Two volumes in a given field map, with their signs and with both turned: the map decides.

    Raises InputError unless there are two volumes.
    """
    if len(volumes) != 2:
        raise InputError("A field map is checked with two volumes that were read out differently.")
    images = [one.image for one in volumes]
    given = tuple(one.encoding for one in volumes)
    turned = tuple(replace(one, sign=-one.sign) for one in given)
    trials = []
    for encodings in (given, turned):
        own = tuple(Volume(i, e) for i, e in zip(images, encodings, strict=True))
        known = replace(field, volumes=encodings)
        trials.append(Trial(encodings, _alike(corrected(Correction(own, known)))))
    return Check(tuple(trials), _alike(images))


def try_series(image: Image, encoding: Encoding, field: Distortion, reference: Image) -> Check:
    """One volume of a series in the field, along every axis and both ways, against `reference`.

    reference: an undistorted image of the same contrast, as the corrected pair, anywhere.
    """
    known = on_grid(field, image.grid)
    still = Affine.identity(image.dim)
    seen = warp_image(reference, still, image.grid)
    trials = []
    for one in _ways(encoding, image):
        own = replace(known, volumes=(one,), poses=(still,))
        trials.append(Trial((one,), _alike([unbent(image, own, 0), seen])))
    return Check(tuple(trials), _alike([image, seen]))


def _ways(encoding: Encoding, image: Image) -> Iterator[Encoding]:
    """The encoding as given, turned, and along the other axes."""
    yield encoding
    yield replace(encoding, sign=-encoding.sign)
    for axis, size in enumerate(image.grid.size):
        if axis != encoding.axis and size >= LEAST:
            yield from (replace(encoding, axis=axis, sign=sign) for sign in (1, -1))
