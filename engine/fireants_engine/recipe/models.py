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
from pydantic import Field, ValidationError, model_validator

from fireants_engine.errors import RecipeError
from fireants_engine.recipe.deformations import (
    DeformationSpec,
    LinearSpec,
    PhaseEncodeSpec,
    SlicewiseSpec,
)
from fireants_engine.recipe.descents import AdamSpec, DescentSpec, LMSpec
from fireants_engine.recipe.files import read_data, write_text
from fireants_engine.recipe.paths import assign, explain
from fireants_engine.recipe.spec import Spec, setting
from fireants_engine.recipe.terms import (
    BarrierSpec,
    InverseConsistencySpec,
    RegulariserSpec,
    StructuralSpec,
    TermSpec,
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
    order: Literal[1, 2] = setting(
        2, "1: match centres of mass. 2: also try all rotations that match principal axes.",
        title="Order",
    )  # fmt: skip
    score: Literal["ncc", "lncc", "mi", "mind"] = setting(
        "ncc", "How orientations are ranked: ncc for one contrast, mi for different contrasts; "
        "lncc (local correlation) or mind (self-similarity) where neither tells them apart.",
        title="Ranked by",
    )  # fmt: skip
    mass: Literal["intensity", "foreground", "mind"] = setting(
        "intensity", "What has centre and axes: intensity above the background; foreground, the "
        "tissue whatever its contrast; mind, the tissue by how much structure there is.",
        title="Mass", advanced=True,
    )  # fmt: skip
    scale: bool = setting(
        False, "Also scale along the principal axes, by the ratio of both images' extents.",
        title="Scale", advanced=True,
    )  # fmt: skip
    improper: bool = setting(
        False, "Also try reflections, for images whose left and right may have been swapped.",
        title="Reflections", advanced=True,
    )  # fmt: skip
    search: Literal["auto", "always", "never"] = setting(
        "never", "Search all orientations: auto where principal axes cannot be relied on.",
        title="Search", advanced=True,
    )  # fmt: skip


Start = Annotated[IdentityStart | CentreStart | MomentsStart, Field(discriminator="kind")]


# ------------------------------------------------------------------ levels
class LevelSpec(Spec):
    """One level of a pyramid."""

    shrink: float = setting(
        1.0, "Voxel size of this level, in finest voxels of the fixed image.",
        title="Shrink", unit="x", ge=1, le=64,
    )  # fmt: skip
    max_steps: int = setting(
        100, "Iterations at the most; a plateau ends the level earlier.",
        title="Steps at most", ge=1, le=100000,
    )  # fmt: skip
    step: float = setting(
        1.0, "Factor of the step on this level: below 1 where the level before has come near.",
        title="Step factor", gt=0, le=10, advanced=True,
    )  # fmt: skip
    smooth_vox: float = setting(
        0.0, "Smoothing of the images on this level, beyond what shrinking does; half a voxel "
        "keeps noise from telling where voxels lie.", title="Image smoothing", unit="voxels",
        ge=0, le=20, advanced=True,
    )  # fmt: skip


class PyramidSpec(Spec):
    """Levels, coarse to fine."""

    levels: tuple[LevelSpec, ...] = Field(
        default=(LevelSpec(shrink=4), LevelSpec(shrink=2), LevelSpec(shrink=1)),
        title="Levels",
        description="Coarse to fine; at least one.",
        min_length=1,
    )
    min_size: int = setting(
        16, "No axis is shrunk below this many samples.", title="Smallest size",
        unit="voxels", ge=2, le=256,
    )  # fmt: skip


class StopSpec(Spec):
    """When a level has converged."""

    tolerance: float = setting(
        1e-3, "A level ends when a window of steps gains less than this share of the level's "
        "improvement; 0 never ends early.", title="Tolerance", ge=0, lt=1,
    )  # fmt: skip
    window: int = setting(
        10, "Steps that are averaged.", title="Window", unit="steps", ge=2, le=1000
    )


class StageSpec(Spec):
    """One stage: a deformation, what it should match, and how it is optimised."""

    name: str = setting("stage", "Shown in progress and reports.", title="Name", min_length=1)
    enabled: bool = setting(True, "Skip this stage when off.", title="Enabled")
    deformation: DeformationSpec
    terms: tuple[TermSpec, ...] = Field(min_length=1, title="Terms", description="Summed.")
    descent: DescentSpec = AdamSpec()
    pyramid: PyramidSpec = PyramidSpec()
    stop: StopSpec = StopSpec()

    @model_validator(mode="after")
    def _fits(self) -> StageSpec:
        linear = isinstance(self.deformation, LinearSpec)
        field = isinstance(self.deformation, PhaseEncodeSpec)
        few = linear or isinstance(self.deformation, SlicewiseSpec)
        if (few or field) and isinstance(self.descent, LMSpec):
            raise ValueError(
                "levenberg_marquardt solves for a vector per voxel; choose adam for a "
                f"{self.deformation.kind} stage"
            )
        for term in self.terms:
            if linear and isinstance(term, RegulariserSpec):
                raise ValueError(
                    f"a {self.deformation.kind} stage has no warp for the {term.kind} term"
                )
            halves = self.deformation.kind == "symmetric"
            if isinstance(term, InverseConsistencySpec) and not halves:
                raise ValueError("inverse_consistency compares the halves of a symmetric stage")
            if isinstance(term, BarrierSpec | StructuralSpec) and not field:
                raise ValueError(f"{term.kind} is for the EPI volumes of a phase_encode stage")
        return self

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

    format: Literal[1] = setting(1, "Version of this file format.", title="Format")
    name: str = setting("custom", "A short name.", title="Name", min_length=1)
    description: str = setting("", "One sentence: what it is for.", title="Description")
    start: Start = MomentsStart()
    intensities: Literal["range", "signal"] = setting(
        "range", "range: each image by its own range of intensities. signal: both by one factor "
        "that makes their sums equal, nothing cut off - for EPI, where signal is moved and not "
        "lost.", title="Intensities", advanced=True,
    )  # fmt: skip
    stages: tuple[StageSpec, ...] = Field(title="Stages", description="Run in this order.")
    seed: int = setting(0, "Seed of everything random.", title="Seed", ge=0, le=2**64 - 1)

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
