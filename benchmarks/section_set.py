"""Sets of stained sections: chains, stars and all pairs, before and after all pairs are heard.

    python benchmarks/section_set.py [--seeds 2,4,5] [--threads 2]

Five stains of one synthetic section of 360 pixels: layers, large and small gaps and textures whose
densities are no function of each other from stain to stain; turned by any angle, two of them turned
over, stretched, bent by up to about 8 pixels, with two tears each. The reference has lost 15 % on
one side and the last section 30 % on the other, so that the two share little. Errors are those of
up to 400 points that both sections still have, in % of the diagonal of the reference. Results go to
benchmarks/results/section_set.json; seeds that are there already are replaced.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, machine

from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.transforms import Affine, Transform
from fireants_engine.workflows import contours
from fireants_engine.workflows import section_set as sets
from fireants_engine.workflows.section_paths import averaged, shortest
from fireants_engine.workflows.sections import Match, Section, match, section_of

SIDE = 360
SCALE = 0.25 * SIDE
GLASS = np.array([243.0, 241.0, 244.0])
COLOURS = {
    "HE": (0.55, 0.75, 0.30), "PAS": (0.35, 0.75, 0.45), "Ki67": (0.25, 0.45, 0.60),
    "trichrome": (0.80, 0.45, 0.25), "torn": (0.5, 0.6, 0.5),
}  # fmt: skip
NAMES = tuple(COLOURS)
MIDDLE = np.full(2, (SIDE - 1) / 2)
LARGE, SMALL = 14, 156
LOST = {"HE": 0.15, "torn": 0.3}


def step(values: np.ndarray, width: float) -> np.ndarray:
    """1 well below 0, 0 well above."""
    return 1 / (1 + np.exp(np.clip(values / width, -50, 50)))


class Anatomy:
    """What all stains of a set show; points in radii of the section."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.size = rng.normal(size=6) / np.arange(2, 8) ** 1.2 * 0.35
        self.phase = rng.uniform(0, 2 * np.pi, 6)
        count = LARGE + SMALL
        angle, away = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0.0, 0.8, count))
        large, small = rng.uniform(0.06, 0.13, count), rng.uniform(0.015, 0.04, count)
        width = np.where(np.arange(count) < LARGE, large, small)
        self.spots = np.c_[away * np.cos(angle), away * np.sin(angle), width]
        self.kind = np.where(np.arange(count) < LARGE, rng.integers(0, 3, count), 0)
        waves = [ndimage.gaussian_filter(rng.normal(size=(600, 600)), s) for s in (5, 9)]
        self.textures = [wave / wave.std() for wave in waves]

    def radius(self, points: np.ndarray) -> np.ndarray:
        angle = np.arctan2(points[..., 1], points[..., 0])
        waves = self.size * np.cos(np.arange(2, 8) * angle[..., None] + self.phase)
        return np.clip(1 + waves.sum(-1), 0.4, 1.8)

    def density(self, points: np.ndarray, stain: int) -> np.ndarray:
        """(n,) of a stain."""
        depth = np.hypot(*points.T) / self.radius(points)
        rng = np.random.default_rng(100 + stain)
        layers = rng.uniform(0.2, 0.6, 3)
        out = layers[0] + (layers[1] - layers[0]) * step(depth - 0.75, 0.02)
        out += 0.6 * (layers[2] - layers[1]) * step(depth - 0.4, 0.03)
        index = (points[:, ::-1].T + 2.5) / 5 * 599
        for texture, amount in zip(self.textures, rng.uniform(0.03, 0.14, 2), strict=True):
            out += amount * ndimage.map_coordinates(texture, index, order=1)
        values = np.r_[0.02, rng.permutation([0.3, 1.0])]
        for (x, y, width), kind in zip(self.spots, self.kind, strict=True):
            near = step(np.hypot(points[:, 0] - x, points[:, 1] - y) - width, 0.01)
            out = out * (1 - near) + values[kind] * near
        return np.clip(out, 0.03, None) * step(depth - 1, 0.008)


