r"""Draws docs/images/epi.png: the sample brain, read out in two directions and corrected.

The field is made up (a source of 150 Hz above the nose), its correction is not. Run from the
repository:
    .venv/bin/python scripts/epi_picture.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from fireants_engine.geometry import Encoding, Image
from fireants_engine.workflows.epi import Volume, correct
from fireants_engine.workflows.epi_images import corrected
from napari_fireants._samples import epi_pair

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parents[1]
SHOWN = 5


def volumes() -> list[Volume]:
    """The sample pair, up first."""
    out = []
    for data, look, _ in epi_pair():
        own = look["metadata"]["fireants"]["encoding"]
        encoding = Encoding.parse(own["direction"], own["readout_s"])
        out.append(Volume(Image.from_numpy(data), encoding))
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
