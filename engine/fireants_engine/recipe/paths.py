"""Dotted paths into a recipe: where a problem lies, and where a value goes."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fireants_engine.errors import RecipeError


def _place(location: tuple[int | str, ...]) -> str:
    """Dotted path of a validation error, without the tags pydantic puts in for a `kind`."""
    tagged = {"start", "deformation", "descent", "features"}
    parts: list[str] = []
    for i, part in enumerate(location):
        before = location[i - 1] if i else None
        in_terms = isinstance(before, int) and i >= 2 and location[i - 2] == "terms"
        if isinstance(part, str) and (before in tagged or in_terms):
            continue
        parts.append(str(part))
    return ".".join(parts) or "recipe"


def explain(error: ValidationError) -> str:
    """The first problem of a validation as one sentence with its place."""
    first = error.errors()[0]
    place = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}; check its spelling against the recipe reference."
    if first["type"] == "missing":
        return f"key {place!r} is missing."
    message = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
    return f"{place}: {message[:1].lower()}{message[1:]}{shown}."


def assign(data: Any, path: str, value: Any) -> None:
    """Put `value` at `path` of plain data; raises RecipeError naming what is there instead."""
    parts = path.split(".")
    node = data
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        key: Any = part
        if isinstance(node, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in node]
            if part.isdecimal() and int(part) < len(node):
                key = int(part)
            elif part in names:
                key = names.index(part)
            else:
                raise RecipeError(f"--set {path}: there is no {part!r} here.")
        elif not isinstance(node, dict) or part not in node:
            options = ", ".join(node) if isinstance(node, dict) else "nothing"
            raise RecipeError(f"--set {path}: unknown key {part!r}; here there is: {options}.")
        if last:
            node[key] = value
        else:
            node = node[key]
