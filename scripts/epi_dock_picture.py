r"""Draws docs/images/epi_dock.png and epi_directions.png: the EPI dock with the sample pair.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/epi_dock_picture.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import napari
from napari.settings import get_settings
from register_picture import ROOT, SIZE, settle, wait

IMAGES = ROOT / "docs" / "images"


def main(folder: Path = IMAGES) -> None:
    with tempfile.TemporaryDirectory() as own:
        get_settings(str(Path(own) / "napari.yaml"))  # never the settings of who runs this
        os.environ["FIREANTS_USER_FOLDER"] = own
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "EPI correction")
        viewer.open_sample("napari-fireants", "epi_pair")
        wait(lambda: all(panel.epi.sides[name].known for name in ("up", "down")))
        panel.check.click()
        wait(lambda: not panel.epi.task)
        settle()
        assert viewer.window._qt_window.grab().save(str(folder / "epi_directions.png"))
        panel.run.click()
        wait(lambda: not panel.epi.task and "map" in panel.epi.scene.layers)
        viewer.dims.set_current_step(0, 5)
        settle()
        assert viewer.window._qt_window.grab().save(str(folder / "epi_dock.png"))
        panel.controller.session.shutdown()
        viewer.close()


if __name__ == "__main__":
    main()
