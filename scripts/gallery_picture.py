r"""Draws docs/images/gallery.png: the gallery of presets with two own ones.

Run from the repository on a screen of its own:
    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        .venv/bin/python scripts/gallery_picture.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import napari
from napari.settings import get_settings
from register_picture import ROOT, SIZE, wait

from napari_fireants.panels._gallery import Gallery


def main(path: Path = ROOT / "docs" / "images" / "gallery.png") -> None:
    with tempfile.TemporaryDirectory() as folder:
        get_settings(str(Path(folder) / "napari.yaml"))  # never the settings of who runs this
        os.environ["FIREANTS_USER_FOLDER"] = folder
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
        store, own = panel.controller.store, panel.controller.presets
        stiff = store.recipe.with_values({"stages.greedy.deformation.sigma_warp_mm": 1.5})
        own.save("elderly brains", stiff, "T1 of elderly persons: a stiffer warp.")
        store.load_preset("microscopy")
        own.save("mouse sections", store.recipe, "Nissl sections of the mouse cortex, 10 µm.")
        panel.gallery.click()
        (gallery,) = panel.findChildren(Gallery)
        wait(lambda: gallery.isVisible() and gallery.cards[4].height() > 150)
        microscopy = next(card for card in gallery.cards if card.preset.name == "microscopy")
        microscopy.pointed.emit(microscopy.preset)
        assert gallery.grab().save(str(path))
        print(path)
        gallery.close()
        viewer.close()


if __name__ == "__main__":
    main()
