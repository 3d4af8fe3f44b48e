"""Recipe parts: what a stage's loss is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fireants_engine.recipe.spec import Spec, setting

NonNegative = Annotated[float, Field(ge=0)]


# ------------------------------------------------------------------ features
class IntensityFeatures(Spec):
    """The intensities themselves."""

    kind: Literal["intensity"] = "intensity"


class MINDFeatures(Spec):
    """MIND-SSC: self-similarity of each voxel's neighbourhood, alike in every modality."""

    kind: Literal["mind"] = "mind"
    radius_vox: int = setting(
        1, "Half width of the patches that are compared.", title="Patch radius",
        unit="voxels", ge=1, le=5,
    )  # fmt: skip
    dilation_vox: int = setting(
        2, "Distance of the neighbours from the voxel.", title="Dilation", unit="voxels",
        ge=1, le=8,
    )  # fmt: skip


FeatureSpec = Annotated[IntensityFeatures | MINDFeatures, Field(discriminator="kind")]


# ------------------------------------------------------------------ what all terms have
class _TermSpec(Spec):
    """What every term has."""

    kind: Any
    weight: float = setting(1.0, "Factor in the stage's loss.", title="Weight", gt=0)
    level_weights: tuple[NonNegative, ...] = setting(
        (), "Further factors per level, coarse to fine; the last holds for the rest; empty: 1.",
        title="Weight per level", advanced=True,
    )  # fmt: skip


def _masks() -> Any:
    return setting("both", "Whose masks count in this term.", title="Masks", advanced=True)


Masks = Literal["both", "fixed", "moving", "none"]


class _ImageTermSpec(_TermSpec):
    """What every term that compares images has."""

    input: str = setting(
        "image", "Name of the images this term compares: image, or one given as --input NAME.",
        title="Input", min_length=1, advanced=True,
    )  # fmt: skip
    channels: tuple[Annotated[int, Field(ge=0)], ...] = setting(
        (), "Numbers of the channels that count, from 0; empty: all.", title="Channels",
        advanced=True,
    )  # fmt: skip
    masks: Masks = _masks()


def _features() -> Any:
    return Field(
        default=IntensityFeatures(),
        title="Features",
        description="What is compared instead of intensities.",
        json_schema_extra={"advanced": True},
    )


# ------------------------------------------------------------------ similarities
class SSDSpec(_ImageTermSpec):
    """Sum of squared differences: same modality and intensities, or features."""

    kind: Literal["ssd"] = "ssd"
    features: FeatureSpec = _features()


class NCCSpec(_ImageTermSpec):
    """Global correlation coefficient: one contrast, any gain and offset."""

    kind: Literal["ncc"] = "ncc"
    squared: bool = setting(
        False, "Squared correlation also matches inverted contrast.", title="Squared"
    )
    features: FeatureSpec = _features()


class LNCCSpec(_ImageTermSpec):
    """Local normalised cross-correlation: same structures, uneven intensities."""

    kind: Literal["lncc"] = "lncc"
    radius_vox: int = setting(
        2, "Half width of the window.", title="Window radius", unit="voxels", ge=1, le=20
    )
    squared: bool = setting(
        True, "Squared correlation also matches inverted contrast.", title="Squared"
    )
    window: Literal["box", "gaussian"] = setting(
        "box", "Shape of the window.", title="Window", advanced=True
    )
    gradient: Literal["exact", "approximate"] = setting(
        "exact", "approximate: only the window around each voxel, as ITK does; faster.",
        title="Gradient", advanced=True,
    )  # fmt: skip
    level_radii_vox: tuple[Annotated[int, Field(ge=1, le=20)], ...] = setting(
        (), "Window radius per level, coarse to fine; the last holds for the rest; empty: "
        "the same everywhere.", title="Radius per level", unit="voxels", advanced=True,
    )  # fmt: skip
    features: FeatureSpec = _features()


class MISpec(_ImageTermSpec):
    """Mutual information: different contrasts or modalities."""

    kind: Literal["mi"] = "mi"
    bins: int = setting(32, "Histogram bins per image.", title="Bins", ge=8, le=256)
    normalised: bool = setting(
        False, "Normalised mutual information (Studholme): less drawn by overlap.",
        title="Normalised",
    )  # fmt: skip
    window: Literal["bspline", "gaussian", "linear"] = setting(
        "bspline", "Shape of the Parzen window; bspline is Mattes'.", title="Window",
        advanced=True,
    )  # fmt: skip
    histogram: Literal["exact", "approximate"] = setting(
        "exact", "approximate: counts both images in their nearest bins and smooths the counts "
        "with the window; faster.", title="Histogram", advanced=True,
    )  # fmt: skip


