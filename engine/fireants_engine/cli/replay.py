"""`replay`: repeat a saved run from its folder and say whether the map is the same.

The parser is made at start-up, so what the command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_SAME_VOXELS = 0.1
"""Of the fixed image: maps that lie no further apart are the same on another machine."""

ABOUT = f"""
Inputs are found by their paths, checked by their sha256; what a workflow made before it registered
(half a brain, a section made ready) is kept in OUT. Device, kernels and threads are those of the
run. On the same machine the map is the same to the bit; on another it differs by rounding.
Exit codes: 0 the same (to {_SAME_VOXELS:g} voxel), 1 another map, 2 bad input, 130 interrupted.
"""


def add_replay(commands: argparse._SubParsersAction) -> None:
    """The parser of this command."""
    parser = commands.add_parser(
        "replay",
        help="repeat a saved run from its folder, and compare",
        description="Repeat the run in OUT and tell how far its map lies from the saved one.",
        epilog=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="OUT", help="run directory")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="AGAIN", help="where to save the repeated run, too"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, ... (as the run)")
    parser.add_argument("--kernels", metavar="K", help="a backend's name (as the run)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (as the run)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def replay(args: argparse.Namespace) -> int:
    """Exit code 0 for the same map, 1 for another."""
    from fireants_engine.cli.progress import Progress
    from fireants_engine.cli.run import load_execution
    from fireants_engine.workflows import replay as w
    from fireants_engine.workflows.rundir import check_output_folder, load_run, save_run

    saved = load_run(args.run)
    if args.output is not None:
        check_output_folder(args.output)
    for name in ("device", "kernels", "threads"):
        if getattr(args, name) is None:
            setattr(args, name, saved.report["execution"][name])
    execution = load_execution(args)
    with Progress(args.quiet) as progress:
        progress.say(f"{args.run} again, recipe {saved.recipe.name}")
        result = w.replay(args.run, execution=execution, on_event=progress)
    if args.output is not None:
        save_run(result, args.output, made=w.made_again(saved))
    gap = w.difference_mm(saved, result)
    if not args.quiet:
        print(
            "The map is the same to the bit."
            if gap == 0
            else f"The maps lie up to {gap:.2g} mm apart ({gap / min(saved.grid.spacing_mm):.2g} "
            "voxel)."
        )
    return 0 if gap <= _SAME_VOXELS * min(saved.grid.spacing_mm) else 1
