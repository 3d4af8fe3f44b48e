r"""Draws docs/images/steer.png: a paused run whose moving image is moved by hand.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" .venv/bin/python scripts/steer_picture.py
"""

from __future__ import annotations

from pathlib import Path

from register_picture import ROOT, running, settle, wait

from napari_fireants._nudge import shift, turn


def main(path: Path = ROOT / "docs" / "images" / "steer.png") -> None:
    with running() as (viewer, panel):
        status, steer = panel.status.text, panel.steer
        wait(lambda: "greedy: level 1" in status())
        panel.pause.click()
        panel.steer_section.show_content()
        wait(lambda: steer.hand.isEnabled())
        steer.hand.click()
        hand = panel.controller.steering.hand
        hand.move(shift([12.0, -6.0, 0.0]) @ turn((0, 1), 8, hand.centre_mm))
        seen: list[str] = []
        panel.session.edited.connect(seen.append)
        wait(lambda: seen)
        wait(lambda: not panel.controller.steering.ignoring.layers["fixed"], 1)
        settle()
        panel.scroll.ensureWidgetVisible(panel.steer)
        settle()
        assert viewer.window._qt_window.grab().save(str(path))
        print(path, status(), steer.changes.text())


if __name__ == "__main__":
    main()
