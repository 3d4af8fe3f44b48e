"""What every part of a recipe is: immutable, strict, with a unit and a sentence per field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of all recipe parts: immutable, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def setting(
    default: Any, text: str, *, title: str, unit: str = "", advanced: bool = False, **limits: Any
) -> Any:
    """A field with its default, sentence, title, unit and limits.

    advanced: the graphical form shows it only when asked for more.
    """
    extra: dict[str, Any] = {"unit": unit}
    if advanced:
        extra["advanced"] = True
    return Field(default=default, title=title, description=text, json_schema_extra=extra, **limits)
