"""A graph of spaces in a folder: transform files that ITK reads, and spaces.json."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.ngff import NgffMap, save_ngff
from fireants_engine.io.transforms import save_affine, save_displacement
from fireants_engine.transforms import Affine, Displacement, Inverse
from fireants_engine.transforms.embedding import Embedding, Projection
from fireants_engine.workflows.rundir import staged
from fireants_engine.workflows.spaces import Edge, Part, Space, SpaceGraph

SPACES_FILE = "spaces.json"
FORMAT = 1


def save_spaces(graph: SpaceGraph, folder: str | Path) -> Path:
    """Write `folder` whole: spaces.json, and for every map files that ITK and ANTs read.

    Affine maps are .mat, warps .nii.gz (mm, LPS, fixed -> moving points). Both lose a last bit
    (ITK adds and subtracts a centre; NIfTI keeps float32), so that spaces.json holds matrices and
    grids in full and a .npy each warp's own numbers: `load_spaces` gives the same graph to the
    bit. Images of spaces are named relative to the folder and not copied.
    Raises InputError when the folder cannot be written.
    """
    folder = Path(folder)
    with staged(folder) as place:
        writer = _Writer(place)
        spaces = [_space_data(item, folder) for item in graph.spaces.values()]
        edges = [writer.edge(item) for item in graph.edges]
        data = {"format": FORMAT, "units": "mm", "frame": "LPS", "spaces": spaces, "edges": edges}
        text = json.dumps(data, indent=1, allow_nan=False) + "\n"
        (place / SPACES_FILE).write_text(text, encoding="utf-8", newline="\n")
    return folder


def _space_data(space: Space, folder: Path) -> dict[str, Any]:
    image = None
    if space.image is not None:
        image = Path(os.path.relpath(space.image, folder)).as_posix()
    grid = None if space.grid is None else space.grid.to_dict()
    return {"name": space.name, "dim": space.dim, "grid": grid, "image": image}


class _Writer:
    """Maps into the files of a folder, each warp once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.warps: dict[int, dict[str, Any]] = {}

    def edge(self, edge: Edge) -> dict[str, Any]:
        back = edge.backward
        return {
            "fixed": edge.fixed,
            "moving": edge.moving,
            "weight": edge.weight,
            "source": edge.source,
            "forward": [self.part(item) for item in edge.forward],
            "backward": None if back is None else [self.part(item) for item in back],
        }

    def part(self, part: Part) -> dict[str, Any]:
        if isinstance(part, Affine):
            name = f"{self._next()}Affine.mat"
            save_affine(part, self.folder / name)
            matrix, centre = part.matrix.tolist(), part.centre_mm.tolist()
            return {"kind": "affine", "file": name, "matrix": matrix, "centre_mm": centre}
        if isinstance(part, Displacement):
            return self.warp(part)
        if isinstance(part, Inverse):
            return {
                "kind": "inverse", "warp": self.warp(part.warp), "nearly": self.warp(part.nearly)
            }  # fmt: skip
        if isinstance(part, Embedding | Projection):
            turned = isinstance(part, Projection)
            plane = part.embedding if isinstance(part, Projection) else part
            within = plane.within_mm if np.isfinite(plane.within_mm) else None
            return {
                "kind": "projection" if turned else "embedding", "edges": plane.edges.tolist(),
                "origin_mm": plane.origin_mm.tolist(), "within_mm": within,
            }  # fmt: skip
        raise InputError(
            f"a {type(part).__name__} cannot be saved in a graph; turn it into affine maps and "
            "displacement fields first."
        )

    def warp(self, warp: Displacement) -> dict[str, Any]:
        if id(warp) not in self.warps:
            stem = f"{self._next()}Warp"
            save_displacement(warp, self.folder / f"{stem}.nii.gz")
            np.save(self.folder / f"{stem}.npy", warp.u.cpu().numpy(), allow_pickle=False)
            self.warps[id(warp)] = {
                "kind": "displacement", "file": f"{stem}.nii.gz", "voxels": f"{stem}.npy",
                "grid": warp.grid.to_dict(),
            }  # fmt: skip
        return self.warps[id(warp)]

    def _next(self) -> str:
        self.count += 1
        return f"{self.count:02d}"


