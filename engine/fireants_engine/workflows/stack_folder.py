"""The folder of a stack of sections: the run directory, and how each section goes into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fireants_engine.io.transforms import save_affine
from fireants_engine.workflows.rundir import Made, save_run
from fireants_engine.workflows.section_map import SECTIONS_FILE, section_file
from fireants_engine.workflows.stack import Stack


def save_stack(stack: Stack, folder: str | Path, names: Sequence[str]) -> Path:
    """Write the run directory (its fixed image is the stack of sections) with sections.json
    (plane, score and notes of each) and section-001.mat, ...: section mm (x, y, 0) -> stack mm,
    ITK. A point of section 1 goes through section-001.mat, then the folder. names: of the
    sections, for the record. Raises InputError."""

    def further(place: Path) -> None:
        told = stack.to_dict()
        for row, name in zip(told["sections"], names, strict=True):
            if row is not None:
                row["name"] = name
        text = json.dumps(told, indent=1, allow_nan=False)
        (place / SECTIONS_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")
        for one in stack.sections:
            if one is not None:
                save_affine(one.start, place / section_file(one.number))

    sources = tuple(one.sheet.source for one in stack.sections if one is not None)
    return save_run(stack.result, folder, made={"fixed": Made(sources)}, further=further)
