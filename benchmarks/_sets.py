"""The pairs of the accuracy benchmark: images, truth, masks, and what each set asks of the methods.

Every set has a half its settings may be chosen on (`tune`) and a half that is reported (`report`);
a set of one pair only reports. Files that not every program reads (RGB, label channels) are first
rewritten into the work folder, for all methods alike.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Points = NDArray[np.float64]
NCC = "NCC 2x2x2"


@dataclass(frozen=True)
class Pair:
    """One registration task. Landmarks are LPS mm, in the same order; labels are label maps."""

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    landmarks: tuple[Points, Points] | None = None  # fixed, moving


@dataclass(frozen=True)
class DataSet:
    """How a set is read and run. `pairs(data, inputs)` gives the pairs of each half.

    `foreground`: share of the fixed image's maximum above which a voxel is judged for folds and
    the inverse (a fixed mask goes before it). `bits`: label value is a sum of 2^k, one bit per
    structure, because structures overlap. `start`: what the peers start from. `options`: more
    options of one peer.
    """

    title: str
    preset: str
    pairs: Callable[[Path, Path], dict[str, list[Pair]]]
    multimodal: bool = False
    start: str = "centres"
    foreground: float = 0.1
    bits: bool = False
    unit: str = "mm"
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def options_of(self, method: str) -> list[str]:
        return list(dict(self.options).get(method, ()))


def oasis(data: Path, _: Path) -> dict[str, list[Pair]]:
    folder = data / "oasis_malf"

    def pair(fixed: str, moving: str) -> Pair:
        files = [folder / f"{k}_{kind}.nii.gz" for kind in ("SS", "glm") for k in (fixed, moving)]
        return Pair(f"{fixed}_{moving}", *files)

    others = ("1001", "1002", "1006", "1007", "1008")
    return {
        "tune": [pair("1000", other) for other in others],
        "report": [pair(other, "1000") for other in others],
    }


def lung(data: Path, _: Path) -> dict[str, list[Pair]]:
    folder = data / "lung_elastix"
    table = folder / "landmarks_baseline_followup_lps_mm.csv"
    with table.open() as lines:
        rows = [row for row in csv.DictReader(lines) if float(row["inside_both_crops"])]
    points = [np.array([[float(row[k + x]) for x in "xyz"] for row in rows]) for k in "bf"]
    names = ("baseline", "followup")
    images, masks = (
        [folder / f"3DCT_lung_{name}{kind}.mha" for name in names] for kind in ("", "_mask")
    )
    pair = Pair("baseline_followup", *images, None, None, *masks, (points[0], points[1]))
    return {"report": [pair]}


def hippocampus(data: Path, _: Path) -> dict[str, list[Pair]]:
    """Five pairs of neighbours in each half of the numbers."""
    folder = data / "msd_hippocampus"
    names = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))
    half = len(names) // 2

    def pair(fixed: str, moving: str) -> Pair:
        files = [folder / kind / k for kind in ("images", "labels") for k in (fixed, moving)]
        numbers = [k.removesuffix(".nii.gz").rpartition("_")[2] for k in (fixed, moving)]
        return Pair("_".join(numbers), *files)

    return {
        group: [pair(part[k], part[k + 1]) for k in range(0, 18, 4)]
        for group, part in (("tune", names[:half]), ("report", names[half:]))
    }


def cord(data: Path, _: Path) -> dict[str, list[Pair]]:
    """The T2 has the smaller field of view along the cord: it is the fixed one."""
    folder = data / "sct"
    names = ("t2.nii.gz", "t1w.nii.gz", "t2_seg-manual.nii.gz", "t1w_seg-manual.nii.gz")
    return {"report": [Pair("t2_t1", *(folder / name for name in names))]}


def prostate(data: Path, inputs: Path) -> dict[str, list[Pair]]:
    """Five cases of each half. The header's 0.4 mm is nominal: rewritten with 1 mm, for all."""
    folder = data / "deepreg_mrus_prostate"

    def file(role: str, case: int, labels: bool) -> Path:
        kind = "labels" if labels else "images"
        source = folder / f"{role}_{kind}" / f"case{case:06d}.nii.gz"
        return prepared(source, inputs / "deepreg_mrus_prostate" / role / kind, channels=labels)

    def pair(case: int) -> Pair:
        roles = ("fixed", "moving")
        files = [file(role, case, labels) for labels in (False, True) for role in roles]
        return Pair(f"case{case:02d}", *files)

    halves = {"tune": range(0, 14, 3), "report": range(14, 27, 3)}
    return {group: [pair(case) for case in cases] for group, cases in halves.items()}


def prepared(source: Path, folder: Path, channels: bool) -> Path:
    """The image on voxels of 1 mm; label channels as one map of bits."""
    target = folder / source.name
    if target.exists():
        return target
    image = sitk.ReadImage(str(source))
    array = sitk.GetArrayFromImage(image)
    if channels:
        array = array.reshape(-1, *array.shape[-3:]) > 0.5
        array = sum(layer.astype(np.uint16) << k for k, layer in enumerate(array))
    return write(array, target)


def kidney(data: Path, inputs: Path) -> dict[str, list[Pair]]:
    """Grey values, inverted: both stains are dark tissue on white. 1 pixel is written as 1 mm."""
    folder, names = data / "histo_birl" / "rat-kidney_", ("HE", "PanCytokeratin")
    images, points = [], []
    for name in names:
        target = inputs / "histo_birl" / f"{name}.nii.gz"
        if not target.exists():
            rgb = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"Rat-Kidney_{name}.jpg")))
            write(255.0 - rgb.mean(axis=-1, dtype=np.float32), target)
        images.append(target)
        with (folder / f"Rat-Kidney_{name}.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        points.append(np.array([[float(row["X"]), float(row["Y"])] for row in rows]))
    count = min(map(len, points))
    landmarks = (points[0][:count], points[1][:count])
    return {"report": [Pair("he_pancytokeratin", *images, landmarks=landmarks)]}


def write(array: np.ndarray, target: Path) -> Path:
    """The array with unit spacing at the origin, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"partial_{target.name}")
    sitk.WriteImage(sitk.GetImageFromArray(array), str(partial), useCompression=True)
    return partial.rename(target)


# On volumes this small greedy's MI and NMI affines run away (Dice 0); rigid with NCC is its best.
SMALL_GREEDY = (("greedy", ("--dof", "6", "--affine-metric", NCC, "--metric", NCC)),)

SETS = {
    "oasis": DataSet(
        "Brains (OASIS): T1, 138 to 141 labels, 1 mm, skull-stripped",
        "brain-mri",
        oasis,
        foreground=0.0,
        options=(("greedy", ("--affine-metric", "NMI")),),
    ),
    "lung_elastix": DataSet("Right lung, CT: 51 landmarks, masks", "ct-lung", lung),
    "msd_hippocampus": DataSet("Hippocampus crops, MR: 2 labels, 1 mm", "brain-mri", hippocampus),
    "sct": DataSet(
        "Cervical cord, T1 onto T2: cord mask",
        "multimodal",
        cord,
        multimodal=True,
        start="header",
        options=SMALL_GREEDY,
    ),
    "deepreg_mrus_prostate": DataSet(
        "Prostate, MR and ultrasound: gland and small structures",
        "ultrasound-mr",
        prostate,
        multimodal=True,
        bits=True,
        foreground=0.0,
        options=SMALL_GREEDY,
    ),
    "histo_birl": DataSet(
        "Rat kidney, two stains, 2D: 69 landmarks",
        "microscopy",
        kidney,
        multimodal=True,
        unit="px",
    ),
}
