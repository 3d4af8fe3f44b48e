r"""Draws docs/images/landmarks.png: landmarks of the sample pair in the middle of a run.

The moving places are those of a registration, to a whole mm, but for the last, which is set wrong
on purpose. Run from the repository on a screen of its own; a folder as argument gets further
moments, in the theme named after it:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/landmarks_picture.py [FOLDER [light]]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from napari.settings import get_settings
from register_picture import ROOT, running, wait

from napari_fireants._session import State

PLACES = {
    "genu": ((0, -27, 8), (-1, -28, 9)),
    "splenium": ((0, 38, 14), (0, 32, 20)),
    "pons": ((0, 24, -30), (0, 21, -30)),
    "atrium left": ((27, 42, 12), (27, 41, 14)),
    "atrium right": ((-27, 42, 12), (-27, 39, 14)),
    "horn left": ((17, -26, 16), (26, -22, 18)),
}
"""Name -> fixed and moving place, LPS mm."""


def main(path: Path = ROOT / "docs" / "images" / "landmarks.png") -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with running() as (viewer, panel):
        if len(sys.argv) > 2:
            get_settings().appearance.theme = sys.argv[2]
        window = viewer.window
        dock, marks = window.add_plugin_dock_widget("napari-fireants", "Landmarks", tabify=True)
        dock.raise_()

        def grab(where: Path) -> None:
            until = time.monotonic() + 1.0
            wait(lambda: time.monotonic() > until)
            assert window._qt_window.grab().save(str(where))
            print(where, marks.numbers.text().replace("\n", "; "), sep=": ")

        for name, places in PLACES.items():
            marks.table.add(*places, name=name)
        wait(lambda: "greedy: level 2" in panel.status.text(), 900)
        marks.table.select([])
        viewer.dims.set_point(0, 16.0)
        live = panel.controller.scene.live
        wait(lambda: np.ptp(live.data[88]) > 0, 120)
        grab(path)
        if folder is None:
            return
        wait(lambda: panel.session.state is State.FINISHED, 900)
        wait(lambda: marks.table.distances("after"), 60)
        grab(folder / "after.png")
        marks.pick.click()
        grab(folder / "pick_fixed.png")
        marks.pick.click()
        marks.fit.show_button.click()
        wait(lambda: marks.marking.trial is not None, 60)
        grab(folder / "fit.png")
        marks.fit.use.click()
        marks.pull.use.click()
        grab(folder / "pull.png")


if __name__ == "__main__":
    main()
