"""Landmarks kept safe while they are being set, for the case that the program ends. No Qt."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_fireants._landmarks import Content, LandmarkTable, Row

SECONDS = 3.0
"""Shortest time between two automatic saves."""


def user_folder() -> Path:
    """Where this program keeps what belongs to whoever uses it; $FIREANTS_USER_FOLDER wins."""
    told = os.environ.get("FIREANTS_USER_FOLDER")
    if told:
        return Path(told)
    from platformdirs import user_data_path

    return user_data_path("napari-fireants", appauthor=False)


@dataclass(frozen=True)
class Kept:
    """Landmarks that were never saved to a file: of which images, when, and what."""

    path: Path
    fixed: str
    moving: str
    when: float
    content: Content

    @property
    def sentence(self) -> str:
        count = len(self.content.rows)
        day = time.strftime("%d %b, %H:%M", time.localtime(self.when))
        what = f"{count} landmark{'s' if count > 1 else ''} of {self.fixed} and {self.moving}"
        return f"{what} ({day}) were not saved to a file."


class Autosave:
    """Writes the table to a file of its own a little after every change, in a thread.

    The file goes when the landmarks were saved or are gone; whatever else ends the program leaves
    it for the next. names: of the fixed and the moving image, for people.
    """

    def __init__(
        self,
        table: LandmarkTable,
        names: Callable[[], tuple[str, str]] = lambda: ("fixed", "moving"),
        seconds: float = SECONDS,
    ) -> None:
        self.folder = user_folder() / "landmarks"
        self.path = self.folder / f"{uuid.uuid4().hex[:12]}.json"
        self._table, self._names, self._seconds = table, names, seconds
        self._safe: tuple[Row, ...] = ()
        self._written: Content | None = None
        self._last = -float("inf")
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        table.changed.connect(self._changed)

    def saved(self, rows: tuple[Row, ...]) -> None:
        """These landmarks are in a file of the person's."""
        self._safe = rows
        self.flush()

    def _changed(self) -> None:
        with self._lock:
            if self._timer is None:
                wait = max(0.0, self._last + self._seconds - time.monotonic())
                self._timer = threading.Timer(wait, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write now what is not written yet."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._last = None, time.monotonic()
            content = self._table.content
            if not content.rows or content.rows == self._safe:
                self._written = None
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
            elif content != self._written:
                with contextlib.suppress(OSError):  # a full disk must not end the session
                    self._write(content)
                    self._written = content

    def close(self) -> None:
        """Write what is left and follow the table no longer."""
        with contextlib.suppress(ValueError):
            self._table.changed.disconnect(self._changed)
        self.flush()

    def _write(self, content: Content) -> None:
        fixed, moving = self._names()
        data = {"format": 1, "fixed": fixed, "moving": moving, "when": time.time()}
        data["content"] = content.to_dict()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(data), encoding="utf-8")
        os.replace(partial, self.path)

    # ------------------------------------------------------------ of an earlier session
    def found(self) -> Kept | None:
        """The newest landmarks that another session left unsaved; damaged files do not count."""
        try:
            files = [path for path in self.folder.glob("*.json") if path != self.path]
        except OSError:
            return None
        kept = [each for each in map(_read, files) if each is not None]
        return max(kept, key=lambda each: each.when, default=None)

    def recover(self, kept: Kept) -> None:
        """Add them to the table, as one step; they are this session's from now on."""
        table = self._table
        rows = [replace(row, key=table.fresh().key) for row in kept.content.rows]
        table.put_rows([*table.rows, *rows], "landmarks recovered")
        self.flush()
        if self.path.exists():
            self.discard(kept)

    @staticmethod
    def discard(kept: Kept) -> None:
        kept.path.unlink(missing_ok=True)


def _read(path: Path) -> Kept | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content = Content.from_dict(data["content"])
        return Kept(path, str(data["fixed"]), str(data["moving"]), float(data["when"]), content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
