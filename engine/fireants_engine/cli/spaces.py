"""`spaces`: one graph of runs and transforms, and points and images through all of it.

The parsers are made at start-up, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireants_engine.errors import InputError

if TYPE_CHECKING:
    from fireants_engine.geometry import Grid, Image
    from fireants_engine.workflows.spaces import SpaceGraph

MAKE = """
Each FIXED:MOVING=RUN names the spaces of the run's fixed and moving image, for example

  fireants-engine spaces make -o graph 'in vivo:ex vivo=exvivo_out' \\
      'block:ex vivo=block_out' section:block=slice_out nissl:section=pair_out

RUN is the folder of 'run', 'exvivo' or 'histology', a transform file (points go from the first
name to the second), OUT/section-001.mat of a stack, or the word identity, where two names have the
same coordinates; RUN:inverse exchanges the names. What every name stands for is said; a name that
stands for unlike images is refused. GRAPH is a folder with spaces.json and ITK's transform files.
"""

WARP = """
IMAGE lies in FROM and comes to the grid of the image by which TO was registered, or of --like. It
is interpolated once. A volume on a section is its cut along the plane, a section in a volume fills
the voxels that its plane passes through.
"""

POINTS = """
Points are mm: x,y,z (LPS) in a volume, x,y in a section (from the middle of its first pixel).
Other columns are kept. Where the way leads onto a section, off_plane_mm says how far a point was
off its plane; what is further off than the voxels that the plane passes through becomes nan.
"""


def add_spaces(commands: argparse._SubParsersAction) -> None:
    """The parsers of this command."""
    spaces = commands.add_parser(
        "spaces",
        help="one graph of runs: in vivo, ex vivo, block, section, and everything through it",
        description="Join runs and transforms that share spaces, and carry points and images "
        "between any two of them.",
    )
    steps = spaces.add_subparsers(dest="step", metavar="STEP", required=True)
    make = _step(steps, "make", "join runs and transforms to a graph", MAKE)
    make.add_argument("connections", nargs="+", metavar="FIXED:MOVING=RUN", help="see below")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="GRAPH",
                      help="folder, new")  # fmt: skip
    show = _step(steps, "show", "list spaces, connections and paths")
    show.add_argument("graph", type=Path, metavar="GRAPH")
    points = _step(steps, "points", "carry points from a space to another", POINTS)
    _between(points)
    points.add_argument("points", type=Path, metavar="FILE", help="CSV: x,y,z; of a section x,y")
    points.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    warp = _step(steps, "warp", "carry an image from a space to another", WARP)
    _between(warp)
    warp.add_argument("image", type=Path, metavar="IMAGE", help="in FROM")
    warp.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    warp.add_argument("--like", type=Path, metavar="GRID", help="image of TO whose grid it gets")
    warp.add_argument(
        "--interpolation", default="linear", metavar="NAME",
        help="linear, nearest, bspline, sinc or label (linear)",
    )  # fmt: skip
    warp.add_argument("--labels", action="store_true", help="short for --interpolation label")
    warp.add_argument(
        "--pixel-size", type=float, metavar="MM", help="of pictures of sections without one"
    )
    ngff = _step(steps, "ngff", "write the maps as OME-NGFF 0.6")
    ngff.add_argument("graph", type=Path, metavar="GRAPH")
    ngff.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.zarr")


def _step(
    steps: argparse._SubParsersAction, name: str, what: str, more: str = ""
) -> argparse.ArgumentParser:
    return steps.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _between(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graph", type=Path, metavar="GRAPH", help="folder of 'spaces make'")
    parser.add_argument("start", metavar="FROM", help="name of a space")
    parser.add_argument("end", metavar="TO", help="name of a space")


def spaces(args: argparse.Namespace) -> int:
    """One of the steps."""
    steps = {"make": make, "show": show, "points": points, "warp": warp, "ngff": ngff}
    return steps[args.step](args)


def make(args: argparse.Namespace) -> int:
    """Exit code 0; says what every name stands for."""
    from fireants_engine.workflows.rundir import check_output_folder
    from fireants_engine.workflows.spaces_file import save_spaces
    from fireants_engine.workflows.spaces_make import Connection, make_graph

    wanted = [Connection.parse(text) for text in args.connections]
    if args.output.exists():
        raise InputError(f"{args.output}: is there already; give the name of a new folder.")
    check_output_folder(args.output)
    made = make_graph(wanted)
    save_spaces(made.graph, args.output)
    for sentence in made.sentences:
        print(sentence)
    for note in made.notes:
        print(f"note: {note}")
    print(f"{len(made.graph.spaces)} spaces in {args.output}; 'spaces show' lists their paths.")
    return 0


def show(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from fireants_engine.workflows.spaces_file import load_spaces
    from fireants_engine.workflows.spaces_make import listing

    print(listing(load_spaces(args.graph)))
    return 0


def points(args: argparse.Namespace) -> int:
    """Exit code 0; points without a place are counted on the error stream."""
    import numpy as np

    from fireants_engine.cli.use import check_output_file
    from fireants_engine.io.points import load_points, save_points

    graph = _opened(args)
    check_output_file(args.output)
    route = graph.route(args.start, args.end)
    table = load_points(args.points, route.dims[0])
    carried = route.carry(table.points_mm)
    moved = table.moved(carried.points_mm)
    if route.projects:
        moved = moved.with_texts("off_plane_mm", [f"{off:.6g}" for off in carried.off_plane_mm])
    save_points(moved, args.output)
    lost = int(np.isnan(carried.points_mm).any(axis=1).sum())
    if lost:
        print(
            f"{lost} of {len(carried.points_mm)} points lie too far off the plane to have a place "
            f"in {args.end}: nan, and off_plane_mm says how far.",
            file=sys.stderr,
        )
    return 0


def warp(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from fireants_engine.cli.use import check_output_file
    from fireants_engine.io.images import save_image
    from fireants_engine.ops.interpolate import check_interpolation

    graph = _opened(args)
    check_output_file(args.output)
    interpolation = "label" if args.labels else args.interpolation
    check_interpolation(interpolation)
    route = graph.route(args.end, args.start)
    grid = _target(graph, args)
    image = _image(args.image, route.dims[1], args.pixel_size)
    save_image(route.warp(image, grid, interpolation=interpolation), args.output)
    return 0


def ngff(args: argparse.Namespace) -> int:
    """Exit code 0."""
    from fireants_engine.io.ome_zarr import is_zarr
    from fireants_engine.workflows.spaces_file import export_ngff, load_spaces

    if not is_zarr(args.output):
        raise InputError(f"{args.output}: OME-NGFF is a .zarr; give a name that ends so.")
    export_ngff(load_spaces(args.graph), args.output)
    return 0


# ------------------------------------------------------------------ what is given
def _opened(args: argparse.Namespace) -> SpaceGraph:
    """The graph, in which both spaces are connected; raises InputError."""
    from fireants_engine.workflows.spaces_file import load_spaces

    graph = load_spaces(args.graph)
    graph.path(args.start, args.end)
    return graph


def _target(graph: SpaceGraph, args: argparse.Namespace) -> Grid:
    from fireants_engine.workflows.apply import reference_grid

    space = graph.spaces[args.end]
    if args.like is None:
        if space.grid is None:
            raise InputError(
                f"space {args.end!r}: has no grid to bring images to; give --like, an image on "
                "whose grid the result shall lie."
            )
        return space.grid
    if space.dim == 3:
        return reference_grid(args.like)
    return _image(args.like, 2, args.pixel_size).grid


def _image(path: Path, dim: int, pixel_mm: float | None) -> Image:
    """A volume, or a section whose pixels have a size; raises InputError."""
    if dim == 3:
        from fireants_engine.io.images import load_image

        return load_image(path)
    from fireants_engine.cli.slices import sized_section

    given: Any = sized_section(path, pixel_mm)
    for note in given.notes:
        print(f"note: {note}", file=sys.stderr)
    return given.image
