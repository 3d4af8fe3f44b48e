"""Physical space: grids, images on them, points in it."""

from fireants_engine.geometry.encoding import Encoding
from fireants_engine.geometry.grid import Frame, Grid, apply_linear, apply_matrix
from fireants_engine.geometry.image import Image, check_pair, check_registrable
from fireants_engine.geometry.points import Landmarks, as_points

__all__ = [
    "Encoding",
    "Frame",
    "Grid",
    "Image",
    "Landmarks",
    "apply_linear",
    "apply_matrix",
    "as_points",
    "check_pair",
    "check_registrable",
]
