"""`histology slice` and `stack`: where in a volume sections were cut."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fireants_engine.cli.steps import step_parser

SLICE = """
The section is the fixed image, a volume of one slice: points of 'points' are x,y (or x,y,z: z mm
off its plane), mm from the middle of the section's first pixel, and go to mm (LPS) of VOLUME.
The volume has to show the same tissue as the section: strip the skull, or give --volume-mask.
OUT then is a run directory (see 'run --help'), with warped.tif (VOLUME on the section),
candidates.json (every place that was compared, with its plane, the side that is seen, score) and
candidate-1.png, ... (the section beside the volume there).
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved once
the search is over).
"""


STACK = """
The sections are given in order; names of missing ones are written as '-'. Each is placed on its
own, one orientation and distance is fitted to all, then all are registered together, each in its
own plane, neighbours kept alike.
OUT then is a run directory (see 'run --help') whose fixed image is the stack of sections, with
sections.json (plane, score and notes of each) and section-001.mat, ...: points of section 1 (x,y,
mm from the middle of its first pixel) go into VOLUME by 'points OUT/section-001.mat OUT FILE'.
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved once
the search is over).
"""


def slice_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this step, without the options that all commands have."""
    parser = step_parser(
        steps,
        "slice",
        "a section into a volume, at an unknown plane",
        "Find the plane that SECTION was cut on (position, two tilts, turn and side), then warp "
        "VOLUME onto it.",
        SLICE,
    )
    parser.add_argument("section", type=Path, metavar="SECTION", help="stained or grey section")
    parser.add_argument("volume", type=Path, metavar="VOLUME", help="3D image it was cut from")
    parser.add_argument(
        "--pixel-size", type=float, metavar="MM", help="of SECTION, where its file has none"
    )
    for role in ("section", "volume"):
        parser.add_argument(
            f"--{role}-mask", type=Path, metavar="M",
            help=f"only non-zero places of {role.upper()} count",
        )  # fmt: skip
    parser.add_argument(
        "--component", type=int, metavar="N",
        help="the only piece of tissue of SECTION that counts, from 1, left to right",
    )  # fmt: skip
    _cut_options(parser)
    parser.add_argument(
        "--init", type=Path, metavar="TRANSFORM",
        help="affine file SECTION (x, y, 0) -> VOLUME to start from, in place of the search",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="SEG", help="label map of VOLUME, carried onto SECTION"
    )
    return parser


