"""Pictures of a result: PNG bytes drawn off screen, readable on light and dark pages."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fireants_engine.geometry import Image
from fireants_engine.geometry.planes import Plane, plane_of
from fireants_engine.ops import warp_image
from fireants_engine.pipeline.prepare import robust_range
from fireants_engine.transforms import Affine, Transform
from fireants_engine.workflows.report import foreground
from fireants_engine.workflows.result import Result

GREY = "#808080"
SQUARES = 8
"""Squares of the checkerboard along the longer side."""


def planes_of(fixed: Image) -> list[Plane]:
    """The planes worth showing: through the middle of the foreground; thin planes are left out."""
    grid = fixed.grid
    if grid.dim == 2:
        return [plane_of(grid, None, 0)]
    inside = foreground(fixed)[0]
    found = inside.nonzero()
    middle = found.double().mean(0).round().long() if len(found) else torch.tensor(grid.shape) // 2
    out = []
    for axis in range(3):
        others = [n for a, n in enumerate(grid.shape) if a != axis]
        if min(others) >= 4:
            out.append(plane_of(grid, axis, int(middle[axis])))
    return out or [plane_of(grid, 0, int(middle[0]))]


class Painter:
    """Draws one result; every picture is resampled for its planes only."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.planes = planes_of(result.fixed)
        self._range_moving = robust_range(result.moving.data)
        self._range_fixed = robust_range(result.fixed.data)
        identity = Affine.identity(result.grid.dim)
        self.before = [self._moving(plane, identity) for plane in self.planes]
        self.after = [self._moving(plane, result.forward) for plane in self.planes]
        grey = result.fixed.data.float().mean(0).cpu().numpy()
        self.fixed = [self._window(plane.cut(grey), self._range_fixed) for plane in self.planes]

    @staticmethod
    def _window(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        low, high = limits
        return np.clip((array - low) / max(high - low, 1e-12), 0, 1)

    def _moving(self, plane: Plane, transform: Transform) -> np.ndarray:
        low = self._range_moving[0]
        image = warp_image(self.result.moving, transform, plane.grid, fill=low)
        array = image.data.mean(0).numpy()
        array = array if plane.axis is None else array.squeeze(plane.axis)
        return self._window(plane.show(array), self._range_moving)

    # ------------------------------------------------------------- pictures
    def _overlay(self, moving: list[np.ndarray]) -> bytes:
        pairs = zip(self.fixed, moving, strict=True)
        return self._row([np.stack([m, f, m], axis=-1) for f, m in pairs])

    def _checkerboard(self) -> bytes:
        frames = []
        for plane, fixed, moved in zip(self.planes, self.fixed, self.after, strict=True):
            height, width = fixed.shape[0] * plane.aspect, fixed.shape[1]
            side = max(height, width) / SQUARES
            rows = (np.arange(fixed.shape[0]) * plane.aspect // side).astype(int)
            columns = (np.arange(width) // side).astype(int)
            chosen = (rows[:, None] + columns[None]) % 2 == 0
            frames.append(np.where(chosen, fixed, moved))
        return self._row(frames)

    def _row(self, frames: list[np.ndarray]) -> bytes:
        figure, axes = self._axes()
        for plane, ax, frame in zip(self.planes, axes, frames, strict=True):
            ax.imshow(frame, cmap="gray", vmin=0, vmax=1, aspect=plane.aspect)
        return png(figure)

    def _axes(self, extra: float = 0.0) -> tuple[Figure, list[Any]]:
        """One panel per plane, all of the same physical scale, side by side."""
        shapes = [frame.shape for frame in self.fixed]
        ratios = [
            shape[1] / (shape[0] * p.aspect) for shape, p in zip(shapes, self.planes, strict=True)
        ]
        height = min(3.4, 11.0 / max(sum(ratios), 0.1))
        figure = Figure(figsize=(height * sum(ratios) + extra, height + 0.3), dpi=110)
        grid = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)
        axes = list(grid[0])
        for plane, ax in zip(self.planes, axes, strict=True):
            ax.set_axis_off()
            ax.set_title(plane.title, fontsize=8, color=GREY)
        figure.subplots_adjust(0.005, 0.03, 0.995 - extra / 12, 0.93, wspace=0.02)
        return figure, axes

    def _grid_lines(self) -> bytes:
        """The picture of a regular grid carried along by the warp: lines of phi_k(x)."""
        figure, axes = self._axes()
        warp = self.result.warp_field
        for plane, ax, fixed in zip(self.planes, axes, self.fixed, strict=True):
            ax.imshow(fixed, cmap="gray", vmin=0, vmax=1.6, aspect=plane.aspect)
            rest = [a for a in range(self.result.grid.dim) if a != plane.axis]
            spacing = self.result.grid.spacing_zyx
            step_mm = max(n * s for n, s in self._sides(rest)) / 32
            for axis in rest:
                size = self.result.grid.shape[axis]
                place = np.arange(size, dtype=np.float32)
                shape = [1] * self.result.grid.dim
                shape[axis] = size
                volume = np.broadcast_to(place.reshape(shape), self.result.grid.shape)
                field = volume if warp is None else volume + warp.u[0, axis].numpy()
                levels = np.arange(0, size, max(1.0, step_mm / spacing[axis]))
                with np.errstate(invalid="ignore"):
                    ax.contour(plane.cut(field), levels=levels, colors="#2f9e8f", linewidths=0.7)
        return png(figure)

    def _sides(self, axes: list[int]) -> list[tuple[int, float]]:
        return [(self.result.grid.shape[a], self.result.grid.spacing_zyx[a]) for a in axes]

    def _jacobian(self) -> bytes:
        values = self.result.jacobian().data[0].numpy()
        figure, axes = self._axes(extra=0.9)
        drawn: Any = None
        for plane, ax in zip(self.planes, axes, strict=True):
            shown = np.log2(np.clip(plane.cut(values), 0.25, 4))
            drawn = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect=plane.aspect)
        bar = figure.colorbar(drawn, ax=axes, ticks=[-1, 0, 1], fraction=0.02, pad=0.01)
        bar.ax.set_yticklabels(["½", "1", "2"])
        bar.ax.tick_params(labelsize=8, labelcolor=GREY, color=GREY)
        return png(figure)

    def all(self) -> dict[str, bytes]:
        """Name -> PNG, in the order of a report."""
        pictures = {
            "before": self._overlay(self.before),
            "after": self._overlay(self.after),
            "checkerboard": self._checkerboard(),
        }
        if self.result.warp_field is not None:
            pictures["grid"] = self._grid_lines()
            pictures["jacobian"] = self._jacobian()
        return pictures


def loss_curves(stages: list[dict[str, Any]]) -> bytes | None:
    """One panel per stage, levels in alternating shades; None when no step was taken."""
    drawn = [s for s in stages if any(level.get("losses") for level in s["levels"])]
    if not drawn:
        return None
    figure = Figure(figsize=(3.6 * len(drawn), 2.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for ax, stage in zip(panels, drawn, strict=True):
        start = 0
        for number, level in enumerate(stage["levels"]):
            values = [np.nan if v is None else v for v in level.get("losses", [])]
            colour = ("#2f7fd0", "#d0762f")[number % 2]
            ax.plot(np.arange(start, start + len(values)), values, color=colour, linewidth=1.3)
            start += len(values)
        ax.set_title(stage["name"], fontsize=9, color=GREY)
        ax.set_xlabel("step", fontsize=8, color=GREY)
        ax.tick_params(labelsize=7, colors=GREY)
        ax.set_facecolor("none")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_color(GREY)
    panels[0].set_ylabel("loss (lower is better)", fontsize=8, color=GREY)
    return png(figure)


def png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
