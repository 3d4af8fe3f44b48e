"""`histology`: stained sections onto each other and into volumes.

The parsers are made at start-up, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fireants_engine.cli.slices import slice_parser, stack_parser
from fireants_engine.cli.steps import step_parser
from fireants_engine.errors import InputError

PAIR = """
FIXED and MOVING are two stained sections, or a section and a 2D slice of an MR image: RGB or grey,
on a light or a dark background. Points are mm from the middle of the first pixel, x to the right
and y down, so that a landmark in pixels times the pixel size is a point of 'points'.
OUT then is a run directory (see 'run --help'; 'points' and 'apply' work with it), with warped.tif
(MOVING in its colours on the pixels of FIXED), candidates.json (every orientation that was tried,
scores and margins), candidate-1.png, ... and tissue.png (what was taken as tissue).
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved once
the search is over).
"""

SET = """
REFERENCE and SECTIONs are stained sections of one block, or REFERENCE is a slice of it (a 2D grey
image). Points are mm from the middle of the first pixel, x to the right and y down. OUT then has
for each SECTION a folder NAME ('points OUT/NAME FILE' carries points of REFERENCE to the section,
'points OUT/NAME:inverse FILE' back, 'apply OUT/NAME IMAGE --reference REFERENCE' its images onto
REFERENCE) and warped-NAME.tif, SECTION in its colours on the pixels of REFERENCE; set.json (pairs,
how well each fits, by how much it disagrees with the others, paths), notes.txt, overview.png and
spaces, the graph.
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (nothing saved before all
pairs are registered).
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
        (_set_parser(steps), "greedy"),
        (slice_parser(steps), "in-plane"),
        (stack_parser(steps), "in-plane"),
    ]


def histology(args: argparse.Namespace) -> int:
    """One of the steps."""
    match args.step:
        case "pair":
            return pair(args)
        case "set":
            return section_set(args)
        case "slice":
            from fireants_engine.cli.slices import slice_section

            return slice_section(args)
        case "stack":
            from fireants_engine.cli.slices import stack

            return stack(args)
    raise AssertionError(f"no step {args.step}")


def _pair_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = step_parser(
        steps,
        "pair",
        "one section onto another, or a section and a slice",
        "Find the tissue of both, how MOVING is turned and whether it is flipped, then warp it "
        "onto FIXED.",
        PAIR,
    )
    parser.add_argument("fixed", type=Path, metavar="FIXED", help="section that stays")
    parser.add_argument("moving", type=Path, metavar="MOVING", help="section that is carried onto")
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
    _compare_options(parser, "MOVING lies")
    return parser


def _set_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = step_parser(
        steps,
        "set",
        "several sections onto one of them, by pairs",
        "Register pairs of sections, tell those that the others speak against, and bring every "
        "section onto REFERENCE by the paths that fit best.",
        SET,
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="section that stays")
    parser.add_argument(
        "sections", type=Path, nargs="+", metavar="SECTION", help="in order, where they have one"
    )
    parser.add_argument(
        "--pairs", choices=("chain", "star", "all"), default="all",
        help="which are registered: each with the next, with REFERENCE, or with each other (all)",
    )  # fmt: skip
    parser.add_argument(
        "--single-paths", action="store_true",
        help="take shortest paths alone: no middle of several, no section registered onto the mean "
        "of the others",
    )  # fmt: skip
    parser.add_argument(
        "--pixel-size", type=float, metavar="MM",
        help="of all; else as each file says, or 1 pixel is 1 unit",
    )  # fmt: skip
    parser.add_argument(
        "--mask", action="append", default=[], metavar="NAME=FILE",
        help="only non-zero pixels of the section in the file NAME count; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--component", action="append", default=[], metavar="NAME=N",
        help="the only piece of tissue of that section that counts, from 1, left to right",
    )  # fmt: skip
    _compare_options(parser, "sections lie")
    return parser


def _compare_options(parser: argparse.ArgumentParser, flipped: str) -> None:
    """What is compared, and how they may lie."""
    parser.add_argument(
        "--flip", choices=("auto", "yes", "no"), default="auto",
        help=f"whether {flipped} the other way up (auto: both are tried)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", choices=("cover", "density", "haematoxylin"), default="cover",
        help="what of the stains is compared (cover: where tissue is and how dense, saturated)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=int, default=600, metavar="PIXELS",
        help="of the long side at which the sections are compared (600)",
    )  # fmt: skip


def pair(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import finish, load_execution, own_or
    from fireants_engine.pipeline import Control
    from fireants_engine.workflows import sections as w
    from fireants_engine.workflows import sections_folder as files
    from fireants_engine.workflows.rundir import check_output_folder

    check_output_folder(args.output)
    _check_size(args.size)
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


def section_set(args: argparse.Namespace) -> int:
    """Exit code 0; raises InputError and StoppedError."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import load_execution, own_or
    from fireants_engine.pipeline import Control
    from fireants_engine.workflows import section_set as w
    from fireants_engine.workflows import sections_folder as files
    from fireants_engine.workflows.rundir import check_output_folder
    from fireants_engine.workflows.section_set_folder import save_set, sentences
    from fireants_engine.workflows.sections import section_of, sections_recipe

    check_output_folder(args.output)
    _check_size(args.size)
    recipe = own_or(sections_recipe(), args)
    execution = load_execution(args)
    paths = [args.reference, *args.sections]
    masks = _by_name("mask", args.mask, paths)
    pieces = {name: _number(name, text) for name, text in _by_name(
        "component", args.component, paths).items()}  # fmt: skip
    given = {p.name: files.load_section(p, args.pixel_size, masks.get(p.name)) for p in paths}
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        every = given.values()
        for note in (files.unsized_note(*every), *(text for one in every for text in one.notes)):
            if note is not None:
                progress.say(f"note: {note}")
        how = {"compare": args.compare, "pixels": args.size}
        ready = {
            name: section_of(one.image, component=pieces.get(name), **how)
            for name, one in given.items()
        }
        found = w.match_set(
            ready, reference=args.reference.name, pairs=args.pairs,
            joint=not args.single_paths, flip=args.flip, recipe=recipe,
            execution=execution, control=control, on_event=progress, on_step=progress.say,
        )  # fmt: skip
        for note in found.notes:
            progress.say(f"note: {note}")
    save_set(found, args.output, given=given)
    if not args.quiet:
        print(*sentences(found), f"Look at {args.output / 'overview.png'}", sep="\n")
    return 0


def _check_size(pixels: int) -> None:
    if pixels < 32:
        raise InputError(f"--size {pixels}: too few pixels to compare; give 32 or more.")


def _by_name(option: str, texts: list[str], paths: list[Path]) -> dict[str, str]:
    """NAME=VALUE texts by the names of the sections' files, each of which is there once."""
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Two sections are called {double}; rename one of the files.")
    out = {}
    for text in texts:
        name, sign, value = text.partition("=")
        chosen = [full for full in names if name in (full, Path(full).stem)]
        if not sign or len(chosen) != 1:
            raise InputError(
                f"--{option} {text}: expected NAME=VALUE, NAME one of {', '.join(names)}."
            )
        out[chosen[0]] = value
    return out


def _number(name: str, text: str) -> int:
    if not text.isdigit():
        raise InputError(f"--component {name}={text}: give the number of a piece, such as 1.")
    return int(text)
