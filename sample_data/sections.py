"""Seeded stained sections cut from a volume, with the true map of every pixel.

A section is what a stain shows on an oblique plane of a brain: colours on white, in which grey and
white matter change places against T1 and CSF is empty, unevenly lit, turned, stretched and
perhaps mirrored on its slide, bent, torn, and with a piece missing. `truth(points)` maps section
mm (x right, y down, from the first pixel) to mm of the volume. Needs numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

_STAIN = np.array([0.65, 0.70, 0.29])
"""Absorbance of the dye in red, green and blue."""


@dataclass(frozen=True)
class Section:
    """rgb: (rows, columns, 3) uint8; pixel_mm; tissue, torn: (rows, columns) bool.

    truth: (n, 2) section mm -> (n, 3) volume mm; plane: (4, 3) point of the plane in the middle of
    the section, its two edges and its normal, unit vectors; flipped: the slide shows the mirror
    image; points_mm: (k, 2) places of tissue that is neither torn nor missing.
    """

    rgb: NDArray[np.uint8]
    pixel_mm: float
    tissue: NDArray[np.bool_]
    torn: NDArray[np.bool_]
    truth: Callable[[Array], Array]
    plane: Array
    flipped: bool
    points_mm: Array


def _rotation(axis: int, degrees: float) -> Array:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    out[i, i], out[i, j], out[j, i], out[j, j] = c, -s, s, c
    return out


def _elastic(size_mm: Array, peak_mm: float, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Gaussian bumps of a quarter of the section, at most `peak_mm` long together."""
    centres = rng.uniform(0.2, 0.8, (8, 2)) * size_mm
    width = float(size_mm.min()) / 5
    ways = rng.normal(size=(8, 2))

    def raw(points: Array) -> Array:
        square = ((points[:, None] - centres) ** 2).sum(-1)
        return np.exp(-square / (2 * width**2)) @ ways

    rows = np.stack(np.meshgrid(*[np.linspace(0, s, 40) for s in size_mm]), -1).reshape(-1, 2)
    longest = float(np.linalg.norm(raw(rows), axis=1).max())
    return lambda points: raw(points) * (peak_mm / longest)


def _tears(shape: tuple[int, int], tissue: NDArray[np.bool_], rng: np.random.Generator, count: int):
    """Thin wedges from the border inwards."""
    torn = np.zeros(shape, bool)
    rows, columns = np.nonzero(tissue)
    middle = np.array([rows.mean(), columns.mean()])
    radius = np.sqrt(tissue.sum() / np.pi)
    grid = np.stack(np.mgrid[: shape[0], : shape[1]], -1)
    for angle in rng.uniform(0, 2 * np.pi, count):
        out = np.array([np.sin(angle), np.cos(angle)])
        apart = grid - middle
        along = apart @ out
        across = np.abs(apart @ np.array([-out[1], out[0]]) + 0.04 * radius * np.sin(along / 25))
        opened = 0.035 * radius * np.clip((along / radius - 0.35) / 0.5, 0, 1)
        torn |= (across < opened) & (along > 0)
    return torn & tissue


def _missing(tissue: NDArray[np.bool_], share: float, rng: np.random.Generator):
    """A round bite out of the border that takes `share` of the tissue."""
    edge = np.argwhere(tissue & ~ndimage.binary_erosion(tissue))
    place = edge[rng.integers(len(edge))]
    grid = np.stack(np.mgrid[: tissue.shape[0], : tissue.shape[1]], -1)
    away = np.where(tissue, ((grid - place) ** 2).sum(-1), np.inf)
    limit = np.sort(away, axis=None)[int(share * tissue.sum())]
    return away <= limit


