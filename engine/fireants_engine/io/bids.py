"""How an EPI image was read out, and what it is meant for, from its BIDS sidecars.

Reference: Brain Imaging Data Structure 1.10, "Common principles: the inheritance principle",
"Magnetic resonance imaging: timing parameters, phase encoding, fieldmap data". Not read:
vendor estimates (EstimatedTotalReadoutTime, WaterFatShift), which are no measured readout time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from fireants_engine.io.itk import file_suffix
from fireants_engine.io.series import load_grid

ROOT = "dataset_description.json"
READ = (
    "PhaseEncodingDirection",
    "TotalReadoutTime",
    "EffectiveEchoSpacing",
    "ReconMatrixPE",
    "B0FieldIdentifier",
    "B0FieldSource",
    "IntendedFor",
)
"""Keys that may not be ambiguous; others are passed on as they come."""

_BIDS_NAME = re.compile(r"((?:[a-zA-Z0-9]+-[a-zA-Z0-9+]+_)*)([a-zA-Z0-9]+)")
BY_HAND = "by hand"
_ASK_DIRECTION = f"give one of i, i-, j, j-, k, k- {BY_HAND}"
_ASK_READOUT = f"give its seconds {BY_HAND}"
_ASK_BOTH = f"give its direction and its readout time {BY_HAND}"


@dataclass(frozen=True)
class Sidecar:
    """Metadata of an image: values by BIDS key, units as BIDS has them (seconds, Hz).

    files: where they come from, the nearest last; empty when there are none. sources: which of
    the files each value comes from.
    """

    values: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    sources: Mapping[str, Path] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.values


# ------------------------------------------------------------------ sidecars
def find_sidecar(image: str | Path) -> Sidecar:
    """The metadata of an image: of the JSON file of its name, and of those it inherits from.

    Inherited are JSON files with the suffix of the image and none but its entities, from its
    folder up to the dataset's root (the nearest folder with dataset_description.json; without
    one, its folder alone). Nearer files override, in one folder those with more entities. An
    image with no BIDS name has the JSON file of its name alone.
    Raises InputError, one sentence with the file and the remedy, for JSON that is damaged, and
    for two files of equal rank that contradict each other in a key of `READ`.
    """
    values: dict[str, Any] = {}
    sources: dict[str, Path] = {}
    ranks: dict[str, tuple[int, int]] = {}
    torn: dict[str, tuple[Path, Path]] = {}
    files = []
    for rank, path in _applicable(Path(os.path.abspath(image))):
        files.append(path)
        for key, value in _read_json(path).items():
            if key in READ and ranks.get(key) == rank and values[key] != value:
                torn[key] = (sources[key], path)
            elif ranks.get(key) != rank:
                torn.pop(key, None)
            values[key], sources[key], ranks[key] = value, path, rank
    for key, (one, other) in torn.items():
        raise InputError(
            f"{other}: gives another {key} of {Path(image).name} than {one.name}, which stands "
            "beside it and applies as much; delete one of the two, or give the image a sidecar "
            "of its own name."
        )
    return Sidecar(values, tuple(files), sources)


def _applicable(image: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    """JSON files that speak of `image`, the least binding first, and how binding they are:
    how near their folder is, how many entities they have."""
    stem = _stem(image)
    parts = _bids_parts(stem)
    if not parts or not parts[0]:
        own = image.parent / f"{stem}.json"
        if os.path.lexists(own):  # also a link to what was not fetched
            yield (0, 0), own
        return
    entities, suffix = parts
    for level, folder in enumerate(_levels(image.parent)):
        found = []
        for path in folder.glob("*.json"):
            other = _bids_parts(path.name.removesuffix(".json"))
            if other and other[1] == suffix and other[0] <= entities and not path.is_dir():
                found.append((len(other[0]), path))
        for count, path in sorted(found):
            yield (level, count), path


def _stem(path: Path) -> str:
    """The name without the extension, `.nii.gz` counting as one."""
    return path.name[: len(path.name) - len(file_suffix(path))]


def _bids_parts(stem: str) -> tuple[frozenset[str], str] | None:
    """Entities such as `sub-01` and the suffix of a BIDS name; None for other names."""
    match = _BIDS_NAME.fullmatch(stem)
    if match is None:
        return None
    return frozenset(match[1].split("_")) - {""}, match[2]


def _levels(folder: Path) -> list[Path]:
    """Folders from the dataset's root to `folder`."""
    above = [folder, *folder.parents]
    root = next((k for k, one in enumerate(above) if (one / ROOT).exists()), 0)
    return above[root::-1]


