"""Recipe parts: what a stage optimises."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fireants_engine.recipe.spec import Spec, setting


def _scale(what: str, title: str) -> Any:
    return setting(1.0, f"Factor on the step of {what}.", title=title, gt=0, le=100, advanced=True)


class _LinearSpec(Spec):
    """What the linear deformations have."""

    kind: Any
    translation_scale: float = _scale("the translation", "Translation step")
    linear_scale: float = _scale("rotation, scale and shear", "Rotation step")


class TranslationSpec(Spec):
    """Translation alone."""

    kind: Literal["translation"] = "translation"


class RigidSpec(_LinearSpec):
    """Rotation and translation."""

    kind: Literal["rigid"] = "rigid"


class SimilaritySpec(_LinearSpec):
    """Rotation, translation and one scale."""

    kind: Literal["similarity"] = "similarity"


class AffineSpec(_LinearSpec):
    """Rotation, translation, scaling and shear."""

    kind: Literal["affine"] = "affine"


class _SmoothedSpec(Spec):
    """What the deformations with a value per voxel have."""

    kind: Any
    sigma_grad_mm: float = setting(
        1.0, "Smoothing of each update: larger moves larger regions together.",
        title="Update smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    sigma_warp_mm: float = setting(
        0.7, "Smoothing of the whole warp after each step: larger is stiffer and folds less.",
        title="Warp smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    grad_floor_vox: float = setting(
        1.0, "Update smoothing is at least this many voxels of the level.",
        title="Update smoothing, at least", unit="voxels", ge=0, le=20,
    )  # fmt: skip
    warp_floor_vox: float = setting(
        0.7, "Warp smoothing is at least this many voxels of the level.",
        title="Warp smoothing, at least", unit="voxels", ge=0, le=20,
    )  # fmt: skip
    window: Literal["gaussian", "box"] = setting(
        "gaussian",
        "Shape of both smoothings; box: a mean over a box of the Gaussian's variance, "
        "faster where it is wide, less even in all directions.", title="Smoothing window",
        advanced=True,
    )  # fmt: skip


class _DenseSpec(_SmoothedSpec):
    """What the dense deformations have."""

    axis_weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = setting(
        (), "Factor of the update along each voxel axis i, j(, k) of the fixed image: 1 free, "
        "0 held; empty: all free.", title="Axis weights", max_length=3, advanced=True,
    )  # fmt: skip

    @field_validator("axis_weights")
    @classmethod
    def _some_axis_is_free(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value and len(value) < 2:
            raise ValueError("give one number per voxel axis (2 or 3), or none")
        if value and not any(value):
            raise ValueError("every axis is held, so nothing could move; leave one above 0")
        return value


def _jacobian_transpose() -> Any:
    return setting(
        False, "Multiply the gradient by the transposed Jacobian of the warp: steepest descent "
        "of the Eulerian differential, slower, rarely different.",
        title="Jacobian transpose", advanced=True,
    )  # fmt: skip


class GreedySpec(_DenseSpec):
    """Greedy compositive diffeomorphism (thesis 3.4)."""

    kind: Literal["greedy"] = "greedy"
    jacobian_transpose: bool = _jacobian_transpose()


class SymmetricSpec(_DenseSpec):
    """Symmetric diffeomorphism: both images meet halfway (SyN-type)."""

    kind: Literal["symmetric"] = "symmetric"
    jacobian_transpose: bool = _jacobian_transpose()


class VelocitySpec(_DenseSpec):
    """Exponential of a stationary velocity field, by scaling and squaring (thesis 3.3)."""

    kind: Literal["stationary_velocity"] = "stationary_velocity"


class FreeFormSpec(_DenseSpec):
    """Free-form displacement, updated by addition: not kept invertible."""

    kind: Literal["free_form"] = "free_form"


class SlicewiseSpec(_LinearSpec):
    """A rigid or affine map in the plane of every slice: sections stacked along voxel axis k."""

    kind: Literal["slicewise"] = "slicewise"
    model: Literal["rigid", "affine"] = setting(
        "rigid", "What each slice may do within its plane.", title="Each slice"
    )
    sigma_slices: float = setting(
        0.0, "Smoothing of each update along the stack; 0: each slice on its own.",
        title="Smoothing along the stack", unit="slices", ge=0, le=100,
    )  # fmt: skip


class VolumeSpec(Spec):
    """How one EPI volume was read out."""

    direction: Literal["i", "i-", "j", "j-", "k", "k-"] = Field(
        title="Phase encoding", description="Voxel axis of the stored image, and - where it runs "
        "the other way (BIDS PhaseEncodingDirection). It is never guessed.",
    )  # fmt: skip
    readout_s: float = Field(
        title="Readout time", description="Total readout time; 0 for a volume without distortion.",
        ge=0, lt=10, json_schema_extra={"unit": "s"},
    )  # fmt: skip


class PhaseEncodeSpec(_SmoothedSpec):
    """One off-resonance field that bends EPI volumes along their phase encoding (thesis 6.2)."""

    kind: Literal["phase_encode"] = "phase_encode"
    volumes: tuple[VolumeSpec, ...] = Field(
        default=(),
        title="Volumes",
        description="Readout of each volume: fixed, moving (more than two: one per channel). "
        "The workflow fills them in from sidecars.",
    )
    with_motion: bool = setting(
        False, "Also estimate how each volume after the first has moved (6 numbers each).",
        title="Head motion",
    )  # fmt: skip
    modulate: bool = setting(
        True, "Signal is moved and not lost: multiply by the stretch. For SSD; off for LNCC and "
        "MI, which scale locally.", title="Keep the signal",
    )  # fmt: skip
    start: Literal["transport", "zero"] = setting(
        "transport", "transport: begin where the signal of each line comes to match; zero: "
        "without a field.", title="Begin with", advanced=True,
    )  # fmt: skip
    sigma_grad_mm: float = setting(
        2.0, "Smoothing of each update of the field, along all axes.",
        title="Update smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    sigma_warp_mm: float = setting(
        0.0, "Smoothing of the whole field after each step.",
        title="Field smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    warp_floor_vox: float = setting(
        0.0, "Field smoothing is at least this many voxels of the level.",
        title="Field smoothing, at least", unit="voxels", ge=0, le=20, advanced=True,
    )  # fmt: skip


LinearSpec = TranslationSpec | RigidSpec | SimilaritySpec | AffineSpec
DenseSpec = GreedySpec | SymmetricSpec | VelocitySpec | FreeFormSpec
DeformationSpec = Annotated[
    LinearSpec | SlicewiseSpec | DenseSpec | PhaseEncodeSpec, Field(discriminator="kind")
]
