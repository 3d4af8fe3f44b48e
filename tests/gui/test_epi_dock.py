"""The EPI correction dock: open, correct, check the signs, look, apply to a series, save."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from qtpy.QtWidgets import QApplication

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid
from fireants_engine.io.images import load_image, save_image
from fireants_engine.recipe import Recipe
from fireants_engine.workflows import epi as workflow
from napari_fireants._epi_look import MAPS, map_limits
from tests.engine.workflows.epi_phantom import READOUT, field_hz, truth, volume
from tests.gui.window import pump

pytestmark = pytest.mark.gui
TURN = np.array([[0, 1, 0], [0, 0, 1], [-1, 0, 0]], float)
"""i of the file runs to the feet, j to the left, k to the back: shown in another order."""
GRID = Grid((32, 40, 10), (2.0, 2.0, 3.0), (10.0, -20.0, 30.0), TURN)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: Any) -> None:
    """Fewer steps, and reports without pictures."""
    made = workflow.epi_recipe

    def quick(*args: Any, **more: Any) -> Recipe:
        data = made(*args, **more).to_dict()
        for level in data["stages"][0]["pyramid"]["levels"]:
            level["max_steps"] = min(8, level["max_steps"])
        return Recipe.from_dict(data, "quick")

    monkeypatch.setattr(workflow, "epi_recipe", quick)
    monkeypatch.setattr("fireants_engine.workflows.epi_check.epi_recipe", quick)
    monkeypatch.setattr("fireants_engine.workflows.epi_report.page", lambda *_: "<html></html>")
    monkeypatch.setattr("fireants_engine.workflows.epi_report.pictures", lambda *_: {})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Up, down and a series of two volumes as up, with sidecars."""
    out = []
    for direction in ("j", "j-"):
        one = volume(truth(), field_hz(), direction, grid=GRID)
        path = tmp_path / f"sub-1_dir-{'up' if direction == 'j' else 'down'}_epi.nii.gz"
        save_image(one.image, path)
        out.append(path)
        _sidecar(path, direction)
    up = sitk.ReadImage(str(out[0]), sitk.sitkFloat32)
    series = tmp_path / "sub-1_bold.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([up, up * 2]), str(series))
    _sidecar(series, "j")
    return [*out, series]


def _sidecar(path: Path, direction: str, readout_s: float = READOUT) -> None:
    text = {"PhaseEncodingDirection": direction, "TotalReadoutTime": readout_s}
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(text))


@pytest.fixture
def panel(make_napari_viewer: Any) -> Iterator[Any]:
    viewer = make_napari_viewer()
    _, made = viewer.window.add_plugin_dock_widget("napari-fireants", "EPI correction")
    yield made
    made.controller.session.shutdown()


@pytest.fixture
def loaded(panel: Any, files: list[Path], qtbot: Any) -> Any:
    for path in files[:2]:
        panel.viewer.open(str(path), plugin="napari-fireants")
    qtbot.waitUntil(lambda: _known(panel, "up", "down"), timeout=20_000)
    return panel


def _known(panel: Any, *names: str) -> bool:
    return all(panel.epi.sides[name].known for name in names)


def done(panel: Any, qtbot: Any, button: Any) -> None:
    """Press, and wait until the work and what it changes in the window are done."""
    assert button.isEnabled(), button.toolTip()
    button.click()
    assert panel.epi.task
    qtbot.waitUntil(lambda: not panel.epi.task, timeout=120_000)
    panel.epi.scene._begun()


@pytest.fixture
def corrected(loaded: Any, qtbot: Any) -> Any:
    done(loaded, qtbot, loaded.run)
    assert loaded.epi.found is not None, loaded.message.text()
    return loaded


def names(panel: Any) -> list[str]:
    return [layer.name for layer in panel.viewer.layers]


# ------------------------------------------------------------------ what is given
def test_nothing_yet_says_what_to_do(panel: Any) -> None:
    assert "Open two EPI images" in panel.hint.text()
    assert not panel.run.isEnabled()
    assert panel.run.toolTip() == "Choose two EPI images first."
    assert panel.result.isHidden()


def test_sidecars_fill_in_what_they_know(loaded: Any) -> None:
    assert (loaded.up.direction.currentText(), loaded.up.readout.value()) == ("j", READOUT)
    assert loaded.down.direction.currentText() == "j-"
    assert loaded.up.words.text() == "R → L, from its sidecar"
    assert loaded.hint.isHidden()
    assert loaded.run.isEnabled()
    loaded.swap.click()
    assert loaded.up.direction.currentText() == "j-"
    assert loaded.up.layers.layer().name.startswith("sub-1_dir-down")