def _read_json(path: Path) -> dict[str, Any]:
    """Raises InputError naming the file unless it is one JSON object."""
    try:  # dcm2niix has put the scanner's own letters into names: what we read is ASCII
        values = json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise InputError(
            f"{path}: the sidecar cannot be read ({error.strerror or error}); copy it again."
        ) from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path}: this sidecar is damaged or incomplete (no JSON); copy or convert it again."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no keys with values; a sidecar is one JSON object.")
    return values


# ------------------------------------------------------------------ encoding
def encoding_of(
    image: str | Path,
    direction: str | None = None,
    readout_s: float | None = None,
    *,
    allow_zero: bool = False,
) -> Encoding:
    """How an EPI image was read out: what is given wins over what its sidecars say.

    direction: as PhaseEncodingDirection, voxel axes of the stored image. readout_s: total
    readout time in seconds, else TotalReadoutTime, else EffectiveEchoSpacing x (N - 1) with N
    of ReconMatrixPE or of the image. allow_zero: 0 s, of an image that is not distorted.
    Nothing is guessed: raises InputError, one sentence with the file and the remedy, where
    either is missing or no number, where the time is not above 0, and where ReconMatrixPE is
    not the image's size, so that its sidecar speaks of another one.
    With both given no file is read.
    """
    image = Path(image)
    given = direction is not None and readout_s is not None
    sidecar = Sidecar({}) if given else find_sidecar(image)
    if direction is None:
        direction = _direction(image, sidecar)
    axis = _encoding(image, direction, 0.0).axis  # a direction that is none is said first
    if not given:
        _check_matrix(image, sidecar, axis)
    where = image
    if readout_s is None:
        readout_s, where = _readout(image, sidecar, axis)
    if readout_s == 0 and not allow_zero:
        raise InputError(
            f"{where}: a readout time of 0 s is that of an image without distortion; "
            f"{_ASK_READOUT}."
        )
    return _encoding(where, direction, readout_s)


def _encoding(path: Path, direction: str, readout_s: float) -> Encoding:
    try:
        return Encoding.parse(direction, readout_s)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _missing(image: Path, sidecar: Sidecar, what: str, remedy: str) -> InputError:
    if not sidecar.files:
        where = f"there is no sidecar {_stem(image)}.json"
    else:
        where = f"there is no {what} in {', '.join(path.name for path in sidecar.files)}"
    return InputError(f"{image}: {where}; {remedy}.")


def _direction(image: Path, sidecar: Sidecar) -> str:
    key = "PhaseEncodingDirection"
    if key not in sidecar:
        if "PhaseEncodingAxis" in sidecar:
            raise InputError(
                f"{sidecar.sources['PhaseEncodingAxis']}: says only PhaseEncodingAxis "
                f"{sidecar.values['PhaseEncodingAxis']}, which does not tell the sign; "
                f"{_ASK_DIRECTION}, it is never guessed."
            )
        raise _missing(image, sidecar, key, f"{_ASK_DIRECTION}, it is never guessed")
    value = sidecar.values[key]
    if not isinstance(value, str):
        raise InputError(
            f"{sidecar.sources[key]}: its {key} is {value}, no text; {_ASK_DIRECTION}."
        )
    return str(_encoding(sidecar.sources[key], value, 0.0).direction)


