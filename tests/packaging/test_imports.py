"""What importing us costs: the engine needs no window system, and the plugin no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WINDOW_SYSTEM = {"PyQt6", "PySide6", "magicgui", "napari", "napari_fireants", "qtpy", "superqt"}
LOAD_MANIFEST = (
    "from npe2 import PluginManifest; PluginManifest.from_distribution('napari-fireants')"
)
# What napari does when the plugin's widgets are docked: import what their commands name.
LOAD_WIDGETS = """
from importlib import import_module
from npe2 import PluginManifest
contributions = PluginManifest.from_distribution('napari-fireants').contributions
names = {command.id: command.python_name for command in contributions.commands}
for widget in contributions.widgets:
    module, _, attribute = names[widget.command].partition(':')
    getattr(import_module(module), attribute)
"""


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    code += "\nimport json, sys; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_engine_imports_no_window_system() -> None:
    assert loaded_after("import fireants_engine") & WINDOW_SYSTEM == set()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import napari_fireants", id="package"),
        pytest.param(LOAD_MANIFEST, id="manifest"),
        pytest.param(LOAD_WIDGETS, id="widgets"),
    ],
)
def test_plugin_imports_no_torch(code: str) -> None:
    assert "torch" not in loaded_after(code)
