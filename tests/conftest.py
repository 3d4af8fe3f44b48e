"""Fixtures and rules that every test shares."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
ORACLE_PYTHON = ROOT / ".venv-oracle" / "bin" / "python"
QT_FIXTURES = {
    "qapp",
    "qtbot",
    "make_napari_viewer",
    "make_napari_viewer_proxy",
    "napari_viewer",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use; without a display, skip those that need one.

    Windows come first: they are what takes long.
    """
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    no_display = sys.platform == "linux" and not any(map(os.environ.get, displays))
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "shared_data" in fixtures:
            item.add_marker(pytest.mark.needs_data)
        if fixtures & QT_FIXTURES:
            item.add_marker(pytest.mark.gui)
        if no_display and item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.skip(reason="no display: `make test` provides one"))
    items.sort(key=lambda item: item.get_closest_marker("gui") is None)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; a clone elsewhere has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared data: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def run_ants() -> Callable[..., str]:
    """`run_ants(code, *args)`: what Python code prints where `import ants` works.

    ANTs lives in an environment of its own, so code and arguments go through a subprocess;
    images, points and transforms travel as files whose paths are among the arguments
    (`sys.argv[1:]`). A failing exit fails the test and shows what ANTs said.
    """
    if not ORACLE_PYTHON.exists():
        pytest.skip("no ANTs environment: `make test` creates .venv-oracle")

    def run(code: str, *args: str | Path) -> str:
        command = [str(ORACLE_PYTHON), "-c", code, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"ANTs failed:\n{done.stdout}{done.stderr}"
        return done.stdout

    return run
