"""The plugin's docks: thin widgets over the models beside them."""