class Stained:
    """One section: mm -> base mm is `q + e(q)`, `q = A^-1 y`, e smooth."""

    def __init__(self, anatomy: Anatomy, number: int, seed: int, bend: float = 4.0) -> None:
        rng = np.random.default_rng(1000 * seed + number)
        c = np.sqrt(rng.uniform(1.0, 1.25))
        before, after = (contours.turn(t, False) for t in rng.uniform(0, 360, 2))
        if number == 0:
            before, after, c = np.eye(2), np.eye(2), 1.0
        flip = -1.0 if NAMES[number] in ("Ki67", "torn") else 1.0
        linear = after @ np.diag([flip * c, 1 / c]) @ before * rng.uniform(0.92, 1.08)
        self.affine = Affine.about(linear, rng.uniform(-12, 12, 2), MIDDLE)
        self.waves = rng.uniform(-1, 1, (6, 2)), rng.uniform(0, 2 * np.pi, 6)
        self.amounts = rng.normal(size=(6, 2)) * (bend if number else 0.5 * bend) / np.sqrt(6)
        self.anatomy, self.number, self.seed = anatomy, number, seed

    def bent(self, points: np.ndarray) -> np.ndarray:
        along, phase = self.waves
        return np.sin(points / SIDE @ along.T * 2 * np.pi * 1.6 + phase) @ self.amounts

    def from_base(self, points: np.ndarray) -> np.ndarray:
        found = points
        for _ in range(60):
            found = points - self.bent(found)
        return self.affine(found)

    def image(self, side: float) -> Image:
        """RGB; side: angle on which the last section is cut off, the reference on the other."""
        grid, name = Grid.identity((SIDE, SIDE)), NAMES[self.number]
        back = self.affine.inverse()(grid.points_mm())
        white = (back + self.bent(back) - MIDDLE) / SCALE
        dense = self.anatomy.density(white, self.number)
        if name in LOST:
            dense = cut(dense, white, side if name == "HE" else side + np.pi, LOST[name])
        rng = np.random.default_rng(77 * self.seed + self.number)
        for _ in range(2):
            dense = torn(dense, white, rng)
        shade = 1 + 0.04 * (grid.points_mm() @ rng.uniform(-1, 1, 2) / SIDE)[:, None]
        rgb = GLASS * shade * np.exp(-1.6 * dense[:, None] * np.array(COLOURS[name]))
        rgb = np.clip(np.rint(rgb + rng.normal(0, 2, rgb.shape)), 0, 255).astype(np.uint8)
        return Image.from_numpy(rgb.reshape(SIDE, SIDE, 3), grid, channels=True, name=name)


def cut(dense: np.ndarray, white: np.ndarray, side: float, share: float) -> np.ndarray:
    """Without `share` of the tissue, beyond a wavy line."""
    along, across = contours.turn(-np.degrees(side), False) @ white.T
    along = along + 0.08 * np.sin(6 * across)
    return np.where(along > np.quantile(along[dense > 0.1], 1 - share), 0.0, dense)


