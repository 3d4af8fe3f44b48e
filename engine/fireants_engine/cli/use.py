"""`apply` and `points`: use a saved run."""

from __future__ import annotations

import argparse
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.io.images import load_image, save_image
from fireants_engine.io.points import load_points, save_points
from fireants_engine.workflows.rundir import check_output_folder, load_run


def _check_output_file(path: Path) -> None:
    """Raise InputError before any work when `path` cannot be written."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first.")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the name of a file in it.")
    check_output_folder(path.parent)


def apply(args: argparse.Namespace) -> int:
    """Moving space -> fixed grid, or with --inverse fixed space -> moving grid."""
    _check_output_file(args.output)
    run = load_run(args.run)
    image = load_image(args.image)
    if args.reference is not None:
        grid = load_image(args.reference).grid
    else:
        grid = run.grid_of("moving" if args.inverse else "fixed")
    if args.inverse:
        done = run.unwarp_labels(image, grid) if args.labels else run.unwarp(image, grid)
    else:
        done = run.warp_labels(image, grid) if args.labels else run.warp(image, grid)
    save_image(done, args.output)
    return 0


def points(args: argparse.Namespace) -> int:
    """Fixed -> moving, or with --inverse moving -> fixed; other columns are kept."""
    _check_output_file(args.output)
    run = load_run(args.run)
    table = load_points(args.points, run.grid.dim)
    mapped = run.inverse(table.points_mm) if args.inverse else run.transform(table.points_mm)
    save_points(table.moved(mapped), args.output)
    return 0
