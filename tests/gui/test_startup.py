"""What opening the dock costs, and that the manifest holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OPEN_DOCKS = """
import sys, time
from napari.qt import get_qapp
import napari
viewer = napari.Viewer(show=False)
for _ in range(10):
    get_qapp().processEvents()
for name in sys.argv[1:]:
    began = time.process_time()
    dock, panel = viewer.window.add_plugin_dock_widget('napari-fireants', name)
    get_qapp().processEvents()
    took = 1000 * (time.process_time() - began)
    if name == 'Register':
        panel.advanced_section.show_content()
        panel.store.load_preset('microscopy')
        get_qapp().processEvents()
    print('panel', type(panel).__name__, 'torch' in sys.modules, round(took))
viewer.close()
"""
OPEN_MS = 1200
"""Four times what is promised, in time of the processor, since other programs may be at work;
benchmarks/endurance.py measures the promise."""


@pytest.mark.gui
def test_docks_open_at_once_and_without_torch() -> None:
    """The first bears most of the imports."""
    names = ["Register", "Inspect", "Landmarks", "History", "Batch", "EPI correction", "Histology"]
    command = [sys.executable, "-c", OPEN_DOCKS, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("panel ")]
    panels = [f"{name.split()[0].capitalize()}Panel" for name in names]
    assert [line[0] for line in lines] == panels, done.stderr
    assert {line[1] for line in lines} == {"False"}, lines
    assert max(int(line[2]) for line in lines) < OPEN_MS, lines


def test_the_manifest_is_valid(repo_root: Path) -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(repo_root / "napari_fireants" / "napari.yaml")
    manifest.validate_imports()
    assert {w.display_name for w in manifest.contributions.widgets} >= {
        "Register",
        "Inspect",
        "Batch",
        "EPI correction",
        "Histology",
    }
    assert [m.command for m in manifest.contributions.menus["napari/layers/register"]] == [
        "napari-fireants.register"
    ]


@pytest.mark.parametrize(
    "key", ["brain_pair", "epi_pair", "phantom_2d", "phantom_3d", "section_and_brain"]
)
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
