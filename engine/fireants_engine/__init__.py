"""fireants_engine: deformable image registration without a window.

`load_image`, `Recipe`, `register` (blocks) or `run` (generator), then `Result.save`.
Names are imported when first used, so that reading recipes needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "BackendUnavailableError": "errors",
    "DivergedError": "errors",
    "FireantsError": "errors",
    "InputError": "errors",
    "OutOfMemoryError": "errors",
    "RecipeError": "errors",
    "StoppedError": "errors",
    "Grid": "geometry",
    "Image": "geometry",
    "Landmarks": "geometry",
    "Case": "pipeline",
    "Control": "pipeline",
    "Extras": "pipeline",
    "Outcome": "pipeline",
    "PreviewRequest": "pipeline",
    "Recipe": "recipe",
    "preset_names": "recipe",
    "load_image": "io",
    "save_image": "io",
    "load_transform": "io",
    "compose": "workflows.chain",
    "Execution": "workflows.registration",
    "register": "workflows.registration",
    "register_batch": "workflows.registration",
    "run": "workflows.registration",
    "run_batch": "workflows.registration",
    "Mapping": "workflows.result",
    "Result": "workflows.result",
    "load_run": "workflows.rundir",
    "replay": "workflows.replay",
    "edit": "workflows.steer",
}

__all__ = [
    "BackendUnavailableError",
    "Case",
    "Control",
    "DivergedError",
    "Execution",
    "Extras",
    "FireantsError",
    "Grid",
    "Image",
    "InputError",
    "Landmarks",
    "Mapping",
    "OutOfMemoryError",
    "Outcome",
    "PreviewRequest",
    "Recipe",
    "RecipeError",
    "Result",
    "StoppedError",
    "__version__",
    "compose",
    "edit",
    "load_image",
    "load_run",
    "load_transform",
    "preset_names",
    "register",
    "register_batch",
    "replay",
    "run",
    "run_batch",
    "save_image",
]

if TYPE_CHECKING:
    from fireants_engine.errors import (
        BackendUnavailableError,
        DivergedError,
        FireantsError,
        InputError,
        OutOfMemoryError,
        RecipeError,
        StoppedError,
    )
    from fireants_engine.geometry import Grid, Image, Landmarks
    from fireants_engine.io import load_image, load_transform, save_image
    from fireants_engine.pipeline import Case, Control, Extras, Outcome, PreviewRequest
    from fireants_engine.recipe import Recipe, preset_names
    from fireants_engine.workflows.chain import compose
    from fireants_engine.workflows.registration import (
        Execution,
        register,
        register_batch,
        run,
        run_batch,
    )
    from fireants_engine.workflows.replay import replay
    from fireants_engine.workflows.result import Mapping, Result
    from fireants_engine.workflows.rundir import load_run
    from fireants_engine.workflows.steer import edit


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"fireants_engine.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
