"""A call of every operation of the kernel tables, for tests that change one argument of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, KernelTable
from fireants_engine.kernels.lncc import Scaling

WIDE = torch.float64
Given = dict[str, Any]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed))


def with_gradients(call: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor | None]:
    """Value, and its gradients by the leaves for weights that differ; None by whole numbers."""
    leaves = [x.detach().requires_grad_() if x.is_floating_point() else x for x in leaves]
    out = call(*leaves)
    weights = torch.linspace(1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    if not torch.is_grad_enabled():
        return [out.detach()]
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    grads = iter(torch.autograd.grad((out * weights).sum(), asked))
    return [out.detach(), *(next(grads) if leaf.requires_grad else None for leaf in leaves)]


def whole(values: tuple | None) -> Scaling | None:
    return None if values is None else Scaling(*values)


def make_warp(size: tuple[int, ...], rows: int, seed: int) -> Given:
    dim = len(size)
    return {
        "image": noise(rows, 2, *size, seed=seed),
        "matrix": torch.eye(dim, dim + 1, dtype=WIDE) + 0.05 * noise(rows, dim, dim + 1, seed=seed),
        "u": noise(rows, dim, *size, seed=seed + 1),
        "shape": size,
        "border": bool(seed % 2),
    }


def run_warp(table: KernelTable, image, matrix, u, shape, border) -> list[Tensor | None]:
    def call(*leaves: Tensor) -> Tensor:
        return table.warp(leaves[0], leaves[1], shape, *leaves[2:], border=border)

    return with_gradients(call, [image, matrix, *([] if u is None else [u])])


def make_compose(size: tuple[int, ...], rows: int, seed: int) -> Given:
    v, u = (noise(rows, len(size), *size, seed=seed + k) for k in (0, 1))
    return {"v": v, "u": u, "scale": noise(rows, seed=seed)}


def run_compose(table: KernelTable, v, u, scale) -> list[Tensor | None]:
    if table is REFERENCE and len(v) == 1:  # it takes one factor for every row that it is given
        v = v.expand(len(u), *v.shape[1:])
    return [table.compose(v, u, scale)]


def make_smooth(size: tuple[int, ...], rows: int, seed: int) -> Given:
    sigma = [0.0, 0.4, 1.0, 2.3, 7.0]
    sigmas = [sigma[(seed + 3 * k) % 5] for k in range(len(size))]
    return {"field": noise(rows, 2, *size, seed=seed), "sigma_vox": sigmas, "scale": 1.5}


def make_window_stats(size: tuple[int, ...], rows: int, seed: int) -> Given:
    return {
        "image": noise(rows, 2, *size, seed=seed),
        "mask": noise(rows, 1, *size, seed=seed + 2).abs(),
        "scaling": (noise(rows, seed=seed), 0.5 + noise(rows, seed=seed).abs()),
        "radius": 1 + seed % 3,
    }


def run_window_stats(table: KernelTable, image, mask, scaling, radius) -> list[Tensor | None]:
    table.window_stats(image, radius, 1e-2, mask, scaling=whole(scaling))
    return []  # what is kept is each backend's own affair; `lncc` compares it


def make_lncc(size: tuple[int, ...], rows: int, seed: int) -> Given:
    fixed = noise(rows, 2, *size, seed=seed)
    return {
        "moving": fixed + noise(rows, 2, *size, seed=seed + 1),
        "fixed": fixed,
        "mask": noise(rows, 1, *size, seed=seed + 2).abs(),
        "weight": noise(rows, 1, *size, seed=seed + 3).abs(),
        "scaling": (noise(rows, seed=seed), 0.5 + noise(rows, seed=seed).abs()),
        "fixed_scaling": (noise(rows, seed=seed), 0.5 + noise(rows, seed=seed).abs()),
        "radius": 1 + seed % 3,
        "window": ("box", "gaussian")[seed % 2],
    }


def run_lncc(
    table: KernelTable, moving, fixed, mask, weight, scaling, fixed_scaling, radius, window
) -> list[Tensor | None]:
    seen = {"window": window, "scaling": whole(fixed_scaling)}

    def call(moving: Tensor, fixed: Tensor) -> Tensor:
        stats = table.window_stats(fixed, radius, 1e-2, mask, **seen)
        return table.lncc(moving, fixed, stats, weight, radius, 1e-2, scaling=whole(scaling))

    return with_gradients(call, [moving, fixed])


def make_parzen(size: tuple[int, ...], rows: int, seed: int) -> Given:
    moving = noise(rows, 2, *size, seed=seed)
    ends = torch.tensor([[-1.5, 2.0]], dtype=WIDE).expand(rows, 2)
    return {
        "moving": moving,
        "fixed": moving + noise(rows, 2, *size, seed=seed + 1),
        "moving_range": ends,
        "fixed_range": 2 * ends,
        "weight": noise(rows, 1, *size, seed=seed + 2).abs(),
        "bins": 6 + seed % 20,
        "window": ("bspline", "gaussian", "linear")[seed % 3],
        "histogram": ("exact", "approximate")[seed % 2],
    }


def run_parzen(table: KernelTable, moving, **rest) -> list[Tensor | None]:
    return with_gradients(lambda leaf: table.parzen_mi(leaf, **rest), [moving])


def make_adam(size: tuple[int, ...], rows: int, seed: int) -> Given:
    shape = (rows, len(size), *size)
    return {
        "grad": noise(*shape, seed=seed),
        "first": noise(*shape, seed=seed + 1),
        "second": noise(*shape, seed=seed + 2) ** 2,
        "counts": tuple(range(1, rows + 1)) if seed % 2 else (3,),
    }


def run_adam(table: KernelTable, grad, first, second, counts) -> list[Tensor | None]:
    grad, first, second = (None if t is None else t.clone() for t in (grad, first, second))
    way = table.adam(grad, first, second, counts, 0.9, 0.99, 1e-3)
    return [*way, second, *([] if first is None else [first])]


def make_levenberg(size: tuple[int, ...], rows: int, seed: int) -> Given:
    damping, tile = 0.1 + noise(rows, seed=seed).abs(), (3, 1, 7)[seed % 3]
    return {"grad": noise(rows, len(size), *size, seed=seed), "damping": damping, "tile": tile}


def run_levenberg(table: KernelTable, grad, damping, tile) -> list[Tensor | None]:
    return [*table.levenberg_marquardt(grad.clone(), damping, tile)]


def make_field(size: tuple[int, ...], rows: int, seed: int) -> Given:
    return {"u": noise(rows, len(size), *size, seed=seed)}


def make_vote(size: tuple[int, ...], rows: int, seed: int) -> Given:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64
    labels = torch.randint(0, 5, size, generator=generator).to(kinds[seed % 5])
    return {"labels": labels, "coords": 5 * noise(len(size), rows, *size, seed=seed)}


def make_unbend(size: tuple[int, ...], rows: int, seed: int) -> Given:
    return {
        "image": noise(rows, 2, *size, seed=seed),
        "v": 2 * noise(rows, 1, *size, seed=seed + 1),
        "axis": seed % len(size),
        "scale": -0.7,
        "modulate": bool(seed % 3),
    }


def run_unbend(table: KernelTable, image, v, axis, scale, modulate) -> list[Tensor | None]:
    def call(v: Tensor) -> Tensor:
        return table.unbend(image, v, axis, scale, modulate=modulate)

    return with_gradients(call, [v])


def make_slope(size: tuple[int, ...], rows: int, seed: int) -> Given:
    return {"field": noise(rows, 1, *size, seed=seed), "axis": seed % len(size), "scale": -0.7}


def run_slope(table: KernelTable, field, axis, scale) -> list[Tensor | None]:
    return with_gradients(lambda v: table.slope(v, axis, scale), [field])


def make_bounded(size: tuple[int, ...], rows: int, seed: int) -> Given:
    return {"field": noise(rows, 1, *size, seed=seed), "axis": seed % len(size), "limit": 0.5}


def make_sample(size: tuple[int, ...], rows: int, seed: int) -> Given:
    coords = 3 * noise(rows, len(size), *size, seed=seed)
    return {"image": noise(rows, 2, *size, seed=seed), "coords": coords, "border": bool(seed % 2)}


def run_sample(table: KernelTable, **given) -> list[Tensor | None]:
    with torch.no_grad():  # which the kernels have none of
        return [table.sample(**given)]


def make_points(size: tuple[int, ...], rows: int, seed: int) -> Given:
    start, target = (3 * noise(len(size), 10 * rows, seed=seed + k) for k in (0, 1))
    return {"u": noise(1, len(size), *size, seed=seed), "start": start, "target": target}


def run_points(table: KernelTable, **given) -> list[Tensor | None]:
    """Nothing to be compared: which of the points they find, the searches need not agree on."""
    found = table.solve_points(**given)
    assert found.shape == given["start"].shape
    return []


def by_row(function: str) -> Callable[..., list[Tensor | None]]:
    """Plain torch takes one row at a time."""

    def run(table: KernelTable, u: Tensor) -> list[Tensor | None]:
        operation = getattr(table, function)
        if table is REFERENCE:
            if u.ndim - 2 != u.shape[1]:
                raise ValueError("no field")
            if not u.numel():
                return [u.new_empty((len(u), 1, *u.shape[2:]))]
            return [torch.cat([operation(row[None]) for row in u])]
        return [operation(u)]

    return run


class Operation(NamedTuple):
    make: Callable[[tuple[int, ...], int, int], Given]
    run: Callable[..., list[Tensor | None]]


OPERATIONS = {
    "warp": Operation(make_warp, run_warp),
    "compose": Operation(make_compose, run_compose),
    "smooth": Operation(make_smooth, lambda table, **given: [table.smooth(**given)]),
    "window_stats": Operation(make_window_stats, run_window_stats),
    "lncc": Operation(make_lncc, run_lncc),
    "parzen_mi": Operation(make_parzen, run_parzen),
    "adam": Operation(make_adam, run_adam),
    "levenberg_marquardt": Operation(make_levenberg, run_levenberg),
    "jacobian_determinant": Operation(make_field, by_row("jacobian_determinant")),
    "strict_fold_mask": Operation(make_field, by_row("strict_fold_mask")),
    "sample": Operation(make_sample, run_sample),
    "unbend": Operation(make_unbend, run_unbend),
    "slope": Operation(make_slope, run_slope),
    "bounded_slopes": Operation(
        make_bounded, lambda table, **given: [table.bounded_slopes(**given)]
    ),
    "solve_points": Operation(make_points, run_points),
    "label_vote": Operation(make_vote, lambda table, **given: [table.label_vote(**given)]),
}
