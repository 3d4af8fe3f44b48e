"""A combo of presets: those of the program, then a person's own."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from fireants_engine.recipe.presets import preset_names
from napari_fireants._presets import OwnPresets
from napari_fireants._store import Entry


def offer_presets(combo: QComboBox, own: OwnPresets) -> None:
    """Add the presets; an item's data is the name of one of the program's, or an own one's Path."""
    for name in preset_names():
        combo.addItem(name, name)
    mine = own.names()
    if mine:
        combo.insertSeparator(combo.count())
    for name in mine:
        combo.addItem(name, own.path(name))
        combo.setItemData(combo.count() - 1, "Your own preset", Qt.ItemDataRole.ToolTipRole)


def show_entry(combo: QComboBox, own: OwnPresets, entry: Entry) -> None:
    """Fill `combo` anew and choose what `entry` came from; a file gets an item of its own."""
    blocked = combo.blockSignals(True)
    combo.clear()
    offer_presets(combo, own)
    index = index_of(combo, entry.source if entry.is_preset else Path(entry.source))
    if index < 0:
        combo.insertSeparator(combo.count())
        index = combo.count()
        combo.addItem(Path(entry.source).name, None)
    if entry.edited:
        combo.setItemText(index, f"{combo.itemText(index)} (edited)")
    combo.setCurrentIndex(index)
    combo.blockSignals(blocked)


def index_of(combo: QComboBox, data: str | Path) -> int:
    """Of the item of a preset; -1 when there is none."""
    return next((k for k in range(combo.count()) if combo.itemData(k) == data), -1)
