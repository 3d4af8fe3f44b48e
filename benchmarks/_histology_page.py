"""What the benchmarks of histology and ex-vivo brains found, for docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from _page import table, where

ORIENTATION = """## Orientation from moments

Brains, and halves of them, in random poses (with resampling at {spacing:g} mm): degrees between \
the rotation found from moments and the true one; with a background of 5 % everywhere; how often \
a random reflection was told from a rotation; how often the choice was called ambiguous (of whole \
symmetric brains it has to be)."""
PLANE = """In the plane, {cases} turns and mirrors: the least correlation after the match is \
{least_ncc:.4f}, {flips_right} of {cases} flips are right, the turn is right to {degrees_max:.2f} \
degrees."""
EXVIVO = """## In-vivo and ex-vivo brains

Halves of real brains, cut out, shrunk by 5 to 10 %, bent, with reduced or inverted contrast and \
noise, in a random pose; {right} of {cases} halves were told. Dice of grey and white matter after \
the whole pipeline, and after the same registration from the true pose."""
SECTIONS = """## Pairs of stained sections

Two stains of a rat's kidney (BIRL): distances of the landmarks in % of the fixed image's \
diagonal. The best affine map is fitted to the landmarks themselves."""
OUTLINES = "Outlines of random shapes under affine maps of condition up to 1.6, both handednesses:"
SET = """## Sets of stained sections

Five synthetic stains of one section, turned, two turned over, bent by up to about 8 of 360 \
pixels, torn; the reference has lost 15 %, the last section 30 % on the other side. Medians of the \
distance of up to 400 points in % of the diagonal: mean over the first three sections / of the \
damaged one; by the shortest paths of the pairs' own weights, by those after all pairs are heard, \
by the middle of several, and after a section that only doubtful pairs reach was registered onto \
the mean of the others."""
SLICES = """## Sections in a volume

Sections cut from a brain of 1 mm by oblique planes (two tilts of up to 15 degrees, all three \
directions), stained so that contrast is no function of the volume's, turned by any angle, seen \
from either side, stretched, bent by up to 3 mm, with three tears and 5 to 10 % missing. Only the \
pixel size is told. Errors at 400 points of tissue; *off the plane*: their part along its normal. \
The ICBM average is its own mirror image: either of two places is right, and has \
to be called unsure."""
SLIDES = """## Whole slides

A slide of {side} x {side} pixels in RGB, carried tile by tile onto another of the same size."""


def _of(row: dict[str, Any], digits: int, *keys: str) -> list[str]:
    return [f"{row[key]:.{digits}f}" for key in keys]


def orientation(result: dict[str, Any]) -> str:
    parts = result["parts"]
    names = ["image", "poses", "degrees, mean", "worst", "worst with background"]
    names += ["handedness right", "called ambiguous", "seconds"]
    rows = [
        [
            name,
            str(row["count"]),
            *_of(row["degrees"], 3, "mean", "max"),
            *_of(row["degrees_pedestal"], 3, "max"),
            str(row["reflection_right"]),
            str(row["called_ambiguous"]),
            f"{row['seconds']:.2f}",
        ]
        for name, row in parts["rotations"].items()
    ]
    text = [
        ORIENTATION.format(spacing=result["spacing_mm"]),
        where(result["machine"]),
        table(names, rows),
    ]
    if "scales" in parts:
        found = ", ".join(
            f"{name} {100 * row['max']:.2f} %" if "max" in row else f"{name}"
            for name, row in parts["scales"].items()
        )
        text.append(f"Scales of .85 to 1.2 along the principal axes, worst error: {found}.")
    text += [PLANE.format(**parts["plane"]), "`python benchmarks/orientation.py`"]
    return "\n\n".join(text)


