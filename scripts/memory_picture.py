r"""Draws docs/images/memory.png: the line on memory, and the same where the run does not fit.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" .venv/bin/python scripts/memory_picture.py
"""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import matplotlib as mpl
import napari
from qtpy.QtCore import QRect
from qtpy.QtWidgets import QApplication
from register_picture import ROOT, wait

from napari_fireants.panels._inputs import SAMPLE

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOM = {"It fits": 22_000_000_000, "It does not": 900_000_000}


def main(path: Path = ROOT / "docs" / "images" / "memory.png") -> None:
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1280, 800)
    viewer.open_sample("napari-fireants", SAMPLE)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for axis, (title, free) in zip(axes, ROOM.items(), strict=True):
        with patch("fireants_engine.workflows.forecast.free_memory", lambda device, n=free: n):
            panel.memory.told = None
            panel.memory.refresh()
            wait(lambda: panel.memory.told is not None)
            QApplication.processEvents()
        top = panel.memory.mapTo(panel, panel.memory.rect().topLeft()).y()
        whole = panel.grab(QRect(0, top - 110, panel.width(), 230)).toImage()
        file = path.with_suffix(".part.png")
        whole.save(str(file))
        axis.imshow(plt.imread(file))
        file.unlink()
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    viewer.close()
    figure.tight_layout(pad=1.0)
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
    print(path)


if __name__ == "__main__":
    main()
