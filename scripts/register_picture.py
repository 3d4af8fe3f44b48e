r"""Draws docs/images/register.png: the Register dock of a napari window in the middle of a run.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/register_picture.py
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1400, 900)
MOMENT = re.compile(r"affine: level 1 .*step [3-9]\d ")
"""What the status says when the picture is taken; it is read a few times a second."""


def wait(until, seconds: float = 120) -> None:
    """Let the window work until `until()`; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the window did not come that far")
        QApplication.processEvents()
        time.sleep(0.01)


def settle(seconds: float = 1.0) -> None:
    """Let the window work for a while: what changed last is laid out and painted."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


@contextmanager
def running() -> Iterator[tuple[napari.Viewer, Any]]:
    """A shown window and its dock, in which the sample pair has just begun to be registered."""
    with tempfile.TemporaryDirectory() as folder:
        get_settings(str(Path(folder) / "napari.yaml"))  # never the settings of who runs this
        os.environ["FIREANTS_USER_FOLDER"] = folder
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
        panel.tour.end()
        panel.inputs.open_sample.click()
        panel.store.load_preset("brain-mri-fast")
        panel.start()
        yield viewer, panel
        panel.session.stop()
        panel.session.shutdown()
        viewer.close()


def main(path: Path = ROOT / "docs" / "images" / "register.png") -> None:
    with running() as (viewer, panel):
        status = panel.status.text
        wait(lambda: MOMENT.search(status()) is not None)
        assert viewer.window._qt_window.grab().save(str(path))
        print(path, panel.kernels.text(), status().replace("\n", "; "), sep=": ")


if __name__ == "__main__":
    main()
