"""One graph of spaces: in vivo, ex vivo, block, section, and the maps between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, as_points
from fireants_engine.ops import warp_image, warp_labels
from fireants_engine.transforms import Affine, Chain, Transform, parts_of, sampled
from fireants_engine.transforms.embedding import Embedding, Projection, embed_grid

Part = Transform | Embedding | Projection
"""One map of a path."""
FAR_MM = 1e9
"""Where points without a place are sent: outside every image."""


def dims_of(part: Part) -> tuple[int, int]:
    """Dimensions of the points that go in and come out."""
    return (part.dim, part.dim) if isinstance(part, Transform) else part.dims


@dataclass(frozen=True, eq=False)
class Carried:
    """Points after a path.

    points_mm: (n, d), NaN where a point has no place there; off_plane_mm: (n,) the largest
    distance from a section's plane on the way, 0 where no plane was projected on.
    """

    points_mm: np.ndarray
    off_plane_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class Route:
    """Maps one after another, from space to space; what `Chain` is where the dimension changes.

    spaces: the names on the way; parts: the maps, first to last.
    """

    spaces: tuple[str, ...]
    parts: tuple[Part, ...]
    dims: tuple[int, int]

    @property
    def projects(self) -> bool:
        """Does it lead onto the plane of a section?"""
        return any(isinstance(part, Projection) for part in self.parts)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, e), NaN for points that have no place at the end."""
        return self.carry(points_mm).points_mm

    def carry(self, points_mm: np.ndarray) -> Carried:
        """Points and how far they were off the planes they were projected on."""
        points = np.asarray(points_mm, dtype=np.float64)
        off = np.zeros(len(points))
        for part in self.parts:
            found = np.full((len(points), dims_of(part)[1]), np.nan)
            here = np.isfinite(points).all(axis=1)
            if isinstance(part, Projection):
                distance = part.embedding.project(points[here]).distance_mm
                off[here] = np.maximum(off[here], np.abs(distance))
            found[here] = part(points[here])
            points = found
        return Carried(points, off)

    def inverse(self) -> Route:
        """The way back; a plane is left by projection onto it."""
        parts = tuple(part.inverse() for part in reversed(self.parts))
        return Route(self.spaces[::-1], parts, (self.dims[1], self.dims[0]))

    @property
    def transform(self) -> Transform:
        """The same as a Chain; raises InputError where the dimension changes on the way."""
        if not all(isinstance(part, Transform) for part in self.parts):
            raise InputError(
                f"the path {' - '.join(self.spaces)} passes between 2D and 3D and is no single "
                "transform; carry points and images through the graph instead."
            )
        parts = [part for part in self.parts if isinstance(part, Transform)]
        return Chain(parts or [Affine.identity(self.dims[0])])

    def warp(
        self, image: Image, grid: Grid, *, interpolation: str = "linear", fill: float = 0.0
    ) -> Image:
        """`image` (of the last space) on `grid` (of the first): one interpolation, as `warp_image`.

        A volume on a section's 2D grid is its cut along the plane; a section on a volume's 3D
        grid fills the voxels within `within_mm` of its plane.
        """
        lifted = self._lifted(image, grid)
        moved = warp_image(*lifted, interpolation=interpolation, fill=fill)
        return self._lowered(moved, grid, image)

    def warp_labels(self, labels: Image, grid: Grid) -> Image:
        """Labels of the last space on a grid of the first: one-hot, linear, argmax."""
        return self._lowered(warp_labels(*self._lifted(labels, grid)), grid, labels)

    def _lifted(self, image: Image, grid: Grid) -> tuple[Image, Transform, Grid]:
        for what, dim, wanted in (("the grid", grid.dim, self.dims[0]),
                                  (image.name, image.dim, self.dims[1])):  # fmt: skip
            if dim != wanted:
                raise InputError(
                    f"{what} is {dim}D but the path {' - '.join(self.spaces)} is {wanted}D there; "
                    "choose one of that space."
                )
        if all(isinstance(part, Transform) for part in self.parts):
            return image, sampled(self.transform), grid
        route = replace(self, parts=tuple(_for_images(part) for part in self.parts))
        data = image
        if image.dim == 2:
            data = Image(image.data[:, None], embed_grid(image.grid), name=image.name)
        return data, _In3D(route), embed_grid(grid) if grid.dim == 2 else grid

    @staticmethod
    def _lowered(moved: Image, grid: Grid, image: Image) -> Image:
        data = moved.data[:, 0] if grid.dim == 2 and moved.dim == 3 else moved.data
        return Image(data, grid, name=image.name, path=image.path)


