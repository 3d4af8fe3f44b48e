"""The folder of a set of sections: transforms, warped sections, numbers and a picture."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping as NamedBy
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fireants_engine.workflows.pictures import GREY, png
from fireants_engine.workflows.report import source_of
from fireants_engine.workflows.result import Mapping
from fireants_engine.workflows.rundir import save_maps, staged
from fireants_engine.workflows.section_set import SectionSet
from fireants_engine.workflows.sections_folder import OUTLINE, Given, painted, save_onto, shown
from fireants_engine.workflows.spaces_file import save_spaces

SET_FILE = "set.json"
SPACES_FOLDER = "spaces"
_COLUMNS = 4


def save_set(
    found: SectionSet, folder: str | Path, *, given: NamedBy[str, Given] | None = None
) -> Path:
    """Write the folder of a set, whole, and return it.

    For every section but the reference a folder NAME with the transforms of a run directory
    (reference -> section points; ITK, `points` and `apply` read it) and warped-NAME.tif, the
    section in its own colours on the reference's pixels. set.json: pairs, scores, disagreement,
    paths, notes; notes.txt: what a person should read; spaces: the graph (`load_spaces`);
    overview.png. given: the sections' files by name, for slides that were read with fewer pixels.
    Raises InputError when it cannot be written.
    """
    folder, stems = Path(folder), _stems(found.names)
    given = given or {}
    grid = found.sections[found.reference].original.grid
    with staged(folder) as place:
        for name, section in found.sections.items():
            if name == found.reference:
                continue
            forward = found.transform(name)
            fixed = found.sections[found.reference].image.grid
            save_maps(Mapping(forward, fixed), place / stems[name])
            files = None
            if name in given and found.reference in given:
                files = given[found.reference], given[name]
            save_onto(section.original, forward, grid, place / f"warped-{stems[name]}.tif", files)
        save_spaces(found.spaces(), place / SPACES_FOLDER)
        (place / "overview.png").write_bytes(overview(found))
        text = json.dumps(_report(found, stems), indent=1, allow_nan=False) + "\n"
        (place / SET_FILE).write_text(text, encoding="utf-8", newline="\n")
        notes = "\n".join(found.notes or ("Nothing to note.",)) + "\n"
        (place / "notes.txt").write_text(notes, encoding="utf-8", newline="\n")
    return folder


def _stems(names: tuple[str, ...]) -> dict[str, str]:
    """Names as those of files, each once."""
    out: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".") or "section"
        taken = {other.lower() for other in (*out.values(), SPACES_FOLDER)}
        number, wanted = 2, stem
        while wanted.lower() in taken:
            wanted, number = f"{stem}-{number}", number + 1
        out[name] = wanted
    return out


def _report(found: SectionSet, stems: dict[str, str]) -> dict[str, Any]:
    report = found.to_dict()
    for row in report["sections"]:
        section = found.sections[row["name"]]
        row["file"] = source_of(section.original.path)
        row["grid"] = section.original.grid.to_dict()
        if row["name"] != found.reference:
            row["transforms"] = stems[row["name"]]
            row["warped"] = f"warped-{stems[row['name']]}.tif"
    return report


def overview(found: SectionSet) -> bytes:
    """PNG: every section on the reference, with the reference's outline."""
    tissue = found.sections[found.reference].tissue
    grid = tissue.image.grid
    rows = math.ceil(len(found.names) / _COLUMNS)
    columns = min(_COLUMNS, len(found.names))
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows), dpi=100)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, name in zip(axes, found.names, strict=False):
        image = found.sections[name].tissue.image
        ax.imshow(shown(painted(image, found.transform(name), grid)), interpolation="antialiased")
        ax.contour(tissue.mask.numpy(), [0.5], colors=OUTLINE, linewidths=1.0)
        ax.set_title(name, fontsize=8, color=GREY)
    figure.tight_layout(pad=0.3)
    return png(figure)


def sentences(found: SectionSet) -> list[str]:
    """What has come out, a line for each section."""
    lines = []
    for name, (_, fit) in found.fits.items():
        way = " - ".join(found.path(name))
        lines.append(f"{name}: fit {fit:.3f}, by {way}.")
    kept = [pair for pair in found.pairs if not pair.outlier]
    largest = max((pair.off_after_mm for pair in kept), default=0.0)
    lines.append(
        f"Pairs: {len(found.pairs)}, without a say: {len(found.pairs) - len(kept)}; the others "
        f"disagree with the maps by {largest:.3g} mm at most "
        f"({largest / found.diagonal_mm:.2%} of the diagonal)."
    )
    return lines
