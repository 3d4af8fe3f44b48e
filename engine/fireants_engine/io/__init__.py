"""Files: images, points and transforms, as ITK and ANTs read and write them."""

from fireants_engine.io.images import load_image, save_image
from fireants_engine.io.landmarks import load_landmarks, paired, save_landmarks
from fireants_engine.io.markups import NamedPoints, load_named_points, save_named_points
from fireants_engine.io.points import PointTable, load_points, save_points
from fireants_engine.io.series import Series, load_grid, load_series, save_series
from fireants_engine.io.transforms import load_transform, save_affine, save_displacement

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
