r"""Draws docs/images/views.png: the composed views of a finished run.

Run from the repository on a screen of its own; a folder as argument gets the whole windows:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/views_picture.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import napari
import numpy as np
from register_picture import ROOT, running, wait

from napari_fireants._session import State
from napari_fireants._views import View

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN = [view for view in View if view.composed]


def canvas(viewer: napari.Viewer) -> np.ndarray:
    """What the canvas shows, cut to the square in its middle."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def main(path: Path = ROOT / "docs" / "images" / "views.png") -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    pictures = {}
    with running() as (viewer, panel):
        wait(lambda: panel.session.state is State.FINISHED, 600)
        panel.controller.open_inspect()
        _, dock = viewer.window.add_plugin_dock_widget("napari-fireants", "Inspect")
        looking = panel.controller.looking
        for view in SHOWN:
            dock.chooser.buttons[view].click()
            wait(lambda: looking.busy)
            wait(lambda: not looking.busy)
            viewer.reset_view()
            pictures[view] = canvas(viewer)
            if folder is not None:
                viewer.window._qt_window.grab().save(str(folder / f"{view.name.lower()}.png"))
    figure, axes = plt.subplots(3, 3, figsize=(9, 9.6))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (view, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(view.value, fontsize=11)
    figure.tight_layout(pad=1.0, h_pad=1.2)
    figure.savefig(path, dpi=68, pil_kwargs={"optimize": True})
    print(path)


if __name__ == "__main__":
    main()
