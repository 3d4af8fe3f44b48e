"""The Inspect dock: every way to look at two images and at what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fireants._controller import controller_of
from napari_fireants._curtain import CurtainHandle
from napari_fireants._fields import Section
from napari_fireants._measure import label_measure, similarity_measure
from napari_fireants._ortho import Ortho
from napari_fireants.panels._export import ExportPanel
from napari_fireants.panels._numbers import LabelRows, Similarities
from napari_fireants.panels._ortho import OrthoView
from napari_fireants.panels._views import ViewChooser
from napari_fireants.panels._widgets import Dock, Message, follow

if TYPE_CHECKING:
    from napari.components import ViewerModel

NOTHING = "Nothing to look at yet: press Register in the Register dock. All this works from the "
NOTHING += "first preview of a run on."


class InspectPanel(Dock):
    """Thin: what is looked at is the controller's `looking`."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        looking = self.looking = self.controller.looking
        self.ortho = Ortho(looking)
        self.controller.wishes.append(self.ortho.wish)
        self.handle = CurtainHandle(self.controller.viewer, looking)
        self.chooser = ViewChooser(looking)
        self.planes = OrthoView(self.ortho)
        self.similarities = Similarities(similarity_measure(self.controller))
        self.labels = LabelRows(label_measure(self.controller), self._go)
        self.export = ExportPanel(self.controller)
        self._build()
        follow(self, looking.ready, self._on_ready)
        session = self.controller.session
        session.busy_changed.connect(self._on_busy)
        session.failed.connect(self._on_failed)
        self._on_ready(looking.possible)
        wishes, wish = self.controller.wishes, self.ortho.wish
        self.destroyed.connect(lambda: wishes.remove(wish))

    def _build(self) -> None:
        body, layout = self.column()
        self.hint = Message()
        layout.addWidget(self.hint)
        layout.addWidget(self.chooser)
        self.sections = {
            title: Section(title, content)
            for title, content in {
                "Three planes, one cursor": self.planes,
                "How alike, before and after": self.similarities,
                "Labels: overlap and volume": self.labels,
                "Figure and report": self.export,
            }.items()
        }
        for section in self.sections.values():
            layout.addWidget(section)
        layout.addStretch(1)
        self.scroll = self.fill(body)

    def _go(self, voxel: tuple[float, ...]) -> None:
        if self.ortho.shape:
            self.ortho.move(voxel)
        else:
            self.controller.scene.go(voxel)

    # ---------------------------------------------------------------- what happens
    def _on_ready(self, ready: bool) -> None:
        self.hint.say("" if ready else NOTHING, "note")
        self._on_busy(self.controller.session.busy)

    def _on_busy(self, busy: bool) -> None:
        finished = self.looking.possible and not self.looking.running
        self.export.set_ready(finished, busy and not self._just_ended())

    def _just_ended(self) -> bool:
        """A run that has ended is told before the session is idle again."""
        return not self.looking.running and self.controller.session.state.active

    def _on_failed(self, sentence: str) -> None:
        if self.export.message.tone == "note" and self.export.message.isVisibleTo(self.export):
            self.export.message.say(sentence)
