"""What a stage optimises."""

from fireants_engine.deformations.base import Deformation, Folds, Pair, Views
from fireants_engine.deformations.compositive import Compositive
from fireants_engine.deformations.linear import AffineMap, Rigid, Similarity, Translation

__all__ = [
    "AffineMap",
    "Compositive",
    "Deformation",
    "Folds",
    "Pair",
    "Rigid",
    "Similarity",
    "Translation",
    "Views",
]
