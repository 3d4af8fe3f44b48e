"""Writes the tables of docs/how-to/keyboard.md from the shortcuts; `--check` fails when stale."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_fireants._shortcuts import grouped

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "keyboard.md"
BEGIN, END = (
    "<!-- Written by scripts/keyboard_table.py from the shortcuts; edit those, not this. -->\n",
    "<!-- end of the written part -->\n",
)


def tables() -> str:
    parts = []
    for group, lines in grouped().items():
        parts.append(f"\n### {group}\n\n| key | what it does |\n|---|---|\n")
        for title, shortcuts in lines.items():
            keys = " ".join(_marked(shortcut.text()) for shortcut in shortcuts)
            parts.append(f"| {keys} | {title} |\n")
    return "".join(parts) + "\n"


def _marked(text: str) -> str:
    """The key of a text such as `hold Q, click` as code."""
    if not text.startswith("hold "):
        return f"`{text}`"
    key, comma, rest = text.removeprefix("hold ").partition(",")
    return f"hold `{key}`{comma}{rest}"


def page(present: str) -> str:
    """The page with its tables renewed."""
    head, _, rest = present.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{tables()}{END}{tail}"


def main() -> int:
    present = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(present != page(present))
    PAGE.write_text(page(present), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
