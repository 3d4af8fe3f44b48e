"""EPI pairs with a known field: signal laid where a field shows it, noise, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fireants_engine.geometry import Encoding, Grid, Image
from fireants_engine.io.itk import grid_of
from fireants_engine.transforms import Affine
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows.epi import Correction, Volume
from fireants_engine.workflows.epi_images import corrected, mean_of
from napari_fireants._samples import load_phantoms

Array = NDArray[np.float64]
OFFSET = 2650.0
"""Of the recorded EPI, whose background is not 0."""
MARGIN = 6
"""Slices around those of a moved pair, so that nothing comes from beyond them."""
read_out = load_phantoms().read_out


@dataclass(frozen=True, eq=False)
class Simulated:
    """A pair, and the truth behind it: image, shift of the first in voxels, where it counts."""

    volumes: tuple[Volume, Volume]
    truth: Array
    shift: Array
    inside: NDArray[np.bool_]


def measured_field(folder: Path) -> tuple[Array, Array, Grid]:
    """The real EPI without its offset, the field in Hz of topup, and their grid."""
    epi = sitk.ReadImage(str(folder / "epi_sdcflows" / "epi.nii.gz"), sitk.sitkFloat64)
    field = sitk.ReadImage(str(folder / "epi_sdcflows" / "topup-field.nii.gz"), sitk.sitkFloat64)
    image = np.clip(sitk.GetArrayFromImage(epi) - OFFSET, 0, None)
    return image, sitk.GetArrayFromImage(field), grid_of(epi, Path("epi.nii.gz"))


def simulate(
    folder: Path,
    readout_s: float,
    slices: slice,
    seed: int = 0,
    moved: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Simulated:
    """A pair of opposite readouts along j, 2 % Rician noise, from the real image and field.

    moved: shift in voxels and rotation in degrees (z, y, x) of the head before the second one.
    """
    whole, field, grid = measured_field(folder)
    margin = MARGIN if moved else 0
    wide = slice(slices.start - margin, slices.stop + margin)
    image, shift = whole[wide], field[wide] * readout_s
    up = read_out(image, shift, 1)
    if moved is None:
        down = read_out(image, -shift, 1)
    else:
        there, bent = (_moved(a, *moved) for a in (image, shift))
        down = read_out(there, -bent, 1)
    rows = slice(margin, len(image) - margin)
    truth, shift = image[rows], shift[rows]
    bright = np.percentile(truth, 99)
    rng = np.random.default_rng(seed)
    noise = 0.02 * bright

    def rician(a: Array) -> Array:
        real, imaginary = (rng.normal(0, noise, a.shape) for _ in range(2))
        return np.hypot(a + real, imaginary)

    inside = ndimage.binary_fill_holes(truth > 0.13 * bright)
    inside = ndimage.binary_erosion(inside, iterations=2)
    inside &= np.abs(np.gradient(shift, axis=1)) < 0.9
    own = Grid(truth.shape[::-1], grid.spacing_mm, grid.origin_mm, grid.direction)
    volumes = tuple(
        Volume(
            Image.from_numpy(rician(a[rows]).astype(np.float32), own, name=name),
            Encoding.parse(direction, readout_s),
        )
        for a, name, direction in ((up, "up", "j"), (down, "down", "j-"))
    )
    return Simulated(volumes, truth, shift, inside)  # type: ignore[arg-type]


def _moved(a: Array, shift: tuple[float, ...], degrees: tuple[float, ...]) -> Array:
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(np.radians(degrees)).as_matrix()
    centre = (np.array(a.shape) - 1) / 2
    offset = centre - turn.T @ (centre + np.array(shift))
    # cubic: a head moves before it is sampled, and linear interpolation would blur one of the two
    return ndimage.affine_transform(a, turn.T, offset=offset, order=3, mode="nearest")


# ------------------------------------------------------------------ what is measured
def errors(shift: Array, given: Simulated) -> dict[str, float]:
    """Of a shift in voxels: mean, 95th and 99th percentile inside, and of it without its mean."""
    off = (shift - given.shift)[given.inside]
    size = np.abs(off)
    return {
        "mae": float(size.mean()),
        "p95": float(np.percentile(size, 95)),
        "p99": float(np.percentile(size, 99)),
        "mae_centred": float(np.abs(off - off.mean()).mean()),
    }


def nrmse(image: Array, given: Simulated) -> float:
    """Root mean square difference to the truth inside, over the root mean square of it."""
    off = (image - given.truth)[given.inside]
    return float(np.sqrt(np.mean(off**2) / np.mean(given.truth[given.inside] ** 2)))


def with_shift(shift: Array, given: Simulated) -> Correction:
    """The correction by a shift of the first volume, in voxels."""
    first = given.volumes[0]
    grid = first.image.grid
    hz = torch.as_tensor(shift / first.encoding.signed_readout_s, dtype=torch.float32)
    still = (Affine.identity(3),) * 2
    encodings = tuple(one.encoding for one in given.volumes)
    field = Distortion(hz[None, None], grid, encodings, still, tuple(grid.spacing_zyx))
    return Correction(given.volumes, field)


def mean_corrected(correction: Correction, *, modulate: bool = True) -> Array:
    """The mean of both corrected volumes."""
    images = corrected(correction, modulate=modulate)
    return mean_of(images, "mean").data[0].double().numpy()