def cut_section(
    volume: NDArray[np.floating],
    voxel_to_mm: Array,
    *,
    seed: int = 0,
    axis: int = 1,
    position: float = 0.5,
    tilt_deg: tuple[float, float] | None = None,
    pixel_mm: float = 0.25,
    elastic_px: float = 12.0,
    tears: int = 3,
    missing: float | None = None,
    flipped: bool | None = None,
    turn_deg: float | None = None,
) -> Section:
    """Cut `volume` (z, y, x; 0 outside the brain) and stain it.

    voxel_to_mm: (4, 4), voxel index z, y, x -> mm x, y, z. axis: world axis (x, y, z = 0, 1, 2)
    near the plane's normal; position: share of the brain's extent along it; tilt_deg: turns of the
    plane about its two edges, default up to 15 degrees each; missing: share of the tissue, default
    5 to 10 %; flipped and turn_deg (on the slide): default by the seed.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-15, 15, 2), rng.uniform(0.05, 0.10), rng.uniform() < 0.5
    drawn_turn, scale = rng.uniform(-180, 180), rng.uniform(0.92, 1.08, 2)
    shear = rng.uniform(-0.04, 0.04)
    tilt = drawn[0] if tilt_deg is None else np.asarray(tilt_deg)
    share = drawn[1] if missing is None else missing
    mirror = bool(drawn[2]) if flipped is None else flipped
    turn = drawn_turn if turn_deg is None else turn_deg

    inside = np.argwhere(volume > 0)
    mm = inside @ voxel_to_mm[:3, :3].T + voxel_to_mm[:3, 3]
    middle = mm.mean(0)
    ends = np.percentile(mm[:, axis], (1, 99))
    middle[axis] = ends[0] + position * (ends[1] - ends[0])
    first, second = [k for k in range(3) if k != axis]
    frame = np.eye(3)[:, [first, second, axis]]
    frame = _rotation(first, tilt[0]) @ _rotation(second, tilt[1]) @ frame

    near = np.abs((mm - middle) @ frame[:, 2]) < 2
    flat = (mm[near] - middle) @ frame[:, :2]
    centre = (flat.max(0) + flat.min(0)) / 2
    reach = float(np.linalg.norm(flat - centre, axis=1).max()) * 1.2
    size = np.array([reach * 2, reach * 2])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    linear = np.array([[c, -s], [s, c]]) @ np.array([[scale[0], shear], [0, scale[1]]])
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    bend = _elastic(size, elastic_px * pixel_mm, rng)

    def truth(points: Array) -> Array:
        flat = (points + bend(points) - size / 2) @ linear.T + centre
        return middle + flat @ frame[:, :2].T

    n = int(np.ceil(size[0] / pixel_mm))
    rows, columns = np.mgrid[:n, :n]
    points = np.stack([columns, rows], -1).reshape(-1, 2) * pixel_mm
    voxels = np.linalg.solve(voxel_to_mm[:3, :3], (truth(points) - voxel_to_mm[:3, 3]).T)
    grey = ndimage.map_coordinates(volume.astype(np.float32), voxels, order=1).reshape(n, n)
    top = np.percentile(volume[volume > 0], 98)
    tissue = ndimage.binary_opening(grey > 0.12 * top, iterations=2)
    torn = _tears((n, n), tissue, rng, tears) if tears else np.zeros((n, n), bool)
    if share:
        torn |= _missing(tissue, share, rng)
    # CSF empty, grey matter dark, white matter pale
    stained = ((0.0, 0.0), (0.12, 0.05), (0.35, 0.5), (0.62, 1.0), (0.85, 0.35), (1.2, 0.3))
    density = np.interp(grey / top, *np.array(stained).T)
    density *= tissue & ~torn
    slope = rng.uniform(-0.08, 0.08, 2)
    light = 1 + slope[0] * (rows / n - 0.5) + slope[1] * (columns / n - 0.5)
    rgb = 243 * np.exp(-1.3 * density[..., None] * _STAIN) * light[..., None]
    rgb += rng.normal(0, 3, rgb.shape)
    usable = np.argwhere(ndimage.binary_erosion(tissue & ~torn, iterations=3))
    chosen = usable[rng.choice(len(usable), min(400, len(usable)), replace=False)]
    point = truth(np.array([size / 2]))[0]
    return Section(
        np.clip(np.rint(rgb), 0, 255).astype(np.uint8), pixel_mm, tissue & ~torn, torn, truth,
        np.stack([point, *frame.T]), mirror, chosen[:, ::-1] * pixel_mm,
    )  # fmt: skip
