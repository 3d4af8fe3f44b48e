"""Random clicks and edits in a window with every dock open; benchmarks/endurance.py does more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gui.monkey import play
from tests.gui.window import open_docks

pytestmark = pytest.mark.gui


def test_random_clicks_and_edits_do_no_harm(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer()
    panels = open_docks(viewer)
    try:
        done, found = play(viewer, panels, tmp_path, seed=2, actions=60)
    finally:
        panels["Register"].session.shutdown()
    assert not found, "\n".join(found)
    assert len(done) == 60
