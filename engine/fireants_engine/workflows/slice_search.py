"""Where in a volume a section was cut: a search over planes, turns and flips, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Grid, Image
from fireants_engine.geometry.planes import PLANES
from fireants_engine.pipeline import Control
from fireants_engine.transforms import Affine

BINS = 12
SCALE_COST = 0.5
"""Taken off the score for the squared logarithm of the scale: pixel sizes are known, so a plane
that fits only when it is stretched is a worse guess."""
_CHUNK = 3_000_000
"""Samples that are looked up at once."""


class Pulse:
    """Told of every piece of work of a search: tells how far it is, and ends it.

    shares: of the time that each phase takes, in turn. on_progress: told the share that is done,
    0 to 1.
    """

    def __init__(
        self,
        shares: Sequence[float] = (),
        control: Control | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._shares, self._control, self._on_progress = iter(shares), control, on_progress
        self._share = self._before = self._done = 0.0
        self._work = 1.0

    def begin(self, work: float) -> None:
        """The next phase, of so much work."""
        self._before += self._share
        self._share, self._work, self._done = next(self._shares, 0.0), max(work, 1.0), 0.0

    def did(self, work: float) -> None:
        """So much more of the phase is done. Raises StoppedError once the search is to end."""
        if self._control is not None and self._control.stopped:
            raise StoppedError("Stopped during the search; there was nothing to save yet.")
        self._done += work
        if self._on_progress is not None:
            self._on_progress(self._before + self._share * min(1.0, self._done / self._work))


@dataclass(frozen=True, eq=False)
class Poses:
    """B planes with the section on them.

        x(q) = point + s (frame_1 R(turn) F q)      q: section mm about the middle of its tissue

    frames: (B, 3, 3), columns: the plane's two edges and its normal (LPS); points: (B, 3) mm, where
    the middle of the tissue lies; turns: (B,) radians; scales: (B,); flips: (B,) +1, or -1 where
    the section's x axis is mirrored. scores: (B,), higher is better.
    """

    frames: Tensor
    points: Tensor
    turns: Tensor
    scales: Tensor
    flips: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.turns)

    def rows(self, chosen: Tensor) -> Poses:
        """Those of the given numbers."""
        return Poses(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Poses]) -> Poses:
        names = cls.__dataclass_fields__
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in names))

    def edges(self) -> Tensor:
        """(B, 3, 2): mm of the volume per mm of the section along its x and y."""
        c, s = self.turns.cos(), self.turns.sin()
        turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
        mirror = torch.stack([self.flips, torch.ones_like(self.flips)], -1)
        return self.frames[:, :, :2] @ turn * mirror[:, None] * self.scales[:, None, None]

    def affine(self, number: int, centre_mm: np.ndarray) -> Affine:
        """Section mm (x, y, 0) -> volume mm of one pose, with det < 0 where it is flipped.

        The column of the section's normal is the plane's, so that the map is invertible.
        """
        edges = self.edges()[number].double().numpy()
        normal = self.frames[number, :, 2].double().numpy()
        linear = np.column_stack([edges, normal])
        point = self.points[number].double().numpy()
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[:3, 3] = point - edges @ centre_mm
        return Affine(matrix, np.array([*centre_mm, 0.0]))


def frames_about(plane: str, tilts_deg: Sequence[tuple[float, float]]) -> np.ndarray:
    """(T, 3, 3) frames of a named plane, tilted about its two edges by each pair of degrees."""
    axis = PLANES.index(plane)
    first, second = (k for k in range(3) if k != axis)
    base = np.eye(3)[:, [first, second, axis]]
    return np.stack([_turned(first, a) @ _turned(second, b) @ base for a, b in tilts_deg])


def _turned(axis: int, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    out[i, i], out[i, j], out[j, i], out[j, j] = c, -s, s, c
    return out


def _binned(values: Tensor, inside: Tensor, bins: int) -> Tensor:
    """Numbers 1 to bins - 1 of equally filled bins inside, 0 elsewhere."""
    picked = values[inside].sort().values
    ends = torch.linspace(0, len(picked) - 1, bins).long()[1:-1]
    out = torch.bucketize(values, picked[ends].contiguous()) + 1
    return torch.where(inside, out, torch.zeros_like(out))


class Search:
    """Scores planes of one volume for one section.

    density: 2D image of the section, tissue: (rows, columns), counts: which pixels are compared
    (not tears); volume, brain: (z, y, x) on `grid`. The score is the mutual information of both
    binned images with the background as a bin of its own, over the entropy of the section:
    between 0 and 1, whatever the contrast, and low where outlines disagree.
    Raises InputError where nothing is in the section or the volume.
    """

    def __init__(
        self,
        density: Image,
        tissue: Tensor,
        counts: Tensor,
        volume: Tensor,
        brain: Tensor,
        grid: Grid,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse or Pulse()
        if not bool(tissue.any()) or not bool(brain.any()):
            raise InputError("Nothing is in the section or in the volume; give masks of both.")
        matrix = torch.from_numpy(density.grid.matrix("voxel", "mm"))
        index = torch.nonzero(torch.ones_like(tissue)).double()
        places = (index @ matrix[:2, :2].T + matrix[:2, 2]).view(*tissue.shape, 2)
        own = places[tissue]
        self.centre_mm = own.mean(0).numpy()
        self.area_mm2 = float(len(own) * np.prod(density.grid.spacing_mm))
        low, high = own.amin(0), own.amax(0)
        pad = 0.12 * (high - low).max()
        keep = counts & ((places >= low - pad) & (places <= high + pad)).all(-1)
        self._offsets = (places[keep] - torch.from_numpy(self.centre_mm)).float()
        self._section = _binned(density.data[0], tissue, BINS)[keep].int()
        share = torch.bincount(self._section, minlength=BINS).double() / len(self._section)
        self._entropy = float(-(share * share.clamp(min=1e-12).log()).sum())
        self._volume = torch.zeros([n + 2 for n in volume.shape], dtype=torch.int32)
        self._volume[1:-1, 1:-1, 1:-1] = _binned(volume, brain, BINS)
        self._flat = self._volume.flatten()
        self._brain, self.grid = brain, grid
        matrix = torch.from_numpy(grid.matrix("mm", "voxel")).float()
        self._to_voxel, self._shift = matrix[:3, :3], matrix[:3, 3] + 1
        self._places: Tensor | None = None

    # ------------------------------------------------------------ scores
    def scored(self, poses: Poses, samples: int | None = None) -> Poses:
        """The same poses with their scores, from about so many pixels of the section (all)."""
        every = 1 if samples is None else max(1, round(len(self._offsets) / samples))
        seen = torch.arange(0, len(self._offsets), every)
        step = max(1, _CHUNK // len(seen))
        parts = []
        for k in range(0, len(poses), step):
            some = torch.arange(k, min(len(poses), k + step))
            parts.append(self._score(poses.rows(some), seen))
            self._pulse.did(len(some))
        return replace(poses, scores=torch.cat(parts))

    def _score(self, poses: Poses, seen: Tensor) -> Tensor:
        edges = self._to_voxel @ poses.edges()
        start = poses.points @ self._to_voxel.T + self._shift
        offsets, section = self._offsets[seen].T.contiguous(), self._section[seen]
        number = torch.zeros(len(poses), len(seen), dtype=torch.int32)
        for axis, n in enumerate(self._volume.shape):
            along = edges[:, axis] @ offsets
            along += start[:, axis, None]
            number.mul_(n).add_(along.round_().clamp_(0, n - 1).int())
        joint = self._flat[number] + section * BINS
        joint += (torch.arange(len(poses), dtype=torch.int32) * BINS**2)[:, None]
        counts = torch.bincount(joint.flatten(), minlength=len(poses) * BINS**2)
        p = counts.view(len(poses), BINS, BINS).float() / len(seen)
        rows, columns = p.sum(2), p.sum(1)

        def entropy(share: Tensor) -> Tensor:
            return -(share * share.clamp(min=1e-12).log()).flatten(1).sum(1)

        shared = (entropy(rows) + entropy(columns) - entropy(p)) / self._entropy
        return shared - SCALE_COST * poses.scales.log().square()

    # ------------------------------------------------------------ candidates
    def _places_mm(self) -> Tensor:
        """(n, 3) mm of the volume's foreground."""
        if self._places is None:
            voxels = torch.nonzero(self._brain).double()
            matrix = torch.from_numpy(self.grid.matrix("voxel", "mm"))
            self._places = (voxels @ matrix[:3, :3].T + matrix[:3, 3]).float()
        return self._places

    def _cuts(self, frame: Tensor, step_mm: float) -> Iterator[tuple[Tensor, float]]:
        """Middle (3,) and area of the foreground on every parallel plane of one frame."""
        places = self._places_mm() @ frame
        voxel_mm3 = float(np.prod(self.grid.spacing_mm))
        slab = torch.div(places[:, 2] - places[:, 2].min(), step_mm, rounding_mode="floor").long()
        count = torch.bincount(slab)
        sums = torch.zeros(len(count), 3).index_add_(0, slab, places)
        for n, total in zip(count.tolist(), sums, strict=True):
            if n:
                yield frame @ (total / n), n * voxel_mm3 / step_mm

    def coarse(
        self, planes: Sequence[str], tilts_deg: Sequence[tuple[float, float]], turn_step_deg: float,
        step_mm: float, *, turn_from_deg: float = 0.0,
        scales: tuple[float, float] = (0.75, 1.33), samples: int = 1500,
    ) -> Poses:  # fmt: skip
        """All planes at all turns and flips, scored. Planes whose foreground is of a very unlike
        size (beyond `scales` of the section's, along a side) are left out."""
        turns = torch.arange(turn_from_deg, 360, turn_step_deg).deg2rad()
        found = []
        for plane in planes:
            for frame in torch.from_numpy(frames_about(plane, tilts_deg)).float():
                self._pulse.did(0)
                for middle, area in self._cuts(frame, step_mm):
                    scale = math.sqrt(area / self.area_mm2)
                    if scales[0] <= scale <= scales[1]:
                        found.append((frame, middle, scale))
        if not found:
            raise InputError(
                "The section is larger or smaller than every plane of the volume that was tried "
                f"(its tissue covers {self.area_mm2:.0f} mm2); check its pixel size."
            )
        n, m = len(found), 2 * len(turns)
        flips = torch.tensor([1.0, -1.0]).repeat_interleave(len(turns)).repeat(n)
        poses = Poses(
            torch.stack([f for f, _, _ in found]).repeat_interleave(m, 0),
            torch.stack([p for _, p, _ in found]).repeat_interleave(m, 0),
            turns.repeat(2 * n),
            torch.tensor([s for _, _, s in found]).repeat_interleave(m),
            flips,
            torch.zeros(n * m),
        )
        self._pulse.begin(len(poses))
        return self.scored(poses, samples)

    def refined(self, poses: Poses, sizes: Sequence[float], samples: int | None = None) -> Poses:
        """Each pose after rounds of ascent with steps of the given sizes; never a worse one.

        A round tries each of the seven numbers of a pose a step both ways, and then several
        lengths of the separable Newton step that these values suggest.
        """
        unit = torch.eye(7).repeat_interleave(2, 0) * torch.tensor([1.0, -1.0]).repeat(7)[:, None]
        lengths = torch.tensor([0.3, 0.6, 1.0, 1.5, 2.2])
        self._pulse.begin(len(poses) * (1 + (len(unit) + len(lengths)) * len(sizes)))
        poses = self.scored(poses, samples)
        for size in sizes:
            tried = self.scored(self._moved(poses, unit.expand(len(poses), -1, -1), size), samples)
            after, before = tried.scores.view(-1, 7, 2).unbind(2)
            slope, bend = (after - before) / 2, after + before - 2 * poses.scores[:, None]
            newton = torch.where(bend < 0, -slope / bend.clamp(max=-1e-9), slope.sign())
            way = newton.clamp(-1, 1)[:, None] * lengths[:, None]
            further = self.scored(self._moved(poses, way, size), samples)
            poses = _best_each([poses, tried, further])
        return poses

    def _moved(self, poses: Poses, ways: Tensor, size: float) -> Poses:
        """Each pose moved along each of its `ways` (B, n, 7): two tilts, place along the frame,
        turn and scale, in steps of 8 degrees, two voxels and 6 % times `size`."""
        many = poses.rows(torch.arange(len(poses)).repeat_interleave(ways.shape[1]))
        ways = ways.reshape(-1, 7) * size
        angle, voxel_mm = math.radians(8.0), max(self.grid.spacing_mm)
        tilt = torch.zeros(len(ways), 3, 3)
        tilt[:, 2, :2], tilt[:, :2, 2] = angle * ways[:, :2], -angle * ways[:, :2]
        shift = torch.einsum("bij,bj->bi", many.frames, ways[:, 2:5] * 2 * voxel_mm)
        return replace(
            many,
            frames=many.frames @ torch.linalg.matrix_exp(tilt),
            points=many.points + shift,
            turns=many.turns + angle * ways[:, 5],
            scales=many.scales * (0.06 * ways[:, 6]).exp(),
        )


