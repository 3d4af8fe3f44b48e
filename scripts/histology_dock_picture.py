r"""Draws docs/images/histology_dock.png: the Histology dock with the sample section, fitted.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/histology_dock_picture.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from register_picture import ROOT, SIZE, settle, wait

IMAGES = ROOT / "docs" / "images"


def opened(viewer: Any) -> Any:
    """The dock with the sample, the plane found."""
    viewer.window.resize(*SIZE)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Histology")
    viewer.open_sample("napari-fireants", "section_and_brain")
    panel.planes.setCurrentText("coronal")
    settle()
    panel.run.click()
    wait(lambda: not panel.histo.work.task)
    return panel


def main(folder: Path = IMAGES) -> None:
    with tempfile.TemporaryDirectory() as own:
        get_settings(str(Path(own) / "napari.yaml"))  # never the settings of who runs this
        os.environ["FIREANTS_USER_FOLDER"] = own
        viewer = napari.Viewer(show=True)
        panel = opened(viewer)
        panel.plane.refine.click()
        wait(lambda: not panel.histo.work.task)
        settle()
        assert viewer.window._qt_window.grab().save(str(folder / "histology_dock.png"))
        panel.controller.session.shutdown()
        viewer.close()


if __name__ == "__main__":
    main()