def _labels() -> Any:
    return setting(
        (), "Label values that count; empty: all that both label maps have.", title="Labels"
    )


class DiceSpec(_TermSpec):
    """Soft Dice overlap of label maps."""

    kind: Literal["dice"] = "dice"
    labels: tuple[int, ...] = _labels()
    masks: Masks = _masks()


class ContourSpec(_TermSpec):
    """Squared difference of the distances to the contours of labels."""

    kind: Literal["contour"] = "contour"
    labels: tuple[int, ...] = _labels()
    limit_mm: float = setting(
        10.0, "Distances beyond this count as this.", title="Reach", unit="mm", gt=0, le=1000
    )
    masks: Masks = _masks()


class LandmarksSpec(_TermSpec):
    """Mean squared distance of corresponding points, in mm."""

    kind: Literal["landmarks"] = "landmarks"
    robust_mm: float = setting(
        0.0, "Distances beyond this pull no harder than it (Huber); 0: never.",
        title="Outliers beyond", unit="mm", ge=0, le=1000,
    )  # fmt: skip


class StructuralSpec(_TermSpec):
    """A T1 or T2 image of the true anatomy beside EPI volumes (input `structural`)."""

    kind: Literal["structural"] = "structural"
    measure: Literal["mi", "lncc"] = setting(
        "mi", "mi: any contrast; lncc: local correlation.", title="Measure"
    )


SimilaritySpec = (
    SSDSpec | NCCSpec | LNCCSpec | MISpec | DiceSpec | ContourSpec | LandmarksSpec | StructuralSpec
)


# ------------------------------------------------------------------ regularisers
class DiffusionSpec(_TermSpec):
    """Diffusion |grad u|^2, or total variation |grad u|: a smooth displacement."""

    kind: Literal["diffusion"] = "diffusion"
    power: Literal[1, 2] = setting(
        2, "2: diffusion. 1: total variation, which lets regions slide.", title="Power"
    )
    axis_weights: tuple[NonNegative, ...] = setting(
        (), "Factor of the squared derivative along each voxel axis i, j(, k) of the fixed image; "
        "0, 0, 1: only between neighbouring slices; empty: all the same.",
        title="Axis weights", max_length=3, advanced=True,
    )  # fmt: skip

    @field_validator("axis_weights")
    @classmethod
    def _some_axis_counts(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value and len(value) < 2:
            raise ValueError("give one number per voxel axis (2 or 3), or none")
        if value and not any(value):
            raise ValueError("no axis counts, so the term would be 0; leave one above 0")
        return value


class ElasticSpec(_TermSpec):
    """Elastic: first plus second order."""

    kind: Literal["elastic"] = "elastic"
    alpha: float = setting(1.0, "Factor of the first order.", title="alpha", ge=0, le=1e6)
    beta: float = setting(1.0, "Factor of the second order.", title="beta", ge=0, le=1e6)


class LaplacianSpec(_TermSpec):
    """Laplacian |Delta u|^2."""

    kind: Literal["laplacian"] = "laplacian"


class JacobianSpec(_TermSpec):
    """Jacobian determinant near 1: volumes are kept, folds cost most."""

    kind: Literal["jacobian"] = "jacobian"


class BendingSpec(_TermSpec):
    """Bending energy: all second derivatives, free for affine maps."""

    kind: Literal["bending"] = "bending"


class InverseConsistencySpec(_TermSpec):
    """Both half warps of a symmetric stage equally long and opposite."""

    kind: Literal["inverse_consistency"] = "inverse_consistency"


class BarrierSpec(_TermSpec):
    """No bound on what a fold costs: keeps every volume of a phase_encode stage invertible."""

    kind: Literal["stretch_barrier"] = "stretch_barrier"


RegulariserSpec = (
    DiffusionSpec
    | ElasticSpec
    | LaplacianSpec
    | JacobianSpec
    | BendingSpec
    | InverseConsistencySpec
    | BarrierSpec
)
TermSpec = Annotated[SimilaritySpec | RegulariserSpec, Field(discriminator="kind")]
