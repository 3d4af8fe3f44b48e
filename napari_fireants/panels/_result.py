"""Looking at a result, bringing other layers along, and taking the run away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._controller import Controller
from napari_fireants._export import Files, Source, command_line, python_script
from napari_fireants._layers import file_of
from napari_fireants._views import TIPS, Look, View
from napari_fireants.panels._widgets import LayerCombo, button, caption, follow, later

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer

RECIPES = "Recipe (*.yaml *.yml *.json)"


class ResultPanel(QWidget):
    """Enabled parts follow `set_ready`; `said` carries (sentence, tone)."""

    said = Signal(str, str)

    def __init__(self, controller: Controller, device: Callable[[], str]) -> None:
        super().__init__()
        self._controller, self._device = controller, device
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        self.looking = self._views()
        layout.addWidget(self.looking)
        layout.addWidget(self._files())
        self.looking.hide()
        self.set_ready(False)

    # ---------------------------------------------------------------- looking
    def _views(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Look at it</b>"))
        looking = self._controller.looking
        self.overlay = _choice("Overlay", TIPS[View.OVERLAY])
        self.before = _choice("Before", "The moving image as it was before the registration")
        self.overlay.clicked.connect(lambda: looking.choose(Look()))
        self.before.clicked.connect(lambda: looking.choose(Look(View.BEFORE_AFTER, before=True)))
        self.inspect = button(
            "Inspect…",
            "Every way to look at both images and at the warp, numbers, figures: the Inspect dock",
            self._controller.open_inspect,
        )
        row = QHBoxLayout()
        for widget in (self.overlay, self.before, self.inspect):
            row.addWidget(widget)
        layout.addLayout(row)
        follow(self, looking.changed, self._on_look)
        follow(self, looking.ready, self._on_ready)
        self._on_look(looking.look)
        self.applying = QWidget()
        form = QFormLayout(self.applying)
        form.setContentsMargins(0, 0, 0, 0)
        self.other = LayerCombo("Layer of the moving space")
        self.other.explain("An image or labels layer that belongs to the moving image")
        row = QHBoxLayout()
        row.addWidget(self.other, 1)
        self.apply_button = button(
            "Apply", "Bring this layer onto the fixed image as a new layer", self._apply_to
        )
        row.addWidget(self.apply_button)
        form.addRow(QLabel("Apply to layer"), row)
        layout.addWidget(self.applying)
        return box

    def _on_look(self, look: Look) -> None:
        before = look.view is View.BEFORE_AFTER and look.before
        self.overlay.setChecked(look.view is View.OVERLAY)
        self.before.setChecked(before)

    def _on_ready(self, ready: bool) -> None:
        """There is something to look at, in a run or after it."""
        self.looking.setVisible(ready)

    def set_ready(self, ready: bool) -> None:
        """A finished run is there to be used."""
        self._ready = ready
        self.applying.setVisible(ready)
        self.save_run.setEnabled(ready)

    def set_busy(self, busy: bool) -> None:
        self.apply_button.setEnabled(not busy)
        self.save_run.setEnabled(self._ready and not busy)

    def offer(self, layers: list[Layer]) -> None:
        """Layers that a result can be applied to."""
        roles = self._controller.last_roles
        self.other.offer([x for x in layers if x != roles.fixed], roles.moving)

    def _apply_to(self) -> None:
        layer = self.other.layer()
        if layer is not None and self._guarded(lambda: self._controller.apply_to(layer)):
            self.said.emit(f"Applying the transform to {layer.name}...", "note")

    # ---------------------------------------------------------------- files
    def _files(self) -> QWidget:
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 4, 0, 0)
        grid.setSpacing(3)
        self.save_run = button(
            "Save run…",
            "A folder with the moved image, ITK/ANTs transforms, recipe and report",
            self._save_run,
        )
        self.load_recipe = button(
            "Load recipe…", "A recipe is all settings of a run: read it from a file",
            self._load_recipe,
        )  # fmt: skip
        self.save_recipe = button(
            "Save recipe…", "Write all settings to a file, to use them again", self._save_recipe
        )
        self.copy_command = button(
            "Copy as command line", "The same run as a shell command", self._copy_command
        )
        self.copy_python = button("Copy as Python", "The same run as a script", self._copy_python)
        grid.addWidget(QLabel("<b>Keep and repeat</b>"), 0, 0, 1, 2)
        grid.addWidget(self.save_run, 1, 0, 1, 2)
        grid.addWidget(self.load_recipe, 2, 0)
        grid.addWidget(self.save_recipe, 2, 1)
        grid.addWidget(self.copy_command, 3, 0)
        grid.addWidget(self.copy_python, 3, 1)
        self.copied = caption()
        grid.addWidget(self.copied, 4, 0, 1, 2)
        self.copied.hide()
        return box

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Run `action`; an error becomes a sentence in the dock."""
        try:
            action()
        except (FireantsError, OSError) as error:
            self.said.emit(str(error), "error")
            return False
        return True

    def _save_run(self) -> None:
        folder, _ = QFileDialog.getSaveFileName(self, "Save the run to a folder", "registration")
        if folder:
            done = lambda where: self.said.emit(f"Saved to {where}.", "good")  # noqa: E731
            if self._guarded(lambda: self._controller.save(folder, done)):
                self.said.emit("Saving the run...", "note")

    def _load_recipe(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load a recipe", "", RECIPES)
        if path and self._guarded(lambda: self._controller.store.load_file(path)):
            self.said.emit(f"Using the recipe {path}.", "good")

    def _save_recipe(self) -> None:
        name = f"{self._controller.store.recipe.name}.yaml"
        path, _ = QFileDialog.getSaveFileName(self, "Save the recipe", name, RECIPES)
        if path and self._guarded(lambda: self._controller.store.save(path)):
            self.said.emit(f"Recipe saved to {path}.", "good")

    def _copy(self, text: str, what: str) -> None:
        QApplication.clipboard().setText(text)
        self.copied.setText(f"{what} copied to the clipboard.")
        self.copied.show()
        later(self.copied, 4000, lambda label: label.hide())

    def _copy_command(self) -> None:
        self._copy(command_line(self._controller.store.entry, self.files(), self._device()),
                   "Command line")  # fmt: skip

    def _copy_python(self) -> None:
        self._copy(python_script(self._controller.store.entry, self.files(), self._device()),
                   "Python")  # fmt: skip

    def files(self) -> Files:
        """The chosen layers as files."""
        roles = self._controller.current_roles()

        def source(layer: Layer | None) -> Source | None:
            if layer is None:
                return None
            return Source(layer.name, file_of(layer))

        nothing = Source("none chosen", None)
        return Files(
            source(roles.fixed) or nothing,
            source(roles.moving) or nothing,
            source(roles.fixed_mask),
            source(roles.moving_mask),
            source(roles.moving_labels),
            source(roles.fixed_labels),
        )


def _choice(text: str, tip: str) -> QPushButton:
    out = QPushButton(text)
    out.setCheckable(True)
    out.setToolTip(tip)
    return out
