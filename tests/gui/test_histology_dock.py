"""The Histology dock: choose, find the plane, move it, refine, landmarks, a stack, export."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.recipe import Recipe
from fireants_engine.workflows import slices
from napari_fireants._histo_given import pixel_of, section_at
from napari_fireants._histo_pose import PLANES, SIDES, Pose, errors_um, standard_pose
from napari_fireants._histo_scene import BESIDE, OVER
from tests.gui.test_shortcuts import press
from tests.gui.window import pump

SHAPE, VOXEL = (28, 32, 30), 2.0
WHERE = np.array([30.0, 28.0, 27.0])
"""Of the plane's middle in the volume, mm."""


def brain(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A body without symmetry."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    a, b, c = ((k - n / 2) / (n / 2.3) for k, n in zip((z, y, x), shape, strict=True))
    inside = a**2 + b**2 + (1.2 * c) ** 2 < 1
    values = 90 + 50 * np.sin(4 * a + 2 * b) * np.cos(5 * c + b) + 40 * (c > 0.3 * b)
    return np.where(inside, values, 0).astype(np.float32)


def truth() -> Pose:
    """How the section below was cut: coronal, oblique, turned."""
    return standard_pose("coronal", None, WHERE, np.array([30.0, 30.0, 0.0])).with_tilts(6.0, -4.0)


def slide(pixel_mm: float = 1.0, pixels: int = 60, pose: Pose | None = None) -> np.ndarray:
    """A stained section of `brain` (as `truth` cuts it), RGB on white."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.mgrid[:pixels, :pixels] * pixel_mm
    places = (pose or truth())(np.stack([columns.ravel(), rows.ravel()], 1)) / VOXEL
    grey = map_coordinates(brain(), places[:, ::-1].T, order=1).reshape(pixels, pixels)
    dye = np.where(grey > 30, 0.2 + grey / 200, 0.0)
    light = 240 * np.exp(-dye[..., None] * np.array([0.65, 0.70, 0.29]))
    noise = np.random.default_rng(3).normal(0, 1.5, light.shape)
    return np.clip(light + noise, 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: Any) -> None:
    """Fewer steps, a report without pictures, and candidates that are not searched for."""
    data = slices.slice_recipe().to_dict()
    for stage in data["stages"]:
        stage["pyramid"]["levels"] = stage["pyramid"]["levels"][1:2]
        stage["pyramid"]["levels"][0]["max_steps"] = 6
    monkeypatch.setattr(slices, "slice_recipe", lambda: Recipe.from_dict(data, "quick"))
    monkeypatch.setattr("fireants_engine.workflows.rundir._html", lambda *_: "<html></html>")
    monkeypatch.setattr("fireants_engine.workflows.slices_folder.thumbnail", lambda *_: b"")

    def search(sheet: Any, *_: Any, control: Any, on_progress: Any, **asked: Any) -> Any:
        asked_of.update(asked)
        on_progress(0.5)
        near, middle = truth(), slices.middle_of(sheet)
        near = replace(near, middle_mm=middle)
        return tuple(
            slices.Candidate(
                slices.Affine(p.matrix), slices.plane_of(slices.Affine(p.matrix), middle), s
            )
            for p, s in ((near.shifted(1.0, 0.5), 0.5), (near.flipped(), 0.49))
        )

    def compared(_: Any, __: Any, found: Any, *___: Any) -> Any:
        return tuple(replace(one, score=np.nan_to_num(one.score, nan=0.48)) for one in found)

    asked_of.clear()
    monkeypatch.setattr(slices, "search", search)
    monkeypatch.setattr(slices, "compared", compared)


asked_of: dict[str, Any] = {}


@pytest.fixture
def panel(make_napari_viewer: Any) -> Iterator[Any]:
    viewer = make_napari_viewer()
    _, made = viewer.window.add_plugin_dock_widget("napari-fireants", "Histology")
    yield made
    made.controller.session.shutdown()


@pytest.fixture
def loaded(panel: Any) -> Any:
    viewer = panel.viewer
    viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3, units=("mm",) * 3)
    viewer.add_image(slide(), name="slide", scale=(1000.0,) * 2, units=("um",) * 2, rgb=True)
    return panel


def done(panel: Any, qtbot: Any, button: Any) -> None:
    """Press, and wait until the work and what it changes in the window are done."""
    assert button.isEnabled(), button.toolTip()
    button.click()
    ended(panel, qtbot)


def ended(panel: Any, qtbot: Any) -> None:
    assert panel.histo.work.task
    qtbot.waitUntil(lambda: not panel.histo.work.task, timeout=120_000)
    panel.histo.scene.settle()
    pump(0.05)


@pytest.fixture
def found(loaded: Any, qtbot: Any) -> Any:
    done(loaded, qtbot, loaded.run)
    assert loaded.histo.section.pose is not None, loaded.message.text()
    return loaded


# ------------------------------------------------------------------ poses
@pytest.mark.parametrize("plane", PLANES)
def test_a_standard_plane_is_seen_from_where_it_says(plane: str) -> None:
    for side in SIDES[PLANES.index(plane)]:
        pose = standard_pose(plane, side, WHERE, np.array([3.0, 4.0, 0.0]))
        engines = slices.Plane(pose.point_mm, pose.matrix[:3, :2])
        assert (pose.plane, pose.seen_from) == (plane, side) == (engines.name, engines.seen_from)
        assert np.allclose(pose.point_mm, WHERE)
        assert np.isclose(np.linalg.det(pose.matrix[:3, :3]), 1)
        assert pose.flipped().seen_from != side
    with pytest.raises(InputError, match="section is seen from"):
        standard_pose(plane, SIDES[PLANES.index(plane) - 1][0], WHERE, np.zeros(3))


def test_moves_do_what_is_seen() -> None:
    pose, place = truth(), np.array([[12.0, 20.0]])
    seen = pose(place)
    assert np.allclose(pose.shifted(3, -2).on_section(seen), place + np.array([3, -2]))
    middle = pose.middle_mm[:2]
    turned = pose.turned(90).on_section(seen)[0] - middle
    assert np.allclose(turned, [-(place[0] - middle)[1], (place[0] - middle)[0]])
    assert np.allclose(pose.scaled(2).on_section(seen) - middle, 2 * (place - middle))
    assert np.allclose(pose.flipped().on_section(seen) - middle, (place - middle) * [-1, 1])
    for move in (pose.turned(33), pose.scaled(1.3), pose.flipped()):
        assert np.allclose(move.point_mm, pose.point_mm)


def test_numbers_of_the_plane_are_those_that_were_typed() -> None:
    for plane in PLANES:
        pose = standard_pose(plane, None, WHERE, np.array([3.0, 4.0, 0.0])).turned(20)
        tilted = pose.with_tilts(12.0, -7.0)
        assert np.allclose(tilted.tilts_deg, (12, -7))
        assert np.allclose(tilted.point_mm, WHERE)
        assert tilted.seen_from == pose.seen_from
        assert np.allclose(tilted.with_tilts(0, 0).matrix, pose.matrix)
        moved = tilted.at_position(5.0)
        assert np.isclose(moved.position_mm, 5.0)
        assert np.allclose(moved.on_section(tilted.point_mm), tilted.on_section(tilted.point_mm))
    assert np.allclose(errors_um(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 3.5]])), 500)


# ------------------------------------------------------------------ what is given
def test_pixel_sizes_are_read_and_never_guessed() -> None:
    from napari.layers import Image

    flat = np.zeros((4, 5))
    for scale, unit, expected in (
        ((2.0, 3.0), "um", (3.0, 2.0)),
        ((0.5, 0.5), "mm", (500.0, 500.0)),
        ((1.0, 1.0), "pixel", None),
        ((0.02, 0.02), "pixel", (20.0, 20.0)),
    ):
        found = pixel_of(Image(flat, scale=scale, units=(unit,) * 2))
        assert found == (None if expected is None else pytest.approx(expected))
    stack = Image(np.zeros((3, 4, 5, 3), np.uint8), rgb=True, name="stack")
    one = section_at(stack, 2)
    assert (one.name, one.size, one.rgb) == ("stack [2]", (5, 4), True)


@pytest.mark.gui
def test_bad_input_is_one_sentence(panel: Any) -> None:
    assert "File > Open Sample" in panel.hint.text()
    assert "Choose a section first" in panel.run.toolTip()
    viewer = panel.viewer
    section = viewer.add_image(slide(), name="slide", rgb=True)
    assert "Choose the volume" in panel.status.text()
    colours = viewer.add_image(np.zeros((4, 6, 6, 3), np.uint8), name="colours", rgb=True)
    panel.volume.choose(colours)
    assert panel.status.text().startswith("colours: is a stack of sections; choose a grey 3D")
    panel.volume.choose(section)
    assert "both slide" in panel.status.text()
    panel.volume.choose(viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3))
    assert panel.status.text() == "slide does not say how large a pixel is; type it."
    assert panel.pixel.text() == "?"
    panel.pixel.setValue(1000.0)
    assert panel.run.isEnabled()
    assert panel.pixel.toolTip().startswith("As typed")
    panel.planes.setCurrentText("axial")
    panel.sides.setCurrentText("from left")
    assert panel.status.text() == "No axial section is seen from left; choose another side."
    assert not panel.run.isEnabled()


# ------------------------------------------------------------------ found, moved
@pytest.mark.gui
def test_candidates_are_found_and_chosen(loaded: Any, qtbot: Any, monkeypatch: Any) -> None:
    loaded.planes.setCurrentText("coronal")
    loaded.tilt.setValue(10.0)
    done(loaded, qtbot, loaded.run)
    histo, scene = loaded.histo, loaded.histo.scene
    assert asked_of == {"planes": ("coronal",), "tilt_deg": 10.0, "seen_from": None}
    assert loaded.candidates.cards.count() == 2
    assert "Coronal" in loaded.candidates.cards.item(0).text()
    assert "seen from anterior" in loaded.candidates.cards.item(0).text()
    assert scene.layers["section"].rgb
    shown = {layer.name for layer in loaded.viewer.layers if layer.visible}
    assert shown == {"slide, shown", "The volume on its plane", "Outline of the tissue"}
    plane, tissue = scene.layers["plane"].data, scene.prepared.tissue
    assert plane[tissue].mean() > 10 * plane[~tissue].mean()
    loaded.candidates.cards.setCurrentRow(1)
    assert histo.section.pose.seen_from == "posterior"
    loaded.plane.hand.undo.click()
    assert histo.section.pose.seen_from == "anterior"
    assert loaded.candidates.cards.currentRow() == 0
    loaded.plane.away.click()
    assert [x.name for x in loaded.viewer.layers if x.visible] == ["MRI", "slide"]
    loaded.plane.away.click()
    scene.settle()
    assert scene.layers["plane"].visible
    loaded.histo.make_room()
    assert not scene.on
    monkeypatch.setattr(slices, "AMBIGUOUS", 0.1)
    done(loaded, qtbot, loaded.run)
    assert loaded.histo.section.found.margin == pytest.approx(0.01)
    assert "the best scores 0.500, another place 0.490" in loaded.candidates.note.text()


@pytest.mark.gui
def test_it_is_moved_by_keys_mouse_and_numbers(found: Any) -> None:
    _by_keys(found)
    _by_mouse(found)
    _by_numbers(found)
    _views(found)


def _by_keys(found: Any) -> None:
    histo, hand = found.histo, found.plane.hand
    before = histo.section.pose
    hand.move_it.click()
    assert "arrows shift" in hand.help.text()
    assert not found.viewer.scene.camera.mouse_pan
    for key, name in (("Right", "Shift"), ("R", "Turn"), ("+", "Scale"), ("F", "Flip")):
        press(found.viewer, key)
        assert name in histo.undo.undo_name
    place = histo.section.pose.position_mm
    press(found.viewer, "PageUp")
    assert np.isclose(histo.section.pose.position_mm, place + 0.5)
    assert hand.position.value() == pytest.approx(histo.section.pose.position_mm, abs=0.06)
    for _ in range(5):
        histo.undo.undo()
    assert np.allclose(histo.section.pose.matrix, before.matrix)
    press(found.viewer, "Escape")
    assert not hand.move_it.isChecked()
    assert found.viewer.scene.camera.mouse_pan
    assert "R" not in {str(key) for key in found.viewer.keymap}


def _by_mouse(found: Any) -> None:
    histo, scene = found.histo, found.histo.scene
    found.plane.hand.move_it.click()
    start = histo.section.pose
    middle = start.middle_mm[:2]

    def drag(a: tuple[float, float], b: tuple[float, float], *keys: str) -> None:
        """From and to, in mm from the middle."""
        places = [np.array([0.0, *at(scene, middle + x)]) for x in (a, b)]
        event = SimpleNamespace(button=1, type="mouse_press", position=places[0], modifiers=keys)
        steps = histo.hand._drag(event)
        next(steps)
        event.type, event.position = "mouse_move", places[1]
        next(steps)
        event.type = "mouse_release"
        next(steps, None)

    drag((0.0, 0.0), (4.0, -2.0))
    assert np.allclose(histo.section.pose.matrix, start.shifted(4, -2).matrix, atol=1e-6)
    histo.undo.undo()
    drag((10.0, 0.0), (0.0, 10.0), "Shift")
    assert np.allclose(histo.section.pose.matrix, start.turned(90).matrix, atol=1e-6)
    histo.undo.undo()
    drag((10.0, 0.0), (12.0, 0.0), "Control")
    assert np.allclose(histo.section.pose.matrix, start.scaled(1.2).matrix, atol=1e-6)
    found.plane.hand.reset.click()
    assert np.allclose(histo.section.pose.matrix, start.matrix)
    found.plane.hand.move_it.click()


def _by_numbers(found: Any) -> None:
    histo, scene, hand = found.histo, found.histo.scene, found.plane.hand
    hand.position.setValue(26.0)
    assert histo.section.pose.position_mm == pytest.approx(26.0)
    hand.tilts[0].setValue(0.0)
    assert histo.section.pose.tilts_deg[0] == pytest.approx(0.0, abs=1e-6)
    pump(0.05)
    expected = scene.prepared.cut(histo.section.pose)
    assert np.allclose(scene.layers["plane"].data, expected)


def _views(found: Any) -> None:
    scene, look = found.histo.scene, found.plane.look
    look.view.setCurrentText(OVER)
    look.blend.setValue(30)
    assert scene.layers["plane"].opacity == pytest.approx(0.3)
    assert np.allclose(scene.layers["plane"].translate, scene.layers["section"].translate)
    look.flick.click()
    scene._flick()
    assert scene.layers["plane"].opacity in (0.0, 1.0)
    look.view.setCurrentText(BESIDE)
    assert not look.flick.isChecked()
    assert scene.layers["plane"].opacity == 1.0
    assert not np.allclose(scene.layers["plane"].translate, scene.layers["section"].translate)


def at(scene: Any, place_mm: np.ndarray) -> np.ndarray:
    """Where the plane shows a place of the section, in the viewer's world."""
    from napari_fireants._layers import world_of

    row = scene.prepared.shown_at(place_mm)[0]
    return world_of(scene.viewer, scene.layers["plane"], row)


# ------------------------------------------------------------------ fitted
@pytest.mark.gui
def test_refine_landmarks_and_export(found: Any, qtbot: Any, tmp_path: Path) -> None:
    histo, scene, plane = found.histo, found.histo.scene, found.plane
    regions = (brain() > 100).astype(np.uint8)
    labels = found.viewer.add_labels(regions, name="regions", scale=(VOXEL,) * 3, units=("mm",) * 3)
    found.labels.choose(labels)
    assert not plane.export.isEnabled()
    done(found, qtbot, plane.refine)
    assert plane.fitted.isChecked()
    assert "Deformed on the slide by" in plane.numbers.text()
    assert scene.layers["regions"].visible
    truly = truth()
    section_mm = np.array([[22.0, 24.0], [36.0, 33.0]])
    assert errors_um(truly(section_mm), histo.section.pose(section_mm)).max() < 4000
    plane.marks.pick.click()
    assert histo.hand.mode == "mark"
    for place in section_mm:
        assert "on the plane" in histo.pairs.click("section", place)
        histo.pairs.click("plane", place + 0.5)
    qtbot.waitUntil(lambda: histo.pairs.errors_um is not None, timeout=10_000)
    as_fitted = histo.pairs.errors_um.copy()
    assert np.allclose(as_fitted, 707, atol=120)
    assert "2 pairs, as fitted" in plane.marks.words.text()
    assert len(scene.layers["marks on the plane"].data) == 2
    plane.fitted.click()
    assert "2 pairs, as placed" in plane.marks.words.text()
    assert not scene.layers["regions"].visible
    assert not plane.export.isEnabled()
    plane.fitted.click()
    plane.export_in(tmp_path / "out")
    ended(found, qtbot)
    assert found.message.tone == "good", found.message.text()
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"mri_on_section.tif", "regions_on_section.geojson", "regions_on_section.png",
            "landmarks.csv", "candidates.json", "report.html", "report.json"} <= files  # fmt: skip
    _check_files(tmp_path / "out")
    histo.pairs.remove()
    assert len(histo.section.pairs) == 1


