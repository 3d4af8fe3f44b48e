"""Presets to choose from: what is known of them, a person's own, and the gallery."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from fireants_engine.errors import InputError, RecipeError
from fireants_engine.recipe.models import Recipe
from fireants_engine.recipe.presets import preset_names
from napari_fireants._presets import OwnPresets, packaged, picture_of, stages_line


@pytest.fixture
def own(tmp_path: Path) -> OwnPresets:
    return OwnPresets(tmp_path / "presets")


# ------------------------------------------------------------------ without a window
def test_every_packaged_preset_has_words_and_a_picture() -> None:
    presets = packaged()
    assert [preset.name for preset in presets] == preset_names()
    for preset in presets:
        assert preset.sentence
        assert preset.purpose
        assert preset.stages
        path = picture_of(preset.name)
        assert path is not None
        data = path.read_bytes()
        assert len(data) < 15_000
        assert struct.unpack(">II", data[16:24]) == (160, 120)


def test_the_stages_in_one_line() -> None:
    recipe = Recipe.preset("brain-mri-fast")
    line = "rigid (MI) → affine (MI) → greedy (LNCC), to 1/2 of the resolution"
    assert stages_line(recipe) == line
    without = recipe.with_values({"stages.rigid.enabled": False})
    assert stages_line(without).startswith("affine (MI)")


def test_save_rename_delete_and_back(own: OwnPresets) -> None:
    recipe = Recipe.preset("rigid").with_values({"seed": 7})
    seen: list[list[str]] = []
    own.changed.connect(lambda: seen.append(own.names()))
    assert own.names() == own.all() == []
    path = own.save(" my lab ", recipe, "For us. ")
    assert own.names() == ["my lab"]
    assert own.name_of(path) == "my lab"
    assert own.name_of("/elsewhere/my lab.yaml") is None
    kept = Recipe.load(path)
    assert (kept.name, kept.description, kept.seed) == ("my lab", "For us.", 7)
    (shown,) = own.all()
    assert (shown.sentence, shown.stages) == ("For us.", stages_line(recipe))
    own.rename("my lab", "My Lab")
    assert own.names() == ["My Lab"]
    assert Recipe.load(own.path("My Lab")).name == "My Lab"
    own.delete("My Lab")
    assert own.names() == []
    for names in (["My Lab"], ["my lab"], []):
        own.steps.undo()
        assert own.names() == names
    own.steps.redo()
    assert own.names() == ["my lab"]
    assert Recipe.load(path) == kept
    assert [] in seen
    assert ["My Lab"] in seen


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "Give the preset a name"),
        ("x" * 61, "61 characters"),
        ("a/b", "Use letters, digits"),
        ("..", "Use letters, digits"),
        ("Rigid", "comes with the program"),
        ("MINE", "You have a preset mine already"),
    ],
)
def test_names_that_will_not_do(own: OwnPresets, name: str, said: str) -> None:
    own.save("mine", Recipe.preset("rigid"))
    assert said in own.check(name)
    with pytest.raises(InputError, match=said):
        own.save(name, Recipe.preset("rigid"))
    assert own.names() == ["mine"]
    assert own.check("MINE", but="mine") == ""


def test_import_and_export(own: OwnPresets, tmp_path: Path) -> None:
    file = tmp_path / "theirs.yaml"
    Recipe.preset("affine").save(file)
    assert own.take(file) == "affine 2"
    assert own.take(file) == "affine 3"
    Recipe.preset("affine").model_copy(update={"name": "a/b"}).save(file)
    assert own.take(file) == "theirs"
    own.export("theirs", tmp_path / "out.yaml")
    assert Recipe.load(tmp_path / "out.yaml").name == "theirs"
    file.write_text("nonsense: 1")
    with pytest.raises(RecipeError, match=r"theirs\.yaml"):
        own.take(file)
    assert own.names() == ["affine 2", "affine 3", "theirs"]


def test_a_damaged_file_is_shown_with_its_problem(own: OwnPresets) -> None:
    own.save("good", Recipe.preset("rigid"))
    own.path("bad").write_text("nonsense: 1")
    bad, good = own.all()
    assert "bad.yaml" in bad.problem
    assert good.problem == ""


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        OwnPresets(tmp_path / "file" / "presets").save("mine", Recipe.preset("rigid"))


# ------------------------------------------------------------------ the gallery
@pytest.fixture
def panel(dock: Any, tmp_path: Path) -> Any:
    dock.controller.presets.folder = tmp_path / "presets"
    return dock


@pytest.fixture
def gallery(panel: Any, qtbot: Any) -> Iterator[Any]:
    from napari_fireants.panels._gallery import Gallery

    def find() -> Any:
        panel.gallery.click()
        return panel.findChildren(Gallery)[-1]

    yield find
    for left in panel.findChildren(Gallery):
        left.close()


def card(gallery: Any, name: str) -> Any:
    return next(card for card in gallery.cards if card.preset.name == name)


@pytest.mark.gui
def test_a_click_chooses_and_closes(panel: Any, gallery: Any, qtbot: Any) -> None:
    shown = gallery()
    assert [each.preset.name for each in shown.cards] == preset_names()
    assert card(shown, "brain-mri").isChecked()
    with qtbot.waitSignal(shown.destroyed):
        qtbot.mouseClick(card(shown, "affine"), Qt.MouseButton.LeftButton)
    assert panel.store.entry.source == panel.preset.currentText() == "affine"
    panel.controller.undo.undo()
    assert panel.preset.currentText() == "brain-mri"


@pytest.mark.gui
def test_the_keyboard_reaches_every_card(panel: Any, gallery: Any, qtbot: Any) -> None:
    shown = gallery()
    names = preset_names()
    first = card(shown, "brain-mri")
    for key, index in ((Qt.Key.Key_Right, 1), (Qt.Key.Key_Down, 4), (Qt.Key.Key_Left, 3)):
        with qtbot.waitSignal(shown.cards[index].pointed, timeout=1000, raising=False):
            qtbot.keyClick(first, key)
        first = shown.cards[index]
        shown._tell(first.preset)
        assert first.preset.stages in shown.details.text()
    with qtbot.waitSignal(shown.destroyed):
        qtbot.keyClick(first, Qt.Key.Key_Return)
    assert panel.preset.currentText() == names[3]


@pytest.mark.gui
def test_own_presets_from_the_window(
    panel: Any, gallery: Any, qtbot: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    shown, own = gallery(), panel.controller.presets
    panel.store.edit(panel.store.recipe.with_values({"seed": 3}))
    shown.save.click()
    shown.form.name.setText("rigid")
    assert not shown.form.ok.isEnabled()
    assert "comes with the program" in shown.form.problem.text()
    shown.form.name.setText("cortex")
    shown.form.sentence.setText("For cortex.")
    shown.form.ok.click()
    assert own.names() == ["cortex"]
    assert panel.preset.currentText() == "cortex"
    assert panel.description.text() == "For cortex."
    texts = [panel.preset.itemText(k) for k in range(panel.preset.count())]
    assert texts == [*preset_names(), "", "cortex"]  # below a separator
    shown._rename("cortex")
    shown.form.name.setText("cortex 2")
    shown.form.ok.click()
    assert own.names() == ["cortex 2"]
    file = str(tmp_path / "out.yaml")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (file, ""))
    shown._export("cortex 2")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (file, ""))
    shown.take.click()
    assert own.names() == ["cortex 2", "cortex 2 2"]
    shown._delete("cortex 2")
    assert own.names() == ["cortex 2 2"]
    shown.undo.click()
    assert own.names() == ["cortex 2", "cortex 2 2"]
    assert shown.message.text() == "Taken back: preset cortex 2 deleted."
    index = panel.preset.findText("cortex 2")
    panel.store.load_preset("rigid")
    panel.preset.activated.emit(index)
    assert panel.store.recipe.seed == 3


@pytest.mark.gui
def test_a_damaged_own_preset_is_told_and_nothing_changes(panel: Any, gallery: Any) -> None:
    own = panel.controller.presets
    own.save("mine", Recipe.preset("rigid"))
    own.path("mine").write_text("nonsense: 1")
    assert not card(gallery(), "mine").isEnabled()
    panel.preset.activated.emit(panel.preset.findText("mine"))
    assert "mine.yaml" in panel.message.text()
    assert panel.preset.currentText() == "brain-mri"
