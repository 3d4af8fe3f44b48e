"""Entry point: arguments to commands, errors to one sentence and an exit code.

Nothing heavy is imported here, so that `--help` and `presets` answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from fireants_engine.cli.exvivo import add_exvivo
from fireants_engine.cli.histology import add_histology
from fireants_engine.cli.replay import add_replay
from fireants_engine.cli.spaces import add_spaces
from fireants_engine.errors import FireantsError, InputError, StoppedError

PROG = "fireants-engine"
DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

LAYOUT = """
OUT then holds warped.nii.gz, 0GenericAffine.mat, 1Warp.nii.gz, 1InverseWarp.nii.gz (as ITK and
ANTs read them; points go fixed -> moving), jacobian.nii.gz, warped_labels.nii.gz with
--moving-labels, recipe.yaml, report.json, report.html and events.jsonl.
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved).
"""


_COMMANDS = {
    "run": ("run", "run"),
    "forecast": ("forecast", "command"),
    "batch": ("batch", "batch"),
    "epi": ("epi", "epi"),
    "exvivo": ("exvivo", "exvivo"),
    "histology": ("histology", "histology"),
    "apply": ("use", "apply"),
    "points": ("use", "points"),
    "replay": ("replay", "replay"),
    "spaces": ("spaces", "spaces"),
    "presets": ("info", "presets"),
    "kernels": ("info", "kernels"),
}
"""Command -> module and function, imported when it runs."""


class _Parser(argparse.ArgumentParser):
    """argparse whose mistakes are InputErrors of one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'.")


