"""`epi`: correct the distortion of EPI volumes and write what was found."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fireants_engine.cli.progress import Progress, stop_on_interrupt
from fireants_engine.cli.run import changed, load_execution
from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from fireants_engine.io.acqparams import load_acqparams
from fireants_engine.io.bids import BY_HAND, check_intended, encoding_of
from fireants_engine.io.images import load_image
from fireants_engine.io.series import Series, load_series
from fireants_engine.pipeline import Control, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.workflows import epi as w
from fireants_engine.workflows import epi_check
from fireants_engine.workflows.epi_folder import check_series, save_correction
from fireants_engine.workflows.registration import Execution
from fireants_engine.workflows.rundir import check_output_folder, read_json


def epi(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    began = time.perf_counter()
    check_output_folder(args.output)
    execution = load_execution(args)
    volumes = load_volumes(args)
    series, encodings = load_given_series(args)
    structural = None if args.structural is None else load_image(args.structural)
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        progress.say(", ".join(f"{one.name} ({one.encoding})" for one in volumes))
        if args.check:
            progress.say(tried(args, volumes, execution).sentence())
        if args.field_map is not None:
            found = w.given_field(volumes, load_image(args.field_map))
        else:
            found = w.correct(
                volumes,
                recipe=load_recipe(args, volumes),
                motion=args.motion,
                structural=structural,
                method=args.method,
                execution=execution,
                control=control,
                on_event=progress,
            )
    save_correction(
        found, args.output, combine=args.combine, series=series, series_encodings=encodings,
        began=began,
    )  # fmt: skip
    if not args.quiet:
        print(summary(args.output))
    stopped = found.result is not None and found.result.outcome is Outcome.STOPPED
    return 130 if stopped else 0


_BY_HAND = ("--pe-up", "--pe-down", "--readout", "--readout-down")


# ------------------------------------------------------------------ what is given
def load_volumes(args: argparse.Namespace) -> list[w.Volume]:
    """The images with their readouts, checked; raises InputError."""
    encodings = read_encodings(args)
    volumes = [
        w.Volume(load_image(path), encoding)
        for path, encoding in zip(args.volumes, encodings, strict=True)
    ]
    if args.field_map is None:
        w.check_volumes(volumes)
        if not args.mixed_axes:
            w.check_one_axis(volumes)
    return volumes


def read_encodings(args: argparse.Namespace) -> list[Encoding]:
    """From acqparams.txt, from what was typed, or from the sidecars; raises InputError."""
    paths = args.volumes
    down = args.readout if args.readout_down is None else args.readout_down
    typed = [args.pe_up, args.pe_down], [args.readout, down]
    if args.acqparams is not None:
        if any(value is not None for value in (*typed[0], *typed[1])):
            raise InputError("--acqparams and typed directions say the same; give one of them.")
        rows = load_acqparams(args.acqparams)
        if len(rows) != len(paths):
            raise InputError(
                f"{args.acqparams}: has {len(rows)} rows for {len(paths)} volumes; give one row "
                "per volume."
            )
        return list(rows)
    if len(paths) > 2 and any(typed[0]):
        raise InputError(
            f"--pe-up and --pe-down are of two volumes, but {len(paths)} were given; use "
            "--acqparams FILE with one row per volume, or sidecars."
        )
    out = []
    for k, path in enumerate(paths):
        direction = typed[0][k] if k < 2 else None
        out.append(_encoding(path, direction, typed[1][min(k, 1)], *_BY_HAND))
    return out


def _encoding(
    path: Path, direction: str | None, readout_s: float | None, *options: str
) -> Encoding:
    """What a hand has to give is given here by `options`."""
    try:
        return encoding_of(path, direction, readout_s)
    except InputError as error:
        raise InputError(str(error).replace(BY_HAND, f"with {', '.join(options)}")) from None


def load_given_series(args: argparse.Namespace) -> tuple[Series | None, tuple[Encoding, ...]]:
    """The series and its readouts, which have to fit each other and the pair."""
    if args.series is None:
        return None, ()
    series = load_series(args.series)
    if args.series_acqparams is not None:
        encodings = load_acqparams(args.series_acqparams)
    else:
        own = args.series_pe, args.series_readout
        encodings = (_encoding(args.series, *own, "--series-pe", "--series-readout"),)
        check_intended(args.series, args.volumes)
    check_series(series, encodings)
    for one in encodings:
        one.array_axis(series.grid.dim)
    return series, tuple(encodings)


def load_recipe(args: argparse.Namespace, volumes: list[w.Volume]) -> Recipe:
    """The packaged recipe or one's own, completed with the readouts, and --set."""
    if args.method == "pairwise":
        recipe = w.pairwise_recipe(volumes)
    else:
        encodings = [one.encoding for one in volumes]
        recipe = w.epi_recipe(encodings, motion=args.motion, structural=args.structural is not None)
    return changed(recipe, args)


# ------------------------------------------------------------------ what is told
def tried(
    args: argparse.Namespace, volumes: list[w.Volume], execution: Execution
) -> epi_check.Check:
    """Whether the directions fit: a field map decides their sign, a pair its axis."""
    if args.field_map is None:
        return epi_check.try_directions(volumes, execution=execution)
    known = w.given_field(volumes, load_image(args.field_map))
    return epi_check.try_field(volumes, known.distortion)


def summary(folder: Path) -> str:
    """A few lines for the person who waited."""
    report = read_json(folder)
    shift = report["field"]["shift_voxels"]
    lines = [f"{report['sentence']} {report['seconds']:.1f} s."]
    after = report["agreement"]["after"]
    if after is not None:
        before = report["agreement"]["before"]
        lines.append(
            f"Correlation of the first two volumes inside the object: "
            f"{before['correlation']:.3f} -> {after['correlation']:.3f}"
        )
    if shift["mean"] is not None:
        lines.append(f"Shift: {shift['mean']:.2f} voxels in the mean, {shift['max']:.1f} at most")
    if report["unrecoverable_fraction"]:
        share = 100 * report["unrecoverable_fraction"]
        lines.append(f"No volume shows {share:.2f} % of the object (unrecoverable.nii.gz)")
    lines.append(f"Look at {folder / 'report.html'}")
    return "\n".join(lines)
