"""How a section lies in a volume, and moves by hand. Numbers only: no Qt, no torch.

A pose is a homogeneous matrix, section mm (x to the right, y down, 0) -> volume mm (LPS). What a
person sees is the volume on the section's pixels, so that a move of what is seen by S is the pose
`M S^-1`, and a move of the plane in the volume by V is `V M`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry.planes import PLANES, SIDES, turn_deg_of
from napari_fireants._nudge import about, mirror, scale, shift, turn

WAYS = ("left to right", "front to back", "down to up")
"""Of the axes of LPS, for people."""
FLAT = np.ix_([0, 1, 3], [0, 1, 3])
"""The part of a homogeneous matrix (4, 4) that is one of two dimensions."""
STEEPEST = 60.0
"""Degrees of a tilt that can be typed."""


@dataclass(frozen=True, eq=False)
class Pose:
    """matrix: section mm -> volume mm; middle_mm: (3,) of the section, about which it turns."""

    matrix: np.ndarray
    middle_mm: np.ndarray
    flat: ClassVar[bool] = False

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Places of the section (n, 2 or 3) in the volume (n, 3)."""
        points = np.asarray(points_mm, dtype=float)
        flat = np.zeros((len(points), 3))
        flat[:, : points.shape[1]] = points
        return flat @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def on_section(self, points_mm: np.ndarray) -> np.ndarray:
        """Places of the volume (n, 3), projected onto the plane, in section mm (n, 2)."""
        edges = self.matrix[:3, :2]
        away = np.asarray(points_mm, dtype=float).reshape(-1, 3) - self.matrix[:3, 3]
        return np.linalg.lstsq(edges, away.T, rcond=None)[0].T

    # ------------------------------------------------------------ where it is
    @property
    def point_mm(self) -> np.ndarray:
        return self(self.middle_mm[None])[0]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector away from whoever looks at the section."""
        out = np.cross(self.matrix[:3, 0], self.matrix[:3, 1])
        return out / np.linalg.norm(out)

    @property
    def axis(self) -> int:
        return int(np.abs(self.normal).argmax())

    @property
    def plane(self) -> str:
        return PLANES[self.axis]

    @property
    def seen_from(self) -> str:
        return SIDES[self.axis][int(self.normal[self.axis] > 0)]

    @property
    def tilt_deg(self) -> float:
        return float(np.degrees(np.arccos(min(1.0, float(np.abs(self.normal).max())))))

    @property
    def position_mm(self) -> float:
        """Of the middle, along the axis that the plane is named after."""
        return float(self.point_mm[self.axis])

    @property
    def where(self) -> str:
        """What tells sections of a list apart."""
        return f"{self.position_mm:.1f} mm"

    @property
    def tilt_axes(self) -> tuple[int, int]:
        first, second = (k for k in range(3) if k != self.axis)
        return first, second

    @property
    def tilts_deg(self) -> tuple[float, float]:
        """How far the normal leans towards each of `tilt_axes`."""
        normal = self.normal * np.sign(self.normal[self.axis])
        lean = np.degrees(np.arctan2(normal[list(self.tilt_axes)], normal[self.axis]))
        return float(lean[0]), float(lean[1])

    def sentence(self) -> str:
        x, y, z = self.point_mm
        return (
            f"{self.plane}, tilted by {self.tilt_deg:.1f} degrees, seen from {self.seen_from}, "
            f"through {x:.1f}, {y:.1f}, {z:.1f} mm"
        )

    @property
    def words(self) -> tuple[str, str]:
        """The same in few words: the plane, and the side."""
        return f"{self.plane}, tilted {self.tilt_deg:.1f}°", f"seen from {self.seen_from}"

    # ------------------------------------------------------------ moves of what is seen
    def seen(self, move: np.ndarray) -> Pose:
        """What is seen moved by a matrix in section mm."""
        return replace(self, matrix=self.matrix @ np.linalg.inv(move))

    def shifted(self, x_mm: float, y_mm: float) -> Pose:
        return self.seen(shift((x_mm, y_mm, 0.0)))

    def turned(self, degrees: float) -> Pose:
        """Clockwise on the screen, as y runs down."""
        return self.seen(turn((0, 1), degrees, self.middle_mm))

    def scaled(self, factor: float) -> Pose:
        return self.seen(scale(factor, self.middle_mm))

    def flipped(self) -> Pose:
        """Left and right change places: the section shows its other side."""
        return self.seen(mirror(0, self.middle_mm) @ mirror(2, self.middle_mm))

    # ------------------------------------------------------------ moves of the plane
    def through(self, mm: float) -> Pose:
        """Along the axis that the plane is named after, in its direction in LPS."""
        normal = self.normal
        return replace(self, matrix=shift(normal * (mm / normal[self.axis])) @ self.matrix)

    def at_position(self, mm: float) -> Pose:
        return self.through(mm - self.position_mm)

    def with_tilts(self, first_deg: float, second_deg: float) -> Pose:
        """The plane turned the shortest way about its middle, so that `tilts_deg` are these."""
        axis, (a, b) = self.axis, self.tilt_axes
        wanted = np.zeros(3)
        leans = np.clip((first_deg, second_deg), -STEEPEST, STEEPEST)
        wanted[[a, b]], wanted[axis] = np.tan(np.radians(leans)), 1.0
        wanted *= np.sign(self.normal[axis]) / np.linalg.norm(wanted)
        return replace(
            self, matrix=about(_between(self.normal, wanted), self.point_mm) @ self.matrix
        )


@dataclass(frozen=True, eq=False)
class FlatPose(Pose):
    """How another section lies: mm of the section -> mm of the other one, both at z = 0."""

    flat: ClassVar[bool] = True

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix[:2, :2]) < 0)

    @property
    def turn_deg(self) -> float:
        return turn_deg_of(self.matrix[:2, :2])

    @property
    def where(self) -> str:
        return self.words[0]

    @property
    def zoom(self) -> float:
        """What lengths of the other section are multiplied by, in the mean of all directions."""
        return float(abs(np.linalg.det(self.matrix[:2, :2])) ** -0.5)

    @property
    def words(self) -> tuple[str, str]:
        turn = round(self.turn_deg)
        turn = 180 if turn == -180 else turn
        return f"turned {turn}°", "mirrored" if self.mirrored else "not mirrored"

    def sentence(self) -> str:
        turn, side = self.words
        return f"the other section {turn}, {side}, its lengths times {self.zoom:.2f}"

    def through(self, mm: float) -> FlatPose:
        """There is only one plane."""
        return self


def flat_pose(affine: np.ndarray, middle_mm: np.ndarray) -> FlatPose:
    """Of a homogeneous matrix (3, 3), section mm -> mm of the other one."""
    return FlatPose(lifted(affine), middle_mm)


def lifted(flat: np.ndarray) -> np.ndarray:
    """A homogeneous matrix (3, 3) of two dimensions as (4, 4), z as it was."""
    out = np.eye(4)
    out[FLAT] = flat
    return out


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes one unit vector to another (not to its opposite)."""
    axis, cosine = np.cross(start, end), float(start @ end)
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + cosine)