def _how_options(parser: argparse.ArgumentParser) -> None:
    """The recipe and where it runs."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--preset", metavar="NAME", help="packaged recipe (brain-mri)")
    what.add_argument("--recipe", type=Path, metavar="FILE", help="recipe of your own, YAML")
    _set_option(parser, "greedy")
    _place_options(parser)


def _set_option(parser: argparse.ArgumentParser, stage: str) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="assignments",
        help=f"change a recipe value, such as stages.{stage}.descent.step=0.3 (repeatable)",
    )  # fmt: skip


def _place_options(parser: argparse.ArgumentParser) -> None:
    """Where it runs, and what it says."""
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:I, mps"
    )
    parser.add_argument("--kernels", default="auto", metavar="K", help="auto or a backend's name")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (all)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def _input_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input", nargs=3, action="append", default=[], dest="inputs",
        metavar=("NAME", "FIXED", "MOVING"),
        help="further images for terms with `input: NAME` in the recipe (repeatable)",
    )  # fmt: skip


def _run_parser(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="register two images and save everything",
        description="Register MOVING onto FIXED and write a run directory.",
        epilog=LAYOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("fixed", type=Path, metavar="FIXED", help="image that stays")
    run.add_argument("moving", type=Path, metavar="MOVING", help="image that is carried onto it")
    run.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="run directory"
    )
    _how_options(run)
    for name, meta, text in (
        ("--fixed-mask", "M", "only non-zero voxels of FIXED count"),
        ("--moving-mask", "M", "only non-zero voxels of MOVING count"),
        ("--moving-labels", "SEG", "label map of MOVING, carried along"),
        ("--fixed-labels", "SEG", "label map of FIXED: Dice is reported, and may be a term"),
        ("--landmarks", "CSV", "x,y,z (fixed) and mx,my,mz (moving), LPS mm; or BigWarp's"),
        ("--init", "TRANSFORM", "transform file or run directory to start from"),
    ):
        run.add_argument(name, type=Path, metavar=meta, help=text)
    _input_option(run)


FORECAST = """
Counts what the run takes beyond the program and the loaded images, at its worst moment, and holds
it against what is free now. Only the headers of the files are read.
Exit codes: 0 fits (or nobody knows what is free), 1 does not fit, 2 bad input.
"""


def _forecast_parser(commands: argparse._SubParsersAction) -> None:
    forecast = commands.add_parser(
        "forecast",
        help="the memory that a run will need, before it",
        description="Tell how much memory registering MOVING onto FIXED will need.",
        epilog=FORECAST,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    forecast.add_argument("fixed", type=Path, metavar="FIXED", help="image that stays")
    forecast.add_argument("moving", type=Path, metavar="MOVING", help="image that is carried")
    for role in ("fixed", "moving"):
        forecast.add_argument(
            f"--{role}-mask", action="store_true", help=f"there will be a mask of {role.upper()}"
        )
    forecast.add_argument(
        "--labels", type=int, default=0, metavar="N",
        help="labels that both label maps have, for dice and contour terms (1)",
    )  # fmt: skip
    forecast.add_argument(
        "--pairs", type=int, default=1, metavar="N", help="pairs that run together (1)"
    )
    _input_option(forecast)
    _how_options(forecast)


TABLE = """
TABLE is CSV or TSV with a header line: fixed, moving and, if you like, name, fixed_mask,
moving_mask, moving_labels, fixed_labels, landmarks, init; paths are relative to it. A folder in
its place is searched for pairs: pairs.csv in it, images with fixed and moving in their names,
sub-folders with one of each, else all images onto one. OUT gets one run directory per pair, by its
name, summary.csv and summary.html. Pairs that are finished already (same recipe
and files) are kept; a pair that fails does not hold up the others.
Exit codes: 0 done, 1 a pair failed, 2 bad input, 130 interrupted (repeat to go on).
"""


def _batch_parser(commands: argparse._SubParsersAction) -> None:
    batch = commands.add_parser(
        "batch",
        help="register many pairs: a table, or one image against many",
        description="Register every pair of TABLE, or every MOVING onto every FIXED in order (one "
        "of either serves all).",
        epilog=TABLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    batch.add_argument("table", nargs="?", type=Path, metavar="TABLE",
                       help="pairs, one per line, or a folder")  # fmt: skip
    for role in ("fixed", "moving"):
        batch.add_argument(
            f"--{role}", nargs="+", type=Path, default=[], metavar="IMAGE",
            help=f"{role} image, or as many as there are pairs",
        )  # fmt: skip
    batch.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder of run directories"
    )
    batch.add_argument(
        "--size", type=int, default=1, metavar="N",
        help="pairs of one size that run together, faster on a GPU and with N times the memory (1)",
    )  # fmt: skip
    batch.add_argument("--again", action="store_true", help="run finished pairs, too")
    _how_options(batch)


EPI = """
Directions and readout times come from BIDS sidecars beside the images when they are not given; a
missing one is an error, never guessed. OUT then holds corrected.nii.gz, up_corrected.nii.gz,
down_corrected.nii.gz (signal spread again by the stretch), restored.nii.gz (least squares),
field_hz.nii.gz, shift_vox.nii.gz (of UP), warp_up.nii.gz, warp_down.nii.gz (ITK: true points to
points of the volume), unrecoverable.nii.gz (in how many volumes a voxel is lost), acqparams.txt
(FSL), series_corrected.nii.gz with --series, recipe.yaml, report.json, report.html, events.jsonl.
Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted (best state saved).
"""


def _epi_parser(commands: argparse._SubParsersAction) -> None:
    epi = commands.add_parser(
        "epi",
        help="correct the distortion of EPI with reversed phase encoding, or by a field map",
        description="Find the field that bends EPI volumes UP and DOWN (or more), and undo it.",
        epilog=EPI,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    epi.add_argument("volumes", nargs="+", type=Path, metavar="UP DOWN",
                     help="volumes that were read out differently")  # fmt: skip
    epi.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder")
    epi.add_argument("--pe-up", metavar="PE", help="phase encoding of UP: i, i-, j, j-, k or k-")
    epi.add_argument("--pe-down", metavar="PE", help="phase encoding of DOWN")
    epi.add_argument("--readout", type=float, metavar="S", help="total readout time in seconds")
    epi.add_argument("--readout-down", type=float, metavar="S", help="of DOWN, where it differs")
    epi.add_argument("--acqparams", type=Path, metavar="FILE",
                     help="FSL's file instead, one row per volume")  # fmt: skip
    epi.add_argument("--mixed-axes", action="store_true",
                     help="two volumes along different axes are meant")  # fmt: skip
    epi.add_argument("--check", action="store_true",
                     help="first try other directions coarsely, and say which fit")  # fmt: skip
    epi.add_argument("--motion", action="store_true",
                     help="also estimate how the volumes have moved")  # fmt: skip
    epi.add_argument("--structural", type=Path, metavar="T2",
                     help="image of the true anatomy, aligned with the volumes")  # fmt: skip
    epi.add_argument("--field-map", type=Path, metavar="HZ",
                     help="field map in Hz, instead of finding the field")  # fmt: skip
    epi.add_argument("--method", choices=("field", "pairwise"), default="field",
                     help="pairwise: inverted half deformation of a registration")  # fmt: skip
    epi.add_argument("--combine", choices=("jacobian", "plain", "least-squares"),
                     default="jacobian", help="what corrected.nii.gz is (jacobian)")  # fmt: skip
    epi.add_argument("--series", type=Path, metavar="4D", help="series to correct by the field")
    epi.add_argument("--series-pe", metavar="PE", help="its phase encoding (sidecar)")
    epi.add_argument("--series-readout", type=float, metavar="S", help="its readout time (sidecar)")
    epi.add_argument("--series-acqparams", type=Path, metavar="FILE",
                     help="FSL's rows instead: one, or one per volume")  # fmt: skip
    _place_options(epi)
    _set_option(epi, "field")


CHAIN = """
Each OUT is a run directory or a transform file of ITK or ANTs (.mat, .txt, .tfm, .h5, or a
displacement field); points go through them first to last, and images are interpolated once.
OUT:inverse uses one of them the other way, --inverse the whole chain. Options come before or
after the paths, not between them.
"""


def _use_parsers(commands: argparse._SubParsersAction) -> None:
    apply = commands.add_parser(
        "apply",
        help="carry another image, label map or series through runs and transforms",
        description="Bring IMAGE to the fixed image of the first OUT. A 4D file is carried volume "
        "by volume; .zarr (OME-Zarr) chunk by chunk.",
        epilog=CHAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    apply.add_argument("runs", nargs="+", metavar="OUT", help="run directory or transform file")
    apply.add_argument("image", type=Path, metavar="IMAGE", help="in the last moving image's space")
    apply.add_argument(
        "--inverse", action="store_true", help="IMAGE is in the first fixed image's space instead"
    )
    apply.add_argument(
        "--interpolation", default="linear", metavar="NAME",
        help="linear, nearest, bspline, sinc or label (linear)",
    )  # fmt: skip
    apply.add_argument("--labels", action="store_true", help="short for --interpolation label")
    apply.add_argument(
        "--reference", type=Path, metavar="GRID",
        help="image whose grid the result gets (fixed image; with --inverse: moving image)",
    )  # fmt: skip
    apply.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    points = commands.add_parser(
        "points",
        help="carry points or a surface through runs and transforms",
        description="Carry points fixed -> moving through every OUT.",
        epilog=CHAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    points.add_argument("runs", nargs="+", metavar="OUT", help="run directory or transform file")
    points.add_argument(
        "points", type=Path, metavar="FILE",
        help="CSV: x,y,z (2D, or on a section: x,y), LPS mm; or a surface: .vtk, .ply, .stl, "
        ".obj, .off, .gii",
    )  # fmt: skip
    points.add_argument("--inverse", action="store_true", help="moving -> fixed instead")
    points.add_argument(
        "--space", choices=("LPS", "RAS"),
        help="frame of a surface's vertices (as the file says; RAS for .gii, else LPS)",
    )  # fmt: skip
    points.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog=PROG, description="Deformable image registration without a window.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument(
        "--traceback", action="store_true", help="show where an unexpected error came from"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _run_parser(commands)
    _forecast_parser(commands)
    _batch_parser(commands)
    _epi_parser(commands)
    exvivo = add_exvivo(commands)
    _place_options(exvivo)
    _set_option(exvivo, "greedy")
    for step, stage in add_histology(commands):
        _place_options(step)
        _set_option(step, stage)
    _use_parsers(commands)
    add_replay(commands)
    add_spaces(commands)
    presets = commands.add_parser("presets", help="list the packaged recipes, or print one")
    presets.add_argument("name", nargs="?", metavar="NAME")
    commands.add_parser("kernels", help="devices found, and which function runs where")
    return parser


def _dispatch(argv: Sequence[str] | None) -> int:
    """Parse and run one command; its imports happen here."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.version:
        from fireants_engine import __version__

        print(__version__)
        return DONE
    if args.command not in _COMMANDS:
        parser.print_help()
        return DONE
    module, name = _COMMANDS[args.command]
    command = getattr(import_module(f"fireants_engine.cli.{module}"), name)
    return command(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises for what a user can cause."""
    # Read when torch is loaded: threads that wait sleep instead of spinning, which beside any
    # other busy program is many times faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _dispatch(argv)
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)
    except InputError as error:
        return _say(str(error), BAD_INPUT)
    except StoppedError as error:
        return _say(str(error), INTERRUPTED)
    except FireantsError as error:
        return _say(str(error), FAILED)
    except KeyboardInterrupt:
        return _say("Interrupted before there was anything to save.", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if "--traceback" in (sys.argv if argv is None else argv):
            raise
        return _say(
            f"Unexpected {type(error).__name__}: {str(error)[:200]} (repeat with "
            f"'{PROG} --traceback ...' to see where, and report it).",
            FAILED,
        )


def _say(sentence: str, code: int) -> int:
    print(f"{PROG}: {' '.join(sentence.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
