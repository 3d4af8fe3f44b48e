"""Control: the small handle by which another thread pauses, steers and stops a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fireants_engine.pipeline.steering import Edit, Place


@dataclass(frozen=True, eq=False)
class PreviewRequest:
    """planes: (array axis, index) on the fixed grid; or `volume_shrink` for the whole volume.

    warp: the deformable part is wanted there, too; points_mm: (n, d) points of the fixed image
    (LPS mm) to be mapped; found: what the deformation tells beyond its map is wanted
    (`Deformation.found`), whatever the planes are.
    """

    planes: tuple[tuple[int, int], ...] = ()
    volume_shrink: float | None = None
    warp: bool = False
    points_mm: np.ndarray | None = None
    found: bool = False

    @property
    def of_map(self) -> bool:
        """Something is wanted for which the map has to be known."""
        return bool(self.planes) or self.volume_shrink is not None or self.points_mm is not None


class Control:
    """Thread-safe; holds no tensors of the run.

    A run looks at it between two steps. Not pulling the next event pauses as well; a run that is
    held by `pause` still takes edits and makes previews.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop = self._paused = False
        self._request: PreviewRequest | None = None
        self._edits: list[Edit] = []

    # ----------------------------------------------------------- who steers
    def stop(self) -> None:
        """End at the next step with the best state so far."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()

    def pause(self) -> None:
        """Hold the run before its next step."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def request_preview(self, request: PreviewRequest) -> None:
        """Ask for one Preview event; only the newest request counts."""
        with self._changed:
            self._request = request
            self._changed.notify_all()

    def update(self, edit: Edit) -> None:
        """Change the run before its next step (see `Edit`); in the order of the calls."""
        with self._changed:
            self._edits.append(edit)
            self._changed.notify_all()

    # ----------------------------------------------------------- the run
    @property
    def stopped(self) -> bool:
        return self._stop

    @property
    def paused(self) -> bool:
        """The run is to be held; a stop lets it go."""
        return self._paused and not self._stop

    @property
    def pending(self) -> Sequence[Edit]:
        """Edits that no step has taken yet."""
        return tuple(self._edits)

    def take_request(self) -> PreviewRequest | None:
        """The newest request, once."""
        if self._request is None:
            return None
        with self._changed:
            request, self._request = self._request, None
            return request

    def take_edits(self, place: Place) -> Sequence[Edit]:
        """Edits to be made before the step at `place`, once."""
        if not self._edits:
            return ()
        with self._changed:
            due = [edit for edit in self._edits if edit.at is None or edit.at <= place]
            self._edits = [edit for edit in self._edits if edit not in due]
            return due

    def pass_by(self, place: Place) -> None:
        """A stage or level is about to begin: a stop that was recorded here is made again."""
        if any(edit.stop and edit.at is not None and edit.at <= place for edit in self._edits):
            self.stop()

    def hold(self) -> float:
        """Wait until there is something to do, or a while; seconds that it took."""
        started = time.perf_counter()
        with self._changed:
            if self.paused and self._request is None and not self._edits:
                self._changed.wait(0.1)
        return time.perf_counter() - started
