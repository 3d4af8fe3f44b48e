"""napari layers <-> engine images. The only file that knows both.

World coordinates of napari are (z, y, x); the engine's are LPS mm, (x, y, z): one is the other
reversed. Layers are read through the whole public chain `layer.data_to_world`, never through
`layer.affine` alone, and in the layer's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer

    from fireants_engine import Image as EngineImage

_TIME = {"t", "time", "frame", "frames"}
_SHEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A layer as it is now: its data by reference, and where its samples lie.

    size, spacing_mm, origin_mm, direction: as in the engine's Grid (x, y, z order, LPS mm).
    notes: sentences a person should read.
    """

    name: str
    data: Any
    rgb: bool
    labels: bool
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: np.ndarray
    path: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def geometry(self) -> str:
        """One line for people: size, spacing, and whether the grid is oblique."""
        small = max(self.spacing_mm) < 0.1
        spacing = [s * 1000 if small else s for s in self.spacing_mm]
        size = " × ".join(str(n) for n in self.size)
        step = " × ".join(f"{s:.3g}" for s in spacing)
        aligned = np.allclose(np.abs(self.direction).max(axis=0), 1, atol=1e-4)
        kind = ", RGB" if self.rgb else ""
        return f"{size}, {step} {'µm' if small else 'mm'}{kind}{'' if aligned else ', oblique'}"


def _units_in_mm(layer: Layer) -> tuple[np.ndarray, tuple[str, ...]]:
    """Millimetres per world unit for each axis (z, y, x), and sentences about what was assumed."""
    factors, notes = [], ()
    for label, unit in zip(layer.axis_labels, layer.units, strict=True):
        quantity = 1.0 * unit
        if quantity.check("[length]"):
            factors.append(float(quantity.to("millimeter").magnitude))
        elif quantity.check("[time]") or str(label).lower() in _TIME:
            raise InputError(
                f"{layer.name}: axis {label!r} is time; choose one time point "
                "(right-click the layer, Split Stack) and register that."
            )
        else:
            factors.append(1.0)
            notes = (f"{layer.name} has no physical unit: its numbers are taken as mm.",)
    return np.array(factors), notes


def _index_to_mm(layer: Layer) -> tuple[np.ndarray, tuple[str, ...]]:
    """Homogeneous matrix from index (x, y, z) to LPS mm (x, y, z), from basis points."""
    dim = layer.ndim
    factors, notes = _units_in_mm(layer)
    origin = np.asarray(layer.data_to_world(np.zeros(dim)), dtype=float)
    columns = [np.asarray(layer.data_to_world(e), dtype=float) - origin for e in np.eye(dim)]
    out = np.eye(dim + 1)
    out[:dim, :dim] = (np.stack(columns, axis=1) * factors[:, None])[::-1, ::-1]
    out[:dim, dim] = (origin * factors)[::-1]
    return out, notes


def file_of(layer: Layer) -> str | None:
    """The file a layer was read from, or None."""
    path = layer.source.path
    if path is None:
        ours = layer.metadata.get("fireants")
        path = ours.get("path") if isinstance(ours, dict) else None
    return None if path is None else str(path)


def snapshot(layer: Layer) -> Snapshot:
    """`layer` as it is now, quickly (no data are read).

    Raises InputError for more than three axes, a time axis, or axes that are not at right angles.
    """
    labels = not hasattr(layer, "contrast_limits")
    rgb = bool(getattr(layer, "rgb", False))
    if layer.ndim not in (2, 3):
        raise InputError(
            f"{layer.name} has {layer.ndim} axes; only 2D and 3D images can be registered. Take "
            "one time point or channel of it (right-click the layer, Split Stack)."
        )
    matrix, notes = _index_to_mm(layer)
    linear = matrix[:-1, :-1]
    spacing = np.linalg.norm(linear, axis=0)
    if not np.all(np.isfinite(matrix)) or np.any(spacing <= 0):
        raise InputError(f"{layer.name}: its scale is zero or not finite; set a valid scale.")
    direction = linear / spacing
    if np.abs(direction.T @ direction - np.eye(layer.ndim)).max() > _SHEAR:
        raise InputError(
            f"{layer.name} is sheared: its axes are not at right angles; resample it onto a "
            "rectangular grid first."
        )
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    shape = tuple(data.shape[: layer.ndim])
    return Snapshot(
        name=layer.name,
        data=data,
        rgb=rgb,
        labels=labels,
        size=shape[::-1],
        spacing_mm=tuple(float(s) for s in spacing),
        origin_mm=tuple(float(o) for o in matrix[:-1, -1]),
        direction=direction,
        path=file_of(layer),
        notes=notes,
    )


def to_image(source: Snapshot) -> EngineImage:
    """The engine's Image of a snapshot; reads lazy data and copies. Call it off the GUI thread."""
    from fireants_engine import Grid, Image

    grid = Grid(source.size, source.spacing_mm, source.origin_mm, source.direction)
    array = np.asarray(source.data)
    if source.rgb:
        array = array[..., :3]  # no transparency
    return Image.from_numpy(array, grid, channels=source.rgb, name=source.name, path=source.path)


def check_colours(fixed: Snapshot, moving: Snapshot) -> None:
    """Raise InputError when one image is colour and the other grey."""
    if fixed.rgb != moving.rgb:
        colour, plain = (fixed, moving) if fixed.rgb else (moving, fixed)
        raise InputError(
            f"{colour.name} is an RGB image and {plain.name} is grey; convert {colour.name} to "
            "grey first (right-click the layer, Split RGB, and choose one channel)."
        )


def like(layer: Layer) -> dict[str, Any]:
    """Arguments that put a new layer of the same shape exactly where `layer` is."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
