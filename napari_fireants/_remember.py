"""What the plugin remembers from one napari to the next: its page of napari's preferences.

The page is the manifest's `configurations`. napari keeps it in a file of ours beside its own, whole
after every change. That file is what is read here, since `get_plugin_settings` first looks through
all plugins that are installed.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

PLUGIN = "napari-fireants"
WRITE_MS = 500


def _page() -> dict[str, Any]:
    """What the file says; nothing where it is not there or cannot be read."""
    from napari.settings import get_settings

    config = os.environ.get("NAPARI_CONFIG") or get_settings().config_path
    try:
        text = (Path(config).parent / f"{PLUGIN}.yaml").read_text(encoding="utf-8")
        page = _parsed(text)
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return {}
    return page if isinstance(page, dict) else {}


@lru_cache(maxsize=1)
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


_waiting: dict[tuple[str, str], Any] = {}
"""Values that napari has not written yet, by section and name."""


def remembered(section: str, name: str, default: Any) -> Any:
    """The value that was kept, or `default`; quick, from any thread."""
    if (section, name) in _waiting:
        return _waiting[section, name]
    found = _page().get(section)
    return found.get(name, default) if isinstance(found, dict) else default


def remember(section: str, name: str, value: Any) -> None:
    """Keep a value; napari writes its file a moment later. On the GUI thread.

    The first time, napari looks through all plugins, a quarter of a second: in a thread, and not
    while a dock opens.
    """
    from qtpy.QtCore import QTimer

    _waiting[section, name] = value
    QTimer.singleShot(WRITE_MS, _write)


def _write() -> None:
    from napari.qt.threading import create_worker

    if _waiting:
        worker = create_worker(_settings)
        worker.returned.connect(_keep)
        worker.start()


def _settings() -> Any:
    """napari's page of ours; None where it knows no such plugin."""
    from napari.settings import get_plugin_settings

    try:
        return get_plugin_settings(PLUGIN)
    except (KeyError, OSError, ValueError):
        return None


def _keep(page: Any) -> None:
    """Write all that waits."""
    for (section, name), value in list(_waiting.items()):
        found = getattr(page, section, None)
        if found is not None and getattr(found, name, None) != value:
            setattr(found, name, value)
        del _waiting[section, name]