def _number(sidecar: Sidecar, key: str, remedy: str) -> float:
    """A value that is a number, not below 0."""
    value, path = sidecar.values[key], sidecar.sources[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise InputError(f"{path}: its {key} is {value!r}, no number; {remedy}.")
    if value < 0:
        raise InputError(f"{path}: its {key} is {value:g}, below 0; {remedy}.")
    return float(value)


def _check_matrix(image: Path, sidecar: Sidecar, axis: int) -> None:
    """A sidecar of another image, or of this one before it was resampled."""
    key = "ReconMatrixPE"
    if key not in sidecar:
        return
    expected, found = _number(sidecar, key, _ASK_BOTH), _size(image, axis)
    if expected != found:
        raise InputError(
            f"{image}: has {found} samples along {'ijk'[axis]}, but {sidecar.sources[key].name} is "
            f"of an image with {expected:g} ({key}); find its own sidecar, or if it was resampled "
            f"{_ASK_BOTH}."
        )


def _size(image: Path, axis: int) -> int:
    size = load_grid(image).size
    if axis >= len(size):
        raise InputError(
            f"{image}: is {len(size)}D and has no voxel axis {'ijk'[axis]} to be phase encoded; "
            f"{_ASK_DIRECTION}."
        )
    return size[axis]


def _readout(image: Path, sidecar: Sidecar, axis: int) -> tuple[float, Path]:
    """Seconds, and the file that says so."""
    if "TotalReadoutTime" in sidecar:
        seconds = _number(sidecar, "TotalReadoutTime", _ASK_READOUT)
        return seconds, sidecar.sources["TotalReadoutTime"]
    if "EffectiveEchoSpacing" not in sidecar:
        what = "TotalReadoutTime or EffectiveEchoSpacing"
        remedy = f"its readout time is not known, {_ASK_READOUT}"
        raise _missing(image, sidecar, what, remedy)
    spacing = _number(sidecar, "EffectiveEchoSpacing", _ASK_READOUT)
    # what ReconMatrixPE says is the image's size: `_check_matrix`
    return spacing * (_size(image, axis) - 1), sidecar.sources["EffectiveEchoSpacing"]


# ------------------------------------------------------------------ what a pair is meant for
def check_intended(series: str | Path, pair: Sequence[str | Path]) -> None:
    """Raise InputError where the metadata of a pair say that it is not meant for `series`.

    Where the series has a B0FieldSource and images of the pair a B0FieldIdentifier, one of these
    has to be one of those, and IntendedFor does not count. Otherwise each image that has
    IntendedFor (BIDS URIs, or paths within the subject's folder) has to name the series. Without
    metadata a pair is taken, and so is one that contains the series.
    """
    series = Path(os.path.abspath(series))
    images = [Path(os.path.abspath(image)) for image in pair]
    if series in images:
        return
    sidecars = [find_sidecar(image) for image in images]
    sources = _texts(find_sidecar(series), "B0FieldSource")
    names = [name for one in sidecars for name in _texts(one, "B0FieldIdentifier")]
    if sources and names:
        if not set(sources) & set(names):
            raise InputError(
                f"{series}: asks for the field {', '.join(sources)} (B0FieldSource), but "
                f"{', '.join(image.name for image in images)} are of {_few(names)} "
                "(B0FieldIdentifier); choose the images of that field, or correct the sidecars."
            )
        return
    for image, sidecar in zip(images, sidecars, strict=True):
        targets = _texts(sidecar, "IntendedFor")
        if targets and not any(_ends_with(series, target) for target in targets):
            raise InputError(
                f"{image}: is intended for {_few(targets)} ({sidecar.sources['IntendedFor'].name}),"
                f" not for {series.name}; choose the images of this series, or correct the sidecar."
            )


def _texts(sidecar: Sidecar, key: str) -> list[str]:
    """A value that is one text or a list of them; none that are blank."""
    value = sidecar.values.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"{sidecar.sources[key]}: its {key} is neither a text nor a list of texts; correct it."
        )
    return [text for text in texts if text.strip()]


def _ends_with(series: Path, target: str) -> bool:
    """Whether `target` is the end of the path, whatever the extensions."""
    inside = PurePosixPath(re.sub(r"^bids:[^:]*:", "", target.strip()).strip("/"))
    wanted = (*inside.parts[:-1], _stem(Path(inside.name)))
    found = (*series.parts[:-1], _stem(series))
    return found[-len(wanted) :] == wanted


def _few(texts: Sequence[str]) -> str:
    texts = list(dict.fromkeys(texts))
    shown = ", ".join(texts[:3])
    return shown if len(texts) <= 3 else f"{shown} and {len(texts) - 3} more"
