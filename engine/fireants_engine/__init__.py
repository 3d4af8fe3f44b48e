"""fireants_engine: deformable image registration without a window.

`load_image`, `Recipe`, `register` (blocks) or `run` (generator), then `Result.save`.
"""

from fireants_engine.errors import (
    BackendUnavailableError,
    DivergedError,
    FireantsError,
    InputError,
    OutOfMemoryError,
    RecipeError,
    StoppedError,
)
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Control, Outcome, PreviewRequest
from fireants_engine.recipe import Recipe, preset_names
from fireants_engine.workflows.registration import Execution, register, run
from fireants_engine.workflows.result import Mapping, Result

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailableError",
    "Control",
    "DivergedError",
    "Execution",
    "FireantsError",
    "Grid",
    "Image",
    "InputError",
    "Mapping",
    "Outcome",
    "OutOfMemoryError",
    "PreviewRequest",
    "Recipe",
    "RecipeError",
    "Result",
    "StoppedError",
    "preset_names",
    "register",
    "run",
]
