"""`histology slice`: where in a volume a section was cut."""

from __future__ import annotations

import argparse
from pathlib import Path

SLICE = """
The section is the fixed image, a volume of one slice: points of 'points' are x,y,z with z = 0, mm
from the middle of the section's first pixel, and go to mm (LPS) of VOLUME. The volume has to show
the same tissue as the section: strip the skull, or give --volume-mask.
OUT then is a run directory (see 'run --help'), with warped.tif (VOLUME on the section),
candidates.json (every place that was compared, with its plane, the side that is seen, score) and
candidate-1.png, ... (the section beside the volume there).
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved).
"""


def slice_parser(steps: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The parser of this step, without the options that all commands have."""
    parser = steps.add_parser(
        "slice",
        help="a section into a volume, at an unknown plane",
        description="Find the plane that SECTION was cut on (position, two tilts, turn and side), "
        "then warp VOLUME onto it.",
        epilog=SLICE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("section", type=Path, metavar="SECTION", help="stained or grey section")
    parser.add_argument("volume", type=Path, metavar="VOLUME", help="3D image it was cut from")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder")
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
    parser.add_argument(
        "--init", type=Path, metavar="TRANSFORM",
        help="affine file SECTION (x, y, 0) -> VOLUME to start from, in place of the search",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="SEG", help="label map of VOLUME, carried onto SECTION"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe of your own, YAML")
    return parser


def slice_section(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    from fireants_engine.cli.progress import Progress, stop_on_interrupt
    from fireants_engine.cli.run import changed, load_execution, summary
    from fireants_engine.errors import InputError
    from fireants_engine.io.images import load_image
    from fireants_engine.io.transforms import load_transform
    from fireants_engine.pipeline import Control, Outcome
    from fireants_engine.recipe import Recipe
    from fireants_engine.transforms import linear_part
    from fireants_engine.workflows import slices as w
    from fireants_engine.workflows.rundir import check_output_folder, read_report
    from fireants_engine.workflows.sections_folder import load_section
    from fireants_engine.workflows.slices_folder import save_placement

    check_output_folder(args.output)
    own = None if args.recipe is None else Recipe.load(args.recipe)
    recipe = changed(own or w.slice_recipe(), args)
    execution = load_execution(args)
    given = load_section(args.section, args.pixel_size, args.section_mask)
    if not given.sized:
        raise InputError(
            f"{args.section}: does not tell the size of its pixels, which a plane of a volume in "
            "mm needs; give --pixel-size (in mm, such as 0.01)."
        )
    volume = load_image(args.volume)
    if args.volume_mask is not None:
        volume = volume.with_mask(load_image(args.volume_mask))
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
            planes=w.PLANES if args.plane == "any" else (args.plane,),
            tilt_deg=args.tilt, seen_from=args.seen_from, start=start, recipe=recipe,
            labels=labels, execution=execution, control=control, on_event=progress,
        )  # fmt: skip
        for note in found.notes:
            progress.say(f"note: {note}")
    save_placement(found, args.output)
    if not args.quiet:
        print(f"The section is {found.plane.sentence()}.")
        print(summary(read_report(args.output), args.output))
    return 130 if found.result.outcome is Outcome.STOPPED else 0
