"""Seeded phantoms with a known transform: `python sample_data/phantoms.py --out DIR --seed 0`.

A phantom is a function of physical points, so the fixed image is the moving function evaluated at
the transformed points: `fixed(x) = moving(T(x))` holds exactly, with no interpolation and no
inverse. T is the identity plus a few Gaussian bumps whose slopes add up to less than one, hence a
diffeomorphism. Needs numpy; SimpleITK only to write files.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lattice:
    """Where samples lie: size, spacing and origin in ITK order (x, y(, z)), LPS mm."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Array

    def points(self) -> Array:
        """Physical points (*size reversed, d), x, y(, z)."""
        axes = [np.arange(n, dtype=float) for n in self.size[::-1]]
        index = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
        return (index * self.spacing) @ self.direction.T + self.origin


@dataclass(frozen=True)
class Phantom:
    """A pair in array order (z, y, x) with labels, lattices and the true displacement.

    truth_mm: T(x) - x in mm at the fixed samples, (*shape, d), x, y(, z) order, fixed -> moving.
    """

    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    fixed_labels: NDArray[np.uint8]
    moving_labels: NDArray[np.uint8]
    fixed_lattice: Lattice
    moving_lattice: Lattice
    truth_mm: Array


def lattice(size: tuple[int, ...], spacing: tuple[float, ...], degrees: float = 0.0) -> Lattice:
    """A lattice centred at 0; `degrees` tilts it about z (and x in 3D)."""
    dim = len(size)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    direction = np.eye(dim)
    direction[:2, :2] = [[c, -s], [s, c]]
    if dim == 3:
        direction = direction @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    origin = -direction @ ((np.array(size) - 1) / 2 * np.array(spacing))
    return Lattice(size, spacing, tuple(origin), direction)