def test_what_is_typed_counts(loaded: Any, tmp_path: Path) -> None:
    loaded.down.direction.setCurrentText("j")
    assert not loaded.run.isEnabled()
    assert "Both have the phase encoding j" in loaded.status.text()
    loaded.down.direction.setCurrentText("k")
    assert "different axes" in loaded.status.text()
    loaded.mixed.setChecked(True)
    assert loaded.run.isEnabled()
    loaded.down.readout.setValue(0.0)
    assert "type its seconds" in loaded.status.text()
    loaded.down.direction.setCurrentText("?")
    assert "is never guessed" in loaded.status.text()
    rows_of_acqparams(loaded, tmp_path)
    none_stays_none(loaded)


def rows_of_acqparams(loaded: Any, tmp_path: Path) -> None:
    path = tmp_path / "acq.txt"
    path.write_text("0 -1 0 .04\n0 1 0 .03\n")
    loaded.epi.read_acqparams(path)
    assert (loaded.up.direction.currentText(), loaded.up.readout.value()) == ("j-", 0.04)
    assert (loaded.down.direction.currentText(), loaded.down.readout.value()) == ("j", 0.03)
    path.write_text("0 1 0 .05\n")
    with pytest.raises(InputError, match="has one row"):
        loaded.epi.read_acqparams(path)


def test_arrows_point_where_the_directions_point(loaded: Any) -> None:
    layers = {layer.name: layer for layer in loaded.viewer.layers}
    for name, direction, sign in (("up", "j", 1), ("down", "j-", -1)):
        arrow = layers[f"{name}: phase encoding {direction}"]
        start, way = arrow.data[0]
        # j of the file runs to the left, which is x of the canvas
        np.testing.assert_array_equal(np.sign(way), [0, 0, sign])
        first = loaded.viewer.dims.point[0]
        assert arrow.data_to_world(start)[0] == pytest.approx(first, abs=2.0)
    step = loaded.viewer.dims.current_step[0]
    loaded.viewer.dims.set_current_step(0, step + 3)
    assert abs(arrow.data[0][0][0] - start[0]) == 3
    loaded.viewer.dims.order = (2, 0, 1)  # along the arrow
    assert len(arrow.data) == 0
    loaded.arrows.setChecked(False)
    assert not arrow.visible


def test_layers_that_go_take_their_side_with_them(loaded: Any) -> None:
    loaded.viewer.layers.remove(loaded.epi.sides["down"].layer)
    assert loaded.epi.sides["down"].layer is None
    assert not loaded.run.isEnabled()
    assert not loaded.down.direction.isEnabled()


# ------------------------------------------------------------------ directions
def test_a_check_praises_or_suggests(loaded: Any, qtbot: Any) -> None:
    done(loaded, qtbot, loaded.check)
    assert "The images fit j and j-" in loaded.verdict.message.text()
    assert loaded.verdict.use.isHidden()
    loaded.up.direction.setCurrentText("i")
    loaded.down.direction.setCurrentText("i-")
    assert loaded.verdict.message.isHidden()  # what was checked is no longer given
    done(loaded, qtbot, loaded.check)
    assert "agree better with j and j-" in loaded.verdict.message.text()
    assert "correlation" in loaded.verdict.message.toolTip()
    loaded.verdict.use.click()
    assert loaded.up.direction.currentText() == "j"
    assert loaded.down.direction.currentText() == "j-"


# ------------------------------------------------------------------ the correction


