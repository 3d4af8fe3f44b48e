"""Runs of the history in the viewer: shown again, run again, compared. Only writes layers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._behind import Behind
from napari_fireants._files import Files
from napari_fireants._history import History
from napari_fireants._layers import like, placed
from napari_fireants._objects import Objects
from napari_fireants._preview import Pictures, robust_limits
from napari_fireants._runs import Run
from napari_fireants._scene import LIVE

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._controller import Controller, Roles
    from napari_fireants._session import Product
    from napari_fireants._store import Entry

RESULT, LABELS = "result", "labels"
KEPT_LAYERS = 5
"""Runs whose pictures stay in the viewer: napari needs some 6 MiB for a layer, beside its data."""
PUT_AWAY = "Pictures of older runs have left the viewer; show a run, and its picture is back."
Known = tuple[Run, Any]
"""A run and its product."""


class Recall:
    """Keeps the history of a controller, and the layers of each of its runs.

    objects: where results are written.
    """

    def __init__(self, controller: Controller, objects: Objects) -> None:
        self._controller = controller
        self.behind = Behind()
        self.layers: dict[int, dict[str, weakref.ref[Any]]] = {}
        self._as_made: dict[tuple[int, str], Any] = {}
        self._told = False
        self._began: tuple[Entry, int | None] | None = None
        session = controller.session
        self.history = History(
            objects,
            Files(),
            self.behind.ask,
            self._show,
            controller.undo,
            lambda: session.busy,
        )
        controller.scene.spare = self.spare

    # ------------------------------------------------------------ runs come
    def begin(self) -> None:
        """A run is about to begin: what is compared is so no longer."""
        for layer in self._results():
            if layer != self._controller.scene.live:
                layer.visible = False
        self._began = (self._controller.store.entry, self.history.shown)
        self.history.begin()

    def end(self, product: Product | None) -> None:
        """The run has ended, and its layers are there."""
        began, self._began = self._began, None
        if product is None or began is None:
            return
        run = self.history.add(product, *began)
        scene, roles = self._controller.scene, self._controller.last_roles
        layers = {f.name: getattr(roles, f.name) for f in fields(roles)}
        layers[RESULT] = scene.result
        if product.pictures.labels is not None:
            layers[LABELS] = self._newest_labels(product)
        self.remember(run.number, layers)

    def _newest_labels(self, product: Product) -> Layer | None:
        for layer in reversed(list(self._controller.viewer.layers)):
            if layer.data is product.pictures.labels:
                return layer
        return None

    def remember(self, number: int, layers: dict[str, Layer | None]) -> None:
        """Which layers belong to a run, as long as they live. Roles, and result and labels."""
        found = {role: layer for role, layer in layers.items() if layer is not None}
        self.layers[number] = {
            role: weakref.ref(getattr(layer, "__wrapped__", layer)) for role, layer in found.items()
        }
        for role in found.keys() & {RESULT, LABELS}:
            self._as_made[number, role] = self._state_of(found[role])

    def layer(self, number: int, role: str) -> Layer | None:
        """A layer of a run if it is still in the viewer."""
        known = self.layers.get(number, {}).get(role)
        layer = None if known is None else known()
        return layer if layer is not None and layer in self._controller.viewer.layers else None

    def _results(self) -> list[Layer]:
        parts = [(number, role) for number in self.layers for role in (RESULT, LABELS)]
        found = [self.layer(*part) for part in parts]
        return [layer for layer in found if layer is not None]

    # ------------------------------------------------------------ runs go
    def put_away(self) -> None:
        """Take the pictures of all but the newest runs out of the viewer; the history brings them
        back. Those that are looked at, chosen, changed or in use stay, and those that are nowhere
        else."""
        if not self._controller.session.state.active:
            for *_, layer in self._unneeded(KEPT_LAYERS, (RESULT, LABELS)):
                self._controller.viewer.layers.remove(layer)
                self._say_once()

    def spare(self) -> Layer | None:
        """The picture of an older run, to be used for the next one: where napari would make and
        forget a layer with every run, memory grows by a third of a MiB a run."""
        fixed = self._controller.scene.fixed
        for number, role, layer in self._unneeded(KEPT_LAYERS - 1, (RESULT,)):
            if fixed is not None and layer.ndim == fixed.ndim and not layer.rgb:
                del self.layers[number][role]
                self._say_once()
                return layer
        return None

    def _unneeded(self, newest: int, roles: Sequence[str]) -> list[tuple[int, str, Layer]]:
        """Untouched layers of all runs but the newest so many, with their run and role."""
        numbers = sorted(self.layers)
        older = numbers[: max(0, len(numbers) - newest)]
        used, chosen = self._used(numbers[len(older) :]), self._controller.viewer.layers.selection
        out = []
        for part in [(number, role) for number in older for role in roles]:
            layer = self.layer(*part)
            if layer is None or layer.visible or layer in used or layer in chosen:
                continue
            if self._as_made.get(part) == self._state_of(layer) and not self.history.lost(part[0]):
                out.append((*part, layer))
        return out

    def _used(self, numbers: Sequence[int]) -> list[Layer]:
        """Layers that play a part now, or in one of these runs."""
        controller = self._controller
        roles = [controller.current_roles(), controller.last_roles]
        used = [getattr(each, f.name) for each in roles for f in fields(each)]
        for number in numbers:
            used += [self.layer(number, role) for role in self.layers[number]]
        scene = controller.scene
        used += [scene.fixed, scene.moving, scene.live, scene.result]
        return [layer for layer in used if layer is not None]

    def _state_of(self, layer: Layer) -> Any:
        """Another when somebody has changed it; looking at it is no change."""
        array, changes = self._controller.keeper.watch.version(layer)
        return layer.name, array, changes if hasattr(layer, "paint") else 0

    def _say_once(self) -> None:
        if not self._told:
            self._told = True
            self.history.said.emit(PUT_AWAY, "note")

    # ------------------------------------------------------------ runs come back
    def _show(self, shown: Known | None, other: Known | None) -> None:
        with self._controller.hold_painting():
            if shown is None:
                self._show_nothing()
            else:
                self._take(*shown, other)

    def _take(self, run: Run, product: Product, other: Known | None) -> None:
        controller, grid = self._controller, product.result.grid
        if other is not None and not other[1].result.grid.same_space(grid):
            raise InputError(
                f"The fixed images of run {other[0].number} and run {run.number} lie on different "
                "grids: their numbers can be compared, but not their pictures."
            )
        result = self.layer(run.number, RESULT) or self._add_result(run, product)
        if other is None:
            fixed = self.layer(run.number, "fixed") or self._add_fixed(run, product)
        else:
            fixed = self.layer(other[0].number, RESULT) or self._add_result(*other)
            names = f"{other[0].name} (as fixed) and {run.name} (as moving)"
            both = _both(product.pictures, other[1].pictures)
            product = replace(product, pictures=both, compared=names)
        for layer in self._results():
            if layer not in (fixed, result):
                layer.visible = False
        live = self._grey(fixed, product) if getattr(result, "rgb", False) else result
        moving = self.layer(run.number, "moving")
        controller.scene.take(fixed, moving, live, result, grid.spacing_zyx)
        controller.session.show(product)
        self._tell()

    def _grey(self, fixed: Layer, product: Product) -> Layer:
        """A grey layer for the views of a colour result."""
        scene, data = self._controller.scene, product.pictures.moved_bytes.astype(np.float32)
        live = scene.live
        if live is None or live == scene.result or live not in self._controller.viewer.layers:
            limits = {"contrast_limits": (0, 255), "name": LIVE}
            return self._controller.viewer.add_image(data, **limits, **like(fixed))
        live.data = data
        return live

    def _show_nothing(self) -> None:
        controller = self._controller
        for layer in self._results():
            layer.visible = False
        controller.session.show(None)
        controller.scene.abandon()
        self._tell()

    def _tell(self) -> None:
        """Another result takes the place of the last one."""
        self._controller.looking.end()
        self._controller.landmarking.end()

    def _add_result(self, run: Run, product: Product) -> Layer:
        moved, beside = product.pictures.moved, self.layer(run.number, "fixed")
        where = placed(product.result.grid) if beside is None else like(beside)
        look: dict[str, Any] = {"metadata": {"fireants": product.info}, "visible": False}
        if moved.ndim > product.result.grid.dim:
            look["rgb"] = True
        else:
            look["contrast_limits"] = robust_limits(moved)
        name = f"{run.moving} (registered)"
        layer = self._controller.viewer.add_image(moved, name=name, **look, **where)
        self._add(run, RESULT, layer)
        return layer

    def _add_fixed(self, run: Run, product: Product) -> Layer:
        """The fixed layer is gone: its picture takes its place."""
        layer = self._controller.viewer.add_image(
            product.pictures.fixed_bytes,
            name=f"{run.fixed} (picture)",
            **placed(product.result.grid),
        )
        self._add(run, "fixed", layer)
        return layer

    def _add(self, run: Run, role: str, layer: Layer) -> None:
        raw = getattr(layer, "__wrapped__", layer)
        self.layers.setdefault(run.number, {})[role] = weakref.ref(raw)
        if role == RESULT:
            self._as_made[run.number, role] = self._state_of(layer)

    # ------------------------------------------------------------ run again
    def rerun(self, number: int) -> None:
        """The recipe and the start of a run become the present ones, and a new run begins.

        On the layers of that run where they are still there, else on those that are chosen.
        Raises InputError as `Controller.start`.
        """
        run, controller = self.history.run(number), self._controller
        if controller.session.busy:
            raise InputError("A registration is at work; stop it, or wait until it has ended.")

        def begin(start: Any) -> None:
            roles = self.roles(number) or controller.current_roles()
            controller.store.take(run.entry, f"recipe of run {number}")
            if start is not None or controller.initial is not None:
                controller.start_from(getattr(start, "matrix", start), f"start of run {number}")
            controller.choose_roles(roles)
            try:
                controller.start(roles, controller.current_device())
            except InputError as error:
                self.history.said.emit(str(error), "error")

        if self.history.lost(number):
            begin(None)
        else:
            self.history.fetch([number], lambda found: begin(found[number].result.initial))

    def roles(self, number: int) -> Roles | None:
        """The layers of a run, None when its images are gone."""
        from napari_fireants._controller import Roles

        found = Roles(**{f.name: self.layer(number, f.name) for f in fields(Roles)})
        return None if found.fixed is None or found.moving is None else found

    def close(self) -> None:
        """The window goes."""
        self.behind.shutdown()


def _both(above: Pictures, below: Pictures) -> Pictures:
    """Two runs' moved images in the place of the fixed and the moving one."""
    return Pictures(
        moved=above.moved,
        fixed_bytes=np.asarray(below.moved_bytes),
        moved_bytes=above.moved_bytes,
        before_bytes=above.before_bytes,
        labels=above.labels,
    )
