r"""Draws docs/images/keyboard.png: the list of keys.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/keyboard_picture.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import napari
from napari.settings import get_settings
from register_picture import ROOT, settle, wait

from napari_fireants._controller import controller_of
from napari_fireants._shortcuts import dock_of
from napari_fireants.panels._cheatsheet import show_sheet


def main(path: Path = ROOT / "docs" / "images" / "keyboard.png") -> None:
    with tempfile.TemporaryDirectory() as folder:
        get_settings(str(Path(folder) / "napari.yaml"))  # never the settings of who runs this
        viewer = napari.Viewer(show=True)
        panel = dock_of(controller_of(viewer), "Register")
        sheet = show_sheet(panel.controller, panel)
        assert sheet is not None
        wait(sheet.isVisible)
        settle()
        assert sheet.grab().save(str(path))
        sheet.close()
        panel.session.shutdown()
        viewer.close()


if __name__ == "__main__":
    main()