def test_four_panes_and_what_is_in_them(corrected: Any, files: list[Path]) -> None:
    what_is_found_is_that_of_the_files(corrected, files)
    viewer, scene = corrected.viewer, corrected.epi.scene
    assert names(corrected)[2:] == [
        "Corrected, under the map",
        "Field (Hz)",
        "Mean of both, corrected",
        "lost",
        "Down, corrected",
        "down: phase encoding j-",
        "Up, corrected",
        "up: phase encoding j",
    ]
    grid = viewer.canvas.grid
    panes = [
        sorted(viewer.layers[k].name for k in inside if viewer.layers[k].visible)
        for _, inside in grid.iter_viewboxes(viewer.layers)
    ]
    panes = [pane for pane in panes if pane]
    assert panes == [
        ["Up, corrected", "up: phase encoding j"],
        ["Down, corrected", "down: phase encoding j-"],
        ["Mean of both, corrected"],
        ["Corrected, under the map", "Field (Hz)"],
    ]
    viewer.add_image(np.zeros((4, 5, 6), np.float32), name="other")
    QApplication.processEvents()
    assert names(corrected)[2] == "other"  # below ours, in a pane of its own
    assert np.prod(grid.shape) >= 5
    viewer.layers.remove("other")
    QApplication.processEvents()
    up, base = scene.layers["up"], corrected.epi.sides["up"].layer
    for corner in (np.zeros(3), np.array(base.data.shape)):
        np.testing.assert_allclose(up.data_to_world(corner), base.data_to_world(corner))
    corrected.result.beside.setChecked(False)
    assert not grid.enabled
    visible = [layer.name for layer in viewer.layers if layer.visible]
    assert visible == ["Field (Hz)", "Mean of both, corrected"]


def what_is_found_is_that_of_the_files(corrected: Any, files: list[Path]) -> None:
    text = corrected.result.numbers.text()
    assert "Correlation inside the object: 0." in text
    assert "Folded voxels: 0" in text
    report = corrected.epi.found.report["agreement"]
    assert report["after"]["correlation"] > report["before"]["correlation"] + 0.1
    encodings = [Encoding.parse(one, READOUT) for one in ("j", "j-")]
    volumes = [workflow.Volume(load_image(p), e) for p, e in zip(files[:2], encodings, strict=True)]
    known = workflow.correct(volumes)
    found = corrected.epi.found.correction.distortion
    assert found.grid.same_space(known.distortion.grid)
    np.testing.assert_allclose(found.field_hz, known.distortion.field_hz, atol=1e-3)
    field = corrected.epi.scene.layers["map"]
    filed = corrected.epi.sides["up"].axes.stored(np.asarray(field.data))
    np.testing.assert_allclose(filed, known.distortion.field_hz[0, 0], atol=1e-3)


def maps(corrected: Any) -> None:
    layer = corrected.epi.scene.layers["map"]
    for each in MAPS:
        corrected.result.map.setCurrentText(each.title)
        assert (layer.name, layer.visible) == (each.title, True)
        low, high = layer.contrast_limits
        assert (low + high) / 2 == pytest.approx(each.centre, abs=1e-3)
        assert layer.colorbar.visible
    corrected.result.map.setCurrentText("none")
    assert not layer.visible
    corrected.result.lost.setChecked(True)
    assert corrected.epi.scene.layers["lost"].visible
    corrected.result.lost.setChecked(False)
    assert not corrected.epi.scene.layers["lost"].visible


def test_map_limits_lie_around_the_centre() -> None:
    data = np.concatenate([np.full(98, 1.0), np.full(2, 9.0)])
    assert map_limits(data, 1.0) == (-7.0, 9.0)
    assert map_limits(np.zeros(5), 0.0) == (-1.0, 1.0)


def flicker_and_hold(corrected: Any) -> None:
    scene, result = corrected.epi.scene, corrected.result
    up, mean = scene.layers["up"], scene.layers["corrected"]
    after = up.data
    result.flick["before"].setChecked(True)
    assert up.name == "Up, as recorded"
    assert up.data is scene.pictures["up before"]
    result.flick["pair"].setChecked(True)
    assert not result.flick["before"].isChecked()
    assert mean.data is scene.pictures["up after"]
    result._flick()
    assert mean.data is scene.pictures["down after"]
    result.flick["pair"].setChecked(False)
    assert up.data is after
    assert mean.name == "Mean of both, corrected"
    hold = corrected.controller.viewer.keymap
    press = next(f for f in hold.values() if getattr(f, "shortcut", None) is not None
                 and f.shortcut.keys == ("Q",))  # fmt: skip
    holding = press(corrected.viewer)
    next(holding)
    assert up.name == "Up, as recorded"
    assert list(holding) == []
    assert up.name == "Up, corrected"


def other_images_of_the_pair(corrected: Any, qtbot: Any) -> None:
    mean = corrected.epi.scene.layers["corrected"]
    first = mean.data
    corrected.result.image.setCurrentIndex(2)
    qtbot.waitUntil(lambda: mean.data is not first, timeout=30_000)
    assert corrected.epi.combine == "least-squares"
    corrected.result.image.setCurrentIndex(0)
    qtbot.waitUntil(lambda: np.allclose(mean.data, first, atol=1e-4), timeout=30_000)


