r"""Draws docs/images/files.png: what napari shows of an image, labels, a run folder and its warp.

Registers the sample pair first. Run from the repository on a screen of its own; a folder as
argument gets the whole windows:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/files_picture.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import napari
import numpy as np
from napari.settings import get_settings
from register_picture import ROOT, SIZE, settle
from views_picture import canvas

import fireants_engine as fe

mpl.use("Agg")
import matplotlib.pyplot as plt

SAMPLES = ROOT / "sample_data"
PLUGIN = "napari-fireants"


def tilted(path: Path) -> Path:
    """The fixed sample as a scanner might have stored it: sagittal slices, 12 degrees oblique."""
    import SimpleITK as sitk

    item = sitk.ReadImage(str(SAMPLES / "icbm152_t1.nii.gz"))
    item = sitk.PermuteAxes(item, [1, 2, 0])
    turn = sitk.Euler3DTransform((0, 0, 0), 0.0, 0.0, np.radians(12))
    direction = np.reshape(turn.GetMatrix(), (3, 3)) @ np.reshape(item.GetDirection(), (3, 3))
    item.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(item, str(path))
    return path


def saved_run(folder: Path) -> Path:
    """A run of the sample pair, as the dock or the command line saves it."""
    if not folder.exists():
        pair = (fe.load_image(SAMPLES / f"{name}_t1.nii.gz") for name in ("icbm152", "colin27"))
        fe.register(*pair, fe.Recipe.preset("brain-mri-fast")).save(folder)
    return folder


def main(path: Path = ROOT / "docs" / "images" / "files.png") -> None:
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    pictures = {}
    with tempfile.TemporaryDirectory() as place:
        scratch = given or Path(place)
        get_settings(str(Path(place) / "napari.yaml"))
        run = saved_run(scratch / "registration")
        opened = {
            "a tilted, sagittal NIfTI": [tilted(scratch / "tilted.nii.gz")],
            "a file of labels": [
                SAMPLES / "icbm152_t1.nii.gz",
                SAMPLES / "icbm152_tissues.nii.gz",
            ],
            "the folder of a run": [run],
            "... with its 1Warp.nii.gz": [run, run / "1Warp.nii.gz"],
        }
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        for title, files in opened.items():
            viewer.layers.clear()
            for file in files:
                viewer.open(file, plugin=PLUGIN)
            viewer.reset_view()
            settle(0.5)
            pictures[title] = canvas(viewer)
            if given is not None:
                name = "".join(c if c.isalnum() else "_" for c in title)
                viewer.window._qt_window.grab().save(str(given / f"{name}.png"))
        viewer.close()
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.4))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    figure.tight_layout(pad=1.0)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    print(path)


if __name__ == "__main__":
    main()
