r"""Draws docs/images/histology_dock.png and histology_stack.png: the Histology dock with the sample
section, fitted, and with a stack.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/histology_dock_picture.py [dock] [stack]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from register_picture import ROOT, SIZE, settle, wait

sys.path.insert(0, str(ROOT / "sample_data"))

IMAGES = ROOT / "docs" / "images"
PLACES = (0.44, 0.50, 0.56, 0.62)
"""Of the sections of the stack, shares of the brain from back to front."""
PIXEL_MM = 0.5


def opened(viewer: Any) -> Any:
    """The dock with the sample, the plane to be coronal."""
    viewer.window.resize(*SIZE)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Histology")
    viewer.open_sample("napari-fireants", "section_and_brain")
    panel.planes.setCurrentText("coronal")
    settle()
    return panel


def ended(panel: Any) -> None:
    wait(lambda: not panel.histo.work.task, 600)
    panel.histo.scene.settle()
    settle()


def dock(viewer: Any, panel: Any) -> None:
    panel.run.click()
    ended(panel)
    panel.plane.refine.click()
    ended(panel)
    panel.plane.look.lines.click()


def stack(viewer: Any, panel: Any) -> None:
    from sections import cut_section  # pyright: ignore

    from napari_fireants._layers import index_to_mm

    brain = viewer.layers["Colin27"]
    to_mm = index_to_mm(brain)
    to_mm[:3, :3] = to_mm[:3, :3][:, ::-1]
    made = [
        cut_section(
            np.asarray(brain.data), to_mm, seed=k, position=place, tilt_deg=(6.0, -4.0),
            flipped=False, turn_deg=8.0 * k - 12, tears=1, missing=0.03, pixel_mm=PIXEL_MM,
        )
        for k, place in enumerate(PLACES)
    ]  # fmt: skip
    apart = (made[-1].plane[0] - made[0].plane[0]) @ made[0].plane[3] / (len(made) - 1)
    sizes = np.array([one.rgb.shape[:2] for one in made]).max(0)
    slides = np.full((len(made), *sizes, 3), 243, np.uint8)
    for slide, one in zip(slides, made, strict=True):
        slide[: one.rgb.shape[0], : one.rgb.shape[1]] = one.rgb
    viewer.layers.remove("Section")
    layer = viewer.add_image(
        slides, rgb=True, name="Sections", scale=(abs(apart), PIXEL_MM, PIXEL_MM),
        units=("mm",) * 3,
    )  # fmt: skip
    panel.section.choose(layer)
    panel.volume.choose(brain)
    settle()
    panel.stack.whole.fit.click()
    ended(panel)
    panel.histo.step(1)
    settle()


def main(names: list[str], folder: Path = IMAGES) -> None:
    for name in names or ["dock", "stack"]:
        with tempfile.TemporaryDirectory() as own:
            get_settings(str(Path(own) / "napari.yaml"))  # never the settings of who runs this
            os.environ["FIREANTS_USER_FOLDER"] = own
            viewer = napari.Viewer(show=True)
            panel = opened(viewer)
            {"dock": dock, "stack": stack}[name](viewer, panel)
            panel.histo.scene.fit()
            settle()
            shot = viewer.window._qt_window.grab()
            assert shot.save(str(folder / f"histology_{name}.png"))
            panel.controller.session.shutdown()
            viewer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