def test_ways_to_look(corrected: Any, qtbot: Any) -> None:
    maps(corrected)
    flicker_and_hold(corrected)
    other_images_of_the_pair(corrected, qtbot)


def test_live_pictures_are_of_the_plane_on_the_canvas(loaded: Any, qtbot: Any) -> None:
    seen: list[Any] = []
    scene, show = loaded.epi.scene, loaded.epi.scene.show
    scene.show = lambda key, pictures: (seen.append((key, pictures)), show(key, pictures))
    loaded.viewer.dims.set_current_step(0, 12)
    assert scene.key is None
    done(loaded, qtbot, loaded.run)
    layer, shape = scene.layers["up"], loaded.epi.sides["up"].layer.data.shape
    assert scene.key is not None
    assert scene.key[0] == 0
    place = np.zeros(3)
    place[0] = scene.key[1]
    assert layer.data_to_world(place)[0] == pytest.approx(loaded.viewer.dims.point[0])
    for key, pictures in seen:  # a quick run on a busy machine may have none
        assert key == scene.key
        assert {picture.shape for picture in pictures.values()} == {shape[1:]}


def broken(*_: object) -> None:
    raise InputError("It broke.")


def test_again_replaces_and_a_failure_keeps_the_last(
    corrected: Any, qtbot: Any, monkeypatch: Any
) -> None:
    before, first = names(corrected), corrected.epi.found
    done(corrected, qtbot, corrected.run)
    assert corrected.epi.found is not first
    assert names(corrected) == before
    kept, pictures = corrected.epi.found, corrected.epi.scene.pictures
    monkeypatch.setattr(workflow, "check_volumes", broken)
    done(corrected, qtbot, corrected.run)
    assert corrected.message.text() == "It broke."
    assert corrected.epi.found is kept
    assert corrected.epi.scene.pictures is pictures
    assert corrected.epi.scene.layers["up"].data is pictures["up after"]


def test_a_failure_without_a_result_leaves_the_layers_as_they_were(
    loaded: Any, qtbot: Any, monkeypatch: Any
) -> None:
    layer = loaded.epi.sides["down"].layer
    monkeypatch.setattr(workflow, "check_volumes", broken)
    done(loaded, qtbot, loaded.run)
    assert loaded.message.text() == "It broke."
    assert not loaded.viewer.canvas.grid.enabled
    assert loaded.epi.sides["up"].layer.visible
    assert layer.visible
    assert loaded.result.isHidden()


def test_images_that_cannot_be_corrected_together(loaded: Any) -> None:
    layer, before = loaded.epi.sides["down"].layer, names(loaded)
    layer.data = layer.data[:-1]
    for button in (loaded.run, loaded.check):
        button.click()
        assert not loaded.epi.task
        assert "lies on another grid" in loaded.message.text()
    assert names(loaded) == before
    flat = loaded.viewer.add_image(np.zeros((40, 32), np.float32), name="flat")
    loaded.up.layers.choose(flat)
    loaded.up.direction.setCurrentText("k")
    loaded.up.readout.setValue(READOUT)
    assert "does not fit a 2D image" in loaded.status.text()
    loaded.up.direction.setCurrentText("j")
    loaded.run.click()
    assert "lies on another grid" in loaded.message.text()


def test_stop_keeps_the_best_state(loaded: Any, qtbot: Any, monkeypatch: Any) -> None:
    monkeypatch.undo()  # all steps, so that there is time
    loaded.run.click()
    qtbot.waitUntil(lambda: "Level" in loaded.status.text(), timeout=60_000)
    loaded.stop.click()
    qtbot.waitUntil(lambda: not loaded.epi.task, timeout=60_000)
    found = loaded.epi.found
    assert found is None or found.stopped or found.correction.result is not None
    if found is not None and found.stopped:
        assert "Stopped early" in loaded.result.numbers.text()


