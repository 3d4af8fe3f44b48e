"""A run folder as layers: the pair, the result, its labels and its Jacobian."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._read_images import LayerData, Opened, open_image, title
from napari_fireants._scene import PAIRS, preferred_pair

REPORT, RECIPE = "report.json", "recipe.yaml"


def is_run(path: Path) -> bool:
    """Does this folder, or the report in it, belong to a run?"""
    folder = path.parent if path.name == REPORT else path
    return (folder / REPORT).is_file() and (folder / RECIPE).is_file()


def open_run(path: Path) -> Opened:
    """Layers of a run folder, fixed lowest. What is missing is told in one sentence.

    Fixed and result are shown as an overlay, labels faintly; moving and Jacobian are hidden.
    """
    from fireants_engine.workflows.rundir import read_report

    below, above = PAIRS[preferred_pair()]
    folder = path.parent if path.name == REPORT else path
    report = read_report(folder)
    inputs = report["inputs"]
    moving = Path(inputs["moving"]["name"])
    facts = {"run": str(folder.resolve()), "outcome": report.get("sentence", "")}
    parts = [
        ("fixed", _input(folder, inputs["fixed"]), {"colormap": below}),
        ("moving", _input(folder, inputs["moving"]), {"colormap": above, "visible": False}),
        ("result", folder / "warped.nii.gz", {"colormap": above}),
        ("labels", folder / "warped_labels.nii.gz", {}),
        ("jacobian", folder / "jacobian.nii.gz", {"visible": False}),
    ]
    names = {
        "result": f"{title(moving)} (registered)",
        "labels": f"{title(Path(inputs.get('moving_labels', {}).get('name', 'labels')))} "
        "(registered)",
        "jacobian": "Jacobian",
    }
    for role in ("fixed", "moving"):
        if "kept" in inputs[role]:
            names[role] = title(Path(inputs[role]["name"]))
    layers: list[LayerData] = []
    missing: list[str] = []
    notes: list[str] = []
    for role, where, look in parts:
        file, lost = _file(role, where)
        if file is None:
            missing += lost
            continue
        try:
            opened, said = open_image(file)
        except FireantsError as error:
            missing.append(str(error).rstrip("."))
            continue
        notes += said + lost
        layers += [
            _as_part(data, role, look, names.get(role), {**facts, "role": role}) for data in opened
        ]
    if not layers:
        raise InputError(f"{folder}: nothing of this run can be opened: {'; '.join(missing)}.")
    if missing:
        notes.append(f"{folder.name}: the rest is open without this: {'; '.join(missing)}.")
    return layers, notes


def _input(folder: Path, item: dict[str, Any]) -> Any:
    """What was registered: kept in the folder where it was made, else a file of its own."""
    return folder / item["kept"] if "kept" in item else item


def _file(role: str, where: Any) -> tuple[Path | None, list[str]]:
    """The file of a part, and what is wrong with it. Labels are no loss where there were none."""
    if isinstance(where, Path):
        lost = [] if role == "labels" else [f"{where.name} is missing in the folder"]
        return (where, []) if where.is_file() else (None, lost)
    if where["path"] is None:
        return None, [f"the {role} image {where['name']} came from no file"]
    file = Path(where["path"])
    if not file.is_file():
        return None, [f"the {role} image {file} is no longer there"]
    with file.open("rb") as content:
        same = hashlib.file_digest(content, "sha256").hexdigest() == where.get("sha256")
    return file, [] if same else [f"{file} has changed since the run: it shows what it holds now."]


def _as_part(
    data: LayerData, role: str, look: dict[str, Any], name: str | None, facts: dict[str, Any]
) -> LayerData:
    """A layer of a file in its part of the run."""
    array, options, kind = data
    options["metadata"]["fireants"] |= facts
    several = isinstance(options["name"], list)
    if name is not None:
        options["name"] = [f"{name}, {each}" for each in options["name"]] if several else name
    if kind == "labels" and role != "labels":
        kind = "image"  # an image of few values was registered as an image
        options.setdefault("contrast_limits", (int(array.min()), max(int(array.max()), 1)))
    if kind == "labels":
        return array, options | {"opacity": 0.4}, kind
    plain = kind == "image" and not options.get("rgb") and not several
    if plain:
        options |= look | ({"blending": "additive"} if role != "jacobian" else {})
    else:
        options |= {key: value for key, value in look.items() if key != "colormap"}
    if role == "jacobian":
        away = float(np.quantile(np.abs(array - 1.0), 0.995)) or 0.1
        options |= {"colormap": "PiYG", "contrast_limits": (1 - away, 1 + away)}
    return array, options, kind
