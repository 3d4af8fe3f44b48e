"""Sections in a session's file: what was found of each, as plain values, and back. No Qt.

A section is told by its layer and its number in it. Fits are not kept: their planes are. Nothing
is read and no work begins when a session is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_fireants._histo_given import Kept, Section
from napari_fireants._histo_pose import FlatPose, Pose

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._histo import Histo
    from napari_fireants._sessionschema import HistologyState, SectionState

Find = Callable[[int], "Layer | None"]
"""Number of a layer in the session -> the layer, None where it was left out."""


def describe(histo: Histo, layers: Sequence[Layer]) -> HistologyState:
    """What the Histology dock knows, in numbers of `layers`."""
    from napari_fireants._sessionschema import HistologyState

    numbers: dict[Layer | None, int] = {layer: k for k, layer in enumerate(layers)}
    options, typed, apart = histo.options, histo.typed_um, histo.whole.typed_um
    return HistologyState(
        section=numbers.get(histo.layer),
        index=histo.index,
        volume=numbers.get(histo.volume),
        labels=numbers.get(options.labels),
        plane=options.plane,
        side=options.side,
        tilt_deg=options.tilt_deg,
        piece=options.piece,
        pixels_um={numbers[layer]: um for layer, um in typed.items() if layer in numbers},
        distances_um={numbers[layer]: um for layer, um in apart.items() if layer in numbers},
        distance_um=apart.get(None),
        sections=[
            _state(one, numbers[one.layer]) for one in histo.known if one.layer in numbers
        ],
    )  # fmt: skip


def _state(section: Section, layer: int) -> SectionState:
    from napari_fireants._sessionschema import SectionState

    kept = section.to_keep
    return SectionState(
        layer=layer,
        index=section.index,
        state=section.state,  # type: ignore[arg-type]
        pose=None if kept is None else kept.pose.matrix.tolist(),
        middle_mm=None if kept is None else kept.pose.middle_mm.tolist(),
        fitted=kept is not None and kept.fitted,
        pairs=[
            (one.tolist(), None if other is None else other.tolist())
            for one, other in section.pairs
        ],  # type: ignore[arg-type]
    )


def restore(histo: Histo, state: HistologyState, find: Find, names: Sequence[str]) -> list[str]:
    """The dock as it was; sentences a person should read. names: of the session's layers."""
    histo.forget_gone()
    _choose(histo, state, find)
    lost = set[int]()
    fitted = 0
    for one in state.sections:
        layer = find(one.layer)
        if layer is None:
            lost.add(one.layer)
        else:
            section = histo.section_of(layer, one.index)
            section.state, section.kept = one.state, _kept(one, histo.pair)
            section.pairs = [
                (np.array(a), None if b is None else np.array(b)) for a, b in one.pairs
            ]  # fmt: skip
            fitted += one.fitted
    histo.changed.emit()
    chosen = None if state.section is None else find(state.section)
    if chosen is not None:
        histo.choose_section(chosen, state.index)
    histo.show()
    notes = [f"What was found of {names[k]} is left out, as the layer is." for k in sorted(lost)]
    if fitted:
        notes.append(
            f"{fitted} section{'s' if fitted > 1 else ''} in the Histology dock had been fitted: "
            "the planes are kept, the fits are to be made again (Refine, or Fit the stack)."
        )
    histo.work.told.emit(" ".join(notes), "note")
    return notes


def _choose(histo: Histo, state: HistologyState, find: Find) -> None:
    layers = {name: None if number is None else find(number)
              for name, number in (("volume", state.volume), ("labels", state.labels))}  # fmt: skip
    histo.choose_volume(layers["volume"] or histo.volume)
    histo.set_options(
        plane=state.plane, side=state.side, tilt_deg=state.tilt_deg, piece=state.piece,
        labels=layers["labels"],
    )  # fmt: skip
    for typed, values in (
        (histo.typed_um, state.pixels_um), (histo.whole.typed_um, state.distances_um)
    ):  # fmt: skip
        typed.update({layer: um for k, um in values.items() if (layer := find(k)) is not None})
    if state.distance_um is not None:
        histo.whole.typed_um[None] = state.distance_um


def _kept(one: SectionState, pair: bool) -> Kept | None:
    """pair: another section, not a volume, was matched with it."""
    if one.pose is None or one.middle_mm is None:
        return None
    kind = FlatPose if pair else Pose
    return Kept(kind(np.array(one.pose), np.array(one.middle_mm)), one.fitted)
