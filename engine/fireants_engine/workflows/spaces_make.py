"""A graph of spaces from run folders and transform files, and the sentences that say what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.io.transforms import load_transform
from fireants_engine.transforms import Affine, parts_of
from fireants_engine.transforms.embedding import Embedding, Projection
from fireants_engine.workflows.chain import INVERSE_SUFFIX
from fireants_engine.workflows.rundir import SavedRun, load_run
from fireants_engine.workflows.section_map import (
    SectionMap,
    name_in_stack,
    section_map,
    section_of_stack,
)
from fireants_engine.workflows.sheets import flat_grid
from fireants_engine.workflows.spaces import Part, SpaceGraph

_STRAIGHT = (Affine, Embedding, Projection)
IDENTITY = "identity"
"""In place of a run: two names of spaces in which every point has the same coordinates."""


@dataclass(frozen=True)
class Connection:
    """`FIXED:MOVING=SOURCE`: the names of the spaces at both ends of a run or transform."""

    fixed: str
    moving: str
    source: str

    @classmethod
    def parse(cls, text: str) -> Connection:
        """From that text; `:inverse` after a source exchanges the names. Raises InputError."""
        ends, sign, source = text.partition("=")
        names = [name.strip() for name in ends.split(":")]
        if not sign or not source or len(names) != 2 or not all(names):
            raise InputError(
                f"{text}: expected FIXED:MOVING=RUN, such as 'in vivo:ex vivo=exvivo_out': the "
                "names of the spaces of the run's fixed and moving image, and its folder."
            )
        if source.endswith(INVERSE_SUFFIX) and not Path(source).exists():
            names, source = names[::-1], source.removesuffix(INVERSE_SUFFIX)
        return cls(names[0], names[1], source)


@dataclass(frozen=True, eq=False)
class End:
    """What a connection knows of the space at one of its ends.

    told: the image and where it is from; dim: None where only other connections know.
    """

    told: str
    dim: int | None
    grid: Grid | None = None
    image: Path | None = None


@dataclass(frozen=True, eq=False)
class Link:
    """A connection with its map; forward: empty for the identity."""

    connection: Connection
    fixed: End
    moving: End
    forward: tuple[Part, ...] = ()
    backward: tuple[Part, ...] | None = None

    def sentence(self) -> str:
        names = self.connection
        return f"{names.fixed} is {self.fixed.told}; {names.moving} is {self.moving.told}."


@dataclass(frozen=True, eq=False)
class MadeGraph:
    """graph, and sentences for a person: which image every name stands for, and doubts."""

    graph: SpaceGraph
    sentences: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())


def make_graph(connections: Sequence[Connection]) -> MadeGraph:
    """One graph of runs and transforms that share spaces.

    A run whose fixed image is a section (`histology slice`, section-001.mat of a stack) has it as
    a 2D space. A name stands for one image wherever it is used: where two runs have images of
    unlike dimension or extent for it, InputError says which, so that exchanged names are seen.
    Raises InputError for what is no run or transform, and as `SpaceGraph.with_edge`.
    """
    links = [_link(one) for one in connections]
    ends: dict[str, list[End]] = {}
    for link in links:
        ends.setdefault(link.connection.fixed, []).append(link.fixed)
        ends.setdefault(link.connection.moving, []).append(link.moving)
    dims = _dims(links, ends)
    graph, notes = SpaceGraph(), []
    for name, every in ends.items():
        notes += _agree(name, [end for end in every if end.dim is not None])
        known = next((end for end in every if end.grid is not None), None)
        image = next((end.image for end in every if end.image is not None), None)
        graph = graph.with_space(name, dims[name], known and known.grid, image)
    for link in links:
        names = link.connection
        forward = link.forward or (Affine.identity(dims[names.fixed]),)
        graph = graph.with_edge(
            names.fixed, names.moving, forward, backward=link.backward,
            source=Path(names.source).name,
        )  # fmt: skip
    return MadeGraph(graph, tuple(link.sentence() for link in links), tuple(notes))


def listing(graph: SpaceGraph) -> str:
    """Spaces, connections, and the path between every two spaces, as lines of text."""
    lines = ["Spaces"]
    width = max((len(name) for name in graph.spaces), default=0)
    for space in graph.spaces.values():
        size = "" if space.grid is None else " x ".join(str(n) for n in space.grid.size)
        image = "" if space.image is None else space.image.name
        lines.append(f"  {space.name:{width}}  {space.dim}D  {size:15}  {image}".rstrip())
    lines.append("Connections (fixed -> moving)")
    for edge in graph.edges:
        kind = "affine" if all(isinstance(part, _STRAIGHT) for part in edge.forward) else "deformed"
        lines.append(f"  {edge.fixed} -> {edge.moving}: {kind}, {edge.source}".rstrip(", "))
    lines.append("Paths")
    for a, b in combinations(graph.spaces, 2):
        try:
            lines.append(f"  {' - '.join(graph.path(a, b))}")
        except InputError:
            lines.append(f"  none from {a} to {b}")
    return "\n".join(lines)


# ------------------------------------------------------------------ one connection
def _link(one: Connection) -> Link:
    path = Path(one.source)
    if one.source == IDENTITY and not path.exists():
        return Link(
            one, End(f"the same space as {one.moving}", None), End(f"that of {one.fixed}", None)
        )
    if path.is_dir():
        return _of_run(one, load_run(path))
    stacked = section_of_stack(path)
    if stacked is not None:
        return _of_stacked(one, path, stacked)
    transform = load_transform(path)
    told = f"{path.name} ({transform.dim}D, which names no image)"
    ends = (End(f"where points of {told} begin", transform.dim), End("where they end",
            transform.dim))  # fmt: skip
    return Link(one, *ends, parts_of(transform))


def _of_run(one: Connection, run: SavedRun) -> Link:
    moving = _end(run, "moving", run.grid_of("moving"))
    section = section_map(run)
    if section is None:
        backward = parts_of(run.backward)
        return Link(one, _end(run, "fixed", run.grid), moving, parts_of(run.forward), backward)
    within = max(run.grid.spacing_mm[2] / 2, _half_voxel(run.grid_of("moving"), section.plane))
    fixed = _end(run, "fixed", flat_grid(run.grid), "a section, ")
    return _flat_link(one, fixed, moving, section, within)


def _of_stacked(one: Connection, path: Path, section: SectionMap) -> Link:
    run = load_run(path.parent)
    stack = _end(run, "fixed", run.grid)
    fixed = End(f"{name_in_stack(path)} (2D, a section of the stack {path.parent})", 2)
    return _flat_link(one, fixed, stack, section, run.grid.spacing_mm[2] / 2)


def _flat_link(
    one: Connection, fixed: End, moving: End, section: SectionMap, within_mm: float
) -> Link:
    plane = Embedding(section.plane.edges, section.plane.origin_mm, within_mm)
    near = SectionMap(plane, section.warp, section.back)
    return Link(one, fixed, moving, near.forward, near.backward)


def _end(run: SavedRun, role: str, grid: Grid, what: str = "") -> End:
    image = run.source_of(role)
    name = run.report["inputs"][role]["name"]
    told = f"{name} ({grid.dim}D, {what}the {role} image of {run.folder})"
    return End(told, grid.dim, grid, image)


def _half_voxel(grid: Grid, plane: Embedding) -> float:
    """How far the middle of a voxel may lie off a plane that passes through it."""
    return float(np.abs(grid.direction.T @ plane.normal) @ np.asarray(grid.spacing_mm)) / 2


# ------------------------------------------------------------------ do they agree?
def _dims(links: Sequence[Link], ends: dict[str, list[End]]) -> dict[str, int]:
    """The dimension of every space, through identities; raises InputError where none tells it."""
    known = {n: end.dim for n, every in ends.items() for end in every if end.dim is not None}
    equal = [(i.connection.fixed, i.connection.moving) for i in links if not i.forward]
    for _ in equal:
        for a, b in (*equal, *(pair[::-1] for pair in equal)):
            if a in known:
                known.setdefault(b, known[a])
    for name in ends:
        if name not in known:
            raise InputError(
                f"space {name!r}: nothing tells whether it is 2D or 3D; give a run that has its "
                "image, too."
            )
    return known


def _agree(name: str, ends: Sequence[End]) -> list[str]:
    """Raise InputError unless the ends can be one space; what a person should know of them."""
    notes = []
    for a, b in pairwise(ends):
        if a.dim != b.dim:
            raise InputError(
                f"space {name!r}: is {a.told}, but also {b.told}; a section and a volume need two "
                "names."
            )
    images = [end for end in ends if end.grid is not None]
    for other in images[1:]:
        first = images[0]
        assert first.grid is not None
        assert other.grid is not None
        if not same_box(first.grid, other.grid):
            raise InputError(
                f"space {name!r}: is {first.told}, but also {other.told}, of another place or "
                "extent; exchange the names where FIXED and MOVING are mixed up, or use two names "
                f"and connect them by NAME:NAME={IDENTITY} where both lie in one space."
            )
        if first.image is not None and other.image is not None and first.image != other.image:
            notes.append(
                f"{name} is {first.told}, and also {other.told}: other files of one extent, taken "
                "as one space."
            )
    return notes


def same_box(a: Grid, b: Grid) -> bool:
    """Do two grids fill the same place, to a sample of the coarser one, whatever their samples?"""
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * a.dim, indexing="ij")).reshape(a.dim, -1).T
    places = [
        apply_matrix(grid.matrix("index", "mm"), (corners + 0.5) * np.asarray(grid.size) - 0.5)
        for grid in (a, b)
    ]
    return bool(np.abs(places[0] - places[1]).max() <= max(*a.spacing_mm, *b.spacing_mm))
