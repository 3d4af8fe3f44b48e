"""`apply` and `points`: use saved runs and transform files."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.io.ome_zarr import check_new_zarr, is_zarr
from fireants_engine.io.points import load_on_section, load_points, save_points
from fireants_engine.io.surfaces import is_surface
from fireants_engine.ops.interpolate import check_interpolation
from fireants_engine.workflows.apply import apply_file, apply_surface, reference_grid
from fireants_engine.workflows.chain import compose, point_map
from fireants_engine.workflows.rundir import check_output_folder


def check_output_file(path: Path) -> None:
    """Raise InputError before any work when `path` cannot be written."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first.")
    if is_zarr(path):
        check_new_zarr(path)
    elif path.is_dir():
        raise InputError(f"{path}: this is a folder; give the name of a file in it.")
    check_output_folder(path.parent)


def apply(args: argparse.Namespace) -> int:
    """An image through a chain, sampled once; with --inverse through the chain turned round."""
    check_output_file(args.output)
    interpolation = "label" if args.labels else args.interpolation
    check_interpolation(interpolation)
    grid = None if args.reference is None else reference_grid(args.reference)
    mapping = compose(args.runs, grid, inverse=args.inverse)
    apply_file(mapping, args.image, args.output, interpolation=interpolation)
    return 0


def points(args: argparse.Namespace) -> int:
    """Points or the vertices of a surface, first to last; other columns and data are kept."""
    check_output_file(args.output)
    mapping = point_map(args.runs, inverse=args.inverse)
    transform = mapping.transform
    if is_surface(args.points):
        if apply_surface(transform, args.points, args.output, space=args.space):
            print(
                f"{args.output}: the transform reverses orientation; the faces were left as they "
                "are and now look the other way.",
                file=sys.stderr,
            )
        return 0
    if args.space is not None:
        raise InputError(f"{args.points}: --space is for surfaces; a CSV is in LPS mm.")
    load = load_on_section if mapping.flat else partial(load_points, dim=transform.dim)
    table = load(args.points)
    save_points(table.moved(transform(table.points_mm)), args.output)
    return 0
