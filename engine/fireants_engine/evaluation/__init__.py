"""Measures of how good a registration is. NumPy only: they judge any program's result."""

from fireants_engine.evaluation.landmarks import LandmarkError, target_registration_error
from fireants_engine.evaluation.overlap import (
    LabelOverlap,
    dice_per_label,
    label_overlap,
    mean_dice,
)

__all__ = [
    "LabelOverlap",
    "LandmarkError",
    "dice_per_label",
    "label_overlap",
    "mean_dice",
    "target_registration_error",
]
