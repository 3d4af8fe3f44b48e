"""Sessions: saved, reopened, moved, changed, damaged, and recovered after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from fireants_engine import Grid, Image, save_image
from fireants_engine.errors import InputError
from napari_fireants import _sessionfile as sessionfile
from napari_fireants._controller import Controller, Roles
from napari_fireants._layers import file_of
from napari_fireants._recovery import Hold, left_behind
from napari_fireants._sessionfile import FILE
from napari_fireants._viewerstate import describe, describe_view

MM = {"units": ("mm", "mm", "mm"), "axis_labels": ("z", "y", "x")}


def never(*_: Any) -> Any:
    raise AssertionError("nothing should be asked")


@pytest.fixture
def window(qapp: Any) -> Any:
    """Makes controllers of viewers without a window; they are closed in the end."""
    made: list[Controller] = []

    def make() -> Controller:
        made.append(Controller(ViewerModel()))
        return made[-1]

    yield make
    for controller in made:
        controller.session.shutdown()
        controller.keeper.close()


@pytest.fixture
def files(tmp_path: Path, pair_3d: Any) -> dict[str, Path]:
    """Fixed (another order of axes), moving and a mask as files."""
    folder = tmp_path / "data"
    folder.mkdir()
    turned = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    fixed = pair_3d[0].transpose(0, 2, 1).astype(np.int16)
    grid = Grid(fixed.shape[::-1], (1.5, 1.0, 2.0), (5.0, -3.0, 1.0), turned)
    out = {name: folder / f"{name}.nii.gz" for name in ("fixed", "moving", "mask")}
    save_image(Image.from_numpy(fixed, grid), out["fixed"])
    save_image(Image.from_numpy(pair_3d[1]), out["moving"])
    save_image(Image.from_numpy((pair_3d[1] > 20).astype(np.uint8)), out["mask"])
    return out


@pytest.fixture
def filled(window: Any, files: dict[str, Path], recipe: Callable[..., Any], pair_3d: Any) -> Any:
    """A session with two runs, a painted mask, landmarks, points, and an edited recipe."""
    from napari_fireants._readers import get_image_reader

    controller = window()
    viewer = controller.viewer
    for name, path in files.items():
        reader = get_image_reader(str(path))
        data, look, _ = reader(str(path))[0]
        if name == "mask":
            viewer.add_labels(data.astype(np.uint8), **{**_place(look), "name": "mask"})
            viewer.layers["mask"].metadata["fireants"] = {"path": str(path)}
            viewer.layers["mask"].data[3:5, 4:9, 5] = 2
        else:
            viewer.add_image(data, **{**look, "name": name, "colormap": "gray"})
    viewer.add_points([[3.0, 4, 5], [6, 7, 8]], name="places", size=[2, 3], **MM)
    odd = np.where(pair_3d[0] > 90, np.nan, pair_3d[0])
    viewer.add_image(odd, name="with NaN", visible=False, gamma=0.6, colormap="viridis", **MM)
    controller.choose_roles(Roles(viewer.layers["fixed"], viewer.layers["moving"]))
    for steps in (2, 4):
        controller.store.use(recipe(steps))
        controller.start(controller.current_roles(), "cpu")
        controller.session.wait(60)
        controller.keeper.behind.wait()
    controller.store.load_preset("rigid")
    controller.store.edit(controller.store.recipe.with_values({"stages.0.descent.step": 0.4}))
    controller.history.rename(1, "the first", "a note")
    controller.landmarks.add((4.0, 5.0, 6.0), (4.5, 5.5, 6.0), "corner")
    shift = np.eye(4)
    shift[:3, 3] = 2.5, 0.1, -4
    controller.start_from(shift, "move by hand")
    viewer.dims.set_point(0, 9.0)
    viewer.scene.camera.zoom = 3.25
    viewer.scene.camera.center = (0.0, 8.0, 9.0)
    return controller


def _place(look: dict[str, Any]) -> dict[str, Any]:
    names = ("scale", "translate", "affine", "units", "axis_labels", "rotate", "shear")
    return {name: look[name] for name in names if name in look}


def open_in(controller: Controller, folder: Path, locate: Any = never, go_on: Any = never) -> Any:
    said: list[str] = []
    controller.keeper.said.connect(lambda text, _: said.append(text))
    controller.keeper.open(folder, locate, go_on)
    controller.keeper.behind.wait()
    return said


def save_to(controller: Controller, folder: Path) -> Path:
    done: list[Path] = []
    controller.keeper.save(folder, done.append)
    controller.keeper.behind.wait()
    assert len(done) == 1, "the session was not saved"
    return done[0]


def the_same(one: Controller, two: Controller) -> None:
    """Everything that a session holds is equal in both."""
    own, others = (
        [layer for layer in each.viewer.layers if "landmark" not in layer.name]
        for each in (one, two)
    )
    assert [layer.name for layer in others] == [layer.name for layer in own]
    for layer in own:
        (state, arrays), (again, found) = describe(layer), describe(two.viewer.layers[layer.name])
        assert again == state, layer.name
        for name, array in arrays.items():
            assert np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f")
            assert np.asarray(found[name]).dtype == np.asarray(array).dtype
    assert describe_view(two.viewer) == describe_view(one.viewer)
    assert two.store.entry == one.store.entry
    assert two.landmarks.content == one.landmarks.content
    assert np.array_equal(two.initial, one.initial)
    assert two.initial_from == one.initial_from
    for a, b in zip(one.history.runs, two.history.runs, strict=True):
        for name in ("number", "time", "entry", "used", "loss", "numbers", "title", "note", "kept"):
            assert getattr(b, name) == getattr(a, name), name
        assert np.array_equal(b.thumbnail, a.thumbnail)
    assert two.history.shown == one.history.shown


# ------------------------------------------------------------------ round trip
def test_a_session_comes_back_as_it_was(filled: Any, window: Any, tmp_path: Path) -> None:
    folder = save_to(filled, tmp_path / "mine")
    assert folder == tmp_path / "mine.fireants"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine.fireants"]
    state = json.loads((folder / FILE).read_text())
    where = {layer["state"]["name"]: layer["arrays"]["data"] for layer in state["layers"]}
    assert where["fixed"]["file"]["path"].endswith("fixed.nii.gz")
    assert where["moving"]["file"]["path"].endswith("moving.nii.gz")
    assert where["mask"]["inside"] == "layers/mask.nii.gz"
    assert where["with NaN"]["object"]
    assert "fixed landmarks" not in where
    assert where["moving (registered)"]["object"] in {
        p.name for p in (folder / "objects").iterdir()
    }
    other = window()
    assert open_in(other, folder) == []
    the_same(filled, other)
    assert file_of(other.viewer.layers["fixed"]).endswith("fixed.nii.gz")
    assert other.keeper.recent[0] == folder
    points = np.array([[10.0, 11.0, 12.0]])
    results = [c.session.product.result.transform(points) for c in (filled, other)]
    assert np.array_equal(*results)
    other.history.restore(1)
    other.keeper.behind.wait()
    assert other.history.shown == 1
    assert other.viewer.layers["moving (registered)"].visible
    assert not other.viewer.layers["moving (registered) [1]"].visible
    again = save_to(other, tmp_path / "mine")
    assert again == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine.fireants"]


def test_the_past_is_run_again_after_reopening(filled: Any, window: Any, tmp_path: Path) -> None:
    folder = save_to(filled, tmp_path / "mine")
    other = window()
    open_in(other, folder)
    assert other.initial is not None
    other.keeper.recall.rerun(1)
    other.keeper.behind.wait()
    assert other.initial is None  # that run began without
    other.session.wait(60)
    other.keeper.behind.wait()
    assert [run.number for run in other.history.runs] == [1, 2, 3]
    assert other.history.changes(3) == ["rigid.pyramid.levels.0.max_steps: 4 → 2"]
    assert other.history.run(3).loss == pytest.approx(other.history.run(1).loss)
    done: list[Path] = []
    other.history.save(1, tmp_path / "run", done.append)
    other.keeper.behind.wait()
    assert done == [tmp_path / "run"]
    assert (tmp_path / "run" / "report.json").is_file()


# ------------------------------------------------------------------ files
def test_a_moved_file_is_looked_for_and_asked_for(
    filled: Any, window: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_to(filled, tmp_path / "mine")
    away = tmp_path / "elsewhere"
    away.mkdir()
    for name in ("fixed", "moving"):
        files[name].rename(away / files[name].name)
    asked: list[tuple[str, str]] = []

    def locate(path: str, role: str) -> str:
        asked.append((Path(path).name, role))
        return str(away / "fixed.nii.gz")

    other = window()
    assert open_in(other, folder, locate) == []
    assert asked == [("fixed.nii.gz", "fixed")]  # the other lies beside it
    assert np.array_equal(other.viewer.layers["moving"].data, filled.viewer.layers["moving"].data)
    third = window()
    said = open_in(third, folder, lambda *_: None)
    assert [text.split(":")[0] for text in said] == [
        "Layer fixed is left out",
        "Layer moving is left out",
    ]
    assert "mask" in third.viewer.layers
    assert third.history.shown == 2
    moved = tmp_path / "all"
    moved.mkdir()
    folder.rename(moved / folder.name)
    away.rename(moved / "data")
    assert open_in(window(), moved / folder.name) == []  # session and data went together


def test_a_changed_file_is_told_before_anything_happens(
    filled: Any, window: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_to(filled, tmp_path / "mine")
    data = filled.viewer.layers["moving"].data
    save_image(Image.from_numpy(np.asarray(data) + 1), files["moving"])
    asked: list[str] = []
    other = window()
    other.viewer.add_image(np.zeros((4, 4)), name="mine")
    said = open_in(other, folder, never, lambda text: bool(asked.append(text)))
    assert said == ["The session was not opened."]
    assert "moving.nii.gz has changed since the session was saved" in asked[0]
    assert [layer.name for layer in other.viewer.layers] == ["mine"]
    open_in(other, folder, never, lambda _: True)
    assert np.array_equal(other.viewer.layers["moving"].data, np.asarray(data) + 1)


# ------------------------------------------------------------------ damage
def broken(folder: Path, **values: Any) -> Path:
    """A session.json with other values."""
    path = folder / FILE
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, **values}))
    return folder


@pytest.fixture
def plain(window: Any, tmp_path: Path) -> Path:
    """A saved session of one layer."""
    controller = window()
    controller.viewer.add_image(np.arange(20.0).reshape(4, 5), name="one")
    return save_to(controller, tmp_path / "plain.fireants")


def test_what_is_no_session_is_said_in_one_sentence(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no session"):
        sessionfile.read(tmp_path)
    with pytest.raises(InputError, match=r"newer napari-fireants \(session version 7, this one"):
        sessionfile.read(broken(plain, version=7))
    with pytest.raises(InputError, match="damaged or of another program"):
        sessionfile.read(broken(plain, version=1, colour="red"))
    (plain / FILE).write_text('{"version": 1, "lay')
    with pytest.raises(InputError, match="not JSON"):
        sessionfile.read(plain)
    (plain / FILE).write_text("[]")
    with pytest.raises(InputError, match="damaged"):
        sessionfile.read(plain)


def test_a_damaged_layer_is_left_out(plain: Path, window: Any) -> None:
    layer = next((plain / "layers").iterdir())
    save_image(Image.from_numpy(np.ones((4, 5))), layer)
    controller = window()
    said = open_in(controller, plain)
    assert "was changed since the session was saved" in said[0]
    assert len(controller.viewer.layers) == 0


def test_nothing_half_written_is_left(
    plain: Path, window: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (plain / FILE).read_text()
    controller = window()
    controller.viewer.add_image(np.zeros((4, 5)), name="another")
    said: list[str] = []
    controller.keeper.said.connect(lambda text, _: said.append(text))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sessionfile, "_swap", full)
    controller.keeper.save(plain, never)
    controller.keeper.behind.wait()
    assert "No space left on device" in said[0]
    assert (plain / FILE).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["plain.fireants"]
    monkeypatch.undo()
    (tmp_path / "work.fireants").mkdir()
    controller.keeper.save(tmp_path / "work.fireants", never)
    controller.keeper.behind.wait()
    assert "is no session; choose another name" in said[1]


# ------------------------------------------------------------------ autosave
def test_autosave_writes_what_changed_and_only_then(filled: Any, window: Any) -> None:
    keeper = filled.keeper
    assert keeper.autosave()
    keeper.behind.wait()
    objects = {path: path.stat().st_mtime_ns for path in keeper.objects.folder.iterdir()}
    assert not keeper.autosave()
    filled.viewer.scene.camera.zoom = 2.0
    assert keeper.autosave()
    keeper.behind.wait()
    assert {p: p.stat().st_mtime_ns for p in keeper.objects.folder.iterdir()} == objects
    filled.viewer.layers["mask"].paint((4, 5, 6), 3)
    assert keeper.autosave()
    keeper.behind.wait()
    after = set(keeper.objects.folder.iterdir())
    assert len(after) == len(objects)  # the old mask has gone
    assert len(after - set(objects)) == 1
    assert not window().keeper.autosave()  # nothing has happened there


def test_a_clean_exit_leaves_nothing(filled: Any) -> None:
    keeper = filled.keeper
    keeper.autosave()
    keeper.behind.wait()
    assert (keeper.hold.folder / FILE).is_file()
    assert left_behind() == []  # somebody holds it
    keeper.close()
    assert not keeper.hold.folder.exists()


def test_collecting_the_session_is_quick(filled: Any) -> None:
    from napari_fireants._draft import draft

    draft(filled, filled.keeper.watch)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        draft(filled, filled.keeper.watch)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1


CRASH = """
import sys, time, numpy as np
from qtpy.QtWidgets import QApplication
app = QApplication([])
from napari.components import ViewerModel
from napari_fireants import _keeper
_keeper.AUTOSAVE_SECONDS = 0.2
_keeper.Keeper.__init__.__defaults__ = (0.2,)
from napari_fireants._controller import Controller
controller = Controller(ViewerModel())
labels = controller.viewer.add_labels(np.zeros((6, 7, 8), np.uint8), name="mine")
controller.store.load_preset("rigid")
keeper, count = controller.keeper, 0
end = time.time() + 60
while time.time() < end:
    count += 1
    labels.paint((count % 6, 3, 4), count % 250 + 1)
    app.processEvents()
    time.sleep(0.05)
    if (keeper.hold.folder / "session.json").exists():
        print(time.time(), flush=True)
