"""Ex-vivo brains made of real in-vivo ones: cut, shrunk, bent, of another contrast, in any pose."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_image
from fireants_engine.ops import warp_image, warp_labels
from fireants_engine.pipeline.pyramid import level_grid, shrink_image
from fireants_engine.transforms import Affine, Chain, Displacement, Transform

GREY, WHITE, FLUID = 1, 2, 3
BACKGROUND = 0.05


@dataclass(frozen=True, eq=False)
class Subject:
    """An in-vivo scan with tissue classes and, as FreeSurfer numbers them, its two sides."""

    image: Image
    tissue: Image
    sides: Image


def coarser(image: Image, spacing_mm: float) -> Image:
    """The image with about this spacing."""
    grid = level_grid(image.grid, spacing_mm / min(image.grid.spacing_mm), 1)
    return Image(shrink_image(image.data.float()[None], grid)[0], grid, name=image.name)


def load_subject(folder: Path, name: str, spacing_mm: float) -> Subject:
    """One of `oasis_malf` at a coarser spacing."""
    image = load_image(folder / f"{name}_SS.nii.gz")
    labels = load_image(folder / f"{name}_glm.nii.gz").data[0].numpy()
    tissue, sides = np.zeros(labels.shape, np.int16), np.where(labels > 0, 14, 0).astype(np.int16)
    with (folder / "MICCAI-Challenge-2012-Label-Information.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[0].isdigit() and row[1]]
    for number, title, *_ in rows:
        text, chosen = title.strip().lower(), labels == int(number)
        white = "white matter" in text or "brain stem" in text or "ventral dc" in text
        fluid = ("vent" in text and "ventral" not in text) or "csf" in text or "vessel" in text
        tissue[chosen] = FLUID if fluid else WHITE if white else GREY
        if text.startswith(("left", "right")):
            sides[chosen] = 2 if text.startswith("left") else 41
    coarse = coarser(image, spacing_mm)
    still = Affine.identity(3)
    maps = [Image.from_numpy(one, image.grid) for one in (tissue, sides)]
    tissue_map, side_map = (warp_labels(one, still, coarse.grid) for one in maps)
    return Subject(coarse, tissue_map, side_map)


def kept_half(subject: Subject, side: str) -> np.ndarray:
    """Bool: the voxels of one half, the midline structures cut by a plane."""
    sides = subject.sides.data[0].numpy()
    points = subject.image.grid.points_mm().reshape(*sides.shape, 3)
    left, right = (points[sides == number].mean(0) for number in (2, 41))
    away = (points - (left + right) / 2) @ (left - right)
    away = np.where(sides == 2, 1, np.where(sides == 41, -1, away))
    return (sides > 0) & ((away > 0) if side == "left" else (away < 0))


def fixed_brain(
    subject: Subject, side: str, contrast: str, seed: int, bend_mm: float = 1.5
) -> tuple[Image, Image, Transform, Affine]:
    """Ex-vivo image and tissue, the true map in-vivo -> ex-vivo mm, and its rigid pose alone.

    contrast: `reduced` (a quarter of that between grey and white is left), or `inverted`. 5 to
    10 % shrinkage along every axis, a smooth bend of `bend_mm` in the mean, 3 % noise.
    """
    rng = np.random.default_rng(seed)
    values = subject.image.data[0].double().numpy()
    tissue = subject.tissue.data[0].numpy()
    values = values / np.percentile(values[tissue > 0], 99.5)
    slope = {"reduced": 0.25, "inverted": -0.45}[contrast]
    half = kept_half(subject, side)
    dead = np.where(half & (tissue != FLUID), 0.6 + slope * (values - 0.6), BACKGROUND)
    grid = subject.image.grid
    bend = np.stack([gaussian_filter(rng.standard_normal(tissue.shape), 8) for _ in range(3)])
    bend *= bend_mm / grid.spacing_mm[0] / np.linalg.norm(bend, axis=0).mean()
    warp = Displacement(torch.from_numpy(bend[None].astype(np.float32)), grid)
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    shift = rng.uniform(-8, 8, 3) - grid.centre_mm
    shrunk = rotation @ np.diag(rng.uniform(0.90, 0.95, 3))
    pose = Affine.about(rotation, shift, grid.centre_mm)
    truth = Chain([warp, Affine.about(shrunk, shift, grid.centre_mm)])
    target = _cube(grid)
    back = truth.inverse()
    image = warp_image(Image.from_numpy(dead, grid), back, target, fill=BACKGROUND)
    noisy = image.data.numpy()[0] + 0.03 * rng.standard_normal(target.shape)
    kept = Image.from_numpy((tissue * half).astype(np.int16), grid)
    exvivo = Image.from_numpy(np.abs(noisy).astype(np.float32), target, name="exvivo")
    return exvivo, warp_labels(kept, back, target), truth, pose


def _cube(grid: Grid) -> Grid:
    """Around the origin, wide enough for every pose."""
    spacing = min(grid.spacing_mm)
    size = int(0.8 * float(np.linalg.norm(grid.extent_mm)) / spacing)
    return Grid((size,) * 3, (spacing,) * 3, (-(size - 1) / 2 * spacing,) * 3, np.eye(3))
