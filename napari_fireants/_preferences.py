"""What a person set on the plugin's page of napari's Preferences. Light: no torch, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from napari_fireants._remember import remembered

COMPUTING, DISPLAY = "computing", "display"
_WHERE = {"device": COMPUTING, "kernels": COMPUTING, "previews": DISPLAY, "colours": DISPLAY}
_ONLY_ON = {"native": "cpu", "cuda": "cuda"}


@dataclass(frozen=True)
class Preferences:
    """device, kernels: as in the engine's Execution; previews: at most so many a second; colours:
    of fixed and moving, a name in `_scene.PAIRS`."""

    device: str = "auto"
    kernels: str = "auto"
    previews: float = 8.0
    colours: str = "green and magenta"

    def kernels_on(self, device: str) -> str:
        """The kernels to ask for on a device: those of another one are left to `auto`."""
        kind = device.split(":")[0]
        return self.kernels if _ONLY_ON.get(self.kernels, kind) == kind else "auto"

    @property
    def seconds(self) -> float:
        """Shortest time between two previews."""
        return 1.0 / min(max(self.previews, 0.1), 20.0)


def preferences() -> Preferences:
    """As they are now; the default where none is kept, or one of another kind."""
    known: dict[str, Any] = {}
    for field in fields(Preferences):
        value = remembered(_WHERE[field.name], field.name, field.default)
        kind = type(field.default)
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        known[field.name] = value if fits else field.default
    return Preferences(**known)
