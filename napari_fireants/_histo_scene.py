"""The layers of a section in a volume: the section, the plane beside or over it, what lies on them.

Of napari's layers only this file writes those. All are 2D and in section mm; the plane's are moved
aside by as much as the section is wide, so that one camera shows both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Points, Vectors
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QTimer

from napari_fireants._epi_stack import Stack
from napari_fireants._extras import put
from napari_fireants._histo_link import Prepared
from napari_fireants._histo_pose import Pose
from napari_fireants._layers import coordinates_at, world_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

ORDER = ("section", "plane", "lines", "regions", "outline", "marks", "marks on the plane")
"""From below."""
ASIDE = ("plane", "lines", "outline", "marks on the plane")
"""What stands beside the section while they are side by side."""
GAP, MARGIN = 0.04, 0.94
"""Between the two, of the longer side; and how much of the canvas they fill."""
TURN_MS, FLICK_MS = 20, 450
ORANGE, BLUE = "#e69f00", "#56b4e9"
BESIDE, OVER = "Side by side", "Over each other"


class HistoScene(Stack):
    """Shows one section and the volume on its plane."""

    def __init__(
        self, viewer: ViewerModel, hold: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__(viewer, hold)
        self.prepared: Prepared | None = None
        self.view, self.blend, self.with_lines = BESIDE, 0.5, False
        self.on = False
        self._below = False
        self._name, self._unit = "", "mm"
        self._plane: np.ndarray | None = None
        self._lines: np.ndarray | None = None
        self._pose: Pose | None = None
        self._steps: Iterator[None] = iter(())
        self._due = False
        self._timer = QTimer()
        self._timer.setInterval(FLICK_MS)
        self._timer.timeout.connect(self._flick)

    # ------------------------------------------------------------ a section
    def begin(self, prepared: Prepared, name: str, unit: str = "mm") -> None:
        """Hide all other layers and show a section; in turns, as a layer takes napari a while.

        unit: "pixel" where its layer has no physical one: napari complains of mixed units.
        """
        self.prepared, self._name, self._plane, self._unit = prepared, name, None, unit
        self.on = True
        self._flat_view()
        self._hide_others()
        self._steps = self._beginning()
        self._turn()

    def _turn(self) -> None:
        if next(self._steps, self) is not self:
            QTimer.singleShot(TURN_MS, self._turn)

    def settle(self) -> None:
        """All layers are there."""
        for _ in self._steps:
            pass

    def _beginning(self) -> Iterator[None]:
        prepared = self.prepared
        assert prepared is not None
        yield
        self._image("section", prepared.picture, contrast_limits=(0, 255))
        yield
        plane = prepared.blank if self._plane is None else self._plane
        self._image("plane", plane, contrast_limits=prepared.volume.limits, colormap="gray")
        yield
        self._outline()
        self._arrange()
        self.fit()
        self._cut_now()
        layer = self._layer("plane")
        if layer is not None:
            layer.refresh(highlight=False, extent=False)

    def _flat_view(self) -> None:
        """The canvas shows the last two axes, as 2D layers need it."""
        dims = self.viewer.dims
        put(dims, ndisplay=2)
        if tuple(dims.order) != tuple(range(dims.ndim)):
            dims.order = tuple(range(dims.ndim))

    def put_away(self) -> None:
        """Hide what shows a section; the layers look as before it."""
        self._steps, self.prepared, self._pose = iter(()), None, None
        self._timer.stop()
        if self.on:
            self.on = False
            self._hide_all()
            self.viewer.reset_view()

    def _place(self, name: str) -> dict[str, Any]:
        prepared = self.prepared
        assert prepared is not None
        away = self._away() if name in ASIDE else np.zeros(2)
        return {
            "scale": prepared.pixel_mm[::-1],
            "translate": prepared.corner_mm[::-1] + away,
            "units": (self._unit, self._unit),
            "axis_labels": ("y", "x"),
        }

    def _away(self) -> np.ndarray:
        """Of the plane from the section, in mm along y and x."""
        prepared = self.prepared
        if prepared is None or self.view == OVER:
            return np.zeros(2)
        size = np.array(prepared.shape) * prepared.pixel_mm[::-1]
        gap = GAP * size.max()
        high, wide = self.viewer.canvas.size
        beside = min(high / size[0], wide / (2 * size[1] + gap))
        below = min(high / (2 * size[0] + gap), wide / size[1])
        return np.array([size[0] + gap, 0.0]) if below > beside else np.array([0.0, size[1] + gap])

    def _image(self, part: str, data: np.ndarray, **look: Any) -> None:
        assert self.prepared is not None
        title = f"{self._name}, shown" if part == "section" else self.prepared.volume.title
        layer, rgb = self._layer(part), data.ndim == 3
        if layer is not None and (layer.data.shape != data.shape or layer.rgb != rgb):
            self.viewer.layers.remove(layer)
            layer = None
        if layer is None:
            look = look if not rgb else {}
            layer = Image(data, name=title, rgb=rgb, **look, **self._place(part))
            self._insert(part, layer)
            return
        layer.data = data
        put(layer, name=title, visible=True)
        if not rgb:
            put(layer, **look)

    def _outline(self) -> None:
        prepared = self.prepared
        assert prepared is not None
        self._labels("outline", prepared.tissue.astype(np.uint8), "Outline of the tissue")

    def _labels(self, part: str, data: np.ndarray, title: str) -> None:
        layer = self._layer(part)
        if layer is not None and layer.data.shape == data.shape:
            layer.data = data
            put(layer, name=title, visible=True)
            return
        if layer is not None:
            self.viewer.layers.remove(layer)
        look: dict[str, Any] = {"opacity": 1.0}
        if part == "outline":
            look["colormap"] = DirectLabelColormap(color_dict={1: ORANGE, None: "transparent"})
        layer = Labels(data, name=title, **look, **self._place(part))
        layer.contour = 1 if part == "outline" else 2
        self._insert(part, layer)

    def _segments(self, data: np.ndarray) -> None:
        """The deformation grid, (n, 2, 2) starts and ways."""
        layer = self._layer("lines")
        if layer is not None:
            layer.data = data
            put(layer, visible=True)
            return
        assert self.prepared is not None
        width = max(self.prepared.shape) / 320
        self._insert("lines", Vectors(
            data, name="Deformation grid", edge_color=BLUE, edge_width=width, length=1,
            vector_style="line", **self._place("lines"),
        ))  # fmt: skip

    def _insert(self, part: str, layer: Layer) -> Layer:
        """Where ORDER puts it; it takes nobody's place in the controls."""
        layer.metadata["fireants"] = {"only_shown": True}
        layers = self.viewer.layers
        above = [each for name in ORDER[ORDER.index(part) + 1 :]
                 if (each := self._layer(name)) is not None]  # fmt: skip
        with self._adding():
            layers.insert(min([layers.index(each) for each in above], default=len(layers)), layer)
        self.layers[part] = layer
        return layer

    # ------------------------------------------------------------ the plane
    def show_plane(self, pose: Pose, picture: np.ndarray | None) -> None:
        """The volume as the pose cuts it, or a picture of it that was made already."""
        self._pose, self._plane = pose, picture
        if picture is not None:
            self.show_picture(picture)
        elif not self._due:  # of all moves in one turn only the last
            self._due = True
            QTimer.singleShot(0, self._cut_now)

    def _cut_now(self) -> None:
        self._due = False
        if self.prepared is not None and self._pose is not None:
            cut = self.prepared.cut(self._pose) if self._plane is None else self._plane
            self.show_picture(cut)

    def show_picture(self, picture: np.ndarray) -> None:
        layer = self._layer("plane")
        if layer is not None and layer.data.shape == picture.shape:
            layer.data[...] = picture
            layer.refresh(thumbnail=False, highlight=False, extent=False)

    def show_regions(self, labels: np.ndarray | None) -> None:
        """Outlines of regions on the section; of None: none."""
        if labels is None or self.prepared is None:
            put(self._layer("regions"), visible=False)
        else:
            self._labels("regions", labels, "Regions of the volume")

    def show_lines(self, lines: np.ndarray | None) -> None:
        """The deformation grid of a fit; of None: none."""
        self._lines = lines
        if lines is None or self.prepared is None or not self.with_lines:
            put(self._layer("lines"), visible=False)
        else:
            self._segments(lines)

    def choose_lines(self, on: bool) -> None:
        """With the deformation grid, where there is a fit."""
        self.with_lines = on
        self.show_lines(self._lines)

    # ------------------------------------------------------------ ways to look
    def choose_view(self, view: str) -> None:
        """BESIDE or OVER."""
        self.view = view
        self._arrange()
        self.fit()

    def choose_blend(self, share: float) -> None:
        """Of the plane over the section, 0 to 1."""
        self.blend = share
        self._arrange()

    def flicker(self, on: bool) -> None:
        """Section and plane by turns in one place."""
        if on:
            self._timer.start()
        else:
            self._timer.stop()
        self._arrange()

    def _flick(self) -> None:
        layer = self._layer("plane")
        if layer is not None and self.view == OVER:
            layer.opacity = 0.0 if layer.opacity else 1.0

    def hold(self, held: bool) -> None:
        """The section where the plane is, for as long as a key is held."""
        section, away = self._layer("section"), self._away() if held else np.zeros(2)
        if section is None or self.prepared is None:
            return
        put(section, translate=self._place("section")["translate"] + away)
        put(self._layer("plane"), visible=not held)

    def _arrange(self) -> None:
        if self.prepared is None or not self.on:
            return
        for name in ORDER:
            layer = self._layer(name)
            if layer is None:
                continue
            place = self._place(name)
            put(layer, scale=place["scale"], translate=place["translate"])
            if str(layer.units[0]) != str(place["units"][0]):
                layer.units = place["units"]
        over = self.view == OVER
        put(self._layer("plane"), opacity=self.blend if over else 1.0)
        put(self._layer("outline"), visible=not over)

    def fit(self) -> None:
        """The camera shows both."""
        layer, prepared = self._layer("section"), self.prepared
        if layer is None or prepared is None:
            return
        far = np.array(prepared.shape) - 0.5 + self._away() / prepared.pixel_mm[::-1]
        ends = [world_of(self.viewer, layer, end) for end in (np.array([-0.5, -0.5]), far)]
        camera, size = self.viewer.scene.camera, np.abs(ends[1] - ends[0])
        high, wide = self.viewer.canvas.size
        camera.center = (0.0, *((ends[0] + ends[1]) / 2))
        camera.zoom = MARGIN * min(high / size[0], wide / size[1])

    # ------------------------------------------------------------ places
    def place_at(self, position: Any) -> tuple[str, np.ndarray] | None:
        """What lies there, section or plane, and where in section mm; None beside both."""
        if self.prepared is None:
            return None
        for name in ("section", "plane"):
            layer = self._layer(name)
            if layer is not None:
                place = coordinates_at(self.viewer, layer, position)
                if np.all((place >= -0.5) & (place <= np.array(self.prepared.shape) - 0.5)):
                    return name, self.prepared.place_mm(*place)
        return None

    def is_aside(self, position: Any) -> bool:
        """Nearer to the plane than to the section."""
        found = self.place_at(position)
        if found is not None:
            return found[0] == "plane"
        prepared = self.prepared
        away = [self.place_of(position, aside) for aside in (False, True)]
        if prepared is None or away[0] is None or away[1] is None:
            return False
        near, far = (float(np.linalg.norm(each - prepared.middle_mm[:2])) for each in away)
        return far < near

    def place_of(self, position: Any, aside: bool) -> np.ndarray | None:
        """Section mm of a place of the canvas, as the section counts or as the plane does."""
        layer, prepared = self._layer("plane" if aside else "section"), self.prepared
        if layer is None or prepared is None:
            return None
        return prepared.place_mm(*coordinates_at(self.viewer, layer, position))

    def show_marks(self, on_section: np.ndarray, on_plane: np.ndarray) -> None:
        """Numbered landmarks, (n, 2) section mm each."""
        if self.prepared is None:
            return
        for part, points in (("marks", on_section), ("marks on the plane", on_plane)):
            data = self.prepared.shown_at(points)
            layer = self._layer(part)
            if layer is None and len(data):
                layer = self._add_marks(part)
            if layer is None:
                continue
            layer.data = data
            layer.features = {"number": np.arange(1, len(data) + 1)}
            put(layer, visible=True)

    def _add_marks(self, part: str) -> Layer:
        prepared = self.prepared
        assert prepared is not None
        aside = "other section" if prepared.volume.flat else "plane"
        colour, above = ORANGE if part == "marks" else BLUE, (-max(prepared.shape) / 22, 0)
        layer = Points(
            np.zeros((0, 2)), name=f"Landmarks, {'section' if part == 'marks' else aside}",
            features={"number": np.zeros(0, int)}, size=max(prepared.shape) / 25, symbol="cross",
            face_color=colour, border_color="black", border_width=0.1,
            text={"string": "{number:d}", "color": colour, "size": 10, "translation": above},
            **self._place(part),
        )  # fmt: skip
        return self._insert(part, layer)
