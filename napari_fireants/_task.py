"""Work in a thread of its own, whose every error becomes one sentence. No Qt."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any


class Task:
    """A function in a thread of its own; its outcome is kept until somebody looks.

    It begins once `after` is set: what the start changes in the window is painted before that.
    engine: torch and the engine are loaded before.
    """

    def __init__(
        self,
        function: Callable[[], Any],
        after: threading.Event | None = None,
        engine: bool = True,
    ) -> None:
        self.value: Any = None
        self.error: str | None = None
        self.details = ""
        self._function: Callable[[], Any] | None = function
        self._after, self._engine = after, engine
        self._thread = threading.Thread(target=self._run, name="fireants", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float | None) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        from napari_fireants._quiet import import_engine, quiet_heap, release_memory

        function, self._function = self._function, None
        assert function is not None
        if self._after is not None:
            self._after.wait()
        try:
            if self._engine:
                import_engine()
        except Exception as error:
            self.error, self.details = explain(error), traceback.format_exc()
            return
        with quiet_heap():
            try:
                self.value = function()
            except Exception as error:
                self.error, self.details = explain(error), traceback.format_exc()
            # The handler has let go of the failed frames, and with them of their tensors.
            del function
            release_memory()


def outcome(function: Callable[[], Any]) -> tuple[Any, str]:
    """What `function` returns and "", or None and why there is nothing."""
    from fireants_engine.errors import StoppedError

    try:
        return function(), ""
    except (InterruptedError, StoppedError):
        return None, "Stopped; nothing was changed."
    except Exception as error:
        return None, explain(error)


def explain(error: Exception) -> str:
    """One sentence for a person, whatever was raised."""
    from fireants_engine.errors import FireantsError

    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(error, FireantsError):
        return text
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "Out of memory: start the finest level at a larger shrink (Advanced), crop the "
            "images, or choose another device."
        )
    if isinstance(error, ImportError):
        return f"A part of the program is missing ({first}); reinstall napari-fireants."
    return (
        f"The run failed unexpectedly ({type(error).__name__}: {first[:160]}); your layers are "
        "unchanged. Try another preset, or report this with the details (hover here)."
    )
