"""The plugin's page of napari's Preferences, and what asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest

from napari_fireants import _remember
from napari_fireants._link import Link
from napari_fireants._preferences import Preferences, preferences
from napari_fireants._remember import remember
from napari_fireants._scene import PAIRS, Scene


@pytest.fixture
def page(plugin_settings: Any, npe2pm: Any, repo_root: Path, monkeypatch: Any) -> Any:
    """The page of a napari that has this plugin and a fresh settings file."""
    from napari.settings import get_plugin_settings

    npe2pm.register(PluginManifest.from_file(repo_root / "napari_fireants" / "napari.yaml"))
    found = get_plugin_settings("napari-fireants")
    monkeypatch.setenv("NAPARI_CONFIG", str(found.config_path.parent / "napari.yaml"))
    return found


def test_the_page_begins_with_the_defaults(page: Any, qtbot: Any) -> None:
    assert preferences() == Preferences()
    schema = type(page.display).model_json_schema()["properties"]
    assert schema["colours"]["enum"] == list(PAIRS)
    assert schema["previews"]["description"].startswith("At most")
    page.computing.kernels, page.display.previews = "reference", 2
    assert preferences() == Preferences(kernels="reference", previews=2)
    assert "reference" in page.config_path.read_text()
    remember("display", "colours", "green and magenta")
    remember("display", "colours", "cyan and red")
    assert preferences().colours == "cyan and red"  # before it has been written
    qtbot.waitUntil(lambda: page.display.colours == "cyan and red")
    qtbot.waitUntil(lambda: not _remember._waiting)
    assert preferences().colours == "cyan and red"
    assert "cyan and red" in page.config_path.read_text()


@pytest.mark.parametrize("text", [None, "", "[1, 2]", "computing: {device: 3}", "a: [", "\0"])
def test_without_a_page_the_defaults_hold(tmp_path: Path, monkeypatch: Any, text: Any) -> None:
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "napari.yaml"))
    if text is not None:
        (tmp_path / "napari-fireants.yaml").write_text(text)
    assert preferences() == Preferences()


def test_kernels_of_another_device_are_left_to_auto() -> None:
    native, cuda = Preferences(kernels="native"), Preferences(kernels="cuda")
    assert [native.kernels_on(d) for d in ("cpu", "cuda:0", "mps")] == ["native", "auto", "auto"]
    assert [cuda.kernels_on(d) for d in ("cpu", "cuda:0")] == ["auto", "cuda"]
    assert Preferences(kernels="reference").kernels_on("cuda:1") == "reference"


def test_who_asks(page: Any) -> None:
    from napari.components import ViewerModel

    from napari_fireants._job import execution_on, kernels_on

    page.display.previews, page.display.colours = 0.5, "cyan and red"
    page.computing.kernels = "reference"
    pace = Link().pace
    pace.asked(now=100.0)
    assert not pace.due(now=101.9)
    assert pace.due(now=102.1)
    assert Scene(ViewerModel()).colours == ("cyan", "red")
    assert execution_on("cpu").kernels == "reference"
    assert kernels_on("cpu").why == "reference was asked for."


@pytest.mark.gui
def test_the_dock_opens_with_the_preferred_device(
    make_napari_viewer: Any, monkeypatch: Any
) -> None:
    from napari_fireants.panels import register

    monkeypatch.setattr(register, "preferences", lambda: Preferences(device="cpu"))
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    assert panel.device.currentData() == "cpu"
    panel._offer_devices({"auto": "Auto", "cuda:0": "A GPU", "cpu": "CPU"})
    assert panel.device.currentData() == "cpu"
    panel.session.shutdown()
