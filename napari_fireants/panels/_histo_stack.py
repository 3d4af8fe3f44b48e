"""The sections of a stack: which is at work, and what is thought of each."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QListWidget, QPushButton, QVBoxLayout, QWidget

from napari_fireants._fields import small_button
from napari_fireants._histo import Histo
from napari_fireants._histo_given import ACCEPTED, FLAGGED, SKIPPED, Section
from napari_fireants.panels._histo_whole import WholeView
from napari_fireants.panels._widgets import follow

MARKS = {ACCEPTED: "✓", SKIPPED: "–", FLAGGED: "!", "": " "}
HIGH = 104
LONGEST = 14
"""Letters of a name that are shown."""


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
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
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
        self.whole = WholeView(histo)
        layout.addWidget(self.whole)
        follow(self, histo.changed, self.refresh)
        follow(self, histo.placed, self.refresh)
        follow(self, histo.work.working, self.refresh)
        self.refresh()

    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self._sections):
            self._histo.go_to(self._sections[row])

    def refresh(self) -> None:
        """Also where 2D images come and go."""
        histo = self._histo
        self._sections, now = histo.sections, histo.section
        several = len(self._sections) > 1
        self.setVisible(several)
        self.setEnabled(not histo.work.task)
        words = [f"{MARKS[one.state]}  {_short(one)}{_how_far(one)}" for one in self._sections]
        self.list.blockSignals(True)
        if words != [self.list.item(k).text() for k in range(self.list.count())]:
            self.list.clear()
            self.list.addItems(words)
        for row, one in enumerate(self._sections):
            self.list.item(row).setToolTip(_all_of(one))
        if now in self._sections:
            self.list.setCurrentRow(self._sections.index(now))
        self.list.blockSignals(False)
        for state, each in self.judge.items():
            each.setChecked(now is not None and now.state == state)
        if several:
            self.whole.refresh()
            self.whole.setVisible(not histo.pair)


def _how_far(section: Section) -> str:
    """What is known of a section, in few words: how, where along the axis, how well."""
    pose, refined, kept = section.pose, section.refined, section.kept
    if pose is None and kept is not None:
        how = "to be fitted again" if kept.fitted else "placed"
        return f", {how}, {kept.pose.where}"
    if pose is None:
        return ""
    words = f", {'placed' if refined is None else 'fitted'}, {pose.where}"
    fit = None if refined is None else refined.of_stack
    return words if fit is None else f"{words}, score {fit.score:.2f}"


def _short(section: Section) -> str:
    """Its name without the middle, which tells sections apart least."""
    name, end = section.name, LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: LONGEST - end - 1].strip()}…{name[-end:]}"


def _all_of(section: Section) -> str:
    """The same in sentences."""
    pose, refined, kept = section.pose, section.refined, section.kept
    if pose is None and kept is not None:
        return f"{section.name}: {kept.pose.sentence()}, as the session has kept it."
    if pose is None:
        return section.name
    lines = [f"{section.name}: {pose.sentence()}."]
    if refined is not None:
        if refined.of_stack is not None:
            score = f"{refined.of_stack.score:.3f}"
            lines.append(f"Fitted with the stack; mutual information {score}, higher is better.")
        lines += refined.notes
    return "\n".join(lines)
