"""Writes docs/reference/recipe.md from the recipe's schema; `--check` fails when it is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fireants_engine.recipe import Recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "recipe.md"

INTRO = """# Recipe schema

<!-- Written by scripts/recipe_reference.py from the schema; edit that, not this. -->

A recipe says *what* is done: where to start, and stages in their order, each with its deformation,
its terms, its optimiser, its pyramid and its stopping rule. It says nothing of *where* it runs:
device and kernels belong to the execution settings, so the same recipe runs on a laptop and on a
cluster.

- Recipes are YAML or JSON files, checked when they are loaded. An unknown key is an error.
- A name that carries a quantity also carries its unit: `sigma_grad_mm`, `radius_vox`.
- A recipe is immutable; changing one makes another.
- Recipes with the same content have the same hash, which is saved with every result.
- Any value can be changed on the command line by its path: `--set stages.greedy.descent.step=0.3`.
"""


def limits(field: dict[str, Any]) -> str:
    """Allowed values of a field in words."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    names = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {field[key]:g}" for key, sign in names.items() if key in field)


def target(field: dict[str, Any]) -> str:
    """What a structured field holds, as links to the sections."""
    items = field.get("items", field)
    options = items.get("oneOf") or items.get("anyOf") or ([items] if "$ref" in items else [])
    names = [option["$ref"].rsplit("/", 1)[-1] for option in options if "$ref" in option]
    links = ", ".join(f"[{name}](#{name.lower()})" for name in names)
    return f"list of {links}" if links and "items" in field else links


def section(title: str, schema: dict[str, Any]) -> str:
    lines = [f"\n## {title}\n", schema.get("description", "").split("\n")[0], ""]
    lines += ["| key | unit | default | allowed | meaning |", "|---|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = field.get("default")
        shown = "" if default is None or isinstance(default, dict | list) else f"`{default}`"
        allowed = target(field) or limits(field)
        meaning = field.get("description", "")
        lines.append(f"| `{name}` | {field.get('unit', '')} | {shown} | {allowed} | {meaning} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    schema = Recipe.model_json_schema()
    parts = [section("Recipe", schema)]
    parts += [section(name, part) for name, part in sorted(schema["$defs"].items())]
    return INTRO + "".join(parts)


def main() -> int:
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
