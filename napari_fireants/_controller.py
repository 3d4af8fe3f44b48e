"""One registration in one viewer: recipe, session and scene, without widgets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from fireants_engine.errors import InputError
from napari_fireants._latest import Latest
from napari_fireants._layers import Snapshot, check_colours, snapshot
from napari_fireants._presets import OwnPresets
from napari_fireants._preview import Frames, Wanted
from napari_fireants._scene import Scene
from napari_fireants._session import Job, Product, Session
from napari_fireants._store import RecipeStore
from napari_fireants._undo import UndoStack
from napari_fireants._views import Look, compose

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

PLUGIN, WIDGET = "napari-fireants", "Register"


@dataclass(frozen=True, eq=False)
class Roles:
    """Which layer plays which part."""

    fixed: Layer | None = None
    moving: Layer | None = None
    fixed_mask: Layer | None = None
    moving_mask: Layer | None = None
    moving_labels: Layer | None = None
    fixed_labels: Layer | None = None


class Controller:
    """Starts runs and puts what they yield into the viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.undo = UndoStack()
        self.store = RecipeStore(undo=self.undo)
        self.presets = OwnPresets(undo=self.undo)
        self.scene = Scene(viewer)
        self.wishes: list[Callable[[Wanted], Wanted]] = []
        self.session = Session(self.wanted)
        self.session.controller = self  # whoever holds the session keeps the rest alive
        self.last_roles = Roles()
        self._views = Latest()
        self.hold_painting: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.current_roles: Callable[[], Roles] = lambda: self.last_roles
        self.session.opening.connect(self._on_opening)
        self.session.frames_ready.connect(self._on_frames)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)

    def wanted(self) -> Wanted:
        """The next preview: what the canvas shows, and what `wishes` add to it."""
        wanted = self.scene.wanted()
        for wish in self.wishes:
            wanted = wish(wanted)
        return wanted

    @staticmethod
    def roles(**layers: Layer | None) -> Roles:
        return Roles(**layers)

    def choose_recipe(self, recipe: Any) -> None:
        """A preset's name, a path to a recipe file, or a Recipe. Raises RecipeError."""
        if not isinstance(recipe, str | Path):
            self.store.use(recipe)
        elif Path(recipe).suffix in (".yaml", ".yml", ".json"):
            self.store.load_file(recipe)
        else:
            self.store.load_preset(str(recipe))

    def start(self, roles: Roles, device: str = "auto") -> None:
        """Begin a run. Raises InputError when the layers cannot be registered."""
        if self.session.busy:
            raise InputError("A registration is still at work in this viewer; stop it first.")
        if roles.fixed is None or roles.moving is None:
            raise InputError("Choose a fixed and a moving image first.")
        if roles.fixed == roles.moving:  # not `is`: napari hands out layers in proxies
            raise InputError(
                f"Fixed and moving are both {roles.fixed.name}; choose two different layers."
            )
        fixed, moving = snapshot(roles.fixed), snapshot(roles.moving)
        check_colours(fixed, moving)
        if fixed.ndim != moving.ndim:
            raise InputError(
                f"{fixed.name} is {fixed.ndim}D and {moving.name} is {moving.ndim}D; choose two "
                "images of the same dimension."
            )

        def maybe(layer: Layer | None) -> Snapshot | None:
            return None if layer is None else snapshot(layer)

        job = Job(
            fixed,
            moving,
            self.store.recipe,
            device,
            maybe(roles.fixed_mask),
            maybe(roles.moving_mask),
            maybe(roles.moving_labels),
            maybe(roles.fixed_labels),
        )
        self.last_roles = roles
        with self.hold_painting():
            self.scene.begin(roles.fixed, roles.moving, fixed)
            self.session.start(job)

    def look(self, look: Look, told: Callable[[str], None]) -> None:
        """Look at the images or at a finished run in another way.

        A picture is composed in a thread; of several wishes the newest is shown. told: gets what
        the picture says, or why there is none.
        """
        self._views.forget()
        product, scene = self.session.product, self.scene
        if product is None or not look.view.composed:
            scene.apply(look)
            told("")
            return
        spacing, axes = scene.spacing, scene.canvas_axes()

        def done(picture: Any) -> None:
            if self.session.product is product:
                scene.present(picture)
                told(picture.note)

        def work() -> Any:
            return compose(look, product.pictures, product.result, spacing, axes)

        self._views.ask(work, done, told)

    @property
    def composing(self) -> bool:
        """A picture is being made."""
        return self._views.busy

    def apply_to(self, layer: Layer) -> None:
        """Bring another layer of the moving space onto the fixed grid, in a thread."""
        product = self.session.product
        if product is None:
            raise InputError("Run a registration first.")
        source = snapshot(layer)

        def work() -> Any:
            from napari_fireants._job import apply_to

            return apply_to(product.result, source)

        def done(data: Any) -> None:
            if source.labels:
                self.scene.add_labels(data, layer, product.info)
            else:
                name = f"{layer.name} (registered)"
                self.scene.add_image(data, name, product.info, rgb=source.rgb)

        if not self.session.submit(work, done):
            raise InputError("Please wait until the present task is done.")

    def save(self, folder: str | Path, done: Any) -> None:
        """Write the run directory in a thread, then call `done(folder)`."""
        product = self.session.product
        if product is None:
            raise InputError("Run a registration first.")

        def work() -> Path:
            product.result.save(folder)
            return Path(folder)

        if not self.session.submit(work, done):
            raise InputError("Please wait until the present task is done.")

    def _on_opening(self) -> None:
        with self.hold_painting():
            self.scene.open()

    def _on_frames(self, frames: Frames) -> None:
        with self.hold_painting() if self.scene.waiting else nullcontext():
            self.scene.show(frames.images)

    def _on_finished(self, product: Product | None) -> None:
        if product is None:
            self.scene.abandon()
        else:
            with self.hold_painting():
                self.scene.finish(product.pictures, product.info, self.last_roles.moving_labels)

    def _on_failed(self, _: str) -> None:
        if self.session.product is None:
            self.scene.abandon()


_controllers: WeakValueDictionary[int, Controller] = WeakValueDictionary()


def controller_of(viewer: Any) -> Controller:
    """The one controller of `viewer`, which its docks share; made by the first that asks.

    It lives as long as one of them does, and holds the viewer, so that no other takes its place.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)  # docks are handed a proxy
    known = _controllers.get(id(viewer))
    if known is None:
        known = _controllers[id(viewer)] = Controller(viewer)
    return known


def controller_for(viewer: Any) -> Controller:
    """The controller of the viewer, its Register dock opened if there can be one."""
    if not hasattr(viewer, "window"):
        return Controller(viewer)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return panel.controller
