"""The frozen table of kernels: which function runs where, chosen once, never silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache

from torch import Tensor

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels import (
    descent,
    jacobian,
    labels,
    lncc,
    parzen,
    points,
    reference,
    slopes,
    unbend,
)


@dataclass(frozen=True)
class KernelTable:
    """One function per operation; a backend fills every slot or is not a backend."""

    name: str
    warp: Callable
    sample: Callable
    unbend: Callable
    slope: Callable
    bounded_slopes: Callable
    compose: Callable
    smooth: Callable
    window_stats: Callable
    lncc: Callable
    parzen_mi: Callable
    adam: Callable
    levenberg_marquardt: Callable
    jacobian_determinant: Callable
    strict_fold_mask: Callable
    label_vote: Callable
    solve_points: Callable


REFERENCE = KernelTable(
    name="reference",
    warp=reference.warp,
    sample=reference.sample,
    unbend=unbend.unbend,
    slope=slopes.slope,
    bounded_slopes=slopes.bounded_slopes,
    compose=reference.compose,
    smooth=reference.smooth,
    window_stats=lncc.window_stats,
    lncc=lncc.lncc,
    parzen_mi=parzen.parzen_mi,
    adam=descent.adam,
    levenberg_marquardt=descent.levenberg_marquardt,
    jacobian_determinant=jacobian.jacobian_determinant,
    strict_fold_mask=jacobian.strict_fold_mask,
    label_vote=labels.label_vote,
    solve_points=points.solve_points,
)

BACKENDS = ("native", "cuda", "reference")
"""Names of all there are; `missing` tells which of them are not here."""


def _fused(name: str) -> KernelTable:
    """The fused kernels: their functions run on the device of the tensors they are given.

    Those that are not written for CUDA are the reference's there.
    """
    from fireants_engine.kernels import native

    on_cpu = name == "native"
    return KernelTable(
        name=name,
        warp=native.warp.warp,
        sample=native.points.sample,
        unbend=native.unbend.unbend if on_cpu else unbend.unbend,
        slope=native.slopes.slope if on_cpu else slopes.slope,
        bounded_slopes=native.slopes.bounded_slopes if on_cpu else slopes.bounded_slopes,
        compose=native.warp.compose,
        smooth=native.smooth.smooth,
        window_stats=native.lncc.window_stats,
        lncc=native.lncc.lncc,
        parzen_mi=native.parzen.parzen_mi,
        adam=native.descent.adam,
        levenberg_marquardt=native.descent.levenberg_marquardt,
        jacobian_determinant=native.jacobian.jacobian_determinant,
        strict_fold_mask=native.jacobian.strict_fold_mask,
        label_vote=native.labels.label_vote,
        solve_points=native.points.solve_points,
    )


@cache
def _native() -> KernelTable:
    """The fused CPU kernels; raises BackendUnavailableError where their library is missing."""
    from fireants_engine.kernels import native

    native.library.library()
    return _fused("native")


@cache
def _cuda() -> KernelTable:
    """The fused CUDA kernels; raises BackendUnavailableError where they cannot run."""
    from fireants_engine.kernels.cuda import launch

    launch.require()
    return _fused("cuda")


def load(name: str) -> KernelTable:
    """The table of a backend; raises BackendUnavailableError, with what to do, where it is not."""
    if name == "reference":
        return REFERENCE
    if name == "native":
        return _native()
    if name == "cuda":
        return _cuda()
    raise BackendUnavailableError(
        f"Kernels {name!r} are not installed; choose auto or one of: {', '.join(BACKENDS)}."
    )


def missing() -> dict[str, str]:
    """Backends that cannot be used here -> why, and what would help."""
    found = {}
    for name in BACKENDS:
        try:
            load(name)
        except BackendUnavailableError as error:
            found[name] = str(error)
    return found


def select(kernels: str = "auto", device: str = "cpu") -> tuple[KernelTable, str]:
    """The table for `kernels` ("auto" or a backend's name) on `device`, and why it is this one.

    Raises BackendUnavailableError when a backend asked for by name is absent or does not run on
    that device.
    """
    kind = device.split(":", maxsplit=1)[0]
    if kernels == "auto":
        return _auto(kind, device)
    table = load(kernels)
    needs = {"native": "cpu", "cuda": "cuda"}.get(kernels, kind)
    if needs != kind:
        raise BackendUnavailableError(
            f"Kernels {kernels!r} run on device {needs}, not on {device}; choose device {needs}, "
            "or kernels auto."
        )
    return table, f"{kernels} was asked for."


def _auto(kind: str, device: str) -> tuple[KernelTable, str]:
    if kind == "cuda":
        # to be changed by the first `make gpu-check` that is green
        return REFERENCE, (
            f"auto chose reference (plain torch) on {device}: the CUDA kernels have not been run "
            "on a GPU by their makers yet; ask for them with kernels cuda."
        )
    if kind != "cpu":
        return REFERENCE, f"auto chose reference (plain torch): it is what runs on {device}."
    try:
        return load("native"), f"auto chose native (fused C++ kernels) on {device}."
    except BackendUnavailableError as error:
        return REFERENCE, f"auto chose reference (plain torch) on {device}. {error}"


def chosen_for(tensor: Tensor) -> KernelTable:
    """The table that `auto` chooses for the device of a tensor: for work outside of a run."""
    return select("auto", str(tensor.device))[0]


def describe(table: KernelTable) -> dict[str, str]:
    """Operation -> module and function that runs it."""
    out = {}
    for item in fields(table):
        function = getattr(table, item.name)
        if callable(function):
            out[item.name] = f"{function.__module__}.{function.__qualname__}"
    return out
