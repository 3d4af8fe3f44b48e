"""Every error a user can meet: one sentence that names the thing and the remedy."""

from __future__ import annotations


class FireantsError(Exception):
    """Base of all errors raised on purpose by the engine; its text is meant to be shown."""


class InputError(FireantsError):
    """An image, mask, label map, point list or path that cannot be used as given."""


class RecipeError(InputError):
    """A recipe or preset that is misspelt, incomplete or contradictory."""


class BackendUnavailableError(InputError):
    """A device or kernel backend was asked for by name and is not there."""


class OutOfMemoryError(FireantsError):
    """The device ran out of memory; never a RuntimeError, which napari's workers swallow."""


class DivergedError(FireantsError):
    """The loss became NaN or infinite and no usable state was left."""


class StoppedError(FireantsError):
    """The run was stopped before it had anything to return."""
