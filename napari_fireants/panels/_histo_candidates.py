"""Where a section may lie: a card for each candidate, the section beside the plane."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QLabel, QListView, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_fireants._histo import Histo
from napari_fireants._histo_link import Guess
from napari_fireants.panels._widgets import Message, follow

PICTURE, ROW = QSize(132, 66), 74
ROWS = 3
"""Cards that are seen without scrolling."""


class Candidates(QWidget):
    """Shown once a search has found some; a click or a key chooses one."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        self._shown: tuple[Guess, ...] = ()
        self.note = Message()
        self.cards = QListWidget()
        self.cards.setAccessibleName("Where the section may lie")
        self.cards.setToolTip("Candidates, best first: the section beside what lies on it. Score: "
                              "higher is better")  # fmt: skip
        self.cards.setIconSize(PICTURE)
        self.cards.setWordWrap(True)
        self.cards.setResizeMode(QListView.ResizeMode.Adjust)
        self.cards.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.cards.setMinimumWidth(0)
        self.cards.currentRowChanged.connect(self._on_row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Candidates</b>"))
        layout.addWidget(self.note)
        layout.addWidget(self.cards)
        follow(self, histo.placed, self._on_placed)
        follow(self, histo.work.working, self._on_working)
        self._on_placed()

    def _on_row(self, row: int) -> None:
        section = self._histo.section
        if 0 <= row < len(self._shown) and section is not None:
            guess = self._shown[row]
            if section.chosen is not guess:
                self._histo.choose(guess)

    def _on_working(self) -> None:
        self.cards.setEnabled(not self._histo.work.task)

    def _on_placed(self) -> None:
        section = self._histo.section
        found = None if section is None else section.found
        guesses = () if found is None else found.guesses
        self.setVisible(len(guesses) > 1 or (found is not None and guesses[0].found is not None))
        self.cards.blockSignals(True)
        if guesses is not self._shown:
            self._fill(guesses)
            self.note.say("" if found is None else found.note, "note")
        chosen = None if section is None else section.chosen
        if chosen is not None and chosen in guesses:
            self.cards.setCurrentRow(guesses.index(chosen))
        self.cards.blockSignals(False)

    def _fill(self, guesses: tuple[Guess, ...]) -> None:
        self._shown = guesses
        self.cards.clear()
        for guess in guesses:
            how, side = guess.pose.words
            words = f"{how.capitalize()}\n{side}\nscore {guess.score:.3f}"
            pixmap, icon = _pixmap(guess.picture), QIcon()
            for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
                icon.addPixmap(pixmap, mode)
            item = QListWidgetItem(icon, words)
            item.setToolTip(guess.pose.sentence())
            item.setSizeHint(QSize(0, ROW))
            self.cards.addItem(item)
        self.cards.setFixedHeight(min(len(guesses), ROWS) * ROW + 6)


def _pixmap(picture: np.ndarray) -> QPixmap:
    high, wide = picture.shape[:2]
    kind = QImage.Format.Format_RGB888
    image = QImage(picture.tobytes(), wide, high, 3 * wide, kind).copy()
    keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return QPixmap.fromImage(image).scaled(PICTURE, keep, smooth)
