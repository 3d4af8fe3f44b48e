"""The plugin's docks: thin widgets over the models beside them."""

from napari_fireants._quiet import collect_later

collect_later()
