"""Cases from files: everything a pair is given, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.geometry import Image, check_pair
from fireants_engine.io.images import load_image
from fireants_engine.io.landmarks import load_landmarks
from fireants_engine.io.transforms import load_transform
from fireants_engine.pipeline import Case, Extras
from fireants_engine.workflows.tables import ROLES


def _images(given: Iterable[tuple[str, Path, Path]]) -> dict[str, tuple[Image, Image]]:
    images: dict[str, tuple[Image, Image]] = {}
    for name, fixed, moving in given:
        if name in images:
            raise InputError(f"--input {name}: is given twice; use another name.")
        images[name] = (load_image(fixed), load_image(moving))
    return images


def load_case(
    fixed: Path,
    moving: Path,
    files: Mapping[str, Path],
    inputs: Iterable[tuple[str, Path, Path]] = (),
    name: str = "",
) -> Case:
    """Read and check a pair before anything is computed.

    files: role of `ROLES` -> path; inputs: (name, fixed, moving) of further images.
    Raises InputError.
    """

    def optional(role: str) -> Image | None:
        return load_image(files[role]) if role in files else None

    fixed_mask, moving_mask = optional("fixed_mask"), optional("moving_mask")
    moving_labels, fixed_labels = optional("moving_labels"), optional("fixed_labels")
    own, other = load_image(fixed), load_image(moving)
    check_pair(own, other)
    own, other = own.with_mask(fixed_mask), other.with_mask(moving_mask)
    marks = None
    if "landmarks" in files:
        marks = load_landmarks(files["landmarks"], own.dim, own.grid, other.grid)
    kept = {role: files[role] for role in ROLES if role in files and "labels" not in role}
    extras = Extras(moving_labels, fixed_labels, marks, _images(inputs), kept)
    initial = load_transform(files["init"]) if "init" in files else None
    case = Case(own, other, extras, initial, name)
    case.check()
    return case
