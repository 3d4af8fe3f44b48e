"""The sections of a stack: which is at work, and what is thought of each."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QListWidget, QPushButton, QVBoxLayout, QWidget

from napari_fireants._fields import small_button
from napari_fireants._histo import ACCEPTED, FLAGGED, SKIPPED, Histo
from napari_fireants._histo_given import Section
from napari_fireants.panels._widgets import follow

MARKS = {ACCEPTED: "✓", SKIPPED: "–", FLAGGED: "!", "": " "}
HIGH = 104


class StackView(QWidget):
    """Shown where there are several sections."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        self._sections: list[Section] = []
        self.list = QListWidget()
        self.list.setAccessibleName("Sections")
        self.list.setToolTip("All sections; each keeps its own candidates, plane and fit")
        self.list.setFixedHeight(HIGH)
        self.list.currentRowChanged.connect(self._on_row)
        self.judge: dict[str, QPushButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.list)
        row = QHBoxLayout()
        row.setSpacing(3)
        self.back = small_button("‹", "The section before", lambda: histo.step(-1))
        self.next = small_button("›", "The next section", lambda: histo.step(1))
        row.addWidget(self.back)
        row.addWidget(self.next)
        for state, text, tip in (
            (ACCEPTED, "Accept", "This section is placed well"),
            (SKIPPED, "Skip", "This section is not to be used"),
            (FLAGGED, "Flag", "Look at this section again"),
        ):
            each = QPushButton(text)
            each.setCheckable(True)
            each.setToolTip(f"{tip}; once more: undecided")
            each.clicked.connect(lambda _=False, state=state: histo.judge(state))
            self.judge[state] = each
            row.addWidget(each)
        layout.addLayout(row)
        follow(self, histo.changed, self._refresh)
        follow(self, histo.placed, self._refresh)
        follow(self, histo.work.working, self._refresh)
        self._refresh()

    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self._sections):
            self._histo.go_to(self._sections[row])

    def _refresh(self) -> None:
        histo = self._histo
        self._sections, now = histo.sections, histo.section
        self.setVisible(len(self._sections) > 1)
        self.setEnabled(not histo.work.task)
        words = [f"{MARKS[one.state]}  {one.name}{_how_far(one)}" for one in self._sections]
        self.list.blockSignals(True)
        if words != [self.list.item(k).text() for k in range(self.list.count())]:
            self.list.clear()
            self.list.addItems(words)
        if now in self._sections:
            self.list.setCurrentRow(self._sections.index(now))
        self.list.blockSignals(False)
        for state, each in self.judge.items():
            each.setChecked(now is not None and now.state == state)


def _how_far(section: Section) -> str:
    if section.refined is not None:
        return ", fitted"
    return ", placed" if section.pose is not None else ""
