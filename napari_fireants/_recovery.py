"""Folders of sessions that are at work, and of those that ended without a farewell. No Qt.

A folder belongs to a process as long as that holds its lock, which ends with the process however
that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from fireants_engine.errors import InputError
from napari_fireants._autosave import user_folder

FILE, SUFFIX = "session.json", ".fireants"
"""What a session's folder holds, and how its name ends."""
LOCK = "lock"
FORGOTTEN_SECONDS = 3600.0
"""After this time, a folder that nobody holds and that has no session is deleted."""


def sessions_folder() -> Path:
    """Where every window keeps its session."""
    return user_folder() / "sessions"


class Hold:
    """A folder of one's own, made and locked when first needed, deleted by `release`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or sessions_folder() / uuid.uuid4().hex[:12]
        self._file: Any = None

    def take(self) -> bool:
        """Make and lock the folder; False if another process holds it.

        Raises InputError where it cannot be written.
        """
        if self._file is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = _locked(self.folder / LOCK)
            except OSError as error:
                raise InputError(
                    f"{self.folder}: cannot be written ({error.strerror or error}); free some "
                    "space, or set FIREANTS_USER_FOLDER to another folder."
                ) from None
        return self._file is not None

    def release(self, delete: bool = True) -> None:
        """Let go of it."""
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)


def _locked(path: Path) -> Any:
    """The file opened and locked, None if somebody else holds it."""
    file = path.open("a+b")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def left_behind() -> list[Hold]:
    """Sessions that ended unexpectedly, newest first; each is held until it is released.

    Folders without a session, which nobody holds, are deleted after an hour.
    """
    found = []
    try:
        folders = [path for path in sessions_folder().iterdir() if path.is_dir()]
    except OSError:
        return []
    for folder in folders:
        with contextlib.suppress(OSError, InputError):
            whole = (folder / FILE).is_file()
            when = os.stat(folder / FILE if whole else folder).st_mtime
            if not whole and time.time() - when < FORGOTTEN_SECONDS:
                continue
            hold = Hold(folder)
            if hold.take():
                found.append((when, whole, hold))
    for _, whole, hold in found:
        if not whole:
            hold.release()
    kept = sorted((item for item in found if item[1]), key=lambda item: -item[0])
    return [hold for _, _, hold in kept]
