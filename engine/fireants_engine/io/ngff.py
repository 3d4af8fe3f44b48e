"""Transformations of OME-NGFF 0.6 in a Zarr group: named spaces and the maps between them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.ome_zarr import MM, check_new_zarr, need_zarr
from fireants_engine.transforms import Affine, Transform, parts_of
from fireants_engine.transforms.embedding import Embedding, Projection

VERSION = "0.6"
FIELDS = "coordinateTransformations"
"""The group that holds displacement fields, as the specification names it."""
SYSTEM = "physical"
_SOLVED = "solved"
_LONG = {"x": "right to left", "y": "anterior to posterior", "z": "inferior to superior"}

Part = Transform | Embedding | Projection


@dataclass(frozen=True, eq=False)
class NgffMap:
    """A map of points in LPS mm from one named space to another: maps first to last.

    backward: the way back where it is written beside it.
    """

    fixed: str
    moving: str
    forward: tuple[Part, ...]
    backward: tuple[Part, ...] | None = None

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, e), x, y(, z) order."""
        for part in self.forward:
            points_mm = part(points_mm)
        return points_mm


# ------------------------------------------------------------------ write
def save_ngff(maps: Sequence[NgffMap], path: str | Path) -> Path:
    """Write maps as an OME-NGFF 0.6 scene (RFC-5): a new .zarr group.

    Its `ome.scene` has a coordinate system for every space, axes z, y, x (y, x for sections) in
    millimetres, whose values are our LPS mm in reverse order, and a transformation from the
    fixed to the moving one: identity, scale, translation, rotation, affine, and sequences of
    them; `displacements` for a warp, its field an image of axes c, z, y, x in the group
    `coordinateTransformations` (c in the order z, y, x, mm, float32, linear between samples). A
    warp on a turned grid stands between the rotation into the grid's axes and the one back. A
    map with a way back, and every inverse of a warp, is a `bijection`; a section in a volume is
    an affine from 2D to 3D. Not written: how far off its plane a section is valid, and that a
    warp ends with its grid (readers may go on beyond it). Grids of images are not written.

    Raises InputError when `path` is there already or cannot be written, and for other maps.
    """
    path = Path(path)
    zarr = need_zarr(path)
    check_new_zarr(path)
    temporary = path.parent / f".{uuid.uuid4().hex[:12]}.partial.zarr"
    try:
        writer = _Writer(zarr.open_group(temporary, mode="w", zarr_format=3))
        items = [writer.edge(item) for item in maps]
        systems = [{"name": n, "axes": _axes(d)} for n, d in _spaces(maps).items()]
        scene = {"coordinateSystems": systems, "coordinateTransformations": items}
        writer.group.attrs["ome"] = {"version": VERSION, "scene": scene}
        temporary.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _dims(part: Part) -> tuple[int, int]:
    return (part.dim, part.dim) if isinstance(part, Transform) else part.dims


def _spaces(maps: Sequence[NgffMap]) -> dict[str, int]:
    out: dict[str, int] = {}
    for item in maps:
        ends = {item.fixed: _dims(item.forward[0])[0], item.moving: _dims(item.forward[-1])[1]}
        for name, dim in ends.items():
            if out.setdefault(name, dim) != dim:
                raise InputError(f"space {name!r}: is 2D for one map and 3D for another.")
    return out


def _axes(dim: int) -> list[dict[str, Any]]:
    long = _LONG if dim == 3 else {}
    return [
        {"name": n, "type": "space", "unit": "millimeter", "discrete": False}
        | ({"longName": long[n]} if n in long else {})
        for n in "zyx"[-dim:]
    ]


