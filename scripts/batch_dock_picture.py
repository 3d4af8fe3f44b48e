r"""Draws docs/images/batch_dock.png: the Batch dock during a run, and after it with a result open.

The pairs are slices of the sample brains. Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/batch_dock_picture.py
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import SimpleITK as sitk
from napari.settings import get_settings
from PIL import Image as Picture
from register_picture import ROOT, SIZE, wait

from napari_fireants._batch import RowState
from napari_fireants._samples import sample_path

SLICES = range(70, 118, 6)
DOCK = 352
LAYERS = 5
"""Of a pair with labels."""


def slices(folder: Path) -> None:
    """Pairs of axial slices; one moving image is damaged."""
    for role, name in (("fixed", "icbm152"), ("moving", "colin27")):
        image = sitk.ReadImage(str(sample_path(f"{name}_t1.nii.gz")), sitk.sitkFloat32)
        for number, k in enumerate(SLICES, start=1):
            sitk.WriteImage(image[:, :, k], str(folder / f"sub-{number:02d}_{role}.nii.gz"))
            labels = sitk.Cast(image[:, :, k] > 90, sitk.sitkUInt8)
            sitk.WriteImage(labels, str(folder / f"sub-{number:02d}_{role}_labels.nii.gz"))
    (folder / "sub-03_moving.nii.gz").write_bytes(b"copied only half")


def window(viewer: napari.Viewer, folder: str) -> np.ndarray:
    """What the window shows, as an array."""
    path = Path(folder) / "window.png"
    assert viewer.window._qt_window.grab().save(str(path))
    return np.asarray(Picture.open(path).convert("RGB"))


def main(path: Path = ROOT / "docs" / "images" / "batch_dock.png") -> None:
    with tempfile.TemporaryDirectory() as folder:
        get_settings(str(Path(folder) / "napari.yaml"))  # never the settings of who runs this
        os.environ["FIREANTS_USER_FOLDER"] = str(Path(folder) / "user")
        os.chdir(folder)  # so that the picture shows short paths
        study = Path("study")
        study.mkdir()
        slices(study)
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Batch")
        panel.setup.preset.setCurrentIndex(panel.setup.preset.findText("brain-mri"))
        panel.find([study])
        wait(lambda: bool(panel.table.rows))
        panel.setup.folder.setText(str(study / "registrations"))
        panel.run.click()
        rows = panel.table.rows
        wait(lambda: rows[4].state is RowState.RUNNING and rows[4].fraction > 0.3, 300)
        panel._tick()
        running = window(viewer, folder)[:, -DOCK:]
        wait(lambda: not panel.batch.running, 300)
        panel.view.choose(3)
        panel.open.click()
        wait(lambda: len(viewer.layers) == LAYERS)
        viewer.reset_view()
        for layer in viewer.layers:
            layer.visible = layer.visible and "labels" not in layer.name
        panel.view.choose(2)
        wait(lambda: "not an image" in panel.message.text())
        shown = viewer.window._qt_window
        end = time.monotonic() + 1.5  # the window paints new layers a little later
        wait(lambda: time.monotonic() > end and shown.updatesEnabled())
        done = window(viewer, folder)
        panel.session.shutdown()
        viewer.close()
    both = np.hstack([running, np.full((len(running), 8, 3), 255, np.uint8), done])
    Picture.fromarray(both).quantize(256, dither=Picture.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
