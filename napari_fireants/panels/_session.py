"""Saving and reopening sessions, and the one that ended unexpectedly: part of the History dock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._controller import Controller
from napari_fireants._fields import guard_wheel
from napari_fireants._recovery import FILE, SUFFIX
from napari_fireants.panels._widgets import Message, button, caption, follow, later, primary


class SessionBox(QWidget):
    """`said` carries (sentence, tone)."""

    said = Signal(str, str)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller, self._keeper = controller, controller.keeper
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Session</b>"))
        layout.addWidget(caption("Layers, recipe, landmarks, runs and the view, in one folder."))
        row = QHBoxLayout()
        self.save_button = button("Save session…", "Write everything to a folder", self.save)
        self.open_button = button(
            "Open session…", "Put a saved session in the place of what is here", self.open
        )
        row.addWidget(self.save_button)
        row.addWidget(self.open_button)
        layout.addLayout(row)
        self.recent = QComboBox()
        self.recent.setAccessibleName("Recent sessions")
        self.recent.setToolTip("Open a session that was saved or opened before")
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.recent.setSizeAdjustPolicy(policy)
        guard_wheel(self.recent)
        self.recent.activated.connect(self._open_recent)
        layout.addWidget(self.recent)
        follow(self, self._keeper.changed, self._draw)
        self._draw()

    def _draw(self) -> None:
        self.recent.clear()
        self.recent.addItem("Recent sessions…")
        for path in self._keeper.recent:
            self.recent.addItem(f"{path.stem}  ({path.parent})", str(path))
            self.recent.setItemData(self.recent.count() - 1, str(path), 3)
        self.recent.setVisible(self.recent.count() > 1)

    def _open_recent(self, index: int) -> None:
        path = self.recent.itemData(index)
        self.recent.setCurrentIndex(0)
        if path:
            self._open(path)

    # ---------------------------------------------------------------- commands
    def save(self, then: Callable[[], object] = lambda: None) -> None:
        """Ask for a name and write the session."""
        start = str(self._keeper.path or Path.home() / f"session{SUFFIX}")
        kinds = f"Session (*{SUFFIX})"
        name, _ = QFileDialog.getSaveFileName(self, "Save the session to a folder", start, kinds)
        if name:
            self.said.emit("Saving the session…", "note")
            self._keeper.save(name, lambda path: (self._saved(path), then()))

    def _saved(self, path: Path) -> None:
        self.said.emit(f"Session saved to {path}.", "good")

    def open(self) -> None:
        """Ask for a folder and open it."""
        start = str(self._keeper.path.parent if self._keeper.path else Path.home())
        folder = QFileDialog.getExistingDirectory(self, f"Open a session (*{SUFFIX})", start)
        if folder:
            self._open(folder)

    def _open(self, folder: str) -> None:
        if not self._may_replace(lambda: self._open(folder)):
            return
        try:
            self._keeper.open(folder, self.locate, self.go_on, lambda: self._opened(folder))
        except FireantsError as error:
            self.said.emit(str(error), "error")
            return
        self.said.emit("Opening the session…", "note")

    def _opened(self, folder: str) -> None:
        self.said.emit(f"Opened {Path(folder).name}.", "good")

    def _may_replace(self, again: Callable[[], object]) -> bool:
        """Ask before runs or edits of this window go; `again` follows when they were saved."""
        if not self._keeper.worth or not len(self._controller.viewer.layers):
            return True
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText("Opening a session closes the layers and runs of this window.")
        save = box.addButton("Save them first…", QMessageBox.ButtonRole.AcceptRole)
        on = box.addButton("Open without saving", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        if box.clickedButton() is save:
            self.save(again)
        return box.clickedButton() is on

    # ---------------------------------------------------------------- questions
    def locate(self, path: str, role: str) -> str | None:
        """Ask where a file is now."""
        title = f"Where is {Path(path).name} (layer {role}) now?"
        found, _ = QFileDialog.getOpenFileName(self, title, str(Path(path).parent))
        return found or None

    def go_on(self, sentence: str) -> bool:
        """Ask whether to open a session whose files have changed."""
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self, "Open it anyway?", sentence, buttons.Open | buttons.Cancel
        )
        return answer == buttons.Open


class OfferBox(QWidget):
    """Offers the session that ended unexpectedly, if there is one."""

    def __init__(self, controller: Controller, box: SessionBox) -> None:
        super().__init__()
        self._keeper, self._box = controller.keeper, box
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        self.sentence = Message()
        layout.addWidget(self.sentence)
        row = QHBoxLayout()
        self.restore = primary("Restore it")
        self.restore.setToolTip("Open it as it was at most half a minute before it ended")
        self.restore.clicked.connect(lambda: self._restore())
        self.discard = button("Discard", "Delete what was kept of it", self._keeper.discard)
        row.addWidget(self.restore, 1)
        row.addWidget(self.discard)
        layout.addLayout(row)
        follow(self, self._keeper.changed, self._draw)
        self.hide()
        later(self, 200, lambda box: box._draw())  # a dock opens before it looks at the disk

    def _draw(self) -> None:
        folder = self._keeper.offer
        self.setVisible(folder is not None)
        if folder is not None:
            when = time.strftime("%d %b, %H:%M", time.localtime((folder / FILE).stat().st_mtime))
            self.sentence.say(f"The last session ended unexpectedly ({when}); restore it?", "note")

    def _restore(self) -> None:
        said = self._box.said
        try:
            self._keeper.recover(
                self._box.locate,
                self._box.go_on,
                lambda: said.emit("The session is as it was; save it to keep it.", "good"),
            )
        except FireantsError as error:
            said.emit(str(error), "error")
            return
        said.emit("Restoring the session…", "note")