def standard_pose(
    plane: str, side: str | None, point_mm: np.ndarray, middle_mm: np.ndarray
) -> Pose:
    """An upright plane through `point_mm`, head or face up, as is usual in atlases.

    side: from where it is seen; None: coronal from the front, axial from below, sagittal from the
    left. Raises InputError for a side that such a plane does not have.
    """
    axis = PLANES.index(plane)
    side = side or ("left", "anterior", "inferior")[axis]
    if side not in SIDES[axis]:
        raise InputError(f"No {plane} section is seen from {side}; choose another side.")
    normal = np.zeros(3)
    normal[axis] = 1.0 if SIDES[axis].index(side) else -1.0
    down = np.array([0.0, 1.0, 0.0]) if axis == 2 else np.array([0.0, 0.0, -1.0])
    linear = np.stack([np.cross(down, normal), down, normal], axis=1)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, point_mm - linear @ middle_mm
    return Pose(matrix, np.asarray(middle_mm, dtype=float))


def side_of_plane(plane: str, side: str) -> bool:
    """A plane of this name ("" for any) can be seen from there ("" for either)."""
    return not (plane and side) or side in SIDES[PLANES.index(plane)]


def errors_um(volume_mm: np.ndarray, found_mm: np.ndarray) -> np.ndarray:
    """Distances of pairs of places (n, 3), in micrometres."""
    return 1000 * np.linalg.norm(np.asarray(volume_mm) - np.asarray(found_mm), axis=1)
