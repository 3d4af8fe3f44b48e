"""Arrays and values in a folder, each a file under the hash of its content. No Qt, no torch.

What is there already is never written again, and what has a name never changes: a folder of them
is shared between the runs of a history, an autosave and a saved session by links.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError

DIGITS = 32
FOLDER = "objects"


def content_hash(array: np.ndarray) -> str:
    """Of type, shape and values; by sha256."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()[:DIGITS]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)`, then the file takes its name; nothing half-written is left.

    Raises InputError where the disk does not take it.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be written ({error.strerror or error}); free some space or "
            "choose another folder."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class Objects:
    """The files of one folder: NAME.npy for arrays, NAME.json for plain values. Any thread."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._inside: dict[str, set[str]] = {}

    def path(self, name: str) -> Path:
        """Raises InputError for what is no name of an object."""
        stem, _, suffix = name.partition(".")
        if suffix not in ("npy", "json") or not stem.isalnum():
            raise InputError(f"{self.folder}: {name!r} is no part of a session.")
        return self.folder / name

    @property
    def names(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        return {f.name for f in self.folder.iterdir() if not f.name.startswith(".")}

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum((self.folder / name).stat().st_size for name in self.names)

    # ------------------------------------------------------------ in
    def put(self, array: np.ndarray) -> str:
        """Write an array unless it is there; its name."""
        array = np.ascontiguousarray(array)
        name = f"{content_hash(array)}.npy"

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=False)

        self._write(name, write)
        return name

    def put_json(self, value: Any) -> str:
        """Write plain values unless they are there; their name. NaN is not plain."""
        text = json.dumps(value, allow_nan=False, sort_keys=True).encode()
        name = f"{hashlib.sha256(text).hexdigest()[:DIGITS]}.json"
        self._write(name, lambda path: path.write_bytes(text))
        return name

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        with self._lock:
            if not self.path(name).exists():
                write_whole(self.path(name), write)

    def link(self, name: str, other: Objects) -> None:
        """Take a file of another folder: by a link, by a copy where there cannot be one."""
        source, target = other.path(name), self.path(name)

        def write(path: Path) -> None:
            try:
                os.link(source, path)
            except OSError:
                shutil.copyfile(source, path)

        with self._lock:
            if not target.exists() and source.exists():
                write_whole(target, write)

    # ------------------------------------------------------------ out
    def get(self, name: str) -> np.ndarray:
        """Raises InputError where the file is missing or not what it was."""
        try:
            array = np.load(self.path(name), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise self._damaged(name) from None
        if f"{content_hash(array)}.npy" != name:
            raise self._damaged(name)
        return array

    def get_json(self, name: str) -> Any:
        """Raises InputError where the file is missing or not what it was."""
        try:
            text = self.path(name).read_bytes()
        except OSError:
            raise self._damaged(name) from None
        if not name.startswith(hashlib.sha256(text).hexdigest()[:DIGITS]):
            raise self._damaged(name)
        return json.loads(text)

    def inside(self, name: str) -> set[str]:
        """Names of the objects that a file of plain values refers to."""
        if name not in self._inside:
            self._inside[name] = names_in(self.get_json(name))
        return self._inside[name]

    def _damaged(self, name: str) -> InputError:
        return InputError(
            f"{self.path(name)}: this part of a session is missing or damaged; restore the folder "
            "from a copy."
        )

    def keep_only(self, names: Iterable[str]) -> None:
        """Delete all others."""
        with self._lock:
            for name in self.names - set(names):
                self.path(name).unlink(missing_ok=True)


def names_in(value: Any) -> set[str]:
    """Names of objects anywhere in plain values."""
    if isinstance(value, dict):
        return set().union(*(names_in(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(names_in(item) for item in value))
    if isinstance(value, str):
        stem, _, suffix = value.partition(".")
        if suffix in ("npy", "json") and len(stem) == DIGITS and stem.isalnum():
            return {value}
    return set()
