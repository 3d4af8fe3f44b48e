"""The result of one pair of a batch in the viewer: reads a run, and writes nothing but layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fireants._read_images import LayerData


def read_layers(folder: Path) -> tuple[list[LayerData], list[str]]:
    """Layers of a run directory and sentences to read; slow, so off the GUI thread."""
    from napari_fireants._read_runs import open_run

    return open_run(folder)


def add_layers(viewer: ViewerModel, layers: list[LayerData], pair: str) -> None:
    """Add what `read_layers` read, above what there is; every name begins with the pair's."""
    from napari.layers import Layer

    for data, options, kind in layers:
        name: Any = options.get("name")
        if isinstance(name, str) and not name.startswith(pair):
            options["name"] = f"{pair}: {name}"
        made = Layer.create(data, options, kind)
        for layer in made if isinstance(made, list) else [made]:
            viewer.add_layer(layer)
