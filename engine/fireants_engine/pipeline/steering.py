"""Steering: changes to a run under way, each written down so that a replay can make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Deformation, Pair
from fireants_engine.errors import InputError
from fireants_engine.geometry import Image, Landmarks
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.inputs import IMAGE, LANDMARKS, Case
from fireants_engine.pipeline.member import Member
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.similarity import Term
from fireants_engine.transforms import Affine, affine_factor
from fireants_engine.transforms.fit import Kind, fit_points

if TYPE_CHECKING:
    from fireants_engine.pipeline.run import Plan
    from fireants_engine.pipeline.stage import Stage


class Place(NamedTuple):
    """Where a run stands: stage, level of it, steps taken on the level; all from 0.

    -1 before the first step of a level, and before the first level of a stage, have begun.
    """

    stage: int
    level: int = -1
    step: int = -1


@dataclass(frozen=True, eq=False)
class Edit:
    """A change to a run under way. What is None stays as it is.

    what: a sentence for people. plan: other weights, widths, steps and terms from here on; stages
    up to the present one keep name and deformation. landmarks: instead of those given. masks:
    role (fixed_mask, moving_mask) -> image, non-zero is matched. nudge: fixed mm -> fixed mm, how
    what is seen of the moving image is moved: the map `A o W` becomes `A o nudge^-1 o W`.
    align: rigid, similarity or affine: first bring the landmarks together by such a map, after the
    present one. level: go on from that level of the present stage. stop: end here.
    recipe: the plan as plain data, for the record. at: make it at that place of the run, or as
    soon as it has passed; None: before the next step.
    """

    what: str = ""
    plan: Plan | None = None
    landmarks: Landmarks | None = None
    masks: Mapping[str, Image] = field(default_factory=dict)
    nudge: Affine | None = None
    align: Kind | None = None
    level: int | None = None
    stop: bool = False
    recipe: Mapping[str, Any] | None = None
    at: Place | None = None

    @property
    def of_one_pair(self) -> bool:
        """It concerns the images of one pair, not the recipe."""
        return bool(self.masks) or self.nudge is not None or self.landmarks is not None


class Course:
    """What a run follows: its plan, and its pairs as prepared; edits change both."""

    def __init__(
        self, plan: Plan, cases: Sequence[Case], members: Sequence[Member], ctx: ExecutionContext
    ) -> None:
        self.plan, self.cases, self.ctx = plan, list(cases), ctx
        self._members = members
        self.index = 0

    @property
    def stage(self) -> Stage:
        """The present stage as it stands."""
        return self.plan.stages[self.index]

    def terms(self, level: int) -> list[Term]:
        """The terms of the present stage that count on one level."""
        return [term for term in (t.at(level) for t in self.stage.terms) if term.weight]

    def pair(self, members: Sequence[Member], level: int) -> Pair:
        """What the terms look at on one level, of these members."""
        pyramid = self.stage.pyramid
        sources = {source for term in self.terms(level) for source in term.sources}
        one = pyramid.levels[level]
        how = (one.shrink, pyramid.min_size, sources, one.smooth_vox)
        return Pair.stack(
            [one.prepared.level(*how, affine_factor(one.transform)) for one in members]
        )

    def take(self, edit: Edit) -> None:
        """Follow an edit from here on, or raise InputError and change nothing."""
        plan = edit.plan or self.plan
        self._check_plan(plan)
        if edit.of_one_pair and len(self.cases) > 1:
            raise InputError(
                "Landmarks, masks and nudges belong to one pair; a batch cannot be steered by them."
            )
        if edit.level is not None and not 0 <= edit.level < len(
            plan.stages[self.index].pyramid.levels
        ):
            raise InputError(f"There is no level {edit.level + 1} in stage {self.stage.name}.")
        case = self._case(edit)
        needs = plan.needs()
        for one in (case, *self.cases[1:]):
            one.check(needs)
        wanted = {name for _, name in needs}
        for member in self._members:
            if edit.of_one_pair or not wanted <= self._known(member.prepared):
                one = case if member.number == 0 else self.cases[member.number]
                member.prepared = self._prepared(one, member.prepared, edit, wanted)
        self.plan, self.cases[0] = plan, case

    def _check_plan(self, plan: Plan) -> None:
        for old, new in zip(self.plan.stages[: self.index + 1], plan.stages, strict=False):
            if old.name != new.name or type(old.deformation) is not type(new.deformation):
                raise InputError(
                    f"Stage {old.name!r} is under way or done: its deformation stays as it is "
                    "until the run has ended."
                )
        if len(plan.stages) <= self.index:
            raise InputError("The stage that is under way cannot be taken out of the recipe.")

    def _case(self, edit: Edit) -> Case:
        """The first pair as it is with the edit."""
        case = self.cases[0]
        images = {"fixed": case.fixed, "moving": case.moving}
        for role, mask in edit.masks.items():
            name = role.removesuffix("_mask")
            images[name] = images[name].with_mask(mask)
        extras = case.extras
        if edit.landmarks is not None:
            edit.landmarks.check_inside(case.fixed.grid, case.moving.grid)
            extras = replace(extras, landmarks=edit.landmarks)
        return replace(case, extras=extras, **images)

    @staticmethod
    def _known(prepared: Prepared) -> set[str]:
        """Names of the inputs that are prepared."""
        return {IMAGE, LANDMARKS, *prepared.others}

    def _prepared(self, case: Case, old: Prepared, edit: Edit, wanted: set[str]) -> Prepared:
        if edit.masks or not wanted <= self._known(old):
            return Prepared.create(case.fixed, case.moving, self.ctx, case.extras, wanted)
        return replace(old, landmarks=case.extras.landmarks)


STOP = Edit(what="Stopped on request.", stop=True)


def edited(edit: Edit, place: Place, stage: str, stamp: Mapping[str, float]) -> ev.Edited:
    """The event that an edit was made at `place`."""
    return ev.Edited(
        stage=stage,
        index=place.stage,
        level=place.level,
        step=place.step,
        what=edit.what,
        values=_record(edit),
        masks=edit.masks,
        **stamp,
    )


def realigned(
    model: Deformation, pair: Pair, state: Any, edit: Edit, landmarks: Landmarks | None
) -> Any:
    """The state with its map moved as the edit says. Raises InputError without such a map."""
    if edit.nudge is not None:
        back = edit.nudge.inverse()
        state = model.realigned(state, lambda affine: affine.after(back))
    if edit.align is None:
        return state
    if landmarks is None:
        raise InputError("There are no landmarks to align by; set at least three pairs.")
    now = model.transform(pair, state)(landmarks.fixed_mm)
    onto = fit_points(replace(landmarks, fixed_mm=now), edit.align)
    return model.realigned(state, onto.after)


def _record(edit: Edit) -> dict[str, Any]:
    """What a replay needs to make the edit again, as plain values; masks are kept as files."""
    out: dict[str, Any] = {}
    if edit.recipe is not None:
        out["recipe"] = edit.recipe
    if (marks := edit.landmarks) is not None:
        out["landmarks"] = marks.to_dict()
    if edit.nudge is not None:
        out["nudge"] = edit.nudge.matrix.tolist()
    if edit.align is not None:
        out["align"] = edit.align
    if edit.level is not None:
        out["from_level"] = edit.level
    if edit.stop:
        out["stop"] = True
    return out