def bumps(dim: int, radius: float, peak: float, seed: int) -> Callable[[Array], Array]:
    """T: identity plus 6 Gaussian bumps; displacements up to about `peak`, slopes below 0.8."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-0.7, 0.7, (6, dim)) * radius
    heights = rng.standard_normal((6, dim))
    sigma = 0.35 * radius
    slopes = np.linalg.norm(heights, axis=1).sum() * np.exp(-0.5) / sigma
    scale = min(peak / np.linalg.norm(heights, axis=1).max(), 0.8 / slopes)

    def transform(points: Array) -> Array:
        out = points.copy()
        for centre, height in zip(centres, heights * scale, strict=True):
            weight = np.exp(-((points - centre) ** 2).sum(-1) / (2 * sigma**2))
            out += weight[..., None] * height
        return out

    return transform


def _inside(distance: Array, softness: float) -> Array:
    """1 inside (distance < 0), 0 outside, smooth over `softness`."""
    return 1 / (1 + np.exp(np.clip(distance / softness, -40, 40)))


def head(points: Array, radius: float) -> tuple[Array, NDArray[np.uint8]]:
    """A brain-like body in 2D or 3D: folded grey rim (1), white core (2), two ventricles (3)."""
    dim = points.shape[-1]
    axes = np.array([0.8, 1.0, 0.75][:dim]) * radius
    scaled = points / axes
    r = np.linalg.norm(scaled, axis=-1)
    angle = np.arctan2(scaled[..., 1], scaled[..., 0])
    height = scaled[..., 2] if dim == 3 else np.zeros_like(r)
    folds = 0.05 * np.cos(9 * angle + 4 * height) + 0.03 * np.cos(5 * angle - 7 * height)
    soft = 0.02
    brain = _inside(r - 0.95 - 0.3 * folds, soft)
    white = _inside(r - 0.72 - 1.2 * folds, soft)
    side = np.abs(scaled[..., 0]) - 0.16
    rest = ((scaled[..., 1:] - np.array([0.05, 0.0][: dim - 1])) / [0.3, 0.25][: dim - 1]) ** 2
    ventricle = _inside(np.sqrt((side / 0.09) ** 2 + rest.sum(-1)) - 1, 0.15)
    blob = _inside(
        np.linalg.norm(scaled - np.array([0.3, -0.35, 0.15][:dim]), axis=-1) - 0.12, soft
    )
    value = 60 * brain + 45 * white - 80 * ventricle * white - 30 * blob
    labels = np.zeros(r.shape, np.uint8)
    labels[brain > 0.5] = 1
    labels[white > 0.5] = 2
    labels[(ventricle > 0.5) & (white > 0.5)] = 3
    return value, labels


def section(points: Array, radius: float, seed: int) -> tuple[Array, NDArray[np.uint8]]:
    """A stained section in 2D: bright background, tissue (1) and some 60 dark cells (2)."""
    rng = np.random.default_rng(seed + 1000)
    r = np.linalg.norm(points / (np.array([1.0, 0.8]) * radius), axis=-1)
    angle = np.arctan2(points[..., 1], points[..., 0])
    tissue = _inside(r - 0.9 - 0.06 * np.cos(3 * angle) - 0.03 * np.cos(7 * angle), 0.02)
    cells = np.zeros(r.shape)
    for centre in rng.uniform(-0.6, 0.6, (60, 2)) * radius:
        size = rng.uniform(0.03, 0.06) * radius
        cells = np.maximum(cells, np.exp(-((points - centre) ** 2).sum(-1) / (2 * size**2)))
    value = 240 - 60 * tissue - 110 * cells * tissue
    labels = (tissue > 0.5).astype(np.uint8)
    labels[(cells > 0.5) & (tissue > 0.5)] = 2
    return value, labels


def contrast(value: Array) -> Array:
    """Another modality: a smooth, non-monotone map of the intensities."""
    x = value / 105.0
    return 100 * (np.sin(2.2 * x) ** 2 * np.exp(-0.6 * x) + 0.15 * (x > 0.2) * x)


def _pair(
    body: Callable[[Array], tuple[Array, NDArray[np.uint8]]],
    fixed: Lattice,
    moving: Lattice,
    transform: Callable[[Array], Array],
    recolour: Callable[[Array], Array] | None,
) -> Phantom:
    points = fixed.points()
    value, labels = body(transform(points))
    other, other_labels = body(moving.points())
    if recolour is not None:
        value = recolour(value)
    return Phantom(
        value.astype(np.float32),
        other.astype(np.float32),
        labels,
        other_labels,
        fixed,
        moving,
        transform(points) - points,
    )


def microscopy_2d(size: int = 160, peak: float = 6.0, seed: int = 0) -> Phantom:
    """Two stained sections of `size` pixels (unit spacing)."""
    where = lattice((size, size), (1.0, 1.0))
    radius = 0.42 * size
    return _pair(
        lambda p: section(p, radius, seed), where, where, bumps(2, radius, peak, seed), None
    )


def brain(
    dim: int = 3,
    size: int = 64,
    peak: float = 4.0,
    seed: int = 0,
    *,
    oblique: bool = False,
    other_contrast: bool = False,
) -> Phantom:
    """Two brains about `size` mm wide; oblique: tilted, anisotropic, different grids."""
    radius = 0.42 * size
    fixed = moving = lattice((size,) * dim, (1.0,) * dim)
    if oblique:
        spacing = (1.0, 1.25, 2.0)[:dim]
        fixed = lattice(tuple(int(size * 1.1 / s) for s in spacing), spacing, 12.0)
        moving = lattice((size + 6,) * dim, (1.1,) * dim, -7.0)
    return _pair(
        lambda p: head(p, radius),
        fixed,
        moving,
        bumps(dim, radius, peak, seed),
        contrast if other_contrast else None,
    )


# ------------------------------------------------------------------ EPI
OVER = 8
"""Places within a voxel whose signal is laid on its own."""


def read_out(image: Array, shift: Array, axis: int) -> Array:
    """`image` as an EPI readout shows it: what is at x lies at x + shift(x), its signal kept.

    shift: voxels along the array axis. Signal beyond the field of view is lost.
    """
    values, moves = (np.moveaxis(a, axis, -1) for a in (image, shift))
    n = values.shape[-1]
    x = (np.arange(n * OVER) + 0.5) / OVER - 0.5
    left = np.clip(np.floor(x).astype(int), 0, n - 2)
    part = np.clip(x - left, 0, 1)
    fine = [a[..., left] * (1 - part) + a[..., left + 1] * part for a in (values, moves)]
    place = x + fine[1]
    low = np.floor(place).astype(int)
    rest = place - low
    out = np.zeros(values.shape)
    lines = out.reshape(-1, n)
    numbers = np.arange(len(lines))[:, None]
    for where, share in ((low, 1 - rest), (low + 1, rest)):
        flat = where.reshape(len(lines), -1)
        ok = (flat >= 0) & (flat < n)
        signal = (fine[0] * share / OVER).reshape(len(lines), -1)
        np.add.at(lines, (np.broadcast_to(numbers, flat.shape)[ok], flat[ok]), signal[ok])
    return np.moveaxis(out, -1, axis)


def epi_pair(image: Array, readout_s: float = 0.05, seed: int = 0) -> tuple[Array, Array, Array]:
    """A brain (z, y, x; y from front to back or back to front) read out along y and against it.

    Returns both images (float32, 1 % noise) and the made-up field in Hz: a source of 150 Hz above
    the end of y, -20 Hz elsewhere.
    """
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in image.shape), indexing="ij")
    top, middle = image.shape[1] - 14, image.shape[2] / 2
    hz = 150 * np.exp(-((y - top) ** 2 + (x - middle) ** 2) / 300 - z / 20) - 20
    rng = np.random.default_rng(seed)
    shown = []
    for sign in (1, -1):
        noise = rng.normal(0, 0.01 * image.max(), image.shape)
        bent = read_out(image, hz * sign * readout_s, 1)
        shown.append((bent + noise).astype(np.float32))
    return shown[0], shown[1], hz


def write(phantom: Phantom, folder: Path, name: str) -> None:
    """Fixed, moving and both label maps as NIfTI, the truth as an ITK displacement field."""
    import SimpleITK as sitk

    for what, array, where in (
        ("fixed", phantom.fixed, phantom.fixed_lattice),
        ("moving", phantom.moving, phantom.moving_lattice),
        ("fixed_labels", phantom.fixed_labels, phantom.fixed_lattice),
        ("moving_labels", phantom.moving_labels, phantom.moving_lattice),
        ("truth", phantom.truth_mm, phantom.fixed_lattice),
    ):
        image = sitk.GetImageFromArray(array, isVector=what == "truth")
        image.SetSpacing(where.spacing)
        image.SetOrigin(where.origin)
        image.SetDirection(where.direction.ravel())
        sitk.WriteImage(image, str(folder / f"{name}_{what}.nii.gz"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write(microscopy_2d(seed=args.seed), args.out, "microscopy2d")
    write(brain(seed=args.seed), args.out, "brain3d")
    write(brain(seed=args.seed, oblique=True), args.out, "brain3d_oblique")
    write(brain(seed=args.seed, other_contrast=True), args.out, "brain3d_multimodal")


if __name__ == "__main__":
    main()
