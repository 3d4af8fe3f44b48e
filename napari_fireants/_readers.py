"""What this plugin opens in napari: images, slides, transforms, points and run folders.

Each `get_..._reader` says by the file's first bytes whether it is one of ours; what it gives reads
it. An error is one sentence; notes are shown as napari's notifications.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._read_images import LayerData, Opened

PLUGIN = "napari-fireants"
Paths = str | Path | Sequence[str | Path]
Reader = Callable[[Paths], list[LayerData]]

_FIRST_BYTES = {
    ".mat": b"Transform_",
    ".tfm": b"#Insight Transform File",
    ".txt": b"#Insight Transform File",
    ".xfm": b"MNI Transform File",
    ".h5": b"TransformGroup",
    ".hdf5": b"TransformGroup",
}
"""What stands in the beginning of a transform file."""


def get_image_reader(path: Paths) -> Reader | None:
    """NIfTI, NRRD and MetaImage: images, labels and displacement fields."""
    from napari_fireants._read_images import open_image

    return _reader(path, lambda _: True, open_image)


def get_transform_reader(path: Paths) -> Reader | None:
    """Transforms of ITK and ANTs; other files with the same extensions are left to others."""
    from napari_fireants._read_warps import open_transform

    return _reader(path, _is_transform, open_transform)


def get_points_reader(path: Paths) -> Reader | None:
    """Lists of points of Slicer."""
    from napari_fireants._read_images import open_points

    return _reader(path, lambda _: True, open_points)


def get_slide_reader(path: Paths) -> Reader | None:
    """OME-TIFF, OME-Zarr and scanners' slides, level by level."""
    from napari_fireants._read_slides import is_slide, open_slide

    return _reader(path, is_slide, open_slide)


def get_run_reader(path: Paths) -> Reader | None:
    """Folders that a run was saved to, or the report in one."""
    from napari_fireants._read_runs import is_run, open_run

    return _reader(path, is_run, open_run)


def _is_transform(path: Path) -> bool:
    sign = _FIRST_BYTES.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            return sign is not None and sign in file.read(65536)
    except OSError:
        return False


def _reader(
    given: Paths, ours: Callable[[Path], bool], opens: Callable[[Path], Opened]
) -> Reader | None:
    """A reader for one path or several, or None when one of them is not ours."""
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(each) for each in given]
    if not paths or not all(ours(path) for path in paths):
        return None

    def read(_: Paths) -> list[LayerData]:
        if len(paths) > 1:
            raise InputError(
                f"{paths[0].name} and {len(paths) - 1} more: files are not stacked; open them "
                "without 'as stack', each as a layer where it lies."
            )
        try:
            layers, notes = opens(paths[0])
        except FireantsError as error:
            _tell_where_napari_does_not(paths[0], str(error))
            raise
        if notes:
            _show(notes)
        return layers

    return read


def _show(notes: Sequence[str]) -> None:
    from napari.utils.notifications import show_info

    for note in notes:
        show_info(note)


def _tell_where_napari_does_not(path: Path, sentence: str) -> None:
    """With a remembered reader napari asks for another one and keeps the sentence back."""
    from napari.plugins.utils import get_preferred_reader
    from napari.utils.notifications import show_error

    if get_preferred_reader(path) == PLUGIN:
        show_error(sentence)
