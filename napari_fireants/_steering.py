"""Steering: what a person changes goes into the run that is under way, a moment later.

Recipe, landmarks, masks and the hand are watched; what changed within a quarter of a second goes
as one change. Without a run, the hand says where the next one starts.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from fireants_engine.errors import InputError
from napari_fireants._change import Change, told
from napari_fireants._ignoring import SIDES, Ignoring, Side
from napari_fireants._landmark_term import has_landmarks, with_landmarks
from napari_fireants._layers import snapshot
from napari_fireants._nudge import Hand
from napari_fireants._preview import Frames
from napari_fireants._session import Job

if TYPE_CHECKING:
    from fireants_engine.recipe.models import Recipe
    from napari_fireants._controller import Controller

WAIT_MS = 250


class Back(Enum):
    """Where the stage goes on from after a change; the words are shown to people."""

    FITTING = "as fits the change"
    HERE = "from where it is"
    COARSEST = "from its coarsest level"


class Steering(QObject):
    """One per controller. `said`: (sentence, tone); `moving_changed`: the hand is taken or not."""

    said = Signal(str, str)
    moving_changed = Signal(bool)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller, self._session = controller, controller.session
        self._store, self._table = controller.store, controller.landmarks
        self.ignoring = Ignoring(controller.scene, self._painted)
        self.hand: Hand | None = None
        self.back = Back.FITTING
        self._number = self._hand_number = 0
        self._dirty: set[str] = set()
        self._recipe: Recipe | None = None
        self._rows: tuple[Any, ...] = ()
        self._by_undo = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAIT_MS)
        self._timer.timeout.connect(self._commit)
        self._store.changed.connect(self._recipe_changed)
        self._table.changed.connect(self._landmarks_changed)

    # ------------------------------------------------------------ a run
    def prepare(self) -> None:
        """Before a run reads its layers."""
        self.let_go()
        self.ignoring.put_down()

    def into(self, job: Job) -> Job:
        """The run without what is painted over."""
        masks = {f"{s}_mask": self.ignoring.mask(s, getattr(job, f"{s}_mask")) for s in SIDES}
        return replace(job, **masks)

    def begin(self, job: Job) -> None:
        """A run begins with this."""
        self._timer.stop()
        self._recipe, self._rows = job.recipe, tuple(job.landmarks)
        self._dirty.clear()
        self._number = self._hand_number = 0
        roles = self._controller.last_roles
        for side in SIDES:
            self.ignoring.watch(getattr(roles, f"{side}_mask"), side)

    def see(self, frames: Frames) -> None:
        """New frames, after they have been shown: they hold what the hand has moved."""
        if self.hand is not None and 0 < self._hand_number <= frames.change:
            self._hand_number = 0
            self.hand.settled()

    def end(self) -> None:
        """The run has ended."""
        self._timer.stop()
        self._dirty.clear()
        self.let_go()
        self.ignoring.put_down()

    # ------------------------------------------------------------ the hand
    @property
    def can_move(self) -> bool:
        """There is something to be moved by hand."""
        return self._target() is not None

    def _target(self) -> Any:
        scene, controller = self._controller.scene, self._controller
        if self._session.state.active:
            return None if scene.waiting else scene.live
        if self._session.product is not None and scene.live is not None:
            return scene.live if scene.live in controller.viewer.layers else None
        return controller.images()[1]

    def take(self) -> None:
        """Let a person move the moving image: drag on the canvas, or `move`."""
        target = self._target()
        if target is None:
            raise InputError("There is no moving image on the canvas yet.")
        if self.hand is None:
            self.hand = Hand(target, self._hand_moved)
        self.hand.grasp(self._controller.viewer)
        self.moving_changed.emit(True)

    def let_go(self) -> None:
        """The moving image lies where its data say, and the mouse moves the canvas again."""
        if self.hand is None:
            return
        self._timer.stop()
        hand, self.hand = self.hand, None
        hand.release()
        hand.put_back()
        self.moving_changed.emit(False)

    def _hand_moved(self) -> None:
        self._dirty.add("hand")
        self._timer.start()

    # ------------------------------------------------------------ what is watched
    def _recipe_changed(self, *_: object) -> None:
        self._mark("recipe")

    def _landmarks_changed(self, *_: object) -> None:
        self._mark("landmarks")

    def _painted(self, side: Side) -> None:
        self._mark(side)

    def _mark(self, what: str) -> None:
        if self._session.state.active:
            self._dirty.add(what)
            self._timer.start()

    def align(self, kind: str) -> None:
        """Bring the landmarks together by one map of this kind, during a run."""
        rows = self._table.pairs
        if not rows:
            raise InputError("There is no complete pair yet: set landmarks in both images first.")
        what = (f"Landmarks brought together ({kind}).",)
        self._send(Change(what, landmarks=rows, align=kind), far=True)
        self._rows = rows

    # ------------------------------------------------------------ to the run
    def _commit(self) -> None:
        dirty, self._dirty = self._dirty, set()
        moved = self.hand.pending if self.hand is not None and "hand" in dirty else None
        if not self._session.state.active:
            if moved is not None:
                self._start_by_hand(moved)
            return
        if not self._session.state.steerable:  # it is ending
            return
        change = self._recipe_and_landmarks(dirty)
        masks = {}
        for side in [side for side in SIDES if side in dirty]:
            mask = self._mask(side)
            if mask is not None:
                masks[f"{side}_mask"] = mask
                change = change.then(Change((f"Mask of the {side} image painted.",)))
        if moved is not None:
            assert self.hand is not None
            self.hand.sent(moved)
            change = change.then(Change(("Moved by hand.",), nudge=moved))
            self._remember_move(moved)
        change = replace(change, masks=masks)
        if change.what:
            far = bool(masks) or moved is not None or bool(change.landmarks)
            self._send(change, far)
            self._hand_number = self._number if moved is not None else self._hand_number

    def _recipe_and_landmarks(self, dirty: set[str]) -> Change:
        change = Change()
        if not dirty & {"recipe", "landmarks"} or self._recipe is None:
            return change
        rows, recipe = self._table.pairs, self._store.recipe
        if self._table.used and rows:
            recipe = with_landmarks(recipe, self._table.strength, self._table.robust_mm)
        words = told(self._recipe, recipe)
        if has_landmarks(recipe) and rows != self._rows and rows:
            pairs = f"{len(rows)} landmark{'s' * (len(rows) > 1)}."
            change = change.then(Change((pairs,), landmarks=rows))
            self._rows = rows
        if has_landmarks(recipe) != has_landmarks(self._recipe):
            pulls = "landmarks pull from here on" if has_landmarks(recipe) else "landmarks let go"
            words = "" if change.what else pulls
        if recipe != self._recipe:
            said = (f"{words[:1].upper()}{words[1:]}.",) if words else ()
            change = change.then(Change(said, recipe=recipe))
            change = change if change.what else replace(change, what=("Recipe changed.",))
            self._recipe = recipe
        return change

    def _mask(self, side: Side) -> Any:
        chosen = getattr(self._controller.last_roles, f"{side}_mask")
        known = None if chosen is None else snapshot(chosen)
        return self.ignoring.mask(side, known) or self.ignoring.everything(side)

    def _send(self, change: Change, far: bool) -> None:
        """far: the change asks for more than a few steps on the finest level."""
        back = self.back is Back.COARSEST or (self.back is Back.FITTING and far)
        self._number += 1
        change = replace(change, number=self._number, level=0 if back else None)
        if not self._session.steer(change):
            raise InputError("There is no run under way that could be changed.")

    def _remember_move(self, moved: np.ndarray) -> None:
        if self._by_undo:
            self._by_undo = False
            return
        back = np.linalg.inv(moved)
        self._controller.undo.push(
            "move by hand", lambda: self._again(back), lambda: self._again(moved)
        )

    def _again(self, matrix: np.ndarray) -> None:
        """A move taken back, or done again, while the hand is there."""
        if self.hand is not None:
            self._by_undo = True
            self.hand.move(matrix)
        elif self._session.state.steerable:
            self._send(Change(("Moved by hand.",), nudge=matrix), far=True)

    def _start_by_hand(self, moved: np.ndarray) -> None:
        """Without a run: the next one starts from what is seen."""
        assert self.hand is not None
        self.hand.sent(moved)
        total = np.linalg.inv(self.hand.total)
        product = self._session.product
        if product is None:
            self._controller.start_from(total, "move by hand")
            return
        from fireants_engine.transforms import Affine

        self._controller.start_from(Affine(total).then(product.result.forward), "move by hand")