def _check_files(folder: Path) -> None:
    from fireants_engine.io.images import load_image

    mri = load_image(folder / "mri_on_section.tif")
    assert mri.grid.size == (60, 60)
    feature = json.loads((folder / "regions_on_section.geojson").read_text())["features"][0]
    assert feature["properties"]["label"] == 1
    ring = np.array(feature["geometry"]["coordinates"][0][0])
    assert np.array_equal(ring[0], ring[-1])
    assert ring.min() >= -1
    assert ring.max() <= 61
    rows = (folder / "landmarks.csv").read_text().splitlines()
    assert rows[0].startswith("section_x_px,section_y_px")
    assert len(rows) == 3
    assert float(rows[1].split(",")[0]) == 22.0
    found = json.loads((folder / "candidates.json").read_text())
    assert len(found["candidates"]) == 2


@pytest.mark.gui
def test_a_section_in_a_stack(panel: Any, qtbot: Any) -> None:
    viewer, histo = panel.viewer, panel.histo
    viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3, units=("mm",) * 3)
    stack = np.stack([slide(), slide()[::-1]])
    viewer.add_image(stack, name="stack", scale=(5.0, 1.0, 1.0), units=("mm",) * 3, rgb=True)
    assert histo.layer.name == "stack"
    assert panel.stack.list.count() == 2
    done(panel, qtbot, panel.hand)
    panel.stack.judge["accepted"].click()
    pose = histo.section.pose
    panel.stack.next.click()
    assert histo.section.name == "stack [1]"
    assert panel.plane.isHidden()
    assert not histo.scene.on
    panel.stack.judge["flagged"].click()
    texts = [panel.stack.list.item(k).text() for k in range(2)]
    assert texts == ["✓  stack [0], placed, 32.0 mm", "!  stack [1]"]
    panel.stack.list.setCurrentRow(0)
    histo.scene.settle()
    assert histo.section.pose is pose
    assert histo.scene.layers["plane"].visible
    panel.stack.judge["accepted"].click()
    assert histo.section.state == ""