"""


def test_a_crash_loses_a_few_seconds_at_most(window: Any, user_folder: Path) -> None:
    environment = {**os.environ, "FIREANTS_USER_FOLDER": str(user_folder)}
    with subprocess.Popen(
        [sys.executable, "-c", CRASH], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        last = float((process.stdout.read().splitlines() or lines)[-1])
    controller = window()
    offered = controller.keeper.offer
    assert offered is not None
    saved = (offered / FILE).stat().st_mtime
    assert last - saved < 3.0
    said: list[str] = []
    controller.keeper.recover(never, never, lambda: said.append("done"))
    controller.keeper.behind.wait()
    assert said == ["done"]
    assert controller.store.entry.source == "rigid"
    assert controller.viewer.layers["mine"].data.any()
    controller.keeper.autosave()
    controller.keeper.behind.wait()
    assert not offered.exists()
    assert (controller.keeper.hold.folder / FILE).is_file()
    assert window().keeper.offer is None  # held by the first


def test_an_offer_is_discarded(window: Any, user_folder: Path) -> None:
    hold = Hold()
    hold.take()
    (hold.folder / FILE).write_text("{}")
    hold.release(delete=False)
    controller = window()
    assert controller.keeper.offer == hold.folder
    controller.keeper.discard()
    controller.keeper.behind.wait()
    assert controller.keeper.offer is None
    assert not hold.folder.exists()
