"""Recipe parts: how a gradient becomes a step."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fireants_engine.recipe.spec import Spec, setting


def _step(default: float, text: str) -> Any:
    return setting(default, text, title="Step", unit="half voxels", gt=0, le=1)


def _decay() -> Any:
    text = "The step falls linearly to this fraction over each level."
    return setting(1.0, text, title="Step decay", ge=0.01, le=1)


def _beta2() -> Any:
    return setting(0.99, "Memory of the squared gradient.", title="beta 2", ge=0, lt=1)


def _eps_rel() -> Any:
    text = "Damping of weak gradients, relative to their root mean square."
    return setting(1e-3, text, title="Damping", gt=0, le=10)


class AdamSpec(Spec):
    """Adam in the tangent space at the identity."""

    kind: Literal["adam"] = "adam"
    step: float = _step(0.5, "Largest move per iteration, as a fraction of half a voxel.")
    decay: float = _decay()
    beta1: float = setting(0.9, "Memory of the gradient.", title="beta 1", ge=0, lt=1)
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
    momentum: float = setting(0.9, "Memory of the gradient.", title="Momentum", ge=0, lt=1)


class LMSpec(Spec):
    """Factored Levenberg-Marquardt: no momentum, steps that raise the loss are undone."""

    kind: Literal["levenberg_marquardt"] = "levenberg_marquardt"
    step: float = _step(1.0, "Largest move per iteration, as a fraction of half a voxel.")
    decay: float = _decay()
    tile: Literal[1, 3, 5, 7] = setting(
        1, "Window in which the curvature is averaged; 1 is per voxel.", title="Tile",
        unit="voxels",
    )  # fmt: skip
    damping: float = setting(
        1.0, "Damping at the start, relative to the mean squared gradient; it adapts.",
        title="Damping", gt=0, le=1e6,
    )  # fmt: skip


DescentSpec = Annotated[AdamSpec | RMSpropSpec | SGDSpec | LMSpec, Field(discriminator="kind")]