# ------------------------------------------------------------------ series, field maps, files
def test_a_series_is_checked_and_corrected(corrected: Any, files: list[Path], qtbot: Any) -> None:
    corrected.viewer.open(str(files[2]), plugin="napari-fireants")
    series = corrected.result.series
    qtbot.waitUntil(lambda: _known(corrected, "series"), timeout=20_000)
    assert series.side.layers.layer().ndim == 4
    assert series.side.words.text() == "R → L, from its sidecar"
    series.side.direction.setCurrentText("j-")
    done(corrected, qtbot, series.check)
    assert "agree better with j " in series.verdict.message.text()
    series.verdict.use.click()
    assert series.side.direction.currentText() == "j"
    done(corrected, qtbot, series.apply)
    assert "All 2 volumes are corrected: the layer sub-1_bold" in corrected.message.text()
    assert not corrected.epi.sides["series"].layer.visible
    made = next(
        layer for layer in corrected.viewer.layers if layer.name.endswith("bold, corrected")
    )
    up = corrected.epi.scene.pictures["up after"]
    np.testing.assert_allclose(made.data[0], up, atol=1e-3)
    np.testing.assert_allclose(made.data[1], 2 * up, atol=1e-3)


def test_a_field_map_corrects_one_image_and_decides_its_sign(
    corrected: Any, files: list[Path], tmp_path: Path, qtbot: Any
) -> None:
    field = corrected.epi.found.correction.distortion
    image = replace(corrected.epi.found.correction.volumes[0].image, data=field.field_hz[0])
    save_image(image, tmp_path / "fieldmap.nii.gz")
    up = corrected.epi.scene.pictures["up after"]
    corrected.viewer.open(str(tmp_path / "fieldmap.nii.gz"), plugin="napari-fireants")
    combo = corrected.optional["field_map"]
    combo.setCurrentText("fieldmap")
    assert corrected.epi.options.field_map is not None
    corrected.up.direction.setCurrentText("j-")
    corrected.down.direction.setCurrentText("j")
    done(corrected, qtbot, corrected.check)
    assert "agree better with j and j-" in corrected.verdict.message.text()
    corrected.verdict.use.click()
    corrected.down.layers.setCurrentIndex(0)
    done(corrected, qtbot, corrected.run)
    assert corrected.epi.found.correction.result is None, corrected.message.text()
    np.testing.assert_allclose(corrected.epi.scene.pictures["up after"], up, atol=1e-3)
    assert not corrected.epi.scene.layers["down"].visible


def test_save_writes_what_the_command_line_writes(
    corrected: Any, files: list[Path], tmp_path: Path, qtbot: Any
) -> None:
    out = tmp_path / "out"
    corrected.result.save_in(out)
    qtbot.waitUntil(lambda: not corrected.epi.task, timeout=60_000)
    assert f"Saved in {out}" in corrected.message.text()
    assert {"corrected.nii.gz", "field_hz.nii.gz", "warp_up.nii.gz", "report.json"} <= {
        path.name for path in out.iterdir()
    }
    saved = load_image(out / "corrected.nii.gz")
    assert saved.grid.same_space(load_image(files[0]).grid)
    corrected.result.save_in(files[0])
    qtbot.waitUntil(lambda: not corrected.epi.task, timeout=60_000)
    assert corrected.message.tone == "error"


def test_a_busy_window_is_said(loaded: Any, qtbot: Any) -> None:
    session = loaded.controller.session
    import threading

    hold = threading.Event()
    assert session.submit(hold.wait, lambda _: None, "Something is at work")
    assert not loaded.run.isEnabled()
    assert "Something is at work" in loaded.run.toolTip()
    hold.set()
    qtbot.waitUntil(lambda: not session.busy, timeout=10_000)
    assert loaded.run.isEnabled()


def test_the_sample_pair_opens_with_its_directions(panel: Any, qtbot: Any) -> None:
    panel.viewer.open_sample("napari-fireants", "epi_pair")
    qtbot.waitUntil(lambda: _known(panel, "up", "down"), timeout=20_000)
    assert panel.run.isEnabled()