class _Writer:
    """Maps as JSON; fields go into the group."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.fields: dict[int, dict[str, Any]] = {}

    def edge(self, item: NgffMap) -> dict[str, Any]:
        found = self.parts(item.forward)
        if item.backward is not None:
            back = self.parts(item.backward)
            found = {"type": "bijection", "forward": found, "inverse": back}
        return found | {"input": {"name": item.fixed}, "output": {"name": item.moving}}

    def parts(self, parts: Sequence[Part]) -> dict[str, Any]:
        flat: list[dict[str, Any]] = []
        for part in parts:
            for single in parts_of(part) if isinstance(part, Transform) else [part]:
                found = self.part(single)
                flat += found["transformations"] if found["type"] == "sequence" else [found]
        return flat[0] if len(flat) == 1 else {"type": "sequence", "transformations": flat}

    def part(self, part: Part) -> dict[str, Any]:
        from fireants_engine.transforms import Displacement, Inverse

        if isinstance(part, Affine):
            return _affine(part.matrix)
        if isinstance(part, Displacement):
            return self.warp(part)
        if isinstance(part, Inverse):
            return {"type": "bijection", "name": f"{_SOLVED} inverse",
                    "forward": self.warp(part.nearly), "inverse": self.warp(part.warp)}  # fmt: skip
        if isinstance(part, Embedding):
            return _matrix(part.edges, part.origin_mm)
        if isinstance(part, Projection):
            plane = part.embedding
            down = np.linalg.pinv(plane.edges)
            return {"type": "bijection", "forward": _matrix(down, -down @ plane.origin_mm),
                    "inverse": _matrix(plane.edges, plane.origin_mm)}  # fmt: skip
        raise InputError(
            f"a {type(part).__name__} cannot be written as OME-NGFF; turn it into affine maps and "
            "displacement fields first."
        )

    def warp(self, warp: Any) -> dict[str, Any]:
        if id(warp) not in self.fields:
            self.fields[id(warp)] = self._warp(warp)
        return self.fields[id(warp)]

    def _warp(self, warp: Any) -> dict[str, Any]:
        grid: Grid = warp.grid
        name = f"{FIELDS}/field{len(self.fields)}"
        values = warp.u[0].cpu().numpy() * np.reshape(grid.spacing_zyx, (-1, *[1] * grid.dim))
        origin = grid.direction.T @ np.asarray(grid.origin_mm)
        steps = [
            {"type": "scale", "scale": [1.0, *grid.spacing_zyx]},
            {"type": "translation", "translation": [0.0, *origin[::-1].tolist()]},
        ]
        axes = [{"name": "c", "type": "displacement", "discrete": True}, *_axes(grid.dim)]
        level = {
            "path": "s0",
            "coordinateTransformations": [
                {"type": "sequence", "transformations": steps, "input": {"path": "s0"},
                 "output": {"name": SYSTEM}}
            ],
        }  # fmt: skip
        image = {"coordinateSystems": [{"name": SYSTEM, "axes": axes}], "datasets": [level]}
        group = self.group.create_group(name)
        array = group.create_array(
            "s0", shape=values.shape, dtype=np.float32,
            chunks=(1, *(min(n, 256 if grid.dim == 2 else 64) for n in grid.shape)),
            dimension_names=["c", *"zyx"[-grid.dim :]],
        )  # fmt: skip
        array[...] = values.astype(np.float32)
        group.attrs["ome"] = {"version": VERSION, "multiscales": [image]}
        field = {"type": "displacements", "path": name, "interpolation": "linear"}
        turn = np.eye(grid.dim + 1)
        turn[:-1, :-1] = grid.direction
        if np.array_equal(turn, np.eye(grid.dim + 1)):
            return field
        return {
            "type": "sequence", "transformations": [_affine(turn.T), field, _affine(turn)]
        }  # fmt: skip


def _matrix(linear: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """`linear x + offset` (x, y, z order, any dimensions) as an affine in z, y, x order."""
    both = np.column_stack([linear[::-1, ::-1], offset[::-1]])
    return {"type": "affine", "affine": both.tolist()}


def _affine(matrix: np.ndarray) -> dict[str, Any]:
    """The least expressive transformation for a homogeneous matrix, as the specification asks."""
    linear, offset = matrix[:-1, :-1][::-1, ::-1], matrix[:-1, -1][::-1]
    scale = np.diag(linear)
    steps: list[dict[str, Any]] = []
    if np.array_equal(linear, np.diag(scale)) and np.all(scale > 0):
        if np.any(scale != 1):
            steps.append({"type": "scale", "scale": scale.tolist()})
    elif (
        np.allclose(linear @ linear.T, np.eye(len(scale)), atol=1e-12) and np.linalg.det(linear) > 0
    ):
        steps.append({"type": "rotation", "rotation": linear.tolist()})
    else:
        return _matrix(matrix[:-1, :-1], matrix[:-1, -1])
    if np.any(offset != 0):
        steps.append({"type": "translation", "translation": offset.tolist()})
    if len(steps) == 1:
        return steps[0]
    return {"type": "sequence", "transformations": steps} if steps else {"type": "identity"}


# ------------------------------------------------------------------ read
def load_ngff(path: str | Path) -> tuple[NgffMap, ...]:
    """The maps of an OME-NGFF 0.6 scene, as `save_ngff` writes it or another program.

    Coordinate systems have axes z, y, x or y, x in one unit of length, from which points in mm
    are made; without a unit numbers are mm. Read: identity, scale, translation, rotation, affine
    (also from 2D to 3D), mapAxis, sequence, bijection, displacements. Raises InputError for what
    is no scene, and for other transformations, naming them.
    """
    path = Path(path)
    zarr = need_zarr(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; check the path of the scene.")
    try:
        group = zarr.open_group(path, mode="r")
        scene = dict(group.attrs)["ome"]["scene"]
        reader = _Reader(group, path)
        factors = {item["name"]: _unit(item, path) for item in scene["coordinateSystems"]}
        return tuple(reader.edge(item, factors) for item in scene[FIELDS])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path}: this is no scene of OME-NGFF 0.6 ({str(error)[:100]}); give a group whose "
            "metadata hold coordinate systems and transformations."
        ) from None


def _unit(system: dict[str, Any], path: Path) -> tuple[int, float]:
    """Dimension and mm in the unit of a coordinate system."""
    names = "".join(axis["name"].lower() for axis in system["axes"])
    units = {axis.get("unit") for axis in system["axes"]}
    if names not in ("zyx", "yx") or len(units) != 1 or not units <= set(MM):
        raise InputError(
            f"{path}: coordinate system {system['name']!r} has axes {names} in {units}; only z, "
            "y, x and y, x in one unit of length are known."
        )
    return len(names), MM[units.pop()]


class _Reader:
    def __init__(self, group: Any, path: Path) -> None:
        self.group, self.path = group, path
        self.fields: dict[str, Any] = {}

    def edge(self, item: dict[str, Any], factors: dict[str, tuple[int, float]]) -> NgffMap:
        fixed, moving = item["input"]["name"], item["output"]["name"]
        start, end = factors[fixed], factors[moving]
        plain = item["type"] == "bijection" and not _is_single(item)
        back = self.parts(item["inverse"], end[0]) if plain else None
        forward = self.parts(item["forward"] if plain else item, start[0])
        if back is not None:
            back = (*_scaled(end, -1), *back, *_scaled(start, 1))
        return NgffMap(fixed, moving, (*_scaled(start, -1), *forward, *_scaled(end, 1)), back)

    def parts(self, item: dict[str, Any], dim: int) -> tuple[Part, ...]:
        """A transformation of points of `dim` as our maps."""
        kinds: dict[str, Callable[[dict[str, Any], int], tuple[Part, ...]]] = {
            "sequence": self._sequence,
            "bijection": self._bijection,
            "displacements": lambda i, d: (self._field(i["path"], d),),
            "affine": lambda i, d: (_map_of(self._numbers(i, "affine"), d),),
        }
        kind = item["type"]
        if kind in kinds:
            return kinds[kind](item, dim)
        if kind == "identity":
            return (Affine.identity(dim),)
        linear, offset = np.eye(dim), np.zeros(dim)
        if kind == "scale":
            linear = np.diag(np.asarray(item["scale"], float))
        elif kind == "translation":
            offset = np.asarray(item["translation"], float)
        elif kind == "rotation":
            linear = self._numbers(item, "rotation")
        elif kind == "mapAxis":
            linear = np.eye(dim)[list(item["mapAxis"])]
        else:
            raise InputError(
                f"{self.path}: transformations of type {kind!r} are not known here; write it as "
                "an affine or a displacement field."
            )
        return (_map_of(np.column_stack([linear, offset]), dim),)

    def _numbers(self, item: dict[str, Any], key: str) -> np.ndarray:
        """A matrix in the metadata, or in an array that they name."""
        found = item[key] if key in item else self.group[item["path"]][...]
        return np.asarray(found, dtype=np.float64)

    def _sequence(self, item: dict[str, Any], dim: int) -> tuple[Part, ...]:
        out: list[Part] = []
        for step in item["transformations"]:
            out += self.parts(step, _dims(out[-1])[1] if out else dim)
        return tuple(out)

    def _bijection(self, item: dict[str, Any], dim: int) -> tuple[Part, ...]:
        """Its forward map; where we wrote an inverse of a warp or a projection, that."""
        from fireants_engine.transforms import Displacement, Inverse

        if not _is_single(item):
            return self.parts(item["forward"], dim)
        if item["forward"]["type"] == "affine":
            plane = self.parts(item["inverse"], 2)[0]
            return (plane.inverse(),)
        nearly, warp = (self.parts(item[key], dim) for key in ("forward", "inverse"))
        middle = len(warp) // 2
        a, b = warp[middle], nearly[middle]
        if not isinstance(a, Displacement) or not isinstance(b, Displacement):
            return nearly
        return (*nearly[:middle], Inverse(a, b), *nearly[middle + 1 :])

    def _field(self, name: str, dim: int) -> Any:
        if name not in self.fields:
            self.fields[name] = self._displacement(name, dim)
        return self.fields[name]

    def _displacement(self, name: str, dim: int) -> Any:
        import torch

        from fireants_engine.transforms import Displacement

        group = self.group[name]
        image = dict(group.attrs)["ome"]["multiscales"][0]
        dataset = image["datasets"][0]
        kinds = [axis.get("type") for axis in image["coordinateSystems"][0]["axes"]]
        at = kinds.index("displacement")
        factor = _unit(
            {"name": name, "axes": [a for k, a in enumerate(image["coordinateSystems"][0]["axes"])
                                    if k != at]}, self.path,
        )[1]  # fmt: skip
        scale, shift = np.ones(dim + 1), np.zeros(dim + 1)
        step = dataset["coordinateTransformations"][0]
        for item in step["transformations"] if step["type"] == "sequence" else [step]:
            if item["type"] == "scale":
                scale, shift = scale * item["scale"], shift * item["scale"]
            elif item["type"] == "translation":
                shift = shift + item["translation"]
        spacing, origin = np.delete(scale, at) * factor, np.delete(shift, at) * factor
        values = np.moveaxis(np.asarray(group[dataset["path"]][...], np.float64), at, 0) * factor
        grid = Grid(values.shape[:0:-1], tuple(spacing[::-1]), tuple(origin[::-1]), np.eye(dim))
        u = values / spacing.reshape(-1, *[1] * dim)
        return Displacement(torch.from_numpy(u[None].astype(np.float32)), grid)


def _is_single(item: dict[str, Any]) -> bool:
    """A bijection that is one map of ours: a solved inverse, or a projection onto a plane."""
    forward = item["forward"]
    down = forward["type"] == "affine" and len(forward["affine"]) < len(forward["affine"][0]) - 1
    return down or str(item.get("name", "")).startswith(_SOLVED)


def _scaled(system: tuple[int, float], power: int) -> tuple[Part, ...]:
    dim, factor = system
    if factor == 1:
        return ()
    return (Affine(np.diag([*[factor**power] * dim, 1.0])),)


def _map_of(both: np.ndarray, dim: int) -> Part:
    """Rows of `(linear | offset)` in z, y, x order as our map in x, y, z order."""
    linear, offset = both[:, :-1][::-1, ::-1], both[:, -1][::-1]
    if linear.shape == (3, 2):
        return Embedding(linear, offset)
    if linear.shape != (dim, dim):
        raise ValueError(f"a matrix of {both.shape} for points in {dim}D")
    matrix = np.eye(dim + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, offset
    return Affine(matrix)
