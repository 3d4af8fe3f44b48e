"""The Histology dock with two sections: matched, moved, refined, the grid, flicker, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.recipe import Recipe
from fireants_engine.workflows import sections
from napari_fireants._histo_job import lattice
from napari_fireants._histo_link import Other, Prepared
from napari_fireants._histo_pose import FlatPose, flat_pose
from tests.engine.workflows import section_phantom as phantom
from tests.gui.test_histology_dock import done, ended
from tests.gui.test_shortcuts import press
from tests.gui.window import pump

PIXELS, UM = phantom.SIDE, 500.0
MAP = phantom.turned(25.0, mirrored=True)
"""Pixels of the section -> pixels of the other one."""


def truth() -> FlatPose:
    """The same in mm."""
    matrix = MAP.matrix.copy()
    matrix[:2, 2] *= UM / 1000
    middle = np.full(2, (PIXELS - 1) / 2 * UM / 1000)
    return flat_pose(matrix, np.array([*middle, 0.0]))


def picture(**how: Any) -> np.ndarray:
    return np.moveaxis(phantom.section(**how).data.numpy(), 0, -1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: Any) -> None:
    """Few steps, and a report without pictures."""
    data = sections.sections_recipe().to_dict()
    for stage in data["stages"]:
        stage["pyramid"]["levels"] = [{**stage["pyramid"]["levels"][0], "max_steps": 25}]
    monkeypatch.setattr(sections, "sections_recipe", lambda: Recipe.from_dict(data, "quick"))
    monkeypatch.setattr("fireants_engine.workflows.rundir._html", lambda *_: "<html></html>")
    picture = "fireants_engine.workflows.sections_folder"
    monkeypatch.setattr(f"{picture}.candidate_picture", lambda *_: b"")
    monkeypatch.setattr(f"{picture}.tissue_picture", lambda *_: b"")


@pytest.fixture
def panel(make_napari_viewer: Any) -> Iterator[Any]:
    viewer = make_napari_viewer()
    _, made = viewer.window.add_plugin_dock_widget("napari-fireants", "Histology")
    yield made
    made.controller.session.shutdown()


def load(panel: Any, **look: Any) -> None:
    for name, data in (("HE", picture()), ("PAS", picture(affine=MAP, colour=phantom.BROWN))):
        panel.viewer.add_image(data, name=name, rgb=True, **look)
    panel.section.choose(panel.viewer.layers["HE"])
    panel.volume.choose(panel.viewer.layers["PAS"])


SIZED = {"scale": (UM, UM), "units": ("um", "um")}


# ------------------------------------------------------------------ numbers
def test_a_flat_pose_tells_how_the_other_section_lies() -> None:
    pose = truth()
    assert pose.mirrored
    assert pose.turn_deg == pytest.approx(25.0, abs=0.1)
    assert pose.words == ("turned 25°", "mirrored")
    assert pose.zoom == pytest.approx(1.0, abs=0.01)
    flipped = pose.flipped()
    assert isinstance(flipped, FlatPose)
    assert not flipped.mirrored
    assert np.allclose(flipped(pose.middle_mm[None, :2])[:, 2], 0)
    assert np.allclose(pose.through(3.0).matrix, pose.matrix)
    assert np.isclose(pose.scaled(2).zoom, 2 * pose.zoom)
    turned = flat_pose(np.diag([-1.0, -1.0, 1.0]), pose.middle_mm)
    assert turned.words[0] == "turned 180°"


def test_a_cut_of_the_other_section_keeps_its_colours() -> None:
    data = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    made = Other(None, data, np.eye(4), (9.0, 8.0, 7.0))
    prepared = Prepared(
        None, made, data, np.ones((9, 7), bool), 1, np.zeros(2), np.ones(2), np.zeros(3), (1, 1)
    )
    still, moved = flat_pose(np.eye(3), np.zeros(3)), np.eye(3)
    moved[0, 2] = 2.0
    assert np.array_equal(prepared.cut(still), data)
    assert np.array_equal(prepared.through(prepared.places_mm), data)
    shifted = prepared.cut(flat_pose(moved, np.zeros(3)))
    assert np.array_equal(shifted[:, :5], data[:, 2:])
    assert np.array_equal(shifted[0, 6], (9, 8, 7))
    assert np.array_equal(prepared.blank[0, 0], (9, 8, 7))


def test_the_grid_is_straight_where_nothing_is_bent() -> None:
    rows, columns = np.indices((21, 31)).astype(float)
    places = np.stack([columns, rows], -1) + 0.25
    lines = lattice(places, np.ones(2))
    assert len(lines) == 19 + 13  # cells of 1.55 mm
    assert np.allclose(np.abs(lines[:, 1]).min(1), 0)
    bent = lattice(places + 0.4 * np.sin(rows / 3)[..., None] * [1.0, 0.0], np.ones(2))
    assert len(bent) > 2 * len(lines)


# ------------------------------------------------------------------ in the window
@pytest.mark.gui
def test_two_sections_are_matched_moved_fitted_and_exported(
    panel: Any, qtbot: Any, tmp_path: Path
) -> None:
    load(panel, **SIZED)
    assert panel.run.text() == "Match the sections"
    assert not panel._form.isRowVisible(panel._cut)
    done(panel, qtbot, panel.run)
    histo, scene = panel.histo, panel.histo.scene
    assert panel.candidates.cards.item(0).text().startswith("Turned 2")
    assert "mirrored" in panel.candidates.cards.item(0).text()
    assert not panel.plane.hand.numbers.isVisibleTo(panel)
    assert scene.layers["plane"].rgb
    assert scene.layers["plane"].name == "The other section"
    found = histo.section.pose
    places = np.array([[30.0, 32.0], [48.0, 42.0], [40.0, 50.0]])
    assert np.linalg.norm(found(places) - truth()(places), axis=1).max() < 2.0
    panel.plane.hand.move_it.click()
    for key in ("Right", "R", "F", "PageUp"):
        press(panel.viewer, key)
    assert histo.section.pose.mirrored != found.mirrored
    panel.plane.hand.move_it.click()
    panel.plane.hand.reset.click()
    assert np.allclose(histo.section.pose.matrix, found.matrix)
    regions = np.zeros((PIXELS, PIXELS), np.uint8)
    regions[60:100, 50:110] = 3
    labels = panel.viewer.add_labels(regions, name="regions", **SIZED)
    panel.labels.choose(labels)
    done(panel, qtbot, panel.plane.refine)
    assert "Deformed on the slide by" in panel.plane.numbers.text()
    _check_look(panel)
    histo.section.pairs = [(place, truth()(place[None])[0]) for place in places]
    histo.pairs.measure()
    qtbot.waitUntil(lambda: histo.pairs.errors_um is not None, timeout=10_000)
    assert histo.pairs.errors_um.max() < 1000
    panel.plane.export_in(tmp_path / "out")
    ended(panel, qtbot)
    assert panel.message.tone == "good", panel.message.text()
    _check_files(tmp_path / "out")


def _check_look(panel: Any) -> None:
    scene, look = panel.histo.scene, panel.plane.look
    assert set(np.unique(scene.layers["regions"].data)) == {0, 3}
    assert "lines" not in scene.layers
    look.lines.click()
    assert scene.layers["lines"].visible
    assert np.allclose(scene.layers["lines"].translate, scene.layers["plane"].translate)
    panel.plane.fitted.click()
    assert not scene.layers["lines"].visible
    panel.plane.fitted.click()
    assert scene.layers["lines"].visible
    look.lines.click()
    assert not scene.layers["lines"].visible
    scene.hold(True)
    assert not scene.layers["plane"].visible
    assert np.allclose(scene.layers["section"].translate, scene.layers["plane"].translate)
    scene.hold(False)
    assert scene.layers["plane"].visible
    assert np.allclose(scene.layers["section"].translate, 0)


def _check_files(folder: Path) -> None:
    from fireants_engine.io.images import load_image

    moved = load_image(folder / "warped.tif")
    assert moved.channels == 3
    assert moved.grid.size == (PIXELS, PIXELS)
    candidates = json.loads((folder / "candidates.json").read_text())
    assert candidates["candidates"][0]["mirrored"]
    assert candidates["margin"] is None  # of a start that was given no score is known
    feature = json.loads((folder / "regions_on_section.geojson").read_text())["features"][0]
    assert feature["properties"]["label"] == 3
    rows = (folder / "landmarks.csv").read_text().splitlines()
    assert rows[0].endswith("other_x_mm,other_y_mm,distance_um")
    assert float(rows[1].split(",")[0]) == pytest.approx(60.0)


@pytest.mark.gui
def test_sizes_of_pixels_are_known_of_both_or_of_none(panel: Any, qtbot: Any) -> None:
    load(panel)
    assert panel.run.isEnabled()
    panel.pixel.setValue(UM)
    assert panel.status.text() == (
        "PAS does not say how large a pixel is, and the other section does; type it."
    )
    panel.other_pixel.setValue(UM)
    assert panel.run.isEnabled()
    panel.pixel.setValue(0.0)
    panel.other_pixel.setValue(0.0)
    done(panel, qtbot, panel.hand)
    histo = panel.histo
    assert np.allclose(histo.section.pose.matrix[:2, :2], np.eye(2), atol=0.05)
    assert histo.scene.layers["plane"].units[0] == panel.viewer.layers["HE"].units[0]
    histo.section.pairs = [(np.array([30.0, 40.0]), histo.section.pose(np.array([[33.0, 40]]))[0])]
    histo.pairs.measure()
    pump(0.05)
    assert "apart by <b>3.0 px</b>" in panel.plane.marks.words.text()
    panel.volume.choose(panel.viewer.layers["HE"])
    assert "both HE" in panel.status.text()
