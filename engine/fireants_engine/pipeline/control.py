"""Control: the small handle by which another thread stops a run or asks for a picture."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class PreviewRequest:
    """planes: (array axis, index) on the fixed grid; or `volume_shrink` for the whole volume.

    warp: the deformable part is wanted there, too; points_mm: (n, d) points of the fixed image
    (LPS mm) to be mapped.
    """

    planes: tuple[tuple[int, int], ...] = ()
    volume_shrink: float | None = None
    warp: bool = False
    points_mm: np.ndarray | None = None


class Control:
    """Thread-safe; holds no tensors. Pausing is simply not pulling the next event."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._request: PreviewRequest | None = None

    def stop(self) -> None:
        """End at the next step with the best state so far."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def request_preview(self, request: PreviewRequest) -> None:
        """Ask for one Preview event; only the newest request counts."""
        with self._lock:
            self._request = request

    def take_request(self) -> PreviewRequest | None:
        """The newest request, once."""
        if self._request is None:
            return None
        with self._lock:
            request, self._request = self._request, None
            return request
