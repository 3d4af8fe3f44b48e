"""The kernels as operators of torch, `torch.ops.fireants.*`, for `torch.compile` and the like.

Importing this module registers them. Each runs what `auto` chooses for the device of its first
tensor, knows its shapes without computing, and has a gradient wherever the kernels have one. They
mean what the functions of that name in the table mean, with these arguments:

    warp(image, matrix, shape, u=None, nearest=False, border=False)
    compose(v, u, scale=None)
    smooth(field, sigma_vox, scale=1, window="gaussian")
    lncc(moving, fixed, weight, radius, epsilon, mask=None, squared=True, gradient="exact",
         window="box", scaling=None, fixed_scaling=None)      scaling: (B, 2), centre and factor
    parzen_mi(moving, fixed, moving_range, fixed_range, weight=None, bins=32, window="bspline",
              normalised=False, histogram="exact")
    jacobian_determinant(u), strict_fold_mask(u)              of every row of u

An operator keeps nothing but its arguments: its gradient computes the forward pass again, so the
loop of a registration calls the tables instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels.lncc import Scaling
from fireants_engine.kernels.table import REFERENCE, KernelTable, chosen_for

NAMESPACE = "fireants"

Run = Callable[..., Tensor]
"""(table, *arguments of the operator) -> result, as torch's autograd follows it."""


def _forward(run: Run, arguments: Sequence[Any]) -> Tensor:
    with torch.no_grad():
        out = run(chosen_for(arguments[0]), *arguments).contiguous()
    # torch forbids an operator to give back what it was given
    return out.clone() if any(out is argument for argument in arguments) else out


def _backward(run: Run, grad: Tensor, arguments: Sequence[Any], wanted: Sequence[bool]) -> list:
    """Gradients by the wanted tensors among the arguments, in their order."""
    leaves = [
        item.detach().requires_grad_(want) if isinstance(item, Tensor) else item
        for item, want in zip(arguments, wanted, strict=True)
    ]
    with torch.enable_grad():
        out = run(chosen_for(arguments[0]), *leaves)
    asked = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
    return [g.contiguous() for g in torch.autograd.grad(out, asked, grad)]


