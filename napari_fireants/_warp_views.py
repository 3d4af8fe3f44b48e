"""Pictures of the deformation, without the affine part. No Qt; torch only where it is at work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_fireants._seen import Arrows, Picture, Seen, round_step

NO_WARP = "There is no warp: an affine map alone keeps the grid straight."


def _step(seen: Seen, count: int) -> float:
    """A round number of mm that is about 1 / `count` of the longest side."""
    extent = max(n * s for n, s in zip(seen.shape, seen.spacing, strict=True))
    return round_step(extent / count)


# ------------------------------------------------------------------ grid
def grid_lines(
    places: np.ndarray, spacing: Sequence[float], step_mm: float, axes: Sequence[int]
) -> np.ndarray:
    """Lines of a regular grid seen through a map, 0 to 255 (uint8), one voxel thin.

    places: (d, *shape), where every voxel comes from, in voxels. Of a volume (three axes) the
    lines where two sheets of the grid meet: sheets would hide what is behind them.
    """
    first, second = (np.zeros(places.shape[1:], np.float32) for _ in range(2))
    for axis in axes:
        voxels = step_mm / spacing[axis]
        away = places[axis] / voxels
        away -= np.rint(away)
        bright = 1.5 - np.abs(away) * voxels
        np.maximum(second, np.minimum(bright, first), out=second)
        np.maximum(first, bright, out=first)
    return (np.clip(second if len(axes) == 3 else first, 0, 1) * 255).astype(np.uint8)


def grid_picture(seen: Seen, count: int) -> Picture:
    """A regular grid as the warp bends it, on the moving image."""
    step = _step(seen, count)
    places = np.indices(seen.fixed.shape, dtype=np.float32)
    if seen.displacement is not None:
        places += seen.displacement
    lines = grid_lines(places, seen.spacing, step, seen.axes)
    text = f"Lines every {step:g} mm." + (f" {NO_WARP}" if seen.u is None else "")
    return Picture(lines, "warped grid", "yellow", over="moved", note=text)


# ------------------------------------------------------------------ arrows
def arrows_picture(seen: Seen, count: int, longer: float) -> Arrows:
    """Arrows on a regular grid of places; on a plane, their parts in it."""
    d, step = seen.fixed.ndim, _step(seen, count)
    u = seen.displacement
    if u is None:
        return Arrows(np.zeros((0, 2, d)), np.zeros(0), note=NO_WARP)
    stride = [max(1, round(step / s)) for s in seen.spacing]
    hidden = None if seen.key is None else seen.key[0]
    if hidden is not None:
        stride[hidden] = 1
    lattice = np.meshgrid(
        *[np.arange((min(k, n) - 1) // 2, n, k) for k, n in zip(stride, u.shape[1:], strict=True)],
        indexing="ij",
    )
    index = tuple(axis.ravel() for axis in lattice)
    way = np.stack([component[index] for component in u], axis=1).astype(np.float64)
    start = np.stack(index, axis=1).astype(np.float64)
    if seen.key is not None:
        start[:, seen.key[0]] = seen.key[1]
        way[:, seen.key[0]] = 0
    mm = np.sqrt(np.square(way * np.asarray(seen.spacing)).sum(axis=1))
    kept = mm > 0.02 * max(mm.max(), 1e-12)  # shorter ones are no more than dots
    start, way, mm = start[kept], way[kept], mm[kept]
    coarser = np.asarray(seen.full or seen.shape) / np.asarray(seen.shape)
    ratio = np.where(np.arange(d) == hidden, 1.0, coarser)
    start, way = (start + 0.5) * ratio - 0.5, way * ratio
    if mm.size == 0:
        return Arrows(np.zeros((0, 2, d)), np.zeros(0), note="The warp moves nothing here.")
    times = "" if longer == 1 else f", drawn {longer:g} times as long"
    inside = "" if hidden is None else " in this slice"
    text = f"Arrows every {step:g} mm{times}; the longest{inside} is {mm.max():.1f} mm."
    width = 0.12 * step / min(seen.spacing[a] for a in seen.axes)
    return Arrows(
        np.stack([start, way * longer], axis=1), mm, round_step(max(mm.max(), 1e-3)), width, text
    )


# ------------------------------------------------------------------ maps
def jacobian_picture(seen: Seen) -> Picture:
    """Logarithm of the Jacobian determinant, and strictly folded voxels."""
    if seen.u is None:
        zeros = np.zeros(seen.fixed.shape, np.float32)
        return Picture(zeros, "log Jacobian", "PiYG", (-0.1, 0.1), note=NO_WARP)
    from fireants_engine.ops.jacobian import jacobian_determinant, strict_fold_mask

    determinant = seen.here(jacobian_determinant(seen.u)[0, 0].numpy())
    folds = seen.here(strict_fold_mask(seen.u)[0, 0].numpy())
    logarithm = np.log(np.maximum(determinant, 1e-3))
    limit = round_step(max(0.1, float(np.quantile(np.abs(logarithm), 0.995))))
    count = int(folds.sum())
    low, high = (float(x) for x in np.quantile(determinant, (0.001, 0.999)))
    here = "" if seen.key is None else " in this slice"
    text = f"Volume changes{here} by factors of {low:.2f} (pink) to {high:.2f} (green). "
    text += "No folded voxel." if count == 0 else f"{count} folded voxels, outlined."
    shown = folds if count else None
    return Picture(logarithm, "log Jacobian", "PiYG", (-limit, limit), folds=shown, note=text)


def displacement_picture(seen: Seen) -> Picture:
    """Length of the displacement in mm."""
    u = seen.displacement
    if u is None:
        zeros = np.zeros(seen.fixed.shape, np.float32)
        return Picture(zeros, "displacement (mm)", "viridis", (0.0, 1.0), note=NO_WARP)
    square = np.zeros(u.shape[1:], np.float32)
    for component, step in zip(u, seen.spacing, strict=True):
        square += np.square(component * np.float32(step))
    size = np.sqrt(square, out=square)
    middle, most = float(np.median(size)), float(size.max())
    limits = (0.0, round_step(max(1e-3, float(np.quantile(size, 0.995)))))
    here = "" if seen.key is None else " of this slice"
    text = f"The warp moves voxels{here} by up to {most:.1f} mm, half of them by less than "
    text += f"{middle:.1f}."
    return Picture(size, "displacement (mm)", "viridis", limits, note=text)


def inverse_picture(seen: Seen) -> Picture:
    """|T^-1(T(x)) - x| in mm; after a run only, of the whole."""
    from fireants_engine.workflows.quality import inverse_error_mm

    error = None if seen.mapping is None else inverse_error_mm(seen.mapping)
    if error is None:
        zeros = np.zeros(seen.fixed.shape, np.float32)
        return Picture(zeros, "inverse error (mm)", "magma", (0.0, 1.0), note=NO_WARP)
    known = error[np.isfinite(error)]
    if known.size == 0:
        known = np.zeros(1, np.float32)
    limits = (0.0, round_step(max(1e-4, float(np.quantile(known, 0.995)))))
    text = f"Map and inverse miss by {known.mean():.3f} mm in the mean, {known.max():.2f} at most "
    text += "(where the map stays inside the image)."
    return Picture(np.nan_to_num(error), "inverse error (mm)", "magma", limits, note=text)
