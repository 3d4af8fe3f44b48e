"""A viewer and its controller as a session in memory, quickly: arrays by reference. No Qt."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._files import ArrayRef
from napari_fireants._layers import Snapshot, file_of, snapshot
from napari_fireants._viewerstate import describe, describe_view, kind_of, known

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fireants._controller import Controller
    from napari_fireants._sessionschema import Draft, HistologyState, LayerDraft

WATCHED = ("data", "set_data", "paint", "labels_update")


class Watch:
    """Counts the changes of every layer's data; `painted`: somebody has painted labels."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._counts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._refs: WeakKeyDictionary[Any, tuple[Any, dict[str, ArrayRef]]] = WeakKeyDictionary()
        self.painted = False
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in viewer.layers:
            self._follow(layer)

    def _on_inserted(self, event: Any) -> None:
        self._follow(event.value)

    def _follow(self, layer: Layer) -> None:
        for name in WATCHED:
            emitter = getattr(layer.events, name, None)
            if emitter is not None:
                emitter.connect(self._on_paint if name == "paint" else self._on_data)

    def _on_data(self, event: Any) -> None:
        layer = event.source
        self._counts[layer] = self._counts.get(layer, 0) + 1

    def _on_paint(self, event: Any) -> None:
        self.painted = True
        self._on_data(event)

    def version(self, layer: Layer) -> tuple[int, int]:
        """Another whenever the data may be others."""
        layer = getattr(layer, "__wrapped__", layer)
        return id(layer.data), self._counts.get(layer, 0)

    def refs(self, layer: Layer) -> dict[str, ArrayRef] | None:
        """Where the present data are written, if they are."""
        version, refs = self._refs.get(getattr(layer, "__wrapped__", layer), (None, {}))
        return refs if version == self.version(layer) else None

    def written(self, layer: Layer, version: Any, refs: dict[str, ArrayRef]) -> None:
        self._refs[getattr(layer, "__wrapped__", layer)] = (version, refs)


def layers_of(controller: Controller) -> tuple[list[Layer], list[str]]:
    """Layers that are part of a session, and sentences about those that cannot be."""
    scene, notes = controller.scene, []
    shown = [layer for layer in scene.own if layer != scene.result]
    shown += list(getattr(controller.landmarking.marks, "own", ()))
    if "histo" in vars(controller):
        shown += list(controller.histo.scene.own)
    out = []
    for layer in controller.viewer.layers:
        if layer in shown:
            continue
        if known(layer):
            out.append(layer)
        else:
            notes.append(f"{layer.name} is not part of the session ({kind_of(layer)} layer).")
    return out, notes


def draft(controller: Controller, watch: Watch) -> Draft:
    """The session as it is now."""
    from napari_fireants._sessionschema import Draft

    layers, notes = layers_of(controller)
    hidden = controller.histo.scene.hidden if "histo" in vars(controller) else ()
    recall = controller.keeper.recall
    run_layers = {
        run.number: {
            role: layers.index(layer)
            for role in recall.layers.get(run.number, {})
            if (layer := recall.layer(run.number, role)) in layers
        }
        for run in recall.history.runs
    }
    roles = controller.current_roles()
    chosen = {f.name: getattr(roles, f.name) for f in fields(roles)}
    marks, start = controller.landmarks.content, controller.initial
    if start is not None and not isinstance(start, np.ndarray):
        notes.append("Where the next run starts (a result moved by hand) is not part of it.")
        start = None
    return Draft(
        layers=[_layer(layer, watch, layer in hidden) for layer in layers],
        roles={role: layers.index(layer) for role, layer in chosen.items() if layer in layers},
        entry=controller.store.entry,
        device=controller.current_device(),
        start=None if start is None else (start, controller.initial_from),
        landmarks=marks.to_dict() if marks.rows else None,
        runs=list(recall.history.runs),
        run_layers=run_layers,
        shown=recall.history.shown,
        compared=recall.history.compared,
        view=_view(controller),
        histology=_histology(controller, layers),
        notes=tuple(notes),
    )


def _histology(controller: Controller, layers: list[Layer]) -> HistologyState | None:
    """None where its dock was never used, which then is not loaded either."""
    if "histo" not in vars(controller):
        return None
    from napari_fireants._histo_kept import describe

    return describe(controller.histo, layers)


def _layer(layer: Layer, watch: Watch, hidden: bool) -> LayerDraft:
    """hidden: only while a section is shown."""
    from napari_fireants._sessionschema import LayerDraft

    state, arrays = describe(layer)
    if hidden:
        state = {**state, "visible": True}
    return LayerDraft(
        kind=kind_of(layer),
        state=state,
        arrays=arrays,
        path=file_of(layer),
        where=_where(layer),
        known=watch.refs(layer),
    )


def _where(layer: Layer) -> Snapshot | None:
    if kind_of(layer) not in ("image", "labels"):
        return None
    try:
        return snapshot(layer)
    except InputError:
        return None


def _view(controller: Controller) -> dict[str, Any]:
    look = controller.looking.look
    chosen = {f.name: getattr(look, f.name) for f in fields(look)} | {"view": look.view.name}
    return describe_view(controller.viewer) | {"look": chosen, "pair": controller.scene.pair}


def fingerprint(taken: Draft, versions: list[Any]) -> Any:
    """Equal for two drafts of which the second need not be written."""
    return (
        [(layer.kind, layer.state, layer.path) for layer in taken.layers],
        versions,
        taken.roles,
        taken.entry,
        taken.device,
        None if taken.start is None else taken.start[0].tolist(),
        taken.landmarks,
        [(run.number, run.title, run.note, run.kept is None, run.numbers) for run in taken.runs],
        taken.run_layers,
        taken.shown,
        taken.compared,
        taken.view,
        taken.histology,
    )
