"""Pictures of a running or finished registration: pacing, and composition with numpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")
PREVIEW_SECONDS = 0.125
"""Shortest time between two previews: at most 8 a second."""
OVERHEAD = 0.03
"""Largest share of a run's time that previews may take."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """The picture to ask for: a plane (array axis, index), or the volume at `shrink`.

    warp: with the deformation there; points_mm: fixed points (LPS mm) to be mapped as well.
    """

    planes: tuple[tuple[int, int], ...] = ()
    shrink: float | None = None
    warp: bool = False
    points_mm: np.ndarray | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal pictures of a state."""
        points = None if self.points_mm is None else self.points_mm.tobytes()
        return self.planes, self.shrink, self.warp, points


@dataclass(frozen=True, eq=False)
class Frames:
    """The newest of a run for the eye.

    images: key -> float32 grey array on the fixed grid, key (array axis, index) or None for the
    whole; warps: key -> the engine's Displacement there (of a plane: on three planes, the shown
    one in the middle), when asked for; points_mm: the points asked for, in the moving image.
    change: number of the newest change that the run follows.
    """

    images: Mapping[Any, np.ndarray]
    warps: Mapping[Any, Any] = field(default_factory=dict)
    points_mm: np.ndarray | None = None
    change: int = 0


@dataclass(frozen=True, eq=False)
class Pictures:
    """A finished run for the eye, on the fixed grid: full values, and bytes for the views."""

    moved: np.ndarray
    fixed_bytes: np.ndarray
    moved_bytes: np.ndarray
    before_bytes: np.ndarray
    labels: np.ndarray | None = None


class Mailbox(Generic[T]):
    """One slot for the newest of something: whoever reads late sees only the latest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: T | None = None

    def put(self, newest: T) -> None:
        with self._lock:
            self._newest = newest

    def take(self) -> T | None:
        """The newest, once."""
        with self._lock:
            newest, self._newest = self._newest, None
        return newest


class Pace:
    """When the next preview may be asked for, given what the last ones cost."""

    def __init__(self, seconds: float = PREVIEW_SECONDS, overhead: float = OVERHEAD) -> None:
        self._seconds = seconds
        self._overhead = overhead
        self._next = 0.0

    def due(self, now: float | None = None) -> bool:
        return (time.perf_counter() if now is None else now) >= self._next

    def asked(self, now: float | None = None) -> None:
        now = time.perf_counter() if now is None else now
        self._next = max(self._next, now + self._seconds)

    def cost(self, seconds: float, now: float | None = None) -> None:
        """A preview took `seconds`: rest long enough that previews stay a small share."""
        now = time.perf_counter() if now is None else now
        self._next = max(self._next, now + seconds / self._overhead)


def to_bytes(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """`array` as uint8, `limits` mapped to 0..255 and clipped."""
    low, high = limits
    scaled = (np.asarray(array, dtype=np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def grey(array: np.ndarray, spatial: int) -> np.ndarray:
    """The mean of the channels (last axis) when there are any beyond `spatial` axes."""
    return array.mean(axis=-1, dtype=np.float32) if array.ndim > spatial else array


def robust_limits(array: np.ndarray, samples: int = 200_000) -> tuple[float, float]:
    """Least and 99.8 percentile value on evenly spaced samples: contrast limits."""
    flat = np.asarray(array).reshape(-1)
    thin = flat[:: max(1, flat.size // samples)]
    thin = thin[np.isfinite(thin)] if thin.dtype.kind == "f" else thin
    if thin.size == 0:
        return 0.0, 1.0
    low, high = float(thin.min()), float(np.percentile(thin, 99.8))
    return (low, high) if high > low else (low, low + 1.0)


def checker_mask(
    shape: Sequence[int],
    spacing: Sequence[float],
    squares: int,
    key: tuple[int, int] | None = None,
) -> np.ndarray:
    """Boolean pattern of equal-sided squares (cubes), `squares` along the longest physical axis.

    key: (axis, index) of the one plane of it that is wanted.
    """
    extent = np.asarray(shape) * np.asarray(spacing)
    side = float(extent.max()) / max(1, squares)
    mask = np.zeros((1,) * len(shape), dtype=bool)
    for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        odd = (np.arange(n) * step // side).astype(int) % 2 == 1
        if key is not None and key[0] == axis:
            odd = odd[key[1] : key[1] + 1]
        mask = mask ^ odd.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return mask


def checkerboard(
    a: np.ndarray,
    b: np.ndarray,
    spacing: Sequence[float],
    squares: int,
    whole: Sequence[int] = (),
    key: tuple[int, int] | None = None,
) -> np.ndarray:
    """Squares of `a` and `b` in turn; both of one shape and intensity scale.

    whole, key: of planes of a volume, its shape and (axis, index) of the plane.
    """
    return np.where(checker_mask(whole or a.shape, spacing, squares, key), b, a)


def enlarge(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`array` at `shape` by nearest neighbour (same field of view)."""
    for axis, n in enumerate(shape):
        if array.shape[axis] != n:
            index = ((np.arange(n) + 0.5) * array.shape[axis] / n).astype(int)
            array = array.take(index, axis=axis)
    return array
