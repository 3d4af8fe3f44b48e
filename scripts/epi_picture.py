r"""Draws docs/images/epi.png: the sample brain, read out in two directions and corrected.

The field is made up (a source of 150 Hz above the nose), its correction is not. Run from the
repository:
    .venv/bin/python scripts/epi_picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from fireants_engine.geometry import Encoding, Image
from fireants_engine.workflows.epi import Volume, correct
from fireants_engine.workflows.epi_images import corrected
from napari_fireants._samples import sample_path

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parents[1]
READOUT = 0.05
SLICES = slice(54, 84, 2)
SHOWN = 5


def volumes() -> list[Volume]:
    """Axial slices at 2 mm, bent along j and against it, with a little noise."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _epi import laid

    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(sample_path("icbm152_t1.nii.gz"))))
    image = whole[SLICES, 1::2, 1::2].astype(float)
    image = np.pad(image, ((0, 0), (8, 8), (8, 8)))
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in image.shape), indexing="ij")
    top, middle = image.shape[1] - 14, image.shape[2] / 2
    hz = 150 * np.exp(-((y - top) ** 2 + (x - middle) ** 2) / 300 - z / 20) - 20
    rng = np.random.default_rng(0)
    out = []
    for direction in ("j", "j-"):
        encoding = Encoding.parse(direction, READOUT)
        shown = laid(image, hz * encoding.signed_readout_s)
        noise = rng.normal(0, 0.01 * image.max(), image.shape)
        out.append(Volume(Image.from_numpy((shown + noise).astype(np.float32)), encoding))
    return out


def main(path: Path = ROOT / "docs" / "images" / "epi.png") -> None:
    found = correct(volumes())
    figure, axes = plt.subplots(1, 5, figsize=(12, 3.0), layout="constrained")
    ways = [one.encoding.direction for one in found.volumes]
    names = [f"read out along {way}" for way in ways] + [f"{way}, corrected" for way in ways]
    images = [*(one.image for one in found.volumes), *corrected(found)]
    top = float(np.percentile(images[2].data.numpy(), 99.5))
    for ax, image, name in zip(axes, images, names, strict=False):
        ax.imshow(image.data[0, SHOWN], cmap="gray", vmin=0, vmax=top, origin="lower")
        ax.set_title(name, fontsize=9)
        ax.set_axis_off()
    field = found.distortion.field_hz[0, 0, SHOWN]
    limit = float(field.abs().max())
    drawn = axes[4].imshow(field, cmap="coolwarm", vmin=-limit, vmax=limit, origin="lower")
    axes[4].set_title("the field that was found", fontsize=9)
    axes[4].set_axis_off()
    figure.colorbar(drawn, ax=axes[4], label="Hz")
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