def _for_images(part: Part) -> Part:
    return sampled(part) if isinstance(part, Transform) else part


class _In3D(Transform):
    """A route that passes between 2D and 3D, its 2D ends at z = 0."""

    dim = 3

    def __init__(self, route: Route) -> None:
        self.route = route

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        found = self.route(points_mm[:, : self.route.dims[0]])
        out = np.zeros((len(found), 3))
        out[:, : found.shape[1]] = found
        out[~np.isfinite(found).all(axis=1)] = FAR_MM
        return out

    def inverse(self) -> _In3D:
        return _In3D(self.route.inverse())


# ------------------------------------------------------------------ the graph
@dataclass(frozen=True, eq=False)
class Space:
    """A place where points have coordinates (LPS mm): a section, a block, a scan.

    dim: 2 or 3; grid: of its reference image, where there is one; image: that image's file.
    """

    name: str
    dim: int
    grid: Grid | None = None
    image: Path | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("a space needs a name.")
        if self.dim not in (2, 3):
            raise InputError(f"space {self.name!r}: is {self.dim}D; only 2D and 3D are known.")
        if self.grid is not None and self.grid.dim != self.dim:
            raise InputError(
                f"space {self.name!r}: is {self.dim}D but its grid is {self.grid.dim}D."
            )


@dataclass(frozen=True, eq=False)
class Edge:
    """A map fixed mm -> moving mm between two spaces.

    forward: a transform, or an Embedding (fixed the 2D section, moving the volume), or several,
    first to last; backward: the way back where it is known, default the inverses; weight: what a
    path pays for it; source: what it was made from, for people.
    """

    fixed: str
    moving: str
    forward: tuple[Part, ...]
    backward: tuple[Part, ...] | None = None
    weight: float = 1.0
    source: str = ""


