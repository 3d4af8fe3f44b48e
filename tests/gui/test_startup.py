"""What opening the dock costs, and that the manifest holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OPEN_DOCK = """
import sys
from napari.qt import get_qapp
import napari
viewer = napari.Viewer(show=False)
dock, panel = viewer.window.add_plugin_dock_widget('napari-fireants', 'Register')
panel.advanced_section.show_content()
panel.store.load_preset('microscopy')
panel.gallery.click()
viewer.window.add_plugin_dock_widget('napari-fireants', 'Batch')
get_qapp().processEvents()
print('panel', type(panel).__name__, 'torch' in sys.modules)
viewer.close()
"""


@pytest.mark.gui
def test_an_open_dock_has_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", OPEN_DOCK], capture_output=True, text=True)
    assert "panel RegisterPanel False" in done.stdout, done.stdout + done.stderr


def test_the_manifest_is_valid(repo_root: Path) -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(repo_root / "napari_fireants" / "napari.yaml")
    manifest.validate_imports()
    assert {w.display_name for w in manifest.contributions.widgets} >= {"Register", "Inspect", "Batch"}
    assert [m.command for m in manifest.contributions.menus["napari/layers/register"]] == [
        "napari-fireants.register"
    ]


@pytest.mark.parametrize("key", ["brain_pair", "phantom_2d", "phantom_3d"])
def test_samples_can_be_registered(key: str) -> None:
    from napari.layers import Layer

    from napari_fireants import _samples
    from napari_fireants._layers import snapshot

    layers: list[Any] = [Layer.create(*data) for data in getattr(_samples, key)()]
    assert len([x for x in layers if hasattr(x, "contrast_limits")]) == 2
    for layer in layers:
        assert snapshot(layer).notes == ()


def test_the_demo_without_a_display(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from fireants_engine.cli import main as cli
    from napari_fireants import demo

    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    calls: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda words: calls.append(words) or 0)
    assert demo.main() == 0
    assert calls[0][3:] == ["-o", "demo-output", "--preset", "brain-mri-fast"]
    assert "report.html" in capsys.readouterr().out
