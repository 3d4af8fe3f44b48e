"""napari layers <-> engine images. The only file that knows both.

World coordinates of napari are (z, y, x); the engine's are LPS mm, (x, y, z): one is the other
reversed. Layers are read through the whole public chain `layer.data_to_world`, never through
`layer.affine` alone, and in the layer's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

    from fireants_engine import Grid
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


def _units_in_mm(layer: Layer, first: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Millimetres per world unit for each axis (z, y, x), and sentences about what was assumed.

    first: of the axes, where those of space begin.
    """
    factors, notes = [], ()
    for label, unit in list(zip(layer.axis_labels, layer.units, strict=True))[first:]:
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


def _index_to_mm(layer: Layer, first: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Homogeneous matrix from index (x, y, z) to LPS mm (x, y, z), from basis points."""
    dim = layer.ndim - first
    factors, notes = _units_in_mm(layer, first)
    linear, origin = _index_to_world(layer)
    out = np.eye(dim + 1)
    out[:dim, :dim] = (linear[first:, first:] * factors[:, None])[::-1, ::-1]
    out[:dim, dim] = (origin[first:] * factors)[::-1]
    return out, notes


def _index_to_world(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Linear part and origin of the layer's whole chain, in its own axes and units."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=float)
    columns = [np.asarray(layer.data_to_world(e), dtype=float) - origin for e in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), origin


def index_to_mm(layer: Layer) -> np.ndarray:
    """Homogeneous matrix from index (x, y, z) to LPS mm (x, y, z) of a layer as it stands."""
    return _index_to_mm(layer)[0]


def mm_to_world(layer: Layer) -> np.ndarray:
    """Homogeneous matrix from LPS mm (x, y, z) to the world (z, y, x) in the layer's units."""
    factors, _ = _units_in_mm(layer)
    out = np.eye(layer.ndim + 1)
    out[:-1, :-1] = np.eye(layer.ndim)[::-1] / factors[:, None]
    return out


def file_of(layer: Layer) -> str | None:
    """The file that holds what a layer shows, or None.

    Our own entry counts before napari's, which names a folder where one was opened, and the whole
    file where a layer is one channel of it.
    """
    ours = layer.metadata.get("fireants")
    known = isinstance(ours, dict) and "path" in ours
    path = ours["path"] if known else layer.source.path
    return None if path is None else str(path)


def only_shown(layer: Layer) -> bool:
    """One of ours that shows something and is no image to be registered."""
    ours = layer.metadata.get("fireants")
    return isinstance(ours, dict) and bool(ours.get("only_shown"))


def opened_from(layer: Layer) -> str | None:
    """The file that a layer was opened from, also where it holds more than the layer shows."""
    ours = layer.metadata.get("fireants")
    opened = ours.get("opened") if isinstance(ours, dict) else None
    return opened or file_of(layer)


def data_of(layer: Layer) -> Any:
    """What the layer shows, the finest level of several; lazy data stay lazy."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def snapshot(layer: Layer) -> Snapshot:
    """`layer` as it is now, quickly (no data are read).

    Raises InputError for more than three axes, a time axis, or axes that are not at right angles.
    """
    return _snapshot(layer, 0)


def _snapshot(layer: Layer, first: int) -> Snapshot:
    labels = not hasattr(layer, "contrast_limits")
    rgb = bool(getattr(layer, "rgb", False))
    if layer.ndim - first not in (2, 3):
        raise InputError(
            f"{layer.name} has {layer.ndim} axes; only 2D and 3D images can be registered. Take "
            "one time point or channel of it (right-click the layer, Split Stack)."
        )
    matrix, notes = _index_to_mm(layer, first)
    linear = matrix[:-1, :-1]
    spacing = np.linalg.norm(linear, axis=0)
    if not np.all(np.isfinite(matrix)) or np.any(spacing <= 0):
        raise InputError(f"{layer.name}: its scale is zero or not finite; set a valid scale.")
    direction = linear / spacing
    if np.abs(direction.T @ direction - np.eye(len(direction))).max() > _SHEAR:
        raise InputError(
            f"{layer.name} is sheared: its axes are not at right angles; resample it onto a "
            "rectangular grid first."
        )
    data = data_of(layer)
    shape = tuple(data.shape[first : layer.ndim])
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


def time_points(layer: Layer) -> tuple[list[Snapshot], float, float]:
    """The volumes of a layer (t, z, y, x), the seconds between two and those of the first.

    A time axis without a unit of time counts in seconds. Raises InputError as `snapshot`, and
    where the axis of time is turned into space.
    """
    linear, origin = _index_to_world(layer)
    if np.any(linear[0, 1:]) or np.any(linear[1:, 0]):
        raise InputError(f"{layer.name}: its time axis is turned into space; reset its transform.")
    whole = _snapshot(layer, 1)
    unit = 1.0 * layer.units[0]
    seconds = float(unit.to("second").magnitude) if unit.check("[time]") else 1.0
    parts = [replace(whole, data=whole.data[k]) for k in range(whole.data.shape[0])]
    return parts, float(linear[0, 0]) * seconds, float(origin[0]) * seconds


def places_mm(layer: Layer, coordinates: np.ndarray) -> np.ndarray:
    """Coordinates in a layer's data (n, d), z, y, x order, as LPS mm."""
    matrix, _ = _index_to_mm(layer)
    points = np.asarray(coordinates, dtype=float).reshape(-1, layer.ndim)[:, ::-1]
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def coordinates_of(layer: Layer, points_mm: np.ndarray) -> np.ndarray:
    """LPS mm as coordinates in a layer's data (n, d); the way back of `places_mm`."""
    matrix, _ = _index_to_mm(layer)
    points = np.asarray(points_mm, dtype=float).reshape(-1, layer.ndim)
    return np.linalg.solve(matrix[:-1, :-1], (points - matrix[:-1, -1]).T).T[:, ::-1]


def _ratios(viewer: ViewerModel, layer: Layer) -> np.ndarray:
    """Layer units per viewer unit along the layer's axes: the viewer counts in the smallest."""
    units = viewer.layers.units
    if units is None:
        return np.ones(layer.ndim)
    pairs = zip(units[-layer.ndim :], layer.units, strict=True)
    return np.array([1.0 if a == b else float((1.0 * a).to(b).magnitude) for a, b in pairs])


def coordinates_at(viewer: ViewerModel, layer: Layer, position: Sequence[float]) -> np.ndarray:
    """Coordinates in a layer's data (d,) of a place in the viewer's world, as of a mouse event."""
    place = np.asarray(position, dtype=float)[-layer.ndim :] * _ratios(viewer, layer)
    return np.asarray(layer.world_to_data(place), dtype=float)


def world_of(viewer: ViewerModel, layer: Layer, coordinates: np.ndarray) -> np.ndarray:
    """The way back of `coordinates_at`, for the layer's axes."""
    return np.asarray(layer.data_to_world(coordinates), dtype=float) / _ratios(viewer, layer)


def along(viewer: ViewerModel, layer: Layer, axis: int) -> tuple[float, float]:
    """Index of a layer along an array axis at 0 of the viewer, and per viewer unit."""
    point = np.zeros(layer.ndim)
    at_zero = float(layer.world_to_data(point)[axis])
    point[axis] = _ratios(viewer, layer)[axis]
    return at_zero, float(layer.world_to_data(point)[axis]) - at_zero


def plane_shown(viewer: ViewerModel, layer: Layer) -> tuple[int, int] | None:
    """The plane (array axis, index) of a layer that the canvas shows; None where all is shown."""
    dims = viewer.dims
    first = dims.ndim - layer.ndim
    hidden = [axis - first for axis in dims.not_displayed if axis >= first]
    if layer.ndim == 2 or not hidden:
        return None
    axis = hidden[0]
    at_zero, per_unit = along(viewer, layer, axis)
    data = data_of(layer)
    index = round(at_zero + dims.point[axis + first] * per_unit)
    return axis, min(max(index, 0), data.shape[axis] - 1)


def grid_of(source: Snapshot) -> Grid:
    """The engine's Grid of a snapshot."""
    from fireants_engine.geometry.grid import Grid

    return Grid(source.size, source.spacing_mm, source.origin_mm, source.direction)


def to_image(source: Snapshot) -> EngineImage:
    """The engine's Image of a snapshot; reads lazy data and copies. Call it off the GUI thread."""
    from fireants_engine import Image

    grid = grid_of(source)
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


def likely_pair(images: Sequence[Layer]) -> tuple[Layer | None, Layer | None]:
    """Fixed and moving by their names where those say it, else the first two images."""
    if len(images) < 2:
        return (images[0] if images else None), None
    fixed = next((x for x in images if "fixed" in x.name.lower()), None)
    others = [x for x in images if x is not fixed]
    moving = next((x for x in others if "moving" in x.name.lower()), None)
    fixed = fixed or next(x for x in images if x is not moving)
    return fixed, moving or next(x for x in images if x is not fixed)


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


def placed(grid: Grid) -> dict[str, Any]:
    """Arguments that put a new layer where the samples of `grid` are, in mm.

    The scale is the spacing; a grid along the axes is translated to its origin, any other has its
    direction and origin as `affine`. The way back is `snapshot`.
    """
    dim = grid.dim
    direction, origin = grid.direction[::-1, ::-1], np.asarray(grid.origin_mm[::-1])
    look = {"units": ("mm",) * dim, "axis_labels": ("z", "y", "x")[3 - dim :]}
    look["scale"] = grid.spacing_zyx
    if np.array_equal(direction, np.eye(dim)):
        return look | {"translate": origin}
    affine = np.eye(dim + 1)
    affine[:dim, :dim], affine[:dim, dim] = direction, origin
    return look | {"affine": affine}


def upright(array: np.ndarray, grid: Grid, lead: int = 0) -> tuple[np.ndarray, Grid]:
    """The same samples with the axes in the order nearest to (z, y, x) of the world.

    napari's 2D view shows no axes that are exchanged by a transform; axes that only run the other
    way, and oblique ones, stay as they are. lead: axes of `array` before those of the grid.
    """
    from fireants_engine.geometry.orientation import array_axes, nearest_order, reordered

    order = nearest_order(grid.direction)
    axes = [lead + axis for axis in array_axes(order)]
    rest = range(lead + grid.dim, array.ndim)
    return np.transpose(array, [*range(lead), *axes, *rest]), reordered(grid, order)
