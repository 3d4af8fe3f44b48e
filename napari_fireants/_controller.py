"""One registration in one viewer: recipe, session and scene, without widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from psygnal import Signal as PsygnalSignal
from qtpy.QtCore import QTimer

from fireants_engine.errors import InputError
from napari_fireants import _shortcuts as shortcuts
from napari_fireants._keeper import Keeper
from napari_fireants._landmarking import Landmarking
from napari_fireants._landmarks import LandmarkTable
from napari_fireants._layers import Snapshot, check_colours, likely_pair, only_shown, snapshot
from napari_fireants._looking import Looking
from napari_fireants._presets import OwnPresets
from napari_fireants._preview import Frames, Wanted
from napari_fireants._scene import Scene
from napari_fireants._session import Job, Product, Session
from napari_fireants._steering import Steering
from napari_fireants._store import RecipeStore
from napari_fireants._undo import UndoStack
from napari_fireants._views import View

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fireants._batch import Batch
    from napari_fireants._epi import Epi
    from napari_fireants._histo import Histo

REST_MS = 700
"""After a run, before what is no longer needed goes."""
PLUGIN, WIDGET, INSPECT = "napari-fireants", "Register", "Inspect"


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

    initial_changed = PsygnalSignal()

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
        self.hold_painting: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.current_roles: Callable[[], Roles] = lambda: self.last_roles
        self.looking = Looking(self.scene, self.session, lambda: self.hold_painting())
        self.wishes.append(self.looking.wish)
        self.landmarks = LandmarkTable(self.undo)
        self.landmarking = Landmarking(
            self.landmarks, self.images, self.scene, self.session, lambda: self.hold_painting()
        )
        self.wishes.append(self.landmarking.wish)
        self.initial: Any = None
        self.initial_from = ""
        self.steering = Steering(self)
        self.current_device: Callable[[], str] = lambda: "auto"
        self.choose_device: Callable[[str], object] = lambda _: None
        self.choose_roles: Callable[[Roles], object] = self._take_roles
        self.keeper = Keeper(self)
        self.history = self.keeper.history
        self.session.opening.connect(self._on_opening)
        self.session.frames_ready.connect(self._on_frames)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)
        shortcuts.bind(self)

    @cached_property
    def batch(self) -> Batch:
        """Many pairs; made when it is first asked for."""
        from napari_fireants._batch import Batch

        return Batch(self.session)

    @cached_property
    def epi(self) -> Epi:
        """EPI corrections; made when they are first asked for."""
        from napari_fireants._epi import Epi

        return Epi(self)

    @cached_property
    def histo(self) -> Histo:
        """Sections in a volume; made when they are first asked for."""
        from napari_fireants._histo import Histo

        return Histo(self)

    def wanted(self) -> Wanted:
        """The next preview: what the canvas shows, and what `wishes` add to it."""
        wanted = self.scene.wanted()
        for wish in self.wishes:
            wanted = wish(wanted)
        return wanted

    def _take_roles(self, roles: Roles) -> None:
        self.last_roles = roles

    def detach(self, *_: object) -> None:
        """The Register dock goes; what it knew is no longer to be asked."""
        self.hold_painting = nullcontext
        self.current_roles, self.choose_roles = lambda: self.last_roles, self._take_roles
        self.current_device, self.choose_device = lambda: "auto", lambda _: None

    def images(self) -> tuple[Layer | None, Layer | None]:
        """Fixed and moving as chosen in a dock, else by their names and order."""
        roles = self.current_roles()
        if roles.fixed is not None and roles.moving is not None:
            return roles.fixed, roles.moving
        own = self.scene.own
        layers = [x for x in self.viewer.layers if x not in own and not only_shown(x)]
        return likely_pair([x for x in layers if hasattr(x, "rgb")])

    def start_from(self, initial: Any, what: str = "start of the next run") -> None:
        """Where the next run starts, as one step; None: as its recipe says. See `Job.initial`."""
        before = self.initial, self.initial_from

        def put(value: Any, origin: str) -> None:
            self.initial, self.initial_from = value, origin
            self.initial_changed.emit()

        self.undo.push(what, lambda: put(*before), lambda: put(initial, what))
        put(initial, what)

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
            raise InputError(
                f"{self.session.busy_with} in this viewer; stop it first, or wait for it."
            )
        if roles.fixed is None or roles.moving is None:
            raise InputError("Choose a fixed and a moving image first.")
        if roles.fixed == roles.moving:  # not `is`: napari hands out layers in proxies
            raise InputError(
                f"Fixed and moving are both {roles.fixed.name}; choose two different layers."
            )
        self.steering.prepare()
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
            initial=self.initial,
        )
        job = self.steering.into(self.landmarking.into(job))
        self.landmarking.prepare()
        self.last_roles = roles
        if "epi" in vars(self):
            self.epi.make_room()
        if "histo" in vars(self):
            self.histo.make_room()
        self.keeper.recall.begin()
        with self.hold_painting():
            self.scene.begin(roles.fixed, roles.moving, fixed)
            self.looking.begin(job)
            self.landmarking.begin(job)
            self.steering.begin(job)
            self.session.start(job)

    def open_inspect(self) -> None:
        """The Inspect dock, beside the Register dock, where there is a window."""
        if hasattr(self.viewer, "window"):
            dock, _ = self.viewer.window.add_plugin_dock_widget(PLUGIN, INSPECT, tabify=True)
            dock.show()
            dock.raise_()

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

        self._in_thread(work, done)

    def save_figure(self, path: str | Path, views: Sequence[View], done: Any) -> None:
        """Write a figure of the slice on the canvas in a thread, then call `done(path)`."""
        drawn = self._figure(views)

        def work() -> Path:
            from napari_fireants._figure import draw_figure

            return draw_figure(path, *drawn())

        self._in_thread(work, done)

    def save_report(self, path: str | Path, views: Sequence[View], done: Any) -> None:
        """Write one page about the run, with these views of the slice, then call `done(path)`."""
        drawn = self._figure(views)
        result = self.session.result

        def work() -> Path:
            from fireants_engine.workflows.rundir import save_page
            from napari_fireants._figure import figure_png

            return save_page(result, path, {"The slice on the canvas.": figure_png(*drawn())})

        self._in_thread(work, done)

    def save_screenshot(self, path: str | Path) -> Path:
        """Write the canvas as it is."""
        from napari_fireants._figure import save_pixels

        return save_pixels(path, self.viewer.screenshot(canvas_only=True, flash=False))

    def _figure(self, views: Sequence[View]) -> Callable[[], tuple[Any, ...]]:
        """A function that makes the parts of a figure, off the GUI thread."""
        product, scene = self.session.product, self.scene
        if product is None or self.looking.running:
            raise InputError("Run a registration to its end first.")
        key, look, colours = self.looking.key, self.looking.look, scene.colours
        space = scene.spacing, scene.canvas_axes()

        def work() -> tuple[Any, ...]:
            from napari_fireants._figure import parts_of_figure

            return parts_of_figure(product, key, look, views, colours, space)

        return work

    def _in_thread(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
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

        self._in_thread(work, done)

    def _on_opening(self) -> None:
        with self.hold_painting():
            self.scene.open()

    def _on_frames(self, frames: Frames) -> None:
        if self.scene.waiting:
            with self.hold_painting(), self.landmarking.picker.aside():
                self.scene.show(frames.images)
            self.steering.see(frames)
        else:
            self.scene.show(frames.images)
            self.steering.see(frames)
        self.looking.see(frames)
        if frames.points_mm is not None:  # three more layers to draw: the window answers before
            QTimer.singleShot(20, partial(self.landmarking.see, frames))

    def _on_finished(self, product: Product | None) -> None:
        self.steering.end()
        with self.landmarking.picker.aside():
            if product is None:
                self.scene.abandon()
            else:
                with self.hold_painting():
                    labels = self.last_roles.moving_labels
                    self.scene.finish(product.pictures, product.info, labels)
            self.looking.end()
        self.landmarking.end()
        self.keeper.recall.end(product)
        QTimer.singleShot(REST_MS, self.keeper.recall.put_away)

    def _on_failed(self, _: str) -> None:
        self.steering.end()
        if self.session.product is None:
            with self.landmarking.picker.aside():
                self.scene.abandon()
                self.looking.end()
            self.landmarking.end()


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