@dataclass(frozen=True, eq=False)
class SpaceGraph:
    """Spaces and the maps between them; `with_space` and `with_edge` give a larger graph."""

    spaces: dict[str, Space] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()

    def with_space(
        self, name: str, dim: int, grid: Grid | None = None, image: str | Path | None = None
    ) -> SpaceGraph:
        """This graph and one more space; raises InputError when the name is there already."""
        if name in self.spaces:
            raise InputError(f"space {name!r}: is in the graph already; choose another name.")
        space = Space(name, dim, grid, None if image is None else Path(image))
        return replace(self, spaces={**self.spaces, name: space})

    def with_edge(
        self,
        fixed: str,
        moving: str,
        forward: Part | Sequence[Part],
        *,
        backward: Part | Sequence[Part] | None = None,
        weight: float = 1.0,
        source: str = "",
    ) -> SpaceGraph:
        """This graph and a map from `fixed` to `moving`.

        Raises InputError for unknown spaces, a second map between two spaces, dimensions that do
        not fit, and a weight that is not positive.
        """
        for name in (fixed, moving):
            self._space(name)
        if fixed == moving or any({e.fixed, e.moving} == {fixed, moving} for e in self.edges):
            raise InputError(f"{fixed} and {moving} are connected already; remove that map first.")
        if not 0 < weight < float("inf"):
            raise InputError(f"{fixed} - {moving}: a weight of {weight} is not positive.")
        parts = _flat(forward)
        back = None if backward is None else _flat(backward)
        self._check(fixed, moving, parts)
        if back is not None:
            self._check(moving, fixed, back)
        edge = Edge(fixed, moving, parts, back, float(weight), source)
        return replace(self, edges=(*self.edges, edge))

    def path(self, start: str, end: str) -> tuple[str, ...]:
        """The names on the way of least weight; raises InputError when there is none."""
        import networkx as nx

        for name in (start, end):
            self._space(name)
        graph = nx.Graph()
        graph.add_nodes_from(self.spaces)
        graph.add_weighted_edges_from((e.fixed, e.moving, e.weight) for e in self.edges)
        try:
            return tuple(nx.shortest_path(graph, start, end, weight="weight"))
        except nx.NetworkXNoPath:
            near = sorted(nx.node_connected_component(graph, start) - {start})
            with_what = f"is connected with {', '.join(near)}" if near else "is not connected"
            raise InputError(
                f"there is no path from {start} to {end}: {start} {with_what}; register one of "
                f"them to {end} or to what it is connected with."
            ) from None

    def route(self, start: str, end: str) -> Route:
        """The map of points from `start` to `end` along `path`; turned edges by their inverses."""
        names = self.path(start, end)
        parts: list[Part] = []
        for a, b in pairwise(names):
            parts += self.direct(a, b)
        dims = (self.spaces[start].dim, self.spaces[end].dim)
        return Route(names, tuple(parts), dims)

    def transform(self, start: str, end: str) -> Transform:
        """`route` as a Chain; raises InputError where the dimension changes on the way."""
        return self.route(start, end).transform

    def points(self, points_mm: object, start: str, end: str) -> Carried:
        """Points (n, d) in LPS mm of `start` carried to `end`."""
        found = as_points(points_mm, self._space(start).dim)
        return self.route(start, end).carry(found)

    def warp(self, image: Image, start: str, end: str, grid: Grid | None = None,
             **options: Any) -> Image:  # fmt: skip
        """An image of `start` on the grid of `end` (or on `grid`); see `Route.warp`."""
        return self.route(end, start).warp(image, self._grid(end, grid), **options)

    def warp_labels(self, labels: Image, start: str, end: str, grid: Grid | None = None) -> Image:
        """Labels of `start` on the grid of `end` (or on `grid`)."""
        return self.route(end, start).warp_labels(labels, self._grid(end, grid))

    def direct(self, start: str, end: str) -> tuple[Part, ...]:
        """The parts of the map between two spaces that are connected by one."""
        edge = next(e for e in self.edges if {e.fixed, e.moving} == {start, end})
        if edge.fixed == start:
            return edge.forward
        if edge.backward is not None:
            return edge.backward
        return tuple(part.inverse() for part in reversed(edge.forward))

    def _space(self, name: str) -> Space:
        if name not in self.spaces:
            known = ", ".join(self.spaces) or "none"
            raise InputError(f"there is no space {name!r}; the graph has {known}.")
        return self.spaces[name]

    def _grid(self, name: str, grid: Grid | None) -> Grid:
        found = grid or self._space(name).grid
        if found is None:
            raise InputError(
                f"space {name!r}: has no grid to bring images to; give the image on whose grid the "
                "result shall lie."
            )
        return found

    def _check(self, start: str, end: str, parts: Sequence[Part]) -> None:
        dims = [self._space(start).dim]
        for part in parts:
            if dims_of(part)[0] != dims[-1]:
                raise InputError(
                    f"{start} - {end}: a {dims_of(part)[0]}D map does not fit points in "
                    f"{dims[-1]}D; a section is put into a volume by an Embedding."
                )
            dims.append(dims_of(part)[1])
        if dims[-1] != self._space(end).dim:
            raise InputError(
                f"{start} - {end}: the map leads to {dims[-1]}D points but {end} is "
                f"{self._space(end).dim}D; a section is put into a volume by an Embedding."
            )


def _flat(parts: Part | Sequence[Part]) -> tuple[Part, ...]:
    items = [parts] if isinstance(parts, Part) else list(parts)
    if not items:
        raise InputError("a connection of two spaces needs a map.")
    out: list[Part] = []
    for item in items:
        out += parts_of(item) if isinstance(item, Transform) else [item]
    return tuple(out)
