"""Surfaces from and to files: the vertices in LPS mm, everything else as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import as_points
from fireants_engine.io.itk import file_suffix, must_exist, write_whole
from fireants_engine.io.meshes import FORMATS

GIFTI = ".gii"
SURFACE_FORMATS = (*FORMATS, GIFTI)
SPACES = ("LPS", "RAS")
_DECLARED = re.compile(rb"SPACE\s*=\s*(LPS|RAS)")
_FLIP = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Surface:
    """points_mm: vertices (n, 3) float64 in LPS mm, in the order of the file.

    space: LPS or RAS, how the file has them; the rest of the file is kept for writing.
    """

    points_mm: np.ndarray
    space: str
    suffix: str
    _content: Callable[[np.ndarray], bytes] = field(repr=False)

    def moved(self, points_mm: np.ndarray) -> Surface:
        """The same surface with other vertices."""
        if points_mm.shape != self.points_mm.shape:
            raise ValueError(f"{points_mm.shape} vertices for {self.points_mm.shape}")
        return replace(self, points_mm=points_mm)

    def content(self) -> bytes:
        """The file's bytes."""
        flip = _FLIP if self.space == "RAS" else 1.0
        return self._content(self.points_mm * flip)


def is_surface(path: str | Path) -> bool:
    """True when the extension is that of a surface."""
    return file_suffix(Path(path)) in SURFACE_FORMATS


def load_surface(path: str | Path, space: str | None = None) -> Surface:
    """The vertices of a .vtk (legacy), .ply, .stl, .obj, .off or .gii file in LPS mm.

    space: the frame in the file, `LPS` or `RAS`; default what its comments say (`SPACE=RAS`, as
    3D Slicer writes), otherwise RAS for GIfTI and LPS for the rest. GIfTI needs nibabel. Raises
    InputError naming the file for another format, a damaged file, or coordinates that are not
    finite.
    """
    path = Path(path)
    if space is not None and space not in SPACES:
        raise InputError(f"{path}: the space {space!r} is not known; choose LPS or RAS.")
    must_exist(path, "surface")
    suffix = file_suffix(path)
    if suffix not in SURFACE_FORMATS:
        raise InputError(
            f"{path}: {suffix or 'no extension'} is no known surface format; convert it to one "
            f"of {', '.join(SURFACE_FORMATS)}."
        )
    try:
        data = path.read_bytes()
        points, put = _gifti(path) if suffix == GIFTI else FORMATS[suffix](data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: the surface cannot be read ({str(error)[:100]}); export it again, for "
            "example as legacy .vtk."
        ) from None
    if space is None:
        space = "RAS" if suffix == GIFTI else _declared(data)
    points = as_points(points, 3, str(path))
    return Surface(points * _FLIP if space == "RAS" else points, space, suffix, put)


def _declared(data: bytes) -> str:
    """The frame by a comment at the beginning of the file; LPS without one."""
    found = _DECLARED.search(data[:1000])
    return "LPS" if found is None else found[1].decode()


def save_surface(surface: Surface, path: str | Path) -> Path:
    """Write a surface in the format and the space it was read in.

    Faces, scalars, colours and comments stay as they are; so do normals and coordinate system
    notes that the file holds, except the facets' normals of .stl, which are computed anew.
    Raises InputError for another extension and as `save_image`.
    """
    path = Path(path)
    check_surface_output(path, surface.suffix)
    content = surface.content()
    return write_whole(path, lambda temporary: _write(temporary, content))


def check_surface_output(path: Path, suffix: str) -> None:
    """Raise InputError unless `path` has the extension `suffix`."""
    if file_suffix(path) != suffix:
        raise InputError(
            f"{path}: a {suffix} surface is written as {suffix} again; end the name with it."
        )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _gifti(path: Path) -> tuple[np.ndarray, Callable[[np.ndarray], bytes]]:
    """The one point set of a GIfTI file; its type is kept."""
    try:
        import nibabel
        from nibabel.filebasedimages import ImageFileError
        from nibabel.gifti.gifti import GiftiImage
    except ImportError:
        raise InputError(
            f"{path}: GIfTI surfaces need nibabel; install it with "
            "pip install 'napari-fireants[surfaces]'."
        ) from None
    try:
        image: Any = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
    except (ExpatError, ImageFileError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(image, GiftiImage):
        raise ValueError("no GIfTI file")
    sets = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    if len(sets) != 1:
        raise ValueError(f"{len(sets)} point sets instead of one")

    def put(new: np.ndarray) -> bytes:
        old = sets[0].data
        sets[0].data = new.astype(old.dtype)
        try:
            return image.to_bytes()
        finally:
            sets[0].data = old

    return np.asarray(sets[0].data, dtype=np.float64), put