def torn(dense: np.ndarray, white: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With a tear from the border inwards."""
    turn, start, off = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6), rng.uniform(-0.3, 0.3)
    along, across = contours.turn(-np.degrees(turn), False) @ white.T
    width = 0.06 * np.clip(along - start, 0, 1)
    return np.where(np.abs(across - off) < width, 0.0, dense)


def made(seed: int) -> tuple[dict[str, Section], dict[str, np.ndarray]]:
    """Sections made ready, and the same points in each, NaN where it has lost them."""
    anatomy = Anatomy(seed)
    stained = [Stained(anatomy, k, seed) for k in range(len(NAMES))]
    side = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    ready = {one.name: section_of(one) for one in (s.image(side) for s in stained)}
    white = np.random.default_rng(5 + seed).uniform(-1.5, 1.5, (4000, 2))
    inside = np.hypot(*white.T) < 0.95 * anatomy.radius(white)
    base = (white[inside] * SCALE + MIDDLE)[:400]
    points = {}
    for one, (name, section) in zip(stained, ready.items(), strict=True):
        place, tissue = one.from_base(base), section.tissue
        index = np.rint(apply_matrix(tissue.image.grid.matrix("mm", "voxel"), place)).astype(int)
        row, column = index.clip(0, np.array(tissue.mask.shape) - 1).T
        points[name] = np.where(tissue.mask.numpy()[row, column, None], place, np.nan)
    return ready, points


def rtre(maps: dict[str, Transform], points: dict[str, np.ndarray]) -> dict[str, float]:
    """Median per section, % of the diagonal of the reference."""
    own, out = points["HE"], {}
    for name in NAMES[1:]:
        both = np.isfinite(own).all(axis=1) & np.isfinite(points[name]).all(axis=1)
        away = np.linalg.norm(maps[name](own[both]) - points[name][both], axis=1)
        out[name] = float(100 * np.median(away) / (np.sqrt(2) * SIDE))
    return out


def one_set(seed: int) -> dict[str, Any]:
    ready, points = made(seed)
    known: dict[tuple[int, int], Match] = {}
    seconds = []

    def remembered(fixed: Section, moving: Section, **options: Any) -> Match:
        key = id(fixed), id(moving)
        if key not in known:
            began = time.perf_counter()
            known[key] = match(fixed, moving, **options)
            seconds.append(time.perf_counter() - began)
        return known[key]

    sets.match = remembered  # pairs that chain, star and all share are registered once
    out: dict[str, Any] = {"seed": seed}
    grid = ready["HE"].image.grid
    for pairs in ("star", "chain", "all"):
        found = sets.match_set(ready, pairs=pairs)
        first = [
            replace(one, weight=one.weight / (sets.DOUBTFUL if one.outlier else 1.0))
            for one in found.pairs
        ]
        out[pairs] = {
            "shortest": rtre(shortest(sets.graph_of(ready, first), "HE", grid), points),
            "synchronised": rtre(shortest(found.graph, "HE", grid), points),
            "several paths": rtre(averaged(found.graph, "HE", grid), points),
            "joint": rtre(found.maps, points),
            "wrong pairs told": sum(one.outlier for one in found.pairs),
            "called unsure": [n.split(":")[0] for n in found.notes if "may be wrong" in n],
        }
        print(seed, pairs, json.dumps(out[pairs]), flush=True)
    out["pairs"] = [
        {
            "pair": one.name, "score": one.score, "weight": one.weight, "outlier": one.outlier,
 "doubtful": one.doubtful,
            "off_mm": one.off_mm, "off_after_mm": one.off_after_mm, "wrong": wrong(one, points),
        }
        for one in found.pairs
    ]  # fmt: skip
    print(json.dumps(out["pairs"]), flush=True)
    out["seconds_per_pair"] = round(float(np.median(seconds)), 1)
    return out


def wrong(pair: sets.Pair, points: dict[str, np.ndarray]) -> bool:
    """True where its map is off by more than 2 % of the diagonal in the median."""
    own, other = points[pair.fixed], points[pair.moving]
    both = np.isfinite(own).all(axis=1) & np.isfinite(other).all(axis=1)
    away = np.linalg.norm(pair.match.result.forward(own[both]) - other[both], axis=1)
    return bool(np.median(away) > 0.02 * np.sqrt(2) * SIDE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="2,4,5")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / "section_set.json"
    out = json.loads(path.read_text()) if path.exists() else {"sets": []}
    for seed in map(int, args.seeds.split(",")):
        others = [one for one in out["sets"] if one["seed"] != seed]
        out["sets"] = sorted([*others, one_set(seed)], key=lambda one: one["seed"])
        out["machine"] = machine(args.threads)
        path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
