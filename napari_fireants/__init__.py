"""napari-fireants: register two images in napari and watch it happen.

Nothing heavy is imported here: torch and the engine come with the first run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "register"]

if TYPE_CHECKING:
    from napari_fireants._session import Session


def register(
    viewer: Any,
    fixed_layer: Any,
    moving_layer: Any,
    recipe: Any = "brain-mri",
    *,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    moving_labels: Any = None,
    fixed_labels: Any = None,
    device: str = "auto",
) -> Session:
    """Start a registration in `viewer`, as the Register dock would, and return its session.

    Layers are layers of the viewer or their names; recipe is a preset's name, a path to a recipe
    file or a Recipe. Returns at once; `session.wait()` blocks until the run has ended and
    `session.result` is the engine's Result. Raises InputError or RecipeError for bad input.
    """
    from napari_fireants._controller import controller_for

    controller = controller_for(viewer)
    controller.choose_recipe(recipe)
    chosen = {
        "fixed": fixed_layer,
        "moving": moving_layer,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "moving_labels": moving_labels,
        "fixed_labels": fixed_labels,
    }
    layers = {
        role: viewer.layers[layer] if isinstance(layer, str) else layer
        for role, layer in chosen.items()
    }
    controller.start(controller.roles(**layers), device=device)
    return controller.session
