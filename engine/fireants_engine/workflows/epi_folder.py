"""The folder of an EPI correction: written whole, in the formats that others read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Image
from fireants_engine.io.acqparams import save_acqparams
from fireants_engine.io.images import save_image
from fireants_engine.io.series import Series, save_series
from fireants_engine.io.transforms import save_affine, save_displacement
from fireants_engine.pipeline.events import to_dict
from fireants_engine.transforms import Displacement, parts_of
from fireants_engine.workflows import epi_images as made
from fireants_engine.workflows import epi_report
from fireants_engine.workflows.epi import Correction
from fireants_engine.workflows.report import plain
from fireants_engine.workflows.rundir import REPORT_FILE, staged

NAMES = ("up", "down")
"""Of the first two volumes in file names; further ones are volume3, volume4, ..."""


def volume_name(number: int) -> str:
    """How volume `number` (from 0) is called in file names."""
    return NAMES[number] if number < len(NAMES) else f"volume{number + 1}"


def check_series(series: Series, encodings: Sequence[Encoding]) -> None:
    """Raise InputError where the readouts do not fit the volumes of the series."""
    if len(encodings) not in (1, len(series)):
        raise InputError(
            f"{series.path}: has {len(series)} volumes but {len(encodings)} readouts were given; "
            "give one for all of them or one per volume."
        )


def save_correction(
    correction: Correction,
    folder: str | Path,
    *,
    combine: made.Combine = "jacobian",
    series: Series | None = None,
    series_encodings: Sequence[Encoding] = (),
    began: float | None = None,
) -> Path:
    """Write what was found and what became of the volumes; returns the folder.

    corrected.nii.gz (combine: see `epi_images.combined`), up_corrected and down_corrected
    (modulated), restored.nii.gz (least squares), field_hz and shift_vox (of the first volume),
    warp_up and warp_down (ITK, true points -> points of the volume, LPS mm; where a volume has
    moved also pose_down.mat, which comes after the warp), unrecoverable (in how many volumes a
    voxel is lost), series_corrected, acqparams.txt (FSL), recipe.yaml, report.json, report.html,
    events.jsonl. began: time.perf_counter() at which the work began.
    Raises InputError when the folder cannot be written or the series does not fit.
    """
    folder = Path(folder)
    if series is not None:
        check_series(series, series_encodings)
    images = made.corrected(correction)
    lost = made.unrecoverable(correction)
    restored = made.combined(correction, "least-squares", images)
    mean = made.combined(correction, combine, images) if combine != "least-squares" else restored
    with staged(folder) as place:
        save_image(mean, place / "corrected.nii.gz")
        save_image(restored, place / "restored.nii.gz")
        save_image(lost, place / "unrecoverable.nii.gz")
        for k, image in enumerate(images):
            save_image(image, place / f"{volume_name(k)}_corrected.nii.gz")
        _save_field(correction, place)
        if series is not None:
            _save_series(correction, series, series_encodings, place)
        result = correction.result
        if result is not None:
            result.recipe.save(place / "recipe.yaml")
        lines = [] if result is None else [plain(to_dict(event)) for event in result.events]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        _write(place / "events.jsonl", text)
        seconds = 0.0 if began is None else time.perf_counter() - began
        report = epi_report.make_report(correction, images, lost, seconds)
        drawn = epi_report.pictures(correction, images, mean)
        _write(place / "report.html", epi_report.page(report, drawn))
        _write(place / REPORT_FILE, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return folder


def _save_field(correction: Correction, place: Path) -> None:
    field, grid = correction.distortion, correction.distortion.grid
    save_image(Image(field.field_hz[0], grid, name="field"), place / "field_hz.nii.gz")
    shift = Image.from_numpy(field.shift_voxels(), grid, name="shift")
    save_image(shift, place / "shift_vox.nii.gz")
    save_acqparams(field.volumes, place / "acqparams.txt")
    for k in range(len(field.volumes)):
        through = field.to(k)
        warp, *pose = parts_of(through)
        if pose:
            save_affine(field.poses[k], place / f"pose_{volume_name(k)}.mat")
        assert isinstance(warp, Displacement)
        save_displacement(warp, place / f"warp_{volume_name(k)}.nii.gz")


def _save_series(
    correction: Correction, series: Series, encodings: Sequence[Encoding], place: Path
) -> None:
    volumes: Iterator[Image] = made.corrected_series(
        iter(series), encodings, correction.distortion, series.grid
    )
    path = place / "series_corrected.nii.gz"
    save_series(volumes, path, len(series), series.step, series.start)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
