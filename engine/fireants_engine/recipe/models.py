"""Recipe: *what* to do, as frozen, strict, serialisable data. Typos are errors.

Every field carries its unit in its name and a sentence in its description: the graphical form,
the command line and the reference page are generated from this schema.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fireants_engine.errors import RecipeError
from fireants_engine.recipe.files import read_data, write_text
from fireants_engine.recipe.paths import assign, explain


class Spec(BaseModel):
    """Base of all recipe parts: immutable, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _field(default: Any, text: str, *, title: str, unit: str = "", **limits: Any) -> Any:
    return Field(
        default=default, title=title, description=text, json_schema_extra={"unit": unit}, **limits
    )


# ------------------------------------------------------------------ where to start
class IdentityStart(Spec):
    """Start from the images' own positions in the world."""

    kind: Literal["identity"] = "identity"


class CentreStart(Spec):
    """Start by putting the centres of both fields of view on each other."""

    kind: Literal["centre"] = "centre"


class MomentsStart(Spec):
    """Start from centres of mass (order 1) and principal axes (order 2)."""

    kind: Literal["moments"] = "moments"
    order: Literal[1, 2] = _field(
        2, "1: match centres of mass. 2: also try all rotations that match principal axes.",
        title="Order",
    )  # fmt: skip
    score: Literal["ncc", "mi"] = _field(
        "ncc", "How orientations are ranked: ncc for one contrast, mi for different contrasts.",
        title="Ranked by",
    )  # fmt: skip


Start = Annotated[IdentityStart | CentreStart | MomentsStart, Field(discriminator="kind")]


# ------------------------------------------------------------------ deformations
class TranslationSpec(Spec):
    """Translation alone."""

    kind: Literal["translation"] = "translation"


class RigidSpec(Spec):
    """Rotation and translation."""

    kind: Literal["rigid"] = "rigid"


class SimilaritySpec(Spec):
    """Rotation, translation and one scale."""

    kind: Literal["similarity"] = "similarity"


class AffineSpec(Spec):
    """Rotation, translation, scaling and shear."""

    kind: Literal["affine"] = "affine"


class GreedySpec(Spec):
    """Greedy compositive diffeomorphism (thesis 3.4)."""

    kind: Literal["greedy"] = "greedy"
    sigma_grad_mm: float = _field(
        1.0, "Smoothing of each update: larger moves larger regions together.",
        title="Update smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    sigma_warp_mm: float = _field(
        0.7, "Smoothing of the whole warp after each step: larger is stiffer and folds less.",
        title="Warp smoothing", unit="mm", ge=0, le=100,
    )  # fmt: skip
    grad_floor_vox: float = _field(
        1.0, "Update smoothing is at least this many voxels of the level.",
        title="Update smoothing, at least", unit="voxels", ge=0, le=20,
    )  # fmt: skip
    warp_floor_vox: float = _field(
        0.7, "Warp smoothing is at least this many voxels of the level.",
        title="Warp smoothing, at least", unit="voxels", ge=0, le=20,
    )  # fmt: skip


LinearSpec = TranslationSpec | RigidSpec | SimilaritySpec | AffineSpec
DeformationSpec = Annotated[LinearSpec | GreedySpec, Field(discriminator="kind")]


# ------------------------------------------------------------------ terms
def _weight() -> Any:
    return _field(1.0, "Factor in the stage's loss.", title="Weight", gt=0)


class SSDSpec(Spec):
    """Sum of squared differences: same modality, same intensities."""

    kind: Literal["ssd"] = "ssd"
    weight: float = _weight()


class NCCSpec(Spec):
    """Global correlation coefficient: one contrast, any gain and offset."""

    kind: Literal["ncc"] = "ncc"
    weight: float = _weight()
    squared: bool = _field(
        False, "Squared correlation also matches inverted contrast.", title="Squared"
    )


class LNCCSpec(Spec):
    """Local normalised cross-correlation: same structures, uneven intensities."""

    kind: Literal["lncc"] = "lncc"
    weight: float = _weight()
    radius_vox: int = _field(
        2, "Half width of the window.", title="Window radius", unit="voxels", ge=1, le=20
    )
    squared: bool = _field(
        True, "Squared correlation also matches inverted contrast.", title="Squared"
    )


class MISpec(Spec):
    """Mattes mutual information: different contrasts or modalities."""

    kind: Literal["mi"] = "mi"
    weight: float = _weight()
    bins: int = _field(32, "Histogram bins per image.", title="Bins", ge=8, le=256)


TermSpec = Annotated[SSDSpec | NCCSpec | LNCCSpec | MISpec, Field(discriminator="kind")]


# ------------------------------------------------------------------ optimisation
def _step(default: float, text: str) -> Any:
    return _field(default, text, title="Step", unit="half voxels", gt=0, le=1)


def _decay() -> Any:
    text = "The step falls linearly to this fraction over each level."
    return _field(1.0, text, title="Step decay", ge=0.01, le=1)


def _beta2() -> Any:
    return _field(0.99, "Memory of the squared gradient.", title="beta 2", ge=0, lt=1)


def _eps_rel() -> Any:
    text = "Damping of weak gradients, relative to their root mean square."
    return _field(1e-3, text, title="Damping", gt=0, le=10)


class AdamSpec(Spec):
    """Adam in the tangent space at the identity."""

    kind: Literal["adam"] = "adam"
    step: float = _step(0.5, "Largest move per iteration, as a fraction of half a voxel.")
    decay: float = _decay()
    beta1: float = _field(0.9, "Memory of the gradient.", title="beta 1", ge=0, lt=1)
    beta2: float = _beta2()
    eps_rel: float = _eps_rel()