def _fields(poses: Poses) -> list[Tensor]:
    return [getattr(poses, name) for name in poses.__dataclass_fields__]


def _best_each(groups: Sequence[Poses]) -> Poses:
    """The best of the first group's poses and of those that each other group has of them."""
    n = len(groups[0])
    scores = torch.cat([group.scores.view(n, -1) for group in groups], 1)
    best = scores.argmax(1)
    chosen, start = groups[0], 0
    for group in groups:
        count = len(group) // n
        here = (best >= start) & (best < start + count)
        own = group.rows(torch.arange(n) * count + (best - start).clamp(0, count - 1))
        chosen = Poses(*(
            torch.where(here.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(_fields(own), _fields(chosen), strict=True)
        ))  # fmt: skip
        start += count
    return chosen


def best_of(
    poses: Poses, count: int, apart_deg: float, apart_mm: float, pulse: Pulse | None = None
) -> Poses:
    """Of each plane and flip the `count` best that differ from each other in place or direction."""
    pulse = pulse or Pulse()
    axes = poses.frames[:, :, 2].abs().argmax(1)
    pulse.begin(count * 2 * len(axes.unique()))
    chosen: list[Tensor] = []
    for axis in range(3):
        for flip in (1.0, -1.0):
            own = torch.nonzero((poses.flips == flip) & (axes == axis))[:, 0]
            own = own[poses.scores[own].argsort(descending=True)][: 40 * count]
            chosen += _unlike(poses.rows(own), own, count, apart_deg, apart_mm, pulse)
    return poses.rows(torch.stack(chosen))


def _unlike(
    poses: Poses, numbers: Tensor, count: int, apart_deg: float, apart_mm: float, pulse: Pulse
) -> list[Tensor]:
    """The first `count` of `numbers`, best first, without those near a better one."""
    edges = poses.edges() / poses.scales[:, None, None]
    left = torch.ones(len(poses), dtype=torch.bool)
    limit = math.cos(math.radians(apart_deg))
    chosen: list[Tensor] = []
    while len(chosen) < count and bool(left.any()):
        first = left.int().argmax()
        chosen.append(numbers[first])
        cosine = (edges * edges[first]).sum(1).amin(1)
        apart = (poses.points - poses.points[first]).square().sum(1)
        left &= (apart > apart_mm**2) | (cosine < limit)
        left[first] = False
        pulse.did(1)
    return chosen
