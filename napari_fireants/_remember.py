"""What the plugin remembers from one napari to the next: its page of napari's preferences."""

from __future__ import annotations

from typing import Any

PLUGIN = "napari-fireants"


def _section(name: str) -> Any:
    """A section of the manifest's `configurations`; None where napari knows no such plugin."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(get_plugin_settings(PLUGIN), name, None)
    except (KeyError, OSError, ValueError):
        return None


def remembered(section: str, name: str, default: Any) -> Any:
    """The value that was kept, or `default`."""
    return getattr(_section(section), name, default)


def remember(section: str, name: str, value: Any) -> None:
    """Keep a value; napari writes its file."""
    found = _section(section)
    if found is not None and getattr(found, name, None) != value:
        setattr(found, name, value)
