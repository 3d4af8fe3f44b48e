"""The Batch dock: drop a folder or a table of pairs, press Run, look through what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QKeyEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._batch import REPORT_PAGE, Found, RowState, find_pairs
from napari_fireants._batch_layers import add_layers, read_layers
from napari_fireants._controller import controller_of
from napari_fireants._latest import Latest
from napari_fireants.panels._batch_setup import BatchSetup
from napari_fireants.panels._batch_table import BatchView
from napari_fireants.panels._widgets import (
    Dock,
    Message,
    button,
    caption,
    duration,
    follow,
    held_painting,
    later,
    primary,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

TICK_MS = 150


class BatchPanel(Dock):
    """Thin: the table and the run over it are the controller's `batch`."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.controller = controller_of(napari_viewer)
        self.batch, self.session = self.controller.batch, self.controller.session
        self.table = self.batch.table
        self._finding, self._opening = Latest(engine=False), Latest()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self.setAcceptDrops(True)
        self._build()
        self._connect()
        self._on_table()
        if self.batch.running:
            self._timer.start()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        self.setup = BatchSetup(self.controller)
        layout.addWidget(self.setup)
        self.view = BatchView(self.table)
        layout.addWidget(self.view, 1)
        self.status, self.message = caption(), Message()
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        layout.addWidget(self._buttons())
        self.scroll = self.fill(body)

    def _buttons(self) -> QWidget:
        self.run = primary("Run")
        self.run.clicked.connect(lambda: self.start())
        self.stop = button(
            "Stop", "End this pair at its next step, keep its best state, and begin no other",
            self._stop,
        )  # fmt: skip
        self.retry = button("Retry failed", "Run the failed pairs once more", self._retry_failed)
        self.summary = button("Summary", "The summary of all pairs, in a browser", self._summary)
        self.open = button("Open", "Show the chosen pair as layers", self._open)
        self.report = button("Report", "The report of the chosen pair, in a browser", self._report)
        self.again = button("Run again", "Run the chosen pairs, finished or not", self._again)
        self.remove = button("Leave out", "Take the chosen pairs out of the table", self._remove)
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.run)
        for title, row in (
            ("", (self.stop, self.retry, self.summary)),
            ("Chosen pairs", (self.open, self.report)),
            ("", (self.again, self.remove)),
        ):
            if title:
                layout.addWidget(caption(title))
            line = QHBoxLayout()
            line.setSpacing(3)
            for each in row:
                line.addWidget(each)
            layout.addLayout(line)
        return box

    def _connect(self) -> None:
        follow(self, self.table.changed, self._on_table)
        follow(self, self.batch.started, self._on_started)
        follow(self, self.batch.finished, self._on_finished)
        self.setup.asked.connect(self.find)
        self.setup.changed.connect(self._refresh)
        self.session.state_changed.connect(self._refresh)
        self.session.busy_changed.connect(self._refresh)
        self.view.selectionModel().selectionChanged.connect(self._on_chosen)
        self.view.activated.connect(lambda _: self._open())
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._menu)
        self.destroyed.connect(self.batch.stop)

    # ---------------------------------------------------------------- pairs
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if not self.batch.running and _local(event):
            event.acceptProposedAction()
            self.setup.mark(True)

    def dragLeaveEvent(self, event: Any) -> None:
        self.setup.mark(False)

    def dropEvent(self, event: QDropEvent) -> None:
        self.setup.mark(False)
        event.acceptProposedAction()
        self.find(_local(event))

    def find(self, paths: list[Path], fixed: Path | None = None) -> None:
        """Look for pairs in a thread, and show them before anything runs."""
        if self.batch.running:
            self.message.say("A batch is running; stop it before you choose other pairs.", "note")
            return
        self.setup.searching()
        self._finding.ask(lambda: find_pairs(paths, fixed), self._on_found, self._on_no_pairs)

    def _on_found(self, found: Found) -> None:
        self.message.say("")
        self.batch.folder = None
        self.table.put(found)
        self.setup.folder.setText(str(found.folder))
        if found.missing:
            first, count = next(iter(found.missing.values())), len(found.missing)
            more = f" ({count} pairs have missing files.)" if count > 1 else ""
            self.message.say(first + more, "note")

    def _on_no_pairs(self, sentence: str) -> None:
        self._on_table()
        self.message.say(sentence)

    # ---------------------------------------------------------------- commands
    def start(self, names: list[str] | None = None, again: bool = False) -> None:
        """What the Run button does; names: only these rows."""
        self.message.say("")
        folder = self.setup.results
        if folder is None:
            return
        try:
            device = self.controller.current_device()
            self.batch.start(self.setup.recipe, folder, device, names=names, again=again)
        except FireantsError as error:
            self.message.say(str(error))

    def _stop(self) -> None:
        self.batch.stop()
        self._refresh()

    def _retry_failed(self) -> None:
        self.start(self.table.names(RowState.FAILED, RowState.MISSING))

    def _again(self) -> None:
        self.start([row.name for row in self.view.chosen()], again=True)

    def _remove(self) -> None:
        if not self.batch.running:
            self.table.remove({row.name for row in self.view.chosen()})

    def _open(self) -> None:
        """Read the chosen run in a thread, then show it."""
        for row in self.view.chosen()[:1]:
            folder, name = self.batch.folder_of(row), row.name
            if folder is None:
                return

            def done(read: Any, name: str = name) -> None:
                layers, notes = read
                self.message.say(" ".join(notes), "note")
                self._add(layers, name)

            self.message.say(f"Opening {name}…", "note")
            self._opening.ask(lambda f=folder: read_layers(f), done, self.message.say)

    def _add(self, layers: list[Any], name: str) -> None:
        """One layer a turn: napari takes a while for each."""
        if layers:
            with held_painting(self):
                add_layers(self._viewer, layers[:1], name)
            later(self, 30, lambda panel: panel._add(layers[1:], name))

    def _report(self) -> None:
        for row in self.view.chosen()[:1]:
            folder = self.batch.folder_of(row)
            if folder is not None:
                self._browse(folder / REPORT_PAGE)

    def _summary(self) -> None:
        if self.batch.summary is not None:
            self._browse(self.batch.summary)

    def _browse(self, page: Path) -> None:
        if not page.is_file():
            self.message.say(f"{page}: is not there any more; run the pair again.")
        else:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page.resolve())))

    def _menu(self, place: Any) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for each in (self.open, self.report, self.again, self.remove):
            action = menu.addAction(each.text(), each.click)
            action.setEnabled(each.isEnabled())
        menu.popup(self.view.viewport().mapToGlobal(place))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Delete and self.view.hasFocus():
            self._remove()
        else:
            super().keyPressEvent(event)

    # ---------------------------------------------------------------- what happens
    def _tick(self) -> None:
        self.batch.drain()
        self._refresh()

    def _on_started(self) -> None:
        self._timer.start()
        self._refresh()

    def _on_finished(self, error: str) -> None:
        self._timer.stop()
        self.message.say(error)
        self._refresh()

    def _on_table(self) -> None:
        self.setup.show_found(self.table.found, len(self.table.rows))
        self._on_chosen()

    def _on_chosen(self, *_: object) -> None:
        rows = self.view.chosen()
        if len(rows) == 1 and rows[0].state.bad:
            self.message.say(rows[0].message)
        elif self.message.tone == "error":
            self.message.say("")
        self._refresh()

    def _refresh(self, *_: object) -> None:
        running, chosen = self.batch.running, self.view.chosen()
        elsewhere = "" if running else self.session.busy_with
        self.setup.setEnabled(not running)
        why = elsewhere and f"{elsewhere} (Register dock); wait until it is done, or stop it."
        if not self.table.rows:
            why = "Choose a folder or a table of pairs first."
        elif self.setup.results is None:
            why = "Choose a folder for the results first."
        ready = not running and not why
        _enable(self.run, ready, why or "Register all pairs; those that are finished are kept")
        _enable(self.stop, running and not self.batch.stopping)
        _enable(self.retry, ready and bool(self.table.names(RowState.FAILED, RowState.MISSING)))
        _enable(self.summary, self.batch.summary is not None)
        result = len(chosen) == 1 and chosen[0].state.has_result
        _enable(self.open, result)
        _enable(self.report, result)
        _enable(self.again, ready and bool(chosen))
        _enable(self.remove, not running and bool(chosen))
        quiet = running or (self.batch.folder is not None and not elsewhere)
        self._tell("" if quiet else why)

    def _tell(self, why: str = "") -> None:
        """How the rows stand, in one line."""
        counts, total = self.table.counts, len(self.table.rows)
        done = sum(counts[state] for state in RowState if state.has_result)
        parts = [f"{done} of {total} done"] if done or self.batch.running else []
        parts += [f"{counts[s]} {s.value}" for s in RowState if s.bad and counts[s]]
        left = self.batch.remaining if self.batch.running else None
        if self.batch.stopping:
            parts.append("stopping after this step…")
        elif left is not None:
            parts.append(f"about {duration(left)} left")
        self.status.setText(why or " · ".join(parts))
        self.status.setVisible(bool(self.status.text()))


def _enable(what: QPushButton, enabled: bool, tip: str = "") -> None:
    what.setEnabled(enabled)
    if tip:
        what.setToolTip(tip)


def _local(event: Any) -> list[Path]:
    """The files of a drag."""
    urls = event.mimeData().urls() if event.mimeData().hasUrls() else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
