"""Numbers about a finished run, computed in a thread when somebody looks. No widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._latest import Latest
from napari_fireants._layers import snapshot, to_image

if TYPE_CHECKING:
    from napari_fireants._controller import Controller

NO_LABELS = (
    "Choose label layers of both images in the Register dock (Masks and labels); then their "
    "overlap and volumes stand here."
)
AFTERWARDS = "These numbers are computed when the run has ended."
NOTHING = "Register two images first."


class Measure:
    """One kind of numbers: `value` of the present result, or a sentence why there is none.

    changed: either is another. find: makes the function for the thread, or returns a sentence.
    """

    changed = Signal()

    def __init__(self, controller: Controller, find: Callable[[], Callable[[], Any] | str]) -> None:
        self._controller, self._find = controller, find
        self._latest = Latest()
        self._of: Any = None
        self.value: Any = None
        self.sentence = NOTHING
        controller.looking.ready.connect(self._on_ready)

    def ask(self) -> None:
        """Compute it unless that has been done for this result."""
        product = self._controller.session.product
        if self._controller.looking.running or product is None:
            self._say(AFTERWARDS if self._controller.looking.running else NOTHING)
            return
        if self.value is not None and self._of is product:
            return
        found = self._find()
        if isinstance(found, str):
            self._say(found)
            return
        self._say("Computing…")

        def done(value: Any) -> None:
            if self._controller.session.product is product:
                self.value, self._of, self.sentence = value, product, ""
                self.changed.emit()

        self._latest.ask(found, done, self._say)

    def _say(self, sentence: str) -> None:
        self.value, self.sentence = None, sentence
        self.changed.emit()

    def _on_ready(self, ready: bool) -> None:
        if self._of is not self._controller.session.product:
            self._say(NOTHING)


def similarity_measure(controller: Controller) -> Measure:
    """Name -> (before, after), as the engine's terms count them."""

    def find() -> Callable[[], Any]:
        result = controller.session.result

        def work() -> Any:
            from fireants_engine.workflows.quality import similarities

            return similarities(result)

        return work

    return Measure(controller, find)


def label_measure(controller: Controller) -> Measure:
    """The engine's LabelTable of the labels that the run was given, or that are chosen now."""

    def find() -> Callable[[], Any] | str:
        result, roles = controller.session.result, controller.current_roles()
        layers = roles.fixed_labels, roles.moving_labels
        try:
            chosen = [None if layer is None else snapshot(layer) for layer in layers]
        except FireantsError as error:
            return str(error)

        def work() -> Any:
            from fireants_engine.workflows.quality import label_table

            given = result.extras.fixed_labels, result.extras.moving_labels
            if None not in given:
                return label_table(result, *given)
            maps = [to_image(item) for item in chosen if item is not None]
            if len(maps) < 2:
                raise InputError(NO_LABELS)
            return label_table(result, *maps)

        return work

    return Measure(controller, find)
