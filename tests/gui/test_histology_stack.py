"""The Histology dock with a whole stack: fitted together, stopped, exported, kept in sessions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.errors import StoppedError
from fireants_engine.recipe import Recipe
from fireants_engine.workflows import slices, stack
from napari_fireants._histo_pose import Pose, errors_um
from tests.gui.test_histology_dock import VOXEL, brain, done, ended, slide, truth

DISTANCE = 4.0
EMPTY, RUINED, SKIPPED = 2, 4, 5
PLACES = np.array([[22.0, 24.0], [36.0, 33.0], [30.0, 40.0]])


def pose_of(number: int) -> Pose:
    """How section `number` was cut: parallel to `truth`, `DISTANCE` mm from the one before."""
    pose = truth()
    matrix = pose.matrix.copy()
    matrix[:3, 3] += (number - 3) * DISTANCE * pose.normal
    return Pose(matrix, pose.middle_mm)


def slides() -> np.ndarray:
    """Seven sections: one slide is empty, one is ruined."""
    out = np.stack([slide(pose=pose_of(k)) for k in range(7)])
    out[EMPTY] = 240
    rng, shape = np.random.default_rng(0), out[RUINED].shape
    out[RUINED] = np.where(
        rng.uniform(size=(*shape[:2], 1)) < 0.6, rng.integers(60, 200, shape), 240
    )
    return out


asked: list[int] = []


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps, and places a little off the truth that are not searched for."""
    data = stack.stack_recipe().to_dict()
    for stage in data["stages"]:
        stage["pyramid"]["levels"] = [{"shrink": 2, "max_steps": 8}]
    monkeypatch.setattr(stack, "stack_recipe", lambda: Recipe.from_dict(data, "quick"))
    monkeypatch.setattr("fireants_engine.workflows.rundir._html", lambda *_: "<html></html>")

    def search(sheet: Any, *_: Any, control: Any = None, on_progress: Any = None, **__: Any) -> Any:
        number = int(re.findall(r"\d+", sheet.image.name)[-1])
        asked.append(number)
        on_progress(0.5)
        affine = slices.Affine(pose_of(number).shifted(1.0, 0.5).turned(2.0).matrix)
        middle = slices.middle_of(sheet)
        return (slices.Candidate(affine, slices.plane_of(affine, middle), 0.5),)

    asked.clear()
    monkeypatch.setattr(slices, "search", search)
    monkeypatch.setattr(slices, "compared", lambda _s, _v, found, *_: found)


@pytest.fixture
def panel(make_napari_viewer: Any) -> Iterator[Any]:
    viewer = make_napari_viewer()
    _, made = viewer.window.add_plugin_dock_widget("napari-fireants", "Histology")
    viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3, units=("mm",) * 3)
    yield made
    made.controller.session.shutdown()


@pytest.fixture
def loaded(panel: Any, near: None) -> Any:
    """A stack that says its distance; a section is skipped."""
    scale = (DISTANCE, 1.0, 1.0)
    panel.viewer.add_image(slides(), name="stack", scale=scale, units=("mm",) * 3, rgb=True)
    panel.stack.list.setCurrentRow(SKIPPED)
    panel.stack.judge["skipped"].click()
    panel.stack.list.setCurrentRow(0)
    return panel


def texts(panel: Any) -> list[str]:
    return [panel.stack.list.item(k).text() for k in range(panel.stack.list.count())]


# ------------------------------------------------------------------ fitted
@pytest.mark.gui
def test_a_stack_is_fitted_as_one_step(loaded: Any, qtbot: Any, tmp_path: Path) -> None:
    histo, whole = loaded.histo, loaded.stack.whole
    assert whole.distance.value() == 4000
    assert not whole.export.isEnabled()
    done(loaded, qtbot, loaded.run)
    placed = histo.section.pose
    assert asked == [0]
    loaded.stack.judge["accepted"].click()
    done(loaded, qtbot, whole.fit)
    assert asked == [0, 1, 3, 4, 6]  # the first had a place
    words = loaded.message.text()
    assert words.startswith("5 of 7 sections are fitted. stack [2] is empty and counts as missing.")
    assert "stack [4] fits far worse than the others; look at it, and skip it if it is" in words
    _check_each(loaded)
    for _ in range(2):
        histo.undo.undo()
    assert histo.undo.undo_name == "Fit the stack"
    histo.undo.undo()
    assert histo.section.pose is placed
    assert [one.pose is None for one in histo.sections] == [False] + 6 * [True]
    assert histo.sections[RUINED].state == ""
    histo.undo.redo()
    assert histo.sections[RUINED].state == "flagged"
    assert histo.section.as_refined
    _check_folder(loaded, qtbot, tmp_path / "out")


