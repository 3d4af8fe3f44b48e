"""What benchmarks/epi.py found, for docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

from _page import table, where

Rows = list[dict[str, Any]]
HEAD = """## EPI distortion correction

A real image bent by a real field (topup's, 2 mm, slices 18 to 41, 2 % noise): errors of the shift \
inside the object in voxels, and the error of the mean corrected image over that by the true \
field. *Pairwise* is the thesis's route, one volume onto the other and the inverted half. {peer} \
runs as another program; its seconds are those of its optimisation, ours those of the whole call, \
the shortest of several runs."""
MOVED = """Head motion before the second volume. A shift along the readout shows the same as a \
constant field, exactly; it is taken as field, and only *without its mean* can be right."""
SEVERE = "The same, read out so long that the two volumes hardly resemble each other."
PHANTOM = "A phantom (2.4 mm), no truth: the two corrected volumes compared inside the object."


def epi(result: dict[str, Any]) -> str:
    """EPI distortion correction."""
    parts = result["parts"]
    text = [
        HEAD.format(peer=result["peer"]),
        where(result["machine"]),
        _simulated(parts["simulated"]),
        _exact(parts["simulated"]),
        SEVERE,
        _severe(parts["severe"]),
        MOVED,
        _moved(parts["moved"]),
        PHANTOM,
        _phantom(parts["phantom"]),
        "`python benchmarks/epi.py`",
    ]
    return "\n\n".join(text)


def _cell(row: dict[str, Any], key: str, digits: int = 3) -> str:
    """Empty where a row has no such number."""
    return f"{row[key]:.{digits}f}" if key in row else ""


def _readout(row: dict[str, Any]) -> str:
    return f"{row['readout_s']:g} s"


def _simulated(rows: Rows) -> str:
    errors = "mae", "p95", "p99", "nrmse_over_true"
    names = ["readout", "program", "mean", "95%", "99%", "image error, x true field"]
    return table(
        [*names, "smallest 1 ± v'", "seconds"],
        [
            [
                _readout(row),
                row["program"],
                *(_cell(row, key) for key in errors),
                _cell(row, "smallest_stretch", 2),
                _cell(row, "seconds", 1),
            ]
            for row in rows
        ],
    )


def _exact(rows: Rows) -> str:
    """What has to be 0."""
    ours = [row for row in rows if row["program"] == "ours"]
    off = " and ".join(f"{row['off_axis']:g}" for row in ours)
    swapped = " and ".join(_cell(row, "swapped_p99") for row in ours)
    return (
        f"Along other axes the displacement of ours is {off}; with the inputs swapped, the field "
        f"is the negative to {swapped} voxels (99%)."
    )


def _severe(rows: Rows) -> str:
    keys = ("correlation", 3), ("mae", 3), ("p95", 3), ("seconds", 1)
    return table(
        ["readout", "program", "correlation", "mean error", "95%", "seconds"],
        [[_readout(r), r["program"], *(_cell(r, *key) for key in keys)] for r in rows],
    )


def _moved(rows: Rows) -> str:
    keys = ("mae", 3), ("mae_centred", 3), ("degrees", 2), ("seconds", 1)
    names = ["readout", "motion", "estimated", "mean error", "without its mean", "degrees"]
    return table(
        [*names, "seconds"],
        [
            [
                _readout(row),
                row["motion"],
                "yes" if row["estimated"] else "no",
                *(_cell(row, *key) for key in keys),
            ]
            for row in rows
        ],
    )


def _phantom(rows: Rows) -> str:
    keys = ("correlation", 4), ("rms_difference", 4), ("seconds", 1)
    return table(
        ["pair", "program", "correlation", "difference (rms)", "seconds"],
        [[row["pair"], row["program"], *(_cell(row, *key) for key in keys)] for row in rows],
    )
