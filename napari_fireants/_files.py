"""Files that a session refers to: whether they are still there, and the same. No Qt.

Reading and hashing are slow: call them off the GUI thread. Hashes are kept by path, size and time
of change.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from fireants_engine.errors import InputError
from napari_fireants._objects import Objects, content_hash

Stamp = tuple[str, int, int]


class Plain(BaseModel):
    """Values of a session file: checked, frozen, and without unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FileRef(Plain):
    """A file as it was: where, of how many bytes, with which content (sha256)."""

    path: str
    sha256: str
    bytes: int


class ArrayRef(Plain):
    """An array: what a file holds, else an object or a file inside the session's folder.

    content: its hash, in the type that it has in the viewer (a file may hold a narrower one).
    axes: in which order it has those of the file.
    """

    dtype: str
    content: str
    file: FileRef | None = None
    axes: tuple[int, ...] = ()
    object: str | None = None
    inside: str | None = None


class Files:
    """What is known about files so far. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes: dict[Stamp, str] = {}
        self._contents: dict[tuple[Any, ...], tuple[int, ...] | None] = {}
        self._found: dict[str, str] = {}

    @staticmethod
    def _stamp(path: str) -> Stamp:
        try:
            known = os.stat(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
        return str(Path(path).resolve()), known.st_size, known.st_mtime_ns

    def refer(self, path: str) -> FileRef:
        """The file as it is now; raises InputError when it cannot be read."""
        stamp = self._stamp(path)
        with self._lock:
            if stamp not in self._hashes:
                with open(path, "rb") as file:
                    self._hashes[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
            return FileRef(path=stamp[0], sha256=self._hashes[stamp], bytes=stamp[1])

    def holds(self, path: str | None, array: np.ndarray, content: str) -> tuple[int, ...] | None:
        """The order of axes in which reading the file gives `array`, whose hash is `content`.

        None where it does not, in any.
        """
        if path is None or not os.path.isfile(path):
            return None
        try:
            key = self._stamp(path), content
            if key not in self._contents:
                self._contents[key] = _order(read_array(path), array, content)
            return self._contents[key]
        except (InputError, OSError, ValueError):
            return None

    def put(self, array: np.ndarray, path: str | None, objects: Objects) -> ArrayRef:
        """Refer to the file that holds `array`, else write it among `objects`."""
        array = np.ascontiguousarray(array)
        ref = ArrayRef(dtype=array.dtype.str, content=content_hash(array))
        axes = self.holds(path, array, ref.content)
        if path is None or axes is None:
            return ref.model_copy(update={"object": objects.put(array)})
        return ref.model_copy(update={"file": self.refer(path), "axes": axes})

    def moved(self, file: FileRef, path: str) -> None:
        """The file lies at `path` now."""
        self._found[file.path] = path

    def where(self, file: FileRef, near: Iterable[Path] = ()) -> str | None:
        """Its present path: as known, or under its name in one of the folders `near`."""
        places = [self._found.get(file.path, file.path)]
        places += [str(folder / Path(file.path).name) for folder in near]
        return next((place for place in places if os.path.isfile(place)), None)

    def changed(self, file: FileRef, path: str) -> bool:
        """Its content is another than it was."""
        return os.path.getsize(path) != file.bytes or self.refer(path).sha256 != file.sha256

    def get(self, ref: ArrayRef, objects: Objects, inside: Path | None = None) -> np.ndarray:
        """The array again; raises InputError when its file is gone or does not fit any more."""
        if ref.object is not None:
            return objects.get(ref.object)
        if ref.inside is not None and inside is not None:
            array = read_array(str(inside / ref.inside)).astype(np.dtype(ref.dtype))
            if content_hash(array) != ref.content:
                raise InputError(f"{inside / ref.inside}: was changed since the session was saved.")
            return array
        if ref.file is None:
            raise InputError("The session is damaged: it does not say where an array is.")
        path = self.where(ref.file)
        if path is None:
            raise InputError(f"{ref.file.path}: the file is gone; put it back or open it anew.")
        found = read_array(path)
        if sorted(ref.axes) != list(range(found.ndim)):
            raise InputError(f"{path}: holds another kind of image than it did; open it anew.")
        return np.ascontiguousarray(found.transpose(ref.axes).astype(np.dtype(ref.dtype)))


def _order(found: np.ndarray, array: np.ndarray, content: str) -> tuple[int, ...] | None:
    """A reader may have stored the axes in another order than the file does."""
    if found.ndim != array.ndim:
        return None
    for axes in permutations(range(found.ndim)):
        turned = found.transpose(axes)
        if turned.shape == array.shape and content_hash(turned.astype(array.dtype)) == content:
            return axes
    return None


def read_array(path: str) -> np.ndarray:
    """What an image file holds, channels last, in its own type."""
    import SimpleITK as sitk

    from fireants_engine.io.itk import read

    array = sitk.GetArrayFromImage(read(Path(path)))
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    return array


def checked(make: Callable[[], Any], what: str) -> Any:
    """`make()`, a pydantic error as one sentence that begins with `what`."""
    try:
        return make()
    except (ValueError, KeyError, TypeError) as error:
        errors = getattr(error, "errors", list)()
        where = ".".join(str(part) for part in errors[0]["loc"]) if errors else ""
        hint = f" (at {where})" if where else ""
        raise InputError(
            f"{what}: this session is damaged or of another program{hint}; open another one, or "
            "a copy of it."
        ) from None


@dataclass(frozen=True)
class Question:
    """A file that is not where or what it was, and what it is for."""

    file: FileRef
    role: str
