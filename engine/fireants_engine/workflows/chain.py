"""Chains: runs and transform files one after another, as one map with one interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.transforms import load_transform
from fireants_engine.transforms import Chain, Transform
from fireants_engine.workflows.result import Mapping, Result
from fireants_engine.workflows.rundir import SavedRun, load_maps
from fireants_engine.workflows.section_map import OnSection, section_map, section_of_stack

INVERSE_SUFFIX = ":inverse"


@dataclass(frozen=True, eq=False)
class Link:
    """One member of a chain: a map, its inverse, and the grids at its two ends where known.

    forward goes start -> end; backward is called when it is first needed. flat: start is a
    section, whose points are x, y (z = 0).
    """

    name: str
    forward: Callable[[], Transform]
    backward: Callable[[], Transform]
    start: Grid | None = None
    end: Grid | None = None
    flat: bool = False

    def turned(self) -> Link:
        """The same member the other way."""
        return Link(self.name, self.backward, self.forward, self.end, self.start)


def link(item: str | Path | Mapping | Transform) -> Link:
    """A member of a chain from a run directory, a transform file, a Mapping or a Transform.

    A path that ends with `:inverse` is turned. Raises InputError for a path that is neither a
    run directory nor a transform.
    """
    if isinstance(item, Transform):
        return Link(type(item).__name__, lambda: item, item.inverse)
    if isinstance(item, Mapping):
        return _of_mapping(item, type(item).__name__)
    text = str(item)
    if text.endswith(INVERSE_SUFFIX) and not Path(text).exists():
        return link(text.removesuffix(INVERSE_SUFFIX)).turned()
    if Path(text).is_dir():
        return _of_mapping(load_maps(text), text)
    transform = load_transform(text)
    return Link(text, lambda: transform, transform.inverse)


def _of_mapping(item: Mapping, name: str) -> Link:
    end = None
    if isinstance(item, SavedRun):
        end = item.grid_of("moving")
    elif isinstance(item, Result):
        end = item.moving.grid
    return Link(name, lambda: item.forward, lambda: item.backward, item.grid, end)


def compose(
    items: Sequence[str | Path | Mapping | Transform],
    grid: Grid | None = None,
    *,
    inverse: bool = False,
) -> Mapping:
    """Several maps as one: points go through `items` first to last, images are sampled once.

    `(T_n o ... o T_1)(x)`: of runs A (fixed a, moving b) and B (fixed b, moving c),
    `compose([A, B])` takes points a -> b -> c, and its `warp` brings an image of c to the grid
    of a. Items are run directories, transform files of ITK or ANTs, or what `register`,
    `load_run` and `load_transform` return; a path that ends with `:inverse` is used the other
    way. inverse: the whole chain the other way (b -> a for one run).

    grid: where images are brought to; default the grid at the chain's beginning: the fixed
    image of the first run, or the moving image of an inverted one (with `inverse`, of the last
    run). Raises InputError when a transform file decides it (files have no grid), when
    dimensions differ, and for what is no run or transform.
    """
    links = _links(items, inverse)
    target = grid or links[0].start
    if target is None:
        raise InputError(
            f"{links[0].name}: has no grid to bring images to; give the image on whose grid the "
            "result shall lie (--reference, or grid= in Python)."
        )
    forward = _chain(links)
    if target.dim != forward.dim:
        raise InputError(
            f"{links[0].name} is a {forward.dim}D transform but the grid of the result is "
            f"{target.dim}D; choose a reference image of the same dimension."
        )
    back = [item.turned() for item in reversed(links)]
    return Mapping(forward, target, known_inverse=lambda: _chain(back))


@dataclass(frozen=True, eq=False)
class PointMap:
    """A chain for points. flat: it begins on a section, whose points may be x, y alone."""

    transform: Transform
    flat: bool


def point_map(
    items: Sequence[str | Path | Mapping | Transform], *, inverse: bool = False
) -> PointMap:
    """The map of `compose` for points: it needs no grid.

    Where an item begins on a section (a run whose fixed image is a volume of one slice at z = 0,
    or section-001.mat of a stack), z is the distance from the section's plane in mm, there and
    back: `section_map.OnSection`.
    """
    links = _links(items, inverse, on_section)
    return PointMap(_chain(links), links[0].flat)


def compose_points(
    items: Sequence[str | Path | Mapping | Transform], *, inverse: bool = False
) -> Transform:
    """The transform of `point_map`."""
    return point_map(items, inverse=inverse).transform


def on_section(item: str | Path | Mapping | Transform) -> Link:
    """`link` for points, see `point_map`."""
    text = str(item)
    if isinstance(item, str | Path) and text.endswith(INVERSE_SUFFIX) and not Path(text).exists():
        return on_section(text.removesuffix(INVERSE_SUFFIX)).turned()
    if isinstance(item, str | Path):
        item = load_maps(text) if Path(text).is_dir() else Path(text)
    found = None
    if isinstance(item, Mapping):
        found = section_map(item)
    elif isinstance(item, Path):
        found = section_of_stack(item)
    if found is None:
        return replace(link(item), name=text)
    on = OnSection(found)
    return Link(text, lambda: on, on.inverse, flat=True)


def _links(
    items: Sequence[str | Path | Mapping | Transform],
    inverse: bool,
    made: Callable[..., Link] = link,
) -> list[Link]:
    links = [made(item) for item in items]
    if not links:
        raise InputError("A chain needs at least one run directory or transform file.")
    return [item.turned() for item in reversed(links)] if inverse else links


def _chain(links: Sequence[Link]) -> Transform:
    """The maps first to last; raises InputError when their dimensions differ."""
    parts = [item.forward() for item in links]
    for item, part in zip(links, parts, strict=True):
        if part.dim != parts[0].dim:
            raise InputError(
                f"{item.name} is a {part.dim}D transform but {links[0].name} is "
                f"{parts[0].dim}D; a chain has one dimension."
            )
    return parts[0] if len(parts) == 1 else Chain(parts)
