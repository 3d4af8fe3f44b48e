"""Sizes of pyramid levels. Plain numbers: what is planned before a run needs no torch."""

from __future__ import annotations

from collections.abc import Sequence


def level_size(
    size: Sequence[int],
    spacing_mm: Sequence[float],
    shrink: float,
    min_size: int,
    finest_mm: float | None = None,
) -> tuple[int, ...]:
    """Samples per axis with voxels of `shrink * finest_mm`, per axis at least its own spacing.

    finest_mm: default the finest spacing given. No axis is shrunk below `min_size` samples, or
    its own.
    """
    finest = min(spacing_mm) if finest_mm is None else finest_mm
    out = []
    for n, spacing in zip(size, spacing_mm, strict=True):
        target = max(spacing, shrink * finest)
        out.append(min(n, max(round(n * spacing / target), min(n, min_size))))
    return tuple(out)
