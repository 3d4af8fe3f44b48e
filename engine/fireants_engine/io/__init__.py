"""Files: images, points and transforms, as ITK and ANTs read and write them.

Names are imported when first used, so that reading an array or points needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "NamedPoints": "markups",
    "PointTable": "points",
    "Series": "series",
    "load_grid": "series",
    "load_image": "images",
    "load_landmarks": "landmarks",
    "load_named_points": "markups",
    "load_points": "points",
    "load_series": "series",
    "load_transform": "transforms",
    "paired": "landmarks",
    "save_affine": "transforms",
    "save_displacement": "transforms",
    "save_image": "images",
    "save_landmarks": "landmarks",
    "save_named_points": "markups",
    "save_points": "points",
    "save_series": "series",
}

__all__ = [
    "NamedPoints",
    "PointTable",
    "Series",
    "load_grid",
    "load_image",
    "load_landmarks",
    "load_named_points",
    "load_points",
    "load_series",
    "load_transform",
    "paired",
    "save_affine",
    "save_displacement",
    "save_image",
    "save_landmarks",
    "save_named_points",
    "save_points",
    "save_series",
]

if TYPE_CHECKING:
    from fireants_engine.io.images import load_image, save_image
    from fireants_engine.io.landmarks import load_landmarks, paired, save_landmarks
    from fireants_engine.io.markups import NamedPoints, load_named_points, save_named_points
    from fireants_engine.io.points import PointTable, load_points, save_points
    from fireants_engine.io.series import Series, load_grid, load_series, save_series
    from fireants_engine.io.transforms import load_transform, save_affine, save_displacement


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"fireants_engine.io.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