def exvivo(result: dict[str, Any]) -> str:
    cases = result["cases"]
    rows = [
        [
            f"{case['subject']} {case['side']}",
            case["contrast"],
            "yes" if case["labels"] else "no",
            f"{case['margin']:.3f}",
            f"{case['start_deg']:.1f}",
            *(f"{value:.3f}" for value in case["dice"]),
            *(f"{value:.3f}" for value in case["dice_pose_known"]),
            f"{case['orient_seconds']:.1f}",
        ]
        for case in cases
    ]
    names = ["half", "contrast", "labels", "margin", "pose, degrees off", "grey", "white"]
    names += ["grey, pose known", "white, pose known", "seconds for the pose"]
    return "\n\n".join(
        [
            EXVIVO.format(right=result["sides_right"], cases=len(cases)),
            where(result["machine"]),
            table(names, rows),
            f"The largest loss of Dice is {result['worst_loss_of_dice']:.4f}.",
            "`python benchmarks/exvivo.py`",
        ]
    )


def sections(result: dict[str, Any]) -> str:
    steps = "before", "start", "affine", "deformable", "affine fitted to the landmarks"
    names = ["before", "outlines", "affine", "deformable", "best affine"]
    rows = []
    for name, row in result["kidney"].items():
        rtre = row["rtre_percent"]
        for what in ("median", "p95"):
            cells = [f"{rtre[step][what]:.3f}" for step in steps]
            rows.append([name if what == "median" else "", what, *cells, f"{row['seconds']:.1f}"])
    outlines = []
    for name, row in result["outlines"].items():
        outlines.append(
            [
                {"torn": "10 % torn away"}.get(name, name),
                str(row["cases"]),
                *(f"{row['mean_px'][k]:.2f}" for k in ("median", "max")),
                f"{row['max_px']['max']:.2f}",
                str(row["handedness_right"]),
            ]
        )
    head = ["shape", "cases", "mean error, px", "worst mean", "worst point", "handedness right"]
    return "\n\n".join(
        [
            SECTIONS,
            where(result["machine"]),
            table(["pair", "", *names, "seconds"], rows),
            OUTLINES,
            table(head, outlines),
            "`python benchmarks/sections.py`",
        ]
    )


def section_set(result: dict[str, Any]) -> str:
    steps = "shortest", "synchronised", "several paths", "joint"
    rows = []
    for one in result["sets"]:
        wrong = sum(pair["wrong"] for pair in one["pairs"])
        for pairs in ("star", "chain", "all"):
            row = one[pairs]
            cells = []
            for step in steps:
                *good, damaged = row[step].values()
                cells.append(f"{np.mean(good):.3f} / {damaged:.3f}")
            told = str(row["wrong pairs told"]) + (f" of {wrong}" if pairs == "all" else "")
            unsure = ", ".join(row["called unsure"])
            rows.append([str(one["seed"]), pairs, *cells, told, unsure])
    names = ["set", "pairs", *steps, "wrong pairs told", "called unsure"]
    return "\n\n".join(
        [SET, where(result["machine"]), table(names, rows), "`python benchmarks/section_set.py`"]
    )


def slices(result: dict[str, Any]) -> str:
    rows = []
    for name, volume in result["volumes"].items():
        found, every = volume["summary"], volume["sections"]
        affine = np.median([row["affine"]["median_mm"] for row in every])
        rows.append(
            [
                name,
                str(found["sections"]),
                f"{affine:.2f}",
                *_of(found["median_mm"], 2, "median", "max"),
                *_of(found, 2, "p95_mm_max", "plane_mm_max", "tilt_error_deg_max"),
                f"{found['side_right']} of {found['sections']}",
                str(found["called_unsure"]),
                str(found["folds"]),
                f"{found['seconds_median']:.0f}",
            ]
        )
    names = ["brain", "sections", "affine, mm", "final, mm", "worst section", "95 %, worst"]
    names += ["off the plane, worst", "tilt, worst", "side right", "called unsure", "folds"]
    names += ["seconds"]
    return "\n\n".join(
        [SLICES, where(result["machine"]), table(names, rows), "`python benchmarks/slices.py`"]
    )


def slides(result: dict[str, Any]) -> str:
    rows = [
        [
            name,
            *_of(result[name], 0, "process_peak_mib", "seconds"),
            f"{result[name]['error_px']:.3f}",
        ]
        for name in ("affine", "warp")
    ]
    return "\n\n".join(
        [
            SLIDES.format(side=result["side"]),
            where(result["machine"]),
            table(["map", "peak memory, MiB", "seconds", "error of a tile, px"], rows),
            "`python benchmarks/slides.py`",
        ]
    )
