r"""Draws docs/images/history.png: the History dock after three runs, and two of them compared.

Run from the repository on a screen of its own; a folder as argument gets the whole windows, in
both themes:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/history_picture.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import napari
from napari.settings import get_settings
from register_picture import ROOT, settle, wait

from napari_fireants._controller import PLUGIN, controller_of
from napari_fireants._session import State

SIZE = (1280, 800)


def one_run(panel, **values) -> None:
    """Register with values changed in the present recipe, and wait until the run is kept."""
    panel.store.edit(panel.store.recipe.with_values(values))
    panel.start()
    wait(lambda: panel.session.state is State.FINISHED, 600)
    panel.controller.keeper.behind.wait()


def main(path: Path = ROOT / "docs" / "images" / "history.png") -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FIREANTS_USER_FOLDER"] = scratch
        get_settings(str(Path(scratch) / "napari.yaml"))
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Register")
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "History", tabify=True)

        def grab(name: str) -> None:
            settle(0.5)
            if folder is not None:
                viewer.window._qt_window.grab().save(str(folder / f"{name}.png"))

        dock.parent().show()
        dock.parent().raise_()
        grab("empty")
        panel.inputs.open_sample.click()
        panel.store.load_preset("brain-mri-fast")
        one_run(panel, **{"stages.2.pyramid.levels.1.max_steps": 5})
        one_run(panel, **{"stages.2.pyramid.levels.1.max_steps": 25})
        one_run(panel, **{"stages.2.descent.step": 0.6, "stages.2.terms.0.radius_vox": 3})
        grab("three")
        dock.runs.setFocus()
        for row in (0, 2):
            dock.runs.item(row).setSelected(True)
        dock.compare.click()
        panel.controller.keeper.behind.wait()
        viewer.reset_view()
        grab("compared")
        assert viewer.window._qt_window.grab().save(str(path))
        viewer.theme = "light"
        grab("light")
        panel.session.shutdown()
        controller_of(viewer).keeper.close()
        viewer.close()
    print(path)


if __name__ == "__main__":
    main()
