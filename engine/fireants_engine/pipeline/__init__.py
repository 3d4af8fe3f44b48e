"""Pyramid, stage, plan, events: the one loop lives in `stage`."""

from fireants_engine.pipeline.control import Control, PreviewRequest
from fireants_engine.pipeline.events import (
    Edited,
    Event,
    Iteration,
    LevelFinished,
    LevelStarted,
    Outcome,
    Preview,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Warning,
)
from fireants_engine.pipeline.initialise import Centre, InitialAlignment, Moments
from fireants_engine.pipeline.inputs import Case, Extras
from fireants_engine.pipeline.member import RunOutput, StageResult
from fireants_engine.pipeline.pyramid import Level, Pyramid
from fireants_engine.pipeline.run import Plan, run_batch, run_plan
from fireants_engine.pipeline.stage import Stage
from fireants_engine.pipeline.steering import Course, Edit, Place

__all__ = [
    "Case",
    "Centre",
    "Control",
    "Course",
    "Edit",
    "Edited",
    "Event",
    "Extras",
    "InitialAlignment",
    "Iteration",
    "Level",
    "LevelFinished",
    "LevelStarted",
    "Moments",
    "Outcome",
    "Place",
    "Plan",
    "Preview",
    "PreviewRequest",
    "Pyramid",
    "RunFinished",
    "RunOutput",
    "RunStarted",
    "Stage",
    "StageFinished",
    "StageResult",
    "StageStarted",
    "Warning",
    "run_batch",
    "run_plan",
]
