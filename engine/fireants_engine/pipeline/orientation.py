"""How well starts fit: scores of candidates, and a search over all orientations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Pulled, Views
from fireants_engine.features import MIND
from fireants_engine.pipeline.moments import Body
from fireants_engine.pipeline.rotations import covering, degrees_between, small_turns
from fireants_engine.similarity import LNCC, NCC, MutualInformation
from fireants_engine.transforms import Affine

SCORES = ("ncc", "lncc", "mi", "mind")
_APART = 24.0
"""Degrees between neighbours of the search in space; every rotation lies within 16 of one."""
_APART_IN_PLANE = 5.0
_BINS = 16
"""Per image, of the histograms that rank the many starts of a search."""
_BATCH = 2_000_000
"""Samples that are looked at together."""
_KEPT, _FINISHED = 6, 3
"""Starts of a search that are refined, and those of them that are at full resolution, too."""
_SAME = 20.0
"""Degrees within which two starts of a search count as one."""


@dataclass(frozen=True)
class Candidate:
    """One scored start; higher is better."""

    name: str
    affine: Affine
    score: float

    @property
    def det(self) -> int:
        """1, or -1 for a reflection (LESSONS 7: rotations cannot hold it)."""
        return 1 if np.linalg.det(self.affine.matrix[:-1, :-1]) > 0 else -1


# ------------------------------------------------------------------ one score
def score(pair: Pair, affine: Affine, measure: str, ctx: ExecutionContext) -> float:
    """How well the moving image fits through `affine`, higher is better.

    measure: `ncc`, correlation of the whole images, -1 to 1, one contrast; `mi`, mutual
    information in nats; `lncc`, squared local correlation in windows of 5 samples, as a share of
    what the fixed image scores with itself; `mind`, correlation of the MIND features of both on
    the fixed grid (they do not turn with the image), mean over their channels.
    """
    views = _seen(pair, [affine], ctx)
    if measure == "mi":
        return -float(MutualInformation().bind(pair, ctx)(views))
    if measure == "lncc":
        loss = LNCC().bind(pair, ctx)
        itself = Views(pair.fixed, pair.fixed, views.weight, views.mask)
        return float(loss(views)) / min(float(loss(itself)), -1e-6)
    if measure == "mind":
        fixed, moving = (_described(image, pair) for image in (pair.fixed, views.moving))
        return -float(NCC().bind(pair, ctx)(Views(fixed, moving, views.weight, views.mask)))
    moving, weight = views.moving, views.weight
    weight = torch.ones_like(moving[:, :1]) if weight is None else weight
    total = weight.sum().clamp(min=1e-6)
    f = pair.fixed - (pair.fixed * weight).sum((0, *range(2, moving.ndim)), True) / total
    m = moving - (moving * weight).sum((0, *range(2, moving.ndim)), True) / total
    cross, ff, mm = ((a * b * weight).sum() for a, b in ((f, m), (f, f), (m, m)))
    return float(cross / (ff * mm).clamp(min=1e-20).sqrt())


def _described(image: Tensor, pair: Pair) -> Tensor:
    return MIND()(image, pair.fixed_grid, lambda level: level)


def _seen(pair: Pair, affines: Sequence[Affine], ctx: ExecutionContext) -> Views:
    """The moving image through every affine, (N, C, *spatial)."""
    if len(affines) == 1:
        found = pair.voxel_matrix(affines[0])
    else:
        to_mm = pair.fixed_grid.matrix("voxel", "mm")
        every = np.stack([affine.matrix for affine in affines])
        found = (pair.moving_grid.matrix("mm", "voxel") @ every @ to_mm)[:, :-1]
    return Pulled(torch.as_tensor(found, device=ctx.device, dtype=ctx.dtype)).views(pair, ctx)


# ------------------------------------------------------------------ many scores
def many(pair: Pair, affines: Sequence[Affine], measure: str, ctx: ExecutionContext) -> np.ndarray:
    """Scores (N,) of many starts at once: `ncc`, or for every other measure `mi` with few bins."""
    size = max(1, _BATCH // pair.fixed[0, 0].numel())
    out = []
    for first in range(0, len(affines), size):
        views = _seen(pair, affines[first : first + size], ctx)
        out.append(_correlations(views) if measure == "ncc" else _informations(views, pair))
    return torch.cat(out).cpu().numpy()


def _correlations(views: Views) -> Tensor:
    weight = torch.ones_like(views.fixed[:, :1]) if views.weight is None else views.weight
    axes = tuple(range(2, views.fixed.ndim))
    share = weight / weight.sum(axes, keepdim=True).clamp(min=1e-6)
    f = views.fixed - (views.fixed * share).sum(axes, keepdim=True)
    m = views.moving - (views.moving * share).sum(axes, keepdim=True)
    pulled = m * share
    every = (1, *axes)
    power = (f * f * share).sum(every) * (m * pulled).sum(every)
    return (f * pulled).sum(every) / power.clamp(min=1e-20).sqrt()


def _informations(views: Views, pair: Pair) -> Tensor:
    """Mutual information in nats by nearest bins, channels summed."""
    n = len(views.moving)
    weight = torch.ones_like(views.moving[:, :1]) if views.weight is None else views.weight
    weight = weight.expand(n, *weight.shape[1:]).reshape(n, -1)
    total = 0.0
    for c in range(views.moving.shape[1]):
        f = _binned(pair.fixed[:, c], pair.fixed[:, c]).reshape(1, -1)
        m = _binned(views.moving[:, c], pair.moving[:, c]).reshape(n, -1)
        row = torch.arange(n, device=m.device)[:, None] * _BINS**2
        where = (row + f * _BINS + m).reshape(-1)
        joint = torch.bincount(where, weight.reshape(-1).double(), n * _BINS**2)
        joint = joint.view(n, _BINS, _BINS)
        joint = joint / joint.sum((1, 2), keepdim=True).clamp(min=1e-12)
        apart = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
        total = total + torch.special.xlogy(joint, joint / apart.clamp(min=1e-30)).sum((1, 2))
    assert isinstance(total, Tensor)
    return total


def _binned(values: Tensor, of: Tensor) -> Tensor:
    """Nearest bins of `values` over the range of the image `of`."""
    low, high = of.amin(), of.amax()
    place = (values - low) * ((_BINS - 1) / (high - low).clamp(min=1e-12))
    return place.round_().clamp_(0, _BINS - 1).long()


# ------------------------------------------------------------------ the search
@dataclass(frozen=True)
class Search:
    """All orientations at low resolution, the best few refined.

    coarse, fine: levels of one pair. scale: of every start. Starts match the centres of mass;
    refining moves them, too.
    """

    coarse: Pair
    fine: Pair
    bodies: tuple[Body, Body]
    measure: str
    ctx: ExecutionContext
    scale: float = 1.0
    improper: bool = False

    def run(self, starts: Sequence[Affine] = ()) -> list[Affine]:
        """The best few of all orientations and of `starts`, best first, each other than the rest.

        A covering of all rotations (2D: every 5 degrees; 3D: none is further than 16 degrees
        from one), with `improper` also of all reflections, is scored at the coarse level. The
        best of each neighbourhood move by halving steps of rotation and translation, there and
        then at the fine level.
        """
        pool, kinds = [*starts, *self._covering()], 2 if self.improper else 1
        order = np.argsort(-many(self.coarse, pool, self.measure, self.ctx), kind="stable")
        chosen: list[Affine] = []
        for k in order:
            if all(_apart(pool[k], other) for other in chosen):
                chosen.append(pool[k])
            if len(chosen) == _KEPT * kinds:
                break
        chosen = _unlike(self._refined(self.coarse, chosen, (10.0, 5.0, 2.5)))
        chosen = chosen[: _FINISHED * kinds]
        return _unlike(self._refined(self.fine, chosen, (2.0, 1.0)))

    def _covering(self) -> list[Affine]:
        dim = self.coarse.fixed_grid.dim
        turns = covering(dim, _APART if dim == 3 else _APART_IN_PLANE)
        if self.improper:
            mirror = np.diag([-1.0, *[1.0] * (dim - 1)])
            turns = np.concatenate([turns, turns @ mirror])
        fixed, moving = (body.centre_mm for body in self.bodies)
        return [Affine.about(self.scale * turn, moving - fixed, fixed) for turn in turns]

    def _refined(
        self, pair: Pair, starts: Sequence[Affine], degrees: Sequence[float]
    ) -> list[Affine]:
        """Every start moved to where no step improves it, best first."""
        if not starts:
            return []
        dim = pair.fixed_grid.dim
        centre = self.bodies[0].centre_mm
        radius = float(np.sqrt(self.bodies[0].spread.sum()))
        best, scores = list(starts), many(pair, starts, self.measure, self.ctx)
        for angle in map(math.radians, degrees):
            shifts = np.concatenate([np.eye(dim), -np.eye(dim)]) * radius * angle
            moves = [Affine.about(turn, np.zeros(dim), centre) for turn in small_turns(dim, angle)]
            moves += [Affine.about(np.eye(dim), shift, centre) for shift in shifts]
            going = list(range(len(best)))
            for _ in range(6):
                tried = [best[k].after(move) for k in going for move in moves]
                found = many(pair, tried, self.measure, self.ctx).reshape(len(going), -1)
                up = []
                for row, k in enumerate(going):
                    place = int(found[row].argmax())
                    if found[row, place] > scores[k] + 1e-6:
                        best[k] = tried[row * len(moves) + place]
                        scores[k] = found[row, place]
                        up.append(k)
                going = up
                if not going:
                    break
        order = np.argsort(-scores, kind="stable")
        return [best[k] for k in order]


def _unlike(affines: Sequence[Affine]) -> list[Affine]:
    """Those that turn otherwise than all before them."""
    out: list[Affine] = []
    for affine in affines:
        if all(_apart(affine, other) for other in out):
            out.append(affine)
    return out


def _apart(a: Affine, b: Affine) -> bool:
    return degrees_between(a.matrix[:-1, :-1], b.matrix[:-1, :-1]) > _SAME