def stack_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this step, without the options that all commands have."""
    parser = step_parser(
        steps,
        "stack",
        "parallel sections, in order, into a volume",
        "Find the planes that parallel sections were cut on, then warp VOLUME onto the stack of "
        "them.",
        STACK,
    )
    parser.add_argument("sections", nargs="+", metavar="SECTION", help="in order; '-' is missing")
    parser.add_argument("volume", type=Path, metavar="VOLUME", help="3D image they were cut from")
    parser.add_argument(
        "--distance", type=float, required=True, metavar="MM", help="from a section to the next"
    )
    parser.add_argument(
        "--pixel-size", type=float, metavar="MM", help="of the sections, where files have none"
    )
    parser.add_argument(
        "--volume-mask", type=Path, metavar="M", help="only non-zero places of VOLUME count"
    )
    _cut_options(parser)
    parser.add_argument("--labels", type=Path, metavar="SEG", help="label map of VOLUME")
    return parser


def _cut_options(parser: argparse.ArgumentParser) -> None:
    """What is known of the cut."""
    parser.add_argument(
        "--plane", choices=("any", "sagittal", "coronal", "axial"), default="any",
        help="direction of the cut, roughly (any: all are tried, which takes longer)",
    )  # fmt: skip
    parser.add_argument(
        "--tilt", type=float, default=15.0, metavar="DEGREES",
        help="how far the cut may be tilted from it, about each edge (15)",
    )  # fmt: skip
    parser.add_argument(
        "--seen-from",
        choices=("left", "right", "anterior", "posterior", "inferior", "superior"),
        help="the side of the cut that SECTION shows; tells --plane, too (both are tried)",
    )


def slice_section(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved; raises StoppedError before
    there is one."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import finish, load_execution, own_or
    from fireants_engine.errors import InputError
    from fireants_engine.io.images import load_image
    from fireants_engine.io.transforms import load_transform
    from fireants_engine.pipeline import Control
    from fireants_engine.transforms import linear_part
    from fireants_engine.workflows import slices as w
    from fireants_engine.workflows.rundir import check_output_folder
    from fireants_engine.workflows.slices_folder import save_placement

    check_output_folder(args.output)
    recipe = own_or(w.slice_recipe(), args)
    execution = load_execution(args)
    given = sized_section(args.section, args.pixel_size, args.section_mask)
    volume = _volume(args)
    start = None
    if args.init is not None:
        start = linear_part(load_transform(args.init))
        if start is None or start.dim != 3:
            raise InputError(f"{args.init}: give a 3D affine transform to start from.")
    labels = None if args.labels is None else load_image(args.labels)
    sheet = w.sheet_for(given.image, volume, component=args.component)
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        progress.say(f"{volume.name} -> {given.image.name}, recipe {recipe.name}")
        for note in given.notes:
            progress.say(f"note: {note}")
        found = w.place(
            sheet, volume,
            start=start, recipe=recipe, labels=labels, execution=execution, control=control,
            on_event=progress, **_cut(args),
        )  # fmt: skip
        for note in found.notes:
            progress.say(f"note: {note}")
    save_placement(found, args.output)
    return finish(args, found.result, f"The section is {found.plane.sentence()}.")


def stack(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved; raises StoppedError before
    there is one."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import finish, load_execution, own_or
    from fireants_engine.io.images import load_image
    from fireants_engine.pipeline import Control
    from fireants_engine.workflows import stack as w
    from fireants_engine.workflows.rundir import check_output_folder
    from fireants_engine.workflows.sheets import sheet_for
    from fireants_engine.workflows.stack_folder import save_stack

    check_output_folder(args.output)
    recipe = own_or(w.stack_recipe(), args)
    execution = load_execution(args)
    volume = _volume(args)
    size = args.pixel_size
    given = [None if path == "-" else sized_section(Path(path), size) for path in args.sections]
    sheets = [None if one is None else sheet_for(one.image, volume) for one in given]
    labels = None if args.labels is None else load_image(args.labels)
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):

        def searched(number: int, count: int) -> None:
            progress.say(f"looking for section {number + 1} of {count}")

        found = w.align_stack(
            sheets, volume, args.distance, recipe=recipe, labels=labels, execution=execution,
            control=control, on_event=progress, on_section=searched, **_cut(args),
        )  # fmt: skip
        for note in found.notes:
            progress.say(f"note: {note}")
    save_stack(found, args.output, [Path(path).name for path in args.sections])
    count = sum(one is not None for one in found.sections)
    sentence = f"{count} sections, {found.order.spacing_mm:.3g} mm apart."
    return finish(args, found.result, sentence)


# ------------------------------------------------------------------ what both are given
def sized_section(path: Path, pixel_mm: float | None, mask: Path | None = None) -> Any:
    """A section whose pixels have a size; raises InputError."""
    from fireants_engine.errors import InputError
    from fireants_engine.workflows.sections_folder import load_section

    given = load_section(path, pixel_mm, mask)
    if not given.sized:
        raise InputError(
            f"{path}: does not tell the size of its pixels, which a plane of a volume in mm needs; "
            "give --pixel-size (in mm, such as 0.01)."
        )
    return given


def _volume(args: argparse.Namespace) -> Any:
    from fireants_engine.io.images import load_image

    volume = load_image(args.volume)
    return volume if args.volume_mask is None else volume.with_mask(load_image(args.volume_mask))


def _cut(args: argparse.Namespace) -> dict[str, Any]:
    """What is known of the cut, as the workflows take it."""
    from fireants_engine.geometry.planes import PLANES

    planes = PLANES if args.plane == "any" else (args.plane,)
    return {"planes": planes, "tilt_deg": args.tilt, "seen_from": args.seen_from}
