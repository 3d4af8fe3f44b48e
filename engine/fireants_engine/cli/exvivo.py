"""`exvivo`: an ex-vivo brain or hemisphere onto the in-vivo brain.

The parser is made at start-up, so what the command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fireants_engine.errors import InputError

if TYPE_CHECKING:
    from fireants_engine.workflows.hemispheres import SideLabels

LAYOUT = """
INVIVO is the fixed image: EXVIVO is warped into living space. Without --labels its skull has to be
stripped. OUT then is a run directory (see 'run --help'; points and other images go through it with
'points' and 'apply'), with candidates.json (every half and orientation that was tried, scores and
margins), candidate-1.png, ... (three planes of INVIVO with the outline of EXVIVO) and
fixed.nii.gz (the part of INVIVO that was registered to).
"""


def add_exvivo(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this command, without the options that all commands have."""
    parser = commands.add_parser(
        "exvivo",
        help="register an ex-vivo brain or hemisphere in any pose onto the in-vivo brain",
        description="Tell which half of INVIVO the brain EXVIVO is and how it lies, then warp it.",
        epilog=LAYOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("exvivo", type=Path, metavar="EXVIVO", help="brain after death, any pose")
    parser.add_argument("invivo", type=Path, metavar="INVIVO", help="the living brain, stays")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder")
    parser.add_argument(
        "--hemisphere", choices=("auto", "left", "right", "whole"), default="auto",
        help="which part of INVIVO it is (auto: all are tried)",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="SEG",
        help="segmentation of INVIVO by SynthSeg or FreeSurfer: parts the halves, strips the skull",
    )  # fmt: skip
    for side in ("left", "right"):
        parser.add_argument(
            f"--{side}-labels", metavar="N,N-N",
            help=f"numbers of SEG on the {side}, such as 1,4-9, where they are not FreeSurfer's",
        )  # fmt: skip
    parser.add_argument(
        "--exvivo-mask", type=Path, metavar="M", help="only non-zero voxels of EXVIVO count"
    )
    parser.add_argument(
        "--improper", action="store_true",
        help="also try reflections, where EXVIVO may have been stored mirrored",
    )  # fmt: skip
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe of your own, YAML")
    return parser


def numbers_of(text: str, option: str) -> Iterator[int]:
    """The whole numbers of `1,4-9`; raises InputError naming the option."""
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not first <= last <= 10_000_000:
            raise InputError(
                f"{option} {text}: {part.strip() or 'nothing'!r} is no label; give whole numbers "
                "and ranges, such as 1,4-9."
            )
        yield from range(first, last + 1)


def _side_labels(args: argparse.Namespace) -> SideLabels | None:
    """--left-labels and --right-labels; raises InputError."""
    from fireants_engine.workflows.hemispheres import SideLabels

    left, right = (
        frozenset() if text is None else frozenset(numbers_of(text, f"--{side}-labels"))
        for side, text in (("left", args.left_labels), ("right", args.right_labels))
    )
    return SideLabels(left, right) if left or right else None


def exvivo(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import finish, load_execution, own_or
    from fireants_engine.io.images import load_image
    from fireants_engine.pipeline import Control
    from fireants_engine.workflows import exvivo as w
    from fireants_engine.workflows.exvivo_folder import save_alignment, sentence
    from fireants_engine.workflows.rundir import check_output_folder

    check_output_folder(args.output)
    execution = load_execution(args)
    recipe = own_or(w.exvivo_recipe(improper=args.improper), args)
    dead, living = load_image(args.exvivo), load_image(args.invivo)
    dead = dead.with_mask(None if args.exvivo_mask is None else load_image(args.exvivo_mask))
    labels = None if args.labels is None else load_image(args.labels)
    w.check_brains(dead, living, labels, args.hemisphere, args.improper)
    named = _side_labels(args)
    how = {"recipe": recipe, "execution": execution}
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        progress.say(f"{dead.name} -> {living.name}, recipe {recipe.name}")
        found = w.orient(
            dead, living, hemisphere=args.hemisphere, labels=labels, side_labels=named,
            improper=args.improper, **how,
        )  # fmt: skip
        progress.say(sentence(found))
        for note in found.notes:
            progress.say(note)
        aligned = w.register_oriented(found, control=control, on_event=progress, **how)
    save_alignment(aligned, args.output, exvivo_mask=args.exvivo_mask)
    return finish(args, aligned.result, sentence(found))
