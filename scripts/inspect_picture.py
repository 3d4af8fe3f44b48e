r"""Draws docs/images/inspect.png, the Inspect dock of a finished run, and figure.png, its figure.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/inspect_picture.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from register_picture import ROOT, running, wait

from napari_fireants._session import State
from napari_fireants._views import View

VIEWS = (View.BEFORE_AFTER, View.OVERLAY, View.EDGES, View.GRID, View.ARROWS, View.JACOBIAN)


def main(folder: Path = ROOT / "docs" / "images") -> None:
    with running() as (viewer, panel):
        controller, looking = panel.controller, panel.controller.looking
        wait(lambda: panel.session.state is State.FINISHED, 600)
        controller.open_inspect()
        _, dock = viewer.window.add_plugin_dock_widget("napari-fireants", "Inspect")
        dock.chooser.buttons[View.ARROWS].click()
        dock.chooser.longer.setValue(2)
        dock.sections["Three planes, one cursor"].show_content()
        wait(lambda: looking.busy)
        wait(lambda: not looking.busy)
        dock.ortho.move((100, 90, 120))
        viewer.reset_view()
        wait(lambda: not looking.busy)
        viewer.screenshot(flash=False)  # everything is drawn
        assert viewer.window._qt_window.grab().save(str(folder / "inspect.png"))
        written: list[Path] = []
        controller.save_figure(folder / "figure.png", VIEWS, written.append)
        wait(lambda: bool(written), 120)
    picture = Image.open(folder / "figure.png").convert("RGB")
    picture = picture.resize((1000, round(1000 * picture.height / picture.width)))
    picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    picture.save(folder / "figure.png", optimize=True)
    print(folder / "inspect.png", written[0])


if __name__ == "__main__":
    main()
