"""Small pairs to register, a recipe that takes a second, and a viewer with the dock open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fireants_engine.recipe.models import Recipe

UNITS = ("mm", "mm", "mm")


def blob(
    shape: tuple[int, ...], centre: tuple[float, ...], radius: tuple[float, ...]
) -> np.ndarray:
    """A soft ellipsoid with some texture, float32."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    square = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radius, strict=True))
    texture = 1 + 0.4 * np.sin(axes[-1] / 3) * np.cos(axes[-2] / 4)
    return (100 * np.exp(-(square**3)) * texture).astype(np.float32)


@pytest.fixture
def pair_3d() -> tuple[np.ndarray, np.ndarray]:
    """Fixed and moving, 24 x 32 x 28, shifted by a few voxels."""
    shape, radius = (24, 32, 28), (7.0, 10.0, 9.0)
    return blob(shape, (11, 16, 14), radius), blob(shape, (13, 13, 15), radius)


@pytest.fixture
def pair_2d() -> tuple[np.ndarray, np.ndarray]:
    """Fixed and moving, 48 x 56."""
    return blob((48, 56), (24, 28), (14.0, 18.0)), blob((48, 56), (27, 25), (14.0, 18.0))


def recipe(
    steps: int = 20, kind: str = "rigid", term: str = "ssd", tolerance: float = 0.0
) -> Recipe:
    """Rigid (or another kind), one level of `steps` steps that never ends early."""
    stage = {
        "name": kind,
        "deformation": {"kind": kind},
        "terms": [{"kind": term}],
        "pyramid": {"levels": [{"shrink": 1, "max_steps": steps}]},
        "stop": {"tolerance": tolerance},
    }
    return Recipe.from_dict({"name": "test", "stages": [stage], "start": {"kind": "identity"}})


@pytest.fixture(name="recipe")
def recipe_fixture() -> Callable[..., Recipe]:
    return recipe


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where tests leave pictures: $FIREANTS_SCREENSHOTS, or a temporary folder."""
    folder = Path(os.environ.get("FIREANTS_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def dock(make_napari_viewer: Callable[..., Any], pair_3d: Any) -> Iterator[Any]:
    """The Register panel docked in a (hidden) viewer with a pair loaded; `.controller.viewer`."""
    viewer = make_napari_viewer()
    options = {"units": UNITS, "axis_labels": ("z", "y", "x")}
    viewer.add_image(pair_3d[0], name="fixed", **options)
    viewer.add_image(pair_3d[1], name="moving", **options)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    yield panel
    panel.session.shutdown()


@pytest.fixture(autouse=True)
def no_tour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tour has been seen."""
    from napari_fireants.panels import _tour

    monkeypatch.setattr(_tour, "_shown", True)


@pytest.fixture(autouse=True)
def user_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the plugin keeps what belongs to a person: never that of who runs the tests."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("FIREANTS_USER_FOLDER", str(folder))
    return folder


class _Page:
    """The plugin's page of the preferences in memory; sections are there when asked for."""

    def __getattr__(self, name: str) -> SimpleNamespace:
        section = SimpleNamespace()
        setattr(self, name, section)
        return section


@pytest.fixture(autouse=True)
def preferences_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from one test to the next; test_preferences.py has the true page."""
    if request.path.name == "test_preferences.py":
        return
    page = _Page()
    monkeypatch.setattr("napari.settings.get_plugin_settings", lambda _: page)
    kept = lambda: {name: vars(section) for name, section in vars(page).items()}  # noqa: E731
    monkeypatch.setattr("napari_fireants._remember._page", kept)
    monkeypatch.setattr("napari_fireants._remember._waiting", {})
