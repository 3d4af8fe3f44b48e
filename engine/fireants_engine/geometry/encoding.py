"""Encoding: along which voxel axis, which way and how long an EPI volume was read out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fireants_engine.errors import InputError

_NAMES = "ijk"


@dataclass(frozen=True)
class Encoding:
    """Phase encoding of a volume, as BIDS names it.

    axis: voxel axis of the stored array, 0 for i, 1 for j, 2 for k; sign: 1, or -1 for `i-`.
    readout_s: total readout time in seconds; 0 for a volume that is not distorted.
    An off-resonance of b Hz shows what is at voxel x at `x + sign readout_s b` along the axis.
    Raises InputError for what no scanner does.
    """

    axis: int
    sign: int
    readout_s: float

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2) or self.sign not in (-1, 1):
            raise InputError(
                f"A phase encoding along axis {self.axis} with sign {self.sign} does not exist; "
                "give one of i, i-, j, j-, k, k-."
            )
        if not 0 <= self.readout_s < 10:
            raise InputError(
                f"A total readout time of {self.readout_s:g} s cannot be; give seconds (about "
                "0.01 to 0.2), not milliseconds."
            )

    @classmethod
    def parse(cls, direction: str, readout_s: float) -> Encoding:
        """From a BIDS PhaseEncodingDirection: i, i-, j, j-, k or k-.

        Raises InputError for any other text: a direction is never guessed.
        """
        match = re.fullmatch(r"([ijk])([+-]?)", direction.strip())
        if match is None:
            raise InputError(
                f"{direction!r} is no phase-encoding direction; give one of i, i-, j, j-, k, k- "
                "(voxel axes of the stored image)."
            )
        return cls(_NAMES.index(match[1]), -1 if match[2] == "-" else 1, float(readout_s))

    @property
    def direction(self) -> str:
        """As BIDS writes it."""
        return _NAMES[self.axis] + "-" * (self.sign < 0)

    @property
    def signed_readout_s(self) -> float:
        """Voxels of shift per Hz."""
        return self.sign * self.readout_s

    def array_axis(self, dim: int) -> int:
        """Its axis of an array (z, y, x). Raises InputError where the image has no such axis."""
        if self.axis >= dim:
            raise InputError(
                f"Phase encoding along {_NAMES[self.axis]} does not fit a {dim}D image; its voxel "
                f"axes are {', '.join(_NAMES[:dim])}."
            )
        return dim - 1 - self.axis

    def __str__(self) -> str:
        return f"{self.direction}, {self.readout_s:g} s"