def _register(name: str, schema: str, run: Run, fake: Run) -> None:
    """The operator `name` and the one of its gradient; fake: a result of the right shape."""
    forward, backward = f"{NAMESPACE}::{name}", f"{NAMESPACE}::{name}_backward"
    torch.library.define(forward, f"({schema}) -> Tensor")
    torch.library.define(backward, f"(Tensor grad, {schema}, bool[] wanted) -> Tensor[]")
    torch.library.impl(forward, "default", lambda *given: _forward(run, given))
    torch.library.register_fake(forward, fake)
    torch.library.impl(
        backward, "default", lambda grad, *given: _backward(run, grad, given[:-1], given[-1])
    )

    @torch.library.register_fake(backward)
    def _(grad: Tensor, *given) -> list[Tensor]:
        *arguments, wanted = given
        asked = [item for item, want in zip(arguments, wanted, strict=True) if want]
        return [item.new_empty(item.shape) for item in asked]

    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*(item for item in inputs if isinstance(item, Tensor)))
        ctx.others = [None if isinstance(item, Tensor) else (item,) for item in inputs]

    @once_differentiable
    def pulled_back(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = iter(ctx.saved_tensors)
        arguments = [next(tensors) if other is None else other[0] for other in ctx.others]
        given = ctx.needs_input_grad  # what was left at its default is not among them
        wanted = [*given, *(False for _ in arguments[len(given) :])]
        operator = getattr(getattr(torch.ops, NAMESPACE), f"{name}_backward")
        found = iter(operator(grad, *arguments, wanted))
        return tuple(next(found) if want else None for want in given)

    torch.library.register_autograd(forward, pulled_back, setup_context=setup_context)


# ---------------------------------------------------------------------------- what they run
def _warp(table: KernelTable, image, matrix, shape, u=None, nearest=False, border=False) -> Tensor:
    return table.warp(image, matrix, shape, u, nearest=nearest, border=border)


def _warp_fake(image, matrix, shape, u=None, nearest=False, border=False) -> Tensor:
    rows = image.shape[0]
    if matrix.ndim == 3:
        rows = torch.sym_max(rows, matrix.shape[0])
    if u is not None:
        rows = torch.sym_max(rows, u.shape[0])
    return image.new_empty((rows, image.shape[1], *shape))


def _compose(table: KernelTable, v, u, scale=None) -> Tensor:
    return table.compose(v, u, scale)


def _compose_fake(v, u, scale=None) -> Tensor:
    return u.new_empty((torch.sym_max(v.shape[0], u.shape[0]), *u.shape[1:]))


def _smooth(table: KernelTable, field, sigma_vox, scale=1.0, window="gaussian") -> Tensor:
    return table.smooth(field, sigma_vox, scale, window)


def _smooth_fake(field, sigma_vox, scale=1.0, window="gaussian") -> Tensor:
    return field.new_empty(field.shape)


def _scaling(pairs: Tensor | None) -> Scaling | None:
    return None if pairs is None else Scaling(*pairs.unbind(1))


def _lncc(
    table: KernelTable,
    moving: Tensor,
    fixed: Tensor,
    weight: Tensor,
    radius: int,
    epsilon: float,
    mask: Tensor | None = None,
    squared: bool = True,
    gradient: Any = "exact",
    window: Any = "box",
    scaling: Tensor | None = None,
    fixed_scaling: Tensor | None = None,
) -> Tensor:
    seen = {"window": window, "scaling": _scaling(fixed_scaling)}
    stats = table.window_stats(fixed, radius, epsilon, mask, **seen)
    how = {"squared": squared, "gradient": gradient, "scaling": _scaling(scaling)}
    return table.lncc(moving, fixed, stats, weight, radius, epsilon, **how)


def _parzen_mi(
    table: KernelTable,
    moving: Tensor,
    fixed: Tensor,
    moving_range: Tensor,
    fixed_range: Tensor,
    weight: Tensor | None = None,
    bins: int = 32,
    window: Any = "bspline",
    normalised: bool = False,
    histogram: Any = "exact",
) -> Tensor:
    how = {"window": window, "normalised": normalised, "histogram": histogram}
    return table.parzen_mi(moving, fixed, moving_range, fixed_range, weight, bins, **how)


def _per_row_fake(moving, *rest) -> Tensor:
    return moving.new_empty(moving.shape[:1])


def _rows(table: KernelTable, name: str, u: Tensor) -> Tensor:
    """Plain torch takes one row at a time, and it alone has a gradient."""
    if table is REFERENCE or u.requires_grad:
        return torch.cat([getattr(REFERENCE, name)(row) for row in u.split(1)])
    return getattr(table, name)(u)


def _jacobian_determinant(table: KernelTable, u) -> Tensor:
    return _rows(table, "jacobian_determinant", u)


def _strict_fold_mask(table: KernelTable, u) -> Tensor:
    return _rows(table, "strict_fold_mask", u.detach())


def _voxels_fake(u, dtype: torch.dtype | None = None) -> Tensor:
    return u.new_empty((u.shape[0], 1, *u.shape[2:]), dtype=dtype)


_register(
    "warp",
    "Tensor image, Tensor matrix, SymInt[] shape, Tensor? u=None, bool nearest=False, "
    "bool border=False",
    _warp,
    _warp_fake,
)
_register("compose", "Tensor v, Tensor u, Tensor? scale=None", _compose, _compose_fake)
_register(
    "smooth",
    'Tensor field, float[] sigma_vox, float scale=1, str window="gaussian"',
    _smooth,
    _smooth_fake,
)
_register(
    "lncc",
    "Tensor moving, Tensor fixed, Tensor weight, int radius, float epsilon, Tensor? mask=None, "
    'bool squared=True, str gradient="exact", str window="box", Tensor? scaling=None, '
    "Tensor? fixed_scaling=None",
    _lncc,
    _per_row_fake,
)
_register(
    "parzen_mi",
    "Tensor moving, Tensor fixed, Tensor moving_range, Tensor fixed_range, Tensor? weight=None, "
    'int bins=32, str window="bspline", bool normalised=False, str histogram="exact"',
    _parzen_mi,
    _per_row_fake,
)
_register("jacobian_determinant", "Tensor u", _jacobian_determinant, _voxels_fake)
_register("strict_fold_mask", "Tensor u", _strict_fold_mask, lambda u: _voxels_fake(u, torch.bool))

OPERATORS = (
    *("warp", "compose", "smooth", "lncc", "parzen_mi", "jacobian_determinant"),
    "strict_fold_mask",
)
"""Names of all of them."""
