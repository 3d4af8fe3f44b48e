"""The frozen table of kernels: which function runs where, chosen once, never silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels import lncc, parzen, reference


@dataclass(frozen=True)
class KernelTable:
    """One function per operation; a backend fills every slot or is not a backend."""

    name: str
    warp: Callable
    sample: Callable
    compose: Callable
    smooth: Callable
    window_stats: Callable
    lncc: Callable
    parzen_mi: Callable


REFERENCE = KernelTable(
    name="reference",
    warp=reference.warp,
    sample=reference.sample,
    compose=reference.compose,
    smooth=reference.smooth,
    window_stats=lncc.window_stats,
    lncc=lncc.lncc,
    parzen_mi=parzen.parzen_mi,
)

BACKENDS = {"reference": REFERENCE}


def select(kernels: str = "auto", device: str = "cpu") -> tuple[KernelTable, str]:
    """The table for `kernels` ("auto" or a backend's name) and the sentence that says why.

    Raises BackendUnavailableError when a backend asked for by name is absent.
    """
    if kernels == "auto":
        return REFERENCE, (
            f"auto chose reference (plain torch) on {device}: it is the only backend installed."
        )
    if kernels not in BACKENDS:
        raise BackendUnavailableError(
            f"Kernels {kernels!r} are not installed; choose auto or one of: {', '.join(BACKENDS)}."
        )
    return BACKENDS[kernels], f"{kernels} was asked for."


def describe(table: KernelTable) -> dict[str, str]:
    """Operation -> module and function that runs it."""
    out = {}
    for item in fields(table):
        function = getattr(table, item.name)
        if callable(function):
            out[item.name] = f"{function.__module__}.{function.__qualname__}"
    return out
