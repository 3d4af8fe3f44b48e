"""`histology`: stained sections onto each other and into volumes.

The parsers are made at start-up, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fireants_engine.cli.slices import slice_parser, stack_parser
from fireants_engine.errors import InputError

PAIR = """
FIXED and MOVING are two stained sections, or a section and a 2D slice of an MR image: RGB or grey,
on a light or a dark background. Points are mm from the middle of the first pixel, x to the right
and y down, so that a landmark in pixels times the pixel size is a point of 'points'.
OUT then is a run directory (see 'run --help'; 'points' and 'apply' work with it), with warped.tif
(MOVING in its colours on the pixels of FIXED), candidates.json (every orientation that was tried,
scores and margins), candidate-1.png, ... and tissue.png (what was taken as tissue).
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved).
"""


def add_histology(
    commands: argparse._SubParsersAction,
) -> list[tuple[argparse.ArgumentParser, str]]:
    """The parsers of the steps without the options that all commands have, each with the stage
    that their help names."""
    histology = commands.add_parser(
        "histology",
        help="register stained sections onto each other or into a volume",
        description="Register stained sections.",
    )
    steps = histology.add_subparsers(dest="step", metavar="STEP", required=True)
    return [
        (_pair_parser(steps), "greedy"),
        (slice_parser(steps), "in-plane"),
        (stack_parser(steps), "in-plane"),
    ]


def histology(args: argparse.Namespace) -> int:
    """One of the steps."""
    match args.step:
        case "pair":
            return pair(args)
        case "slice":
            from fireants_engine.cli.slices import slice_section

            return slice_section(args)
        case "stack":
            from fireants_engine.cli.slices import stack

            return stack(args)
    raise AssertionError(f"no step {args.step}")


def _pair_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = steps.add_parser(
        "pair",
        help="one section onto another, or a section and a slice",
        description="Find the tissue of both, how MOVING is turned and whether it is flipped, "
        "then warp it onto FIXED.",
        epilog=PAIR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fixed", type=Path, metavar="FIXED", help="section that stays")
    parser.add_argument("moving", type=Path, metavar="MOVING", help="section that is carried onto")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder")
    parser.add_argument(
        "--pixel-size", type=float, metavar="MM",
        help="of FIXED, and of MOVING unless it is told its own; else as the file says, or 1 "
        "pixel is 1 unit",
    )  # fmt: skip
    parser.add_argument("--moving-pixel-size", type=float, metavar="MM", help="of MOVING")
    for role in ("fixed", "moving"):
        name = role.upper()
        parser.add_argument(
            f"--{role}-mask", type=Path, metavar="M",
            help=f"only non-zero pixels of {name} count: leave out tears and what is missing",
        )  # fmt: skip
        parser.add_argument(
            f"--{role}-component", type=int, metavar="N",
            help=f"the only piece of tissue of {name} that counts, from 1, left to right",
        )  # fmt: skip
    parser.add_argument(
        "--flip", choices=("auto", "yes", "no"), default="auto",
        help="whether MOVING lies the other way up (auto: both are tried)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", choices=("cover", "density", "haematoxylin"), default="cover",
        help="what of the stains is compared (cover: where tissue is and how dense, saturated)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=int, default=600, metavar="PIXELS",
        help="of the long side at which the sections are compared (600)",
    )  # fmt: skip
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe of your own, YAML")
    return parser


def pair(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import finish, load_execution, own_or
    from fireants_engine.pipeline import Control
    from fireants_engine.workflows import sections as w
    from fireants_engine.workflows import sections_folder as files
    from fireants_engine.workflows.rundir import check_output_folder

    check_output_folder(args.output)
    if args.size < 32:
        raise InputError(f"--size {args.size}: too few pixels to compare; give 32 or more.")
    recipe = own_or(w.sections_recipe(), args)
    execution = load_execution(args)
    moving_size = args.pixel_size if args.moving_pixel_size is None else args.moving_pixel_size
    given = (
        files.load_section(args.fixed, args.pixel_size, args.fixed_mask),
        files.load_section(args.moving, moving_size, args.moving_mask),
    )
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        fixed, moving = (one.image for one in given)
        progress.say(f"{moving.name} -> {fixed.name}, recipe {recipe.name}")
        for note in (files.unsized_note(*given), *given[0].notes, *given[1].notes):
            if note is not None:
                progress.say(f"note: {note}")
        how = {"compare": args.compare, "pixels": args.size}
        found = w.match(
            w.section_of(fixed, component=args.fixed_component, **how),
            w.section_of(moving, component=args.moving_component, **how),
            flip=args.flip, recipe=recipe, execution=execution, control=control,
            on_event=progress,
        )  # fmt: skip
        for note in found.notes:
            progress.say(f"note: {note}")
    files.save_match(found, args.output, given=given)
    return finish(args, found.result, files.sentence(found))
