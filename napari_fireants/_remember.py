"""What the plugin remembers from one napari to the next: its page of napari's preferences.

The page is the manifest's `configurations`. napari keeps it in a file of ours beside its own, whole
after every change. That file is what is read here, since `get_plugin_settings` first looks through
all plugins that are installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

PLUGIN = "napari-fireants"


def _page() -> dict[str, Any]:
    """What the file says; nothing where it is not there or cannot be read."""
    from napari.settings import get_settings

    config = os.environ.get("NAPARI_CONFIG") or get_settings().config_path
    try:
        text = (Path(config).parent / f"{PLUGIN}.yaml").read_text(encoding="utf-8")
        page = yaml.safe_load(text)
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return {}
    return page if isinstance(page, dict) else {}


def remembered(section: str, name: str, default: Any) -> Any:
    """The value that was kept, or `default`; quick, from any thread."""
    found = _page().get(section)
    return found.get(name, default) if isinstance(found, dict) else default


def remember(section: str, name: str, value: Any) -> None:
    """Keep a value; napari writes its file. On the GUI thread."""
    from napari.settings import get_plugin_settings

    try:
        found = getattr(get_plugin_settings(PLUGIN), section, None)
    except (KeyError, OSError, ValueError):  # napari knows no such plugin
        return
    if found is not None and getattr(found, name, None) != value:
        setattr(found, name, value)