# ------------------------------------------------------------------ what stays, what goes
def test_a_dock_that_is_opened_again_shows_what_there_is(
    corrected: Any, make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = corrected.controller.viewer
    corrected.swap.click()
    corrected.motion.setChecked(True)
    corrected.result.map.setCurrentIndex(0)
    corrected.result.image.setCurrentIndex(1)
    corrected.up.readout.setValue(0.04)
    viewer.window.remove_dock_widget(corrected)
    corrected.close()
    corrected.deleteLater()
    pump()
    _, again = viewer.window.add_plugin_dock_widget("napari-fireants", "EPI correction")
    assert again is not corrected
    assert again.up.layers.layer().name.startswith("sub-1_dir-down")
    assert (again.up.direction.currentText(), again.up.readout.value()) == ("j-", 0.04)
    assert again.motion.isChecked()
    assert again.result.map.currentIndex() == 0
    assert again.result.image.currentIndex() == 1
    assert not again.result.isHidden()
    qtbot.waitUntil(lambda: not again.epi._composing.busy, timeout=20_000)


def none_stays_none(loaded: Any) -> None:
    loaded.down.layers.setCurrentIndex(0)
    loaded.down.layers.activated.emit(0)
    loaded.viewer.add_image(np.zeros((10, 40, 32), np.float32), name="another")
    assert loaded.epi.sides["down"].layer is None


def a_registration_gets_the_canvas(corrected: Any) -> None:
    viewer = corrected.controller.viewer
    _, register = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    combo = register.inputs.fixed
    offered = [combo.itemText(k) for k in range(combo.count())]
    assert "Mean of both, corrected" in offered
    assert not {"lost", "Field (Hz)", "Corrected, under the map"} & set(offered)
    corrected.epi.make_room()
    assert not viewer.canvas.grid.enabled
    assert not corrected.epi.scene.seen
    assert corrected.epi.sides["up"].layer.visible
    corrected.result.beside.setChecked(False)
    corrected.result.beside.setChecked(True)
    assert viewer.canvas.grid.enabled
    assert corrected.epi.scene.seen
    assert not corrected.epi.sides["up"].layer.visible


def test_ours_may_be_deleted_and_put_away(corrected: Any, qtbot: Any) -> None:
    viewer, scene = corrected.viewer, corrected.epi.scene
    a_registration_gets_the_canvas(corrected)
    corrected.result.away.click()
    assert not scene.seen
    assert corrected.epi.sides["up"].layer.visible
    corrected.result.beside.setChecked(False)
    corrected.result.beside.setChecked(True)
    assert scene.seen
    for name in ("corrected", "down", "map"):
        viewer.layers.remove(scene.layers[name])
    qtbot.waitUntil(lambda: not viewer.canvas.grid.enabled, timeout=5_000)
    assert corrected.epi.sides["up"].layer.visible
    for way in (True, False):
        scene.flick(way)
        scene.show_map("field")
        scene.beside_each_other(way)
    done(corrected, qtbot, corrected.run)
    assert scene.seen


def test_sides_that_are_swapped_while_they_are_read(
    panel: Any, files: list[Path], qtbot: Any, monkeypatch: Any
) -> None:
    import time

    from napari_fireants import _epi

    read = _epi.read_side
    monkeypatch.setattr(_epi, "read_side", lambda *args: (time.sleep(0.3), read(*args))[1])
    for path in files[:2]:
        panel.viewer.open(str(path), plugin="napari-fireants")
    panel.swap.click()
    qtbot.waitUntil(lambda: _known(panel, "up", "down"), timeout=20_000)
    assert panel.up.direction.currentText() == "j-"


def test_files_that_store_one_grid_in_other_orders(
    panel: Any, files: list[Path], tmp_path: Path, qtbot: Any
) -> None:
    image = sitk.ReadImage(str(files[1]), sitk.sitkFloat32)
    turned = sitk.Flip(sitk.PermuteAxes(image, [1, 0, 2]), [True, False, False])
    other = tmp_path / "turned_epi.nii.gz"
    sitk.WriteImage(turned, str(other))
    _sidecar(other, "i")  # j- of the first file, turned
    for path in (files[0], other):
        panel.viewer.open(str(path), plugin="napari-fireants")
    qtbot.waitUntil(lambda: _known(panel, "up", "down"), timeout=20_000)
    assert panel.up.words.text().startswith("R → L")
    assert panel.down.words.text().startswith("L → R")
    assert panel.run.isEnabled(), panel.status.text()
    panel.up.direction.setCurrentText("i")
    panel.down.direction.setCurrentText("j")
    done(panel, qtbot, panel.check)
    panel.verdict.use.click()  # told in the axes of each file
    assert panel.up.direction.currentText() == "j"
    assert panel.down.direction.currentText() == "i"
    done(panel, qtbot, panel.run)
    found = panel.epi.found
    assert found is not None, panel.message.text()
    assert [one.encoding.direction for one in found.correction.volumes] == ["j", "j-"]
    assert found.report["agreement"]["after"]["correlation"] > 0.9