class RMSpropSpec(Spec):
    """Adam without momentum: one buffer less."""

    kind: Literal["rmsprop"] = "rmsprop"
    step: float = _step(0.5, "Largest move per iteration, as a fraction of half a voxel.")
    decay: float = _decay()
    beta2: float = _beta2()
    eps_rel: float = _eps_rel()


class SGDSpec(Spec):
    """Steepest descent with momentum; steps shrink with the gradient."""

    kind: Literal["sgd"] = "sgd"
    step: float = _step(
        1.0, "Move of the steepest voxel at the start of a level, as a fraction of half a voxel."
    )
    decay: float = _decay()
    momentum: float = _field(0.9, "Memory of the gradient.", title="Momentum", ge=0, lt=1)


DescentSpec = Annotated[AdamSpec | RMSpropSpec | SGDSpec, Field(discriminator="kind")]


class LevelSpec(Spec):
    """One level of a pyramid."""

    shrink: float = _field(
        1.0, "Voxel size of this level, in finest voxels of the fixed image.",
        title="Shrink", unit="x", ge=1, le=64,
    )  # fmt: skip
    max_steps: int = _field(
        100, "Iterations at the most; a plateau ends the level earlier.",
        title="Steps at most", ge=1, le=100000,
    )  # fmt: skip


class PyramidSpec(Spec):
    """Levels, coarse to fine."""

    levels: tuple[LevelSpec, ...] = Field(
        default=(LevelSpec(shrink=4), LevelSpec(shrink=2), LevelSpec(shrink=1)),
        title="Levels",
        description="Coarse to fine; at least one.",
        min_length=1,
    )
    min_size: int = _field(
        16, "No axis is shrunk below this many samples.", title="Smallest size",
        unit="voxels", ge=2, le=256,
    )  # fmt: skip


class StopSpec(Spec):
    """When a level has converged."""

    tolerance: float = _field(
        1e-3, "A level ends when a window of steps gains less than this share of the level's "
        "improvement; 0 never ends early.", title="Tolerance", ge=0, lt=1,
    )  # fmt: skip
    window: int = _field(
        10, "Steps that are averaged.", title="Window", unit="steps", ge=2, le=1000
    )


class StageSpec(Spec):
    """One stage: a deformation, what it should match, and how it is optimised."""

    name: str = _field("stage", "Shown in progress and reports.", title="Name", min_length=1)
    enabled: bool = _field(True, "Skip this stage when off.", title="Enabled")
    deformation: DeformationSpec
    terms: tuple[TermSpec, ...] = Field(min_length=1, title="Terms", description="Summed.")
    descent: DescentSpec = AdamSpec()
    pyramid: PyramidSpec = PyramidSpec()
    stop: StopSpec = StopSpec()

    @model_validator(mode="before")
    @classmethod
    def _adam_unless_told(cls, data: Any) -> Any:
        """A descent without `kind` is Adam, as in recipes from before there were others."""
        if isinstance(data, dict) and isinstance(data.get("descent"), dict):
            return {**data, "descent": {"kind": "adam", **data["descent"]}}
        return data


# ------------------------------------------------------------------ the whole
class Recipe(Spec):
    """The science of a registration, independent of where it runs."""

    format: Literal[1] = _field(1, "Version of this file format.", title="Format")
    name: str = _field("custom", "A short name.", title="Name", min_length=1)
    description: str = _field("", "One sentence: what it is for.", title="Description")
    start: Start = MomentsStart()
    stages: tuple[StageSpec, ...] = Field(title="Stages", description="Run in this order.")
    seed: int = _field(0, "Seed of everything random.", title="Seed", ge=0, le=2**64 - 1)

    @model_validator(mode="after")
    def _order(self) -> Recipe:
        kinds = [s.deformation.kind for s in self.stages if s.enabled]
        if "greedy" in kinds[:-1]:
            raise ValueError("a greedy stage has to be the last enabled stage")
        return self

    # ------------------------------------------------------------- files
    @classmethod
    def from_dict(cls, data: Any, source: str = "recipe") -> Recipe:
        """Validated recipe; raises RecipeError with one sentence naming the first wrong key."""
        if not isinstance(data, dict):
            raise RecipeError(
                f"{source}: a recipe is a mapping of keys, got {type(data).__name__}."
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise RecipeError(f"{source}: {explain(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """From a YAML or JSON file; raises RecipeError."""
        path = Path(path)
        data = read_data(path)
        return cls.from_dict(data, str(path))

    @classmethod
    def preset(cls, name: str) -> Recipe:
        """A packaged recipe by name; raises RecipeError listing the names."""
        from fireants_engine.recipe.presets import load_preset

        return load_preset(name)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path) -> None:
        """As YAML; raises RecipeError when it cannot be written."""
        write_text(Path(path), self.to_yaml())

    @property
    def hash(self) -> str:
        """sha256 of the canonical content: the same on every machine."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    # ------------------------------------------------------------- edits
    def with_values(self, assignments: dict[str, Any]) -> Recipe:
        """A copy with values at dotted paths replaced: `{"stages.2.descent.step": 0.3}`.

        A stage may be given by index or by name. Raises RecipeError for a path that is not there.
        """
        data = self.to_dict()
        for path, value in assignments.items():
            assign(data, path, value)
        return Recipe.from_dict(data, "recipe")