@pytest.mark.gui
def test_what_is_refused_and_stopped_changes_nothing(
    loaded: Any, qtbot: Any, monkeypatch: Any
) -> None:
    _by_hand_and_a_lost_layer(loaded, qtbot)
    _stopped(loaded, qtbot, monkeypatch)
    _refused(loaded, qtbot)


def _by_hand_and_a_lost_layer(loaded: Any, qtbot: Any) -> None:
    loaded.planes.setCurrentText("axial")
    done(loaded, qtbot, loaded.hand)
    assert loaded.histo.section.pose.plane == "axial"
    assert loaded.candidates.isHidden()
    loaded.viewer.layers.remove(loaded.histo.scene.layers["plane"])
    loaded.plane.hand.flip.click()
    pump(0.05)
    loaded.histo.show()
    loaded.histo.scene.settle()
    assert loaded.histo.scene.layers["plane"] in loaded.viewer.layers


def _stopped(found: Any, qtbot: Any, monkeypatch: Any) -> None:
    histo, pose = found.histo, found.histo.section.pose
    begun: list[Any] = []
    free = threading.Event()

    def search(*_: Any, **__: Any) -> Any:
        begun.append(1)
        free.wait(10)
        return ()

    monkeypatch.setattr(slices, "search", search)
    found.run.click()
    qtbot.waitUntil(lambda: bool(begun), timeout=10_000)
    assert not found.run.isEnabled()
    assert not found.section.isEnabled()
    found.stop.click()
    free.set()
    ended(found, qtbot)
    assert found.message.text() == "Stopped; nothing was changed."
    assert histo.section.pose is pose


def _refused(loaded: Any, qtbot: Any) -> None:
    loaded.pixel.setValue(100_000.0)
    done(loaded, qtbot, loaded.run)
    assert "larger than MRI" in loaded.message.text()
    assert loaded.message.tone == "error"
    assert loaded.plane.isHidden()
    empty = np.full((60, 60, 3), 240, np.uint8)
    section = loaded.viewer.add_image(empty, name="empty", rgb=True, units=("mm",) * 2)
    loaded.section.choose(section)
    loaded.pixel.setValue(1000.0)
    done(loaded, qtbot, loaded.run)
    assert "no tissue was found" in loaded.message.text()