def _check_each(loaded: Any) -> None:
    """The list tells each; walking through it shows each on its plane as it was fitted."""
    histo, shown = loaded.histo, texts(loaded)
    assert re.fullmatch(r"✓  stack \[0\], fitted, \d+\.\d mm, score \d\.\d\d", shown[0])
    assert shown[EMPTY] == "   stack [2]"
    assert shown[SKIPPED] == "–  stack [5]"
    assert shown[RUINED].startswith("!  stack [4], fitted")
    assert "fits far worse" in loaded.stack.list.item(RUINED).toolTip()
    assert "mutual information" in loaded.stack.list.item(0).toolTip()
    heights = []
    for number in (0, 3, 6):
        loaded.stack.list.setCurrentRow(number)
        histo.scene.settle()
        section = histo.section
        heights.append(section.pose.position_mm)
        assert loaded.plane.fitted.isChecked()
        assert np.array_equal(histo.scene.layers["plane"].data, section.refined.picture)
        assert errors_um(pose_of(number)(PLACES), section.pose(PLACES)).max() < 2500
    steps = np.abs(np.diff(heights))
    assert steps == pytest.approx(3 * DISTANCE / np.cos(np.radians(7)), rel=0.1)
    loaded.plane.fitted.click()
    assert np.allclose(histo.section.pose.matrix, histo.section.refined.started.matrix)
    loaded.plane.fitted.click()
    loaded.stack.list.setCurrentRow(0)
    histo.scene.settle()


def _check_folder(loaded: Any, qtbot: Any, folder: Path) -> None:
    histo = loaded.histo
    histo.pairs.click("section", PLACES[0])
    histo.pairs.click("plane", PLACES[0])
    qtbot.waitUntil(lambda: histo.pairs.errors_um is not None, timeout=10_000)
    assert histo.pairs.errors_um == pytest.approx([0], abs=20)
    assert not loaded.plane.export.isEnabled()
    assert "Export the stack" in loaded.plane.export.toolTip()
    loaded.plane.export_in(folder)
    assert "Export the stack" in loaded.message.text()
    loaded.stack.whole.export_in(folder)
    ended(loaded, qtbot)
    assert loaded.message.tone == "good", loaded.message.text()
    files = {file.name for file in folder.iterdir()}
    assert {"sections.json", "section-001.mat", "section-001-mri_on_section.tif", "report.json",
            "section-001-landmarks.csv", "section-007-mri_on_section.tif"} <= files  # fmt: skip
    assert not any(name.startswith(("section-003", "section-006")) for name in files)
    told = json.loads((folder / "sections.json").read_text())["sections"]
    assert [one and one["flagged"] for one in told] == [
        False, False, None, False, True, None, False,
    ]  # fmt: skip


@pytest.mark.gui
def test_the_distance_is_never_guessed(panel: Any, near: None, qtbot: Any) -> None:
    """Of 2D images nobody says it; it is typed."""
    for number in (0, 1, 3):
        panel.viewer.add_image(
            slide(pose=pose_of(number)), name=f"slide {number}", scale=(1.0, 1.0),
            units=("mm",) * 2, rgb=True,
        )  # fmt: skip
    whole = panel.stack.whole
    assert whole.distance.text() == "?"
    assert "Type how far one section is from the next" in whole.why.text()
    assert not whole.fit.isEnabled()
    whole.distance.setValue(4000.0)
    assert whole.why.isHidden()
    panel.stack.judge["skipped"].click()
    done(panel, qtbot, whole.fit)
    assert [one.refined is not None for one in panel.histo.sections] == [False, True, True]
    panel.stack.list.setCurrentRow(1)
    panel.stack.judge["skipped"].click()
    assert "at least two sections that are not skipped" in whole.why.text()


