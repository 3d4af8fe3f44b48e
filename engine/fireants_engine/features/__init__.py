"""Features: what terms compare instead of intensities."""

from fireants_engine.features.labels import Distance, LabelFeatures, OneHot, common_labels
from fireants_engine.features.mind import MIND

__all__ = ["MIND", "Distance", "LabelFeatures", "OneHot", "common_labels"]
