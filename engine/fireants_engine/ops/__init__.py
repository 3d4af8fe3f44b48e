"""Operations on whole images and fields."""

from fireants_engine.ops.jacobian import count_folds, jacobian_determinant, strict_fold_mask
from fireants_engine.ops.resample import as_label_values, warp_each, warp_image, warp_labels
from fireants_engine.ops.tiles import apply_tiled

__all__ = [
    "apply_tiled",
    "as_label_values",
    "count_folds",
    "jacobian_determinant",
    "strict_fold_mask",
    "warp_each",
    "warp_image",
    "warp_labels",
]