# ------------------------------------------------------------------ stopped
@pytest.mark.gui
def test_a_search_ends_at_once(panel: Any, qtbot: Any) -> None:
    """The true search; again where others are at work on the machine."""
    panel.viewer.add_image(slide(), name="slide", scale=(1.0,) * 2, units=("mm",) * 2, rgb=True)
    done(panel, qtbot, panel.hand)
    pose, took = panel.histo.section.pose, [np.inf]
    while min(took) > 0.5 and len(took) < 4:
        panel.run.click()
        qtbot.waitUntil(
            lambda: panel.bar.maximum() == 1000 and panel.bar.value() > 150, timeout=20_000
        )
        assert panel.status.text() == "Searching all planes"
        began = time.perf_counter()
        panel.stop.click()
        qtbot.waitUntil(lambda: not panel.histo.work.task, timeout=20_000)
        took.append(time.perf_counter() - began)
        assert panel.message.text() == "Stopped; nothing was changed."
    assert min(took) < 0.5
    assert panel.histo.section.pose is pose


@pytest.mark.gui
def test_what_was_found_before_a_stop_is_kept(
    loaded: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    histo, search = loaded.histo, slices.search

    def stopping(sheet: Any, *given: Any, **how: Any) -> Any:
        if sheet.image.name.endswith("[3]"):
            histo.work.stop()
            raise StoppedError("stopped")
        return search(sheet, *given, **how)

    monkeypatch.setattr(slices, "search", stopping)
    done(loaded, qtbot, loaded.stack.whole.fit)
    assert "Stopped; the planes of 2 sections were found and are kept." in loaded.message.text()
    assert [one.pose is not None for one in histo.sections] == [True, True] + 5 * [False]
    assert not histo.section.as_refined
    histo.undo.undo()
    assert histo.section.pose is None


@pytest.mark.gui
def test_a_fit_that_is_stopped_keeps_its_best_state(
    loaded: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    align = stack.align_stack

    def stopping(*given: Any, on_event: Any, **how: Any) -> Any:
        def told(event: Any) -> None:
            on_event(event)
            if type(event).__name__ == "Iteration":
                loaded.histo.work.stop()

        return align(*given, on_event=told, **how)

    monkeypatch.setattr(stack, "align_stack", stopping)
    done(loaded, qtbot, loaded.stack.whole.fit)
    assert loaded.message.text().startswith("Stopped early: this is the best state by then. 5 of 7")
    assert loaded.histo.section.refined.stopped
    assert "<b>Stopped early</b>" in loaded.plane.numbers.text()


# ------------------------------------------------------------------ kept in sessions
def saved(controller: Any, folder: Path) -> Path:
    written: list[Path] = []
    controller.keeper.save(folder, written.append)
    controller.keeper.behind.wait()
    return written[0]


def opened(controller: Any, folder: Path) -> list[str]:
    said: list[str] = []
    controller.keeper.said.connect(lambda text, _: said.append(text))
    controller.keeper.open(folder, lambda *_: None, lambda _: True)
    controller.keeper.behind.wait()
    return said


@pytest.fixture
def controllers(qapp: Any) -> Iterator[list[Any]]:
    """Of viewers without a window."""
    from napari.components import ViewerModel

    from napari_fireants._controller import Controller

    made = [Controller(ViewerModel()) for _ in range(3)]
    yield made
    for controller in made:
        controller.session.shutdown()
        controller.keeper.close()


@pytest.mark.gui
def test_sections_are_kept_in_a_session(
    panel: Any, near: None, controllers: list[Any], qtbot: Any, tmp_path: Path
) -> None:
    """Saved from one window, opened in another, with the dock."""
    poses = _fill(controllers[0])
    folder = saved(controllers[0], tmp_path / "mine")
    state = json.loads((folder / "session.json").read_text())
    names = [layer["state"]["name"] for layer in state["layers"]]
    assert names == ["MRI", "stack"]  # not what only shows a section
    assert all(layer["state"]["visible"] for layer in state["layers"])
    (note,) = opened(panel.controller, folder)
    assert note.startswith("4 sections in the Histology dock had been fitted")
    assert panel.message.text() == note
    histo, whole = panel.histo, panel.stack.whole
    assert not histo.work.task
    assert all(one.found is None for one in histo.sections)  # nothing was read
    assert (panel.pixel.value(), whole.distance.value()) == (1000.5, 4001.0)
    assert (panel.planes.currentText(), panel.tilt.value()) == ("coronal", 9.0)
    assert (panel.volume.layer().name, histo.section.name) == ("MRI", "stack [1]")
    shown = texts(panel)
    assert re.fullmatch(r"   stack \[0\], to be fitted again, \d+\.\d mm", shown[0])
    assert re.fullmatch(r"   stack \[1\], placed, \d+\.\d mm", shown[1])
    assert (shown[SKIPPED], shown[RUINED][0]) == ("–  stack [5]", "!")
    _check_it_goes_on(panel, qtbot, poses)


def _fill(controller: Any) -> dict[int, Pose]:
    """A fitted stack, one of it as it was placed, with a pair and a half; the poses."""
    viewer, histo = controller.viewer, controller.histo
    look = {"units": ("mm",) * 3}
    histo.choose_volume(viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3, **look))
    histo.choose_section(viewer.add_image(slides(), name="stack", rgb=True, **look), 1)
    histo.set_pixel_um(histo.layer, 1000.5)
    histo.whole.set_distance_um(4001.0)
    histo.set_options(plane="coronal", tilt_deg=9.0)
    histo.sections[SKIPPED].state = "skipped"
    histo.whole.fit()
    controller.session.wait(60)
    histo.scene.settle()
    histo.show_refined(False)
    for side, place in (("section", 0), ("plane", 1), ("section", 2)):
        histo.pairs.click(side, PLACES[place])
    return {k: one.pose for k, one in enumerate(histo.sections) if one.pose is not None}


def _check_it_goes_on(panel: Any, qtbot: Any, poses: dict[int, Pose]) -> None:
    """The plane is shown again, with its landmarks; a fit begins where each section lay."""
    histo = panel.histo
    assert panel.hand.text() == "Show the kept plane"
    done(panel, qtbot, panel.hand)
    assert np.allclose(histo.section.pose.matrix, poses[1].matrix)
    assert panel.hand.text() == "Place by hand"
    (pair, waiting) = histo.section.pairs
    assert np.array_equal(pair[0], PLACES[0])
    assert np.allclose(pair[1], poses[1](PLACES[1:2])[0])
    assert waiting[1] is None
    assert len(histo.scene.layers["marks"].data) == 2
    asked.clear()
    done(panel, qtbot, panel.stack.whole.fit)
    assert asked == [RUINED]  # what is flagged is searched for again
    for k in (0, 3, 6):
        assert np.allclose(histo.sections[k].refined.started.matrix, poses[k].matrix)


def test_a_lost_layer_and_an_old_session(controllers: list[Any], tmp_path: Path) -> None:
    made = controllers
    viewer, histo = made[0].viewer, made[0].histo
    viewer.add_image(brain(), name="MRI", scale=(VOXEL,) * 3)
    for name in ("a", "b"):
        viewer.add_image(np.zeros((4, 5, 3), np.uint8) + len(viewer.layers), name=name, rgb=True)
    histo.choose_volume(viewer.layers["MRI"])
    histo.choose_section(viewer.layers["a"])
    assert not made[0].keeper.worth
    histo.judge("accepted")
    assert made[0].keeper.worth
    histo.section_of(viewer.layers["b"], None).state = "flagged"
    folder = saved(made[0], tmp_path / "mine")
    path = folder / "session.json"
    state = json.loads(path.read_text())
    (folder / "objects" / state["layers"][1]["arrays"]["data"]["object"]).unlink()
    said = opened(made[1], folder)
    assert "What was found of a is left out, as the layer is." in said
    assert [one.state for one in made[1].histo.known] == ["flagged"]
    del state["histology"]
    path.write_text(json.dumps({**state, "version": 1}))
    opened(made[2], folder)
    assert "b" in made[2].viewer.layers
    assert "histo" not in vars(made[2])