def export_ngff(graph: SpaceGraph, path: str | Path) -> Path:
    """Write the maps of a graph as an OME-NGFF 0.6 scene, a new .zarr; see `io.ngff.save_ngff`.

    Only spaces that a map reaches are in it. Needs zarr. Raises InputError as `save_ngff`, and
    for a graph without maps.
    """
    if not graph.edges:
        raise InputError(f"{path}: the graph has no maps to write; connect two spaces first.")
    return save_ngff([NgffMap(e.fixed, e.moving, e.forward, e.backward) for e in graph.edges], path)


# ------------------------------------------------------------------ load
def load_spaces(folder: str | Path) -> SpaceGraph:
    """The graph in `folder`; raises InputError, naming the file, when it is none or damaged."""
    folder = Path(folder)
    path = folder / SPACES_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{folder}: holds no graph of spaces ({SPACES_FILE} is missing); give a folder that "
            "save_spaces wrote."
        ) from None
    except ValueError:
        raise InputError(f"{path}: is damaged; save the graph again.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: is of another version; save the graph again with this one.")
    try:
        return _graph(data, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({str(error)[:80]}); save the graph again.") from None


def _graph(data: dict[str, Any], folder: Path) -> SpaceGraph:
    graph, reader = SpaceGraph(), _Reader(folder)
    for item in data["spaces"]:
        grid = None if item["grid"] is None else _grid(item["grid"])
        image = None if item["image"] is None else folder / item["image"]
        graph = graph.with_space(item["name"], item["dim"], grid, image)
    for item in data["edges"]:
        back = item["backward"]
        graph = graph.with_edge(
            item["fixed"], item["moving"], [reader.part(part) for part in item["forward"]],
            backward=None if back is None else [reader.part(part) for part in back],
            weight=item["weight"], source=item.get("source", ""),
        )  # fmt: skip
    return graph


def _grid(data: dict[str, Any]) -> Grid:
    return Grid(
        tuple(data["size"]), tuple(data["spacing_mm"]), tuple(data["origin_mm"]),
        np.asarray(data["direction"]),
    )  # fmt: skip


class _Reader:
    """The reverse of `_Writer`: a warp that several maps use is one object again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warps: dict[str, Displacement] = {}

    def part(self, data: dict[str, Any]) -> Part:
        kinds: dict[str, Callable[[dict[str, Any]], Part]] = {
            "affine": lambda d: Affine(np.array(d["matrix"]), np.array(d["centre_mm"])),
            "displacement": self.warp,
            "inverse": lambda d: Inverse(self.warp(d["warp"]), self.warp(d["nearly"])),
            "embedding": _embedding,
            "projection": lambda d: Projection(_embedding(d)),
        }
        return kinds[data["kind"]](data)

    def warp(self, data: dict[str, Any]) -> Displacement:
        import torch

        name = data["voxels"]
        if name not in self.warps:
            path = self._inside(name)
            try:
                u = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                raise InputError(
                    f"{path}: this warp is missing or damaged; save the graph again."
                ) from None
            self.warps[name] = Displacement(torch.from_numpy(u), _grid(data["grid"]))
        return self.warps[name]

    def _inside(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if len(parts) != 1 or parts[0] in ("..", "/"):
            raise InputError(f"{self.folder}: {name!r} is not the name of a file in it.")
        return self.folder / name


def _embedding(data: dict[str, Any]) -> Embedding:
    within = float("inf") if data["within_mm"] is None else data["within_mm"]
    return Embedding(np.array(data["edges"]), np.array(data["origin_mm"]), within)
