"""Looking at a result, bringing other layers along, and taking the run away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._controller import Controller
from napari_fireants._export import Files, Source, command_line, python_script
from napari_fireants._layers import file_of
from napari_fireants._views import TIPS, Look, View
from napari_fireants.panels._widgets import LayerCombo, button, caption, later

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
        self._pause = QTimer(self)  # a slider in motion composes only its latest value
        self._pause.setSingleShot(True)
        self._pause.setInterval(40)
        self._pause.timeout.connect(self._apply)
        controller.viewer.dims.events.order.connect(self._turned)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        self.looking = self._views()
        layout.addWidget(self.looking)
        layout.addWidget(self._files())
        self.set_ready(False)

    # ---------------------------------------------------------------- views
    def _views(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Look at the result</b>"))
        self.views = {view: QPushButton(view.value) for view in View}
        self._group = QButtonGroup(self)
        grid = QGridLayout()
        grid.setSpacing(3)
        for i, (view, item) in enumerate(self.views.items()):
            item.setCheckable(True)
            item.setToolTip(TIPS[view])
            self._group.addButton(item)
            item.clicked.connect(lambda: self._apply())
            item.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
            grid.addWidget(item, i // 3, i % 3)
        self.views[View.OVERLAY].setChecked(True)
        layout.addLayout(grid)
        self.share = _slider("Share of the moving image", 0, 100, 50)
        self.squares = _slider("Squares along the longest side", 2, 40, 12)
        self.curtain = _slider("Where the curtain hangs", 0, 100, 50)
        self.lines = _slider("Lines along the longest side", 4, 60, 20)
        self.before = QCheckBox("Show the moving image before registration")
        for slider in (self.share, self.squares, self.curtain, self.lines):
            slider.valueChanged.connect(lambda _: self._pause.start())
        self.before.toggled.connect(lambda _: self._apply())
        self._options = {
            View.BLEND: _labelled("fixed", self.share, "moving"),
            View.CHECKERBOARD: _labelled("coarse", self.squares, "fine"),
            View.CURTAIN: _labelled("moving", self.curtain, "fixed"),
            View.GRID: _labelled("coarse", self.lines, "fine"),
            View.BEFORE_AFTER: self.before,
        }
        for widget in self._options.values():
            layout.addWidget(widget)
        self.says = caption()
        layout.addWidget(self.says)
        form = QFormLayout()
        self.other = LayerCombo("Layer of the moving space")
        self.other.setToolTip("An image or labels layer that belongs to the moving image")
        row = QHBoxLayout()
        row.addWidget(self.other, 1)
        self.apply_button = button(
            "Apply", "Bring this layer onto the fixed image as a new layer", self._apply_to
        )
        row.addWidget(self.apply_button)
        form.addRow(QLabel("Apply to layer"), row)
        layout.addLayout(form)
        return box

    @property
    def view(self) -> View:
        return next(view for view, item in self.views.items() if item.isChecked())

    def _apply(self) -> None:
        for view, widget in self._options.items():
            widget.setVisible(view is self.view)
        look = Look(
            view=self.view,
            share=self.share.value() / 100,
            squares=self.squares.value(),
            before=self.before.isChecked(),
            curtain=self.curtain.value() / 100,
            lines=self.lines.value(),
        )
        if self._ready:
            self._controller.look(look, self._told)

    def _turned(self, *_: object) -> None:
        """Other axes are on the canvas: some pictures depend on them."""
        try:
            self._pause.start()
        except RuntimeError:  # Qt has already deleted it
            self._controller.viewer.dims.events.order.disconnect(self._turned)

    def _told(self, sentence: str) -> None:
        self.says.setText(sentence)
        self.says.setVisible(bool(sentence))
        # a scroll area asks for least heights, not for those that a width needs
        self.says.setMinimumHeight(2 * self.says.fontMetrics().lineSpacing() + 4)

    def set_ready(self, ready: bool) -> None:
        """A finished run is there to be looked at; it starts with the overlay."""
        self._ready = ready
        self.looking.setVisible(ready)
        self.save_run.setEnabled(ready)
        self.views[View.OVERLAY].setChecked(True)
        self.before.setChecked(False)
        self._told("")
        self._apply()

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
        self.load_recipe = button("Load recipe…", "Use a recipe file", self._load_recipe)
        self.save_recipe = button("Save recipe…", "Write the recipe to a file", self._save_recipe)
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


def _slider(tip: str, low: int, high: int, value: int) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setValue(value)
    slider.setToolTip(tip)
    slider.setAccessibleName(tip)
    return slider


def _labelled(left: str, slider: QSlider, right: str) -> QWidget:
    box = QWidget()
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(QLabel(left))
    row.addWidget(slider, 1)
    row.addWidget(QLabel(right))
    return box
