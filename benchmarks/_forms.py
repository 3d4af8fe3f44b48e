"""The operations of kernels.py in the forms that are held against each other.

A form is a function of the inputs that does the whole operation once. `usual` is what packages for
registration on PyTorch commonly do: a grid of coordinates and `grid_sample`, grouped separable
convolutions, a Parzen table of samples x bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import KernelTable, load

RADIUS, BINS, SIGMA = 3, 32, 1.0
FLOAT = 4

Form = Callable[[], Any]


@dataclass(frozen=True)
class Inputs:
    """Two smooth images in [0, 1] and a smooth displacement of a few voxels."""

    fixed: Tensor
    moving: Tensor
    u: Tensor
    v: Tensor
    matrix: Tensor

    @classmethod
    def make(cls, shape: tuple[int, ...], device: str) -> Inputs:
        reference, dim = load("reference"), len(shape)
        generator = torch.Generator().manual_seed(0)

        def noise(channels: int, sigma: float) -> Tensor:
            field = torch.randn((1, channels, *shape), generator=generator)
            field = reference.smooth(field, [sigma] * dim)
            return (field / field.abs().max()).to(device)

        images = [noise(1, 2.0) * 0.5 + 0.5 for _ in range(2)]
        matrix = torch.eye(dim, dim + 1) * 1.01
        return cls(*images, 4 * noise(dim, 6.0), 0.4 * noise(dim, 2.0), matrix.to(device))

    def save(self, path: Path) -> None:
        np.savez(path, **{item.name: getattr(self, item.name).numpy() for item in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Inputs:
        with np.load(path) as kept:
            return cls(**{item.name: torch.from_numpy(kept[item.name]) for item in fields(cls)})


def _kernel(size: int, dim: int, axis: int, weights: Tensor, channels: int) -> Tensor:
    shape = [channels, 1, *(1,) * dim]
    shape[axis + 2] = size
    return weights.view([1, 1, *(size if k == axis else 1 for k in range(dim))]).expand(shape)


def separable(field: Tensor, weights: Tensor) -> Tensor:
    """Grouped convolutions along each axis, zeros outside."""
    channels, dim, size = field.shape[1], field.ndim - 2, len(weights)
    convolve = F.conv3d if dim == 3 else F.conv2d
    for axis in range(dim):
        pad = [size // 2 if k == axis else 0 for k in range(dim)]
        kernel = _kernel(size, dim, axis, weights, channels)
        field = convolve(field, kernel, padding=pad, groups=channels)
    return field


def usual_warp(image: Tensor, matrix: Tensor, u: Tensor) -> Tensor:
    shape, dim = u.shape[2:], u.shape[1]
    axes = [torch.arange(n, device=u.device, dtype=u.dtype) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + u
    where = torch.einsum("ij,bj...->bi...", matrix[:, :dim], grid)
    where = where + matrix[:, dim].view(1, -1, *(1,) * dim)
    sizes = torch.tensor(image.shape[2:], device=u.device).view(1, -1, *(1,) * dim)
    normalised = (2 * where / (sizes - 1) - 1).movedim(1, -1).flip(-1)
    return F.grid_sample(image, normalised, padding_mode="border", align_corners=True)


def usual_lncc(moving: Tensor, fixed: Tensor) -> Tensor:
    weights = torch.full((2 * RADIUS + 1,), 1 / (2 * RADIUS + 1), device=fixed.device)
    stack = torch.cat([moving, fixed, moving**2, fixed**2, moving * fixed], dim=1)
    m, f, mm, ff, mf = separable(stack, weights).split(1, dim=1)
    cross, var_m, var_f = mf - m * f, mm - m * m, ff - f * f
    return (cross * cross / ((var_m.clamp(min=0) + 1e-5) * (var_f.clamp(min=0) + 1e-5))).mean()


def usual_mi(moving: Tensor, fixed: Tensor) -> Tensor:
    """Gaussian Parzen windows of both images, in pieces that fit into memory."""
    centres = torch.linspace(0, 1, BINS, device=fixed.device)
    sigma, parts = 0.5 / (BINS - 1), []
    for a, b in zip(moving.flatten().split(1 << 18), fixed.flatten().split(1 << 18), strict=True):
        tables = [torch.exp(-0.5 * ((x[:, None] - centres) / sigma) ** 2) for x in (a, b)]
        tables = [t / t.sum(1, keepdim=True) for t in tables]
        parts.append(tables[0].T @ tables[1])
    joint = torch.stack(parts).sum(0) / fixed.numel()
    outer = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (joint * (torch.log(joint + 1e-12) - torch.log(outer + 1e-12))).sum()


def _gaussian(device: torch.device) -> Tensor:
    radius = round(3 * SIGMA)
    places = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / SIGMA) ** 2)
    return weights / weights.sum()


def differentiated(value: Callable[..., Tensor], *leaves: Tensor) -> Form:
    """`value` and its gradients by the leaves."""
    own = [leaf.clone().requires_grad_() for leaf in leaves]
    return lambda: torch.autograd.grad(value(*own).sum(), own)


# Each operation: form name -> form, and the volumes that have to be read or written at least.
def sampler(i: Inputs, table: KernelTable | None) -> Form:
    shape = i.u.shape[2:]
    if table is None:
        return differentiated(lambda u, a: usual_warp(i.moving, a, u), i.u, i.matrix)
    run = table.warp
    return differentiated(lambda u, a: run(i.moving, a, shape, u, border=True), i.u, i.matrix)


def warp(i: Inputs, table: KernelTable | None) -> Form:
    if table is None:
        return lambda: usual_warp(i.moving, i.matrix, i.u)
    return lambda: table.warp(i.moving, i.matrix, i.u.shape[2:], i.u, border=True)


def compose(i: Inputs, table: KernelTable | None) -> Form:
    if table is not None:
        return lambda: table.compose(i.v, i.u)
    eye = torch.eye(len(i.matrix), i.matrix.shape[1], device=i.u.device)
    return lambda: i.v + usual_warp(i.u, eye, i.v)


def smooth(i: Inputs, table: KernelTable | None) -> Form:
    if table is not None:
        return lambda: table.smooth(i.u, [SIGMA] * i.u.shape[1])
    weights = _gaussian(i.u.device)
    return lambda: separable(i.u, weights)


def lncc(i: Inputs, table: KernelTable | None) -> Form:
    if table is None:
        return differentiated(lambda m: usual_lncc(m, i.fixed), i.moving)
    stats = table.window_stats(i.fixed, RADIUS, 1e-5)
    weight = torch.full((1,) * i.fixed.ndim, 1 / i.fixed.numel(), device=i.fixed.device)
    return differentiated(lambda m: table.lncc(m, i.fixed, stats, weight, RADIUS, 1e-5), i.moving)


def mutual_information(i: Inputs, table: KernelTable | None) -> Form:
    if table is None:
        return differentiated(lambda m: usual_mi(m, i.fixed), i.moving)
    ends = torch.tensor([[0.0, 1.0]], device=i.fixed.device)
    return differentiated(lambda m: table.parzen_mi(m, i.fixed, ends, ends, None, BINS), i.moving)


def adam(i: Inputs, table: KernelTable | None) -> Form:
    grad, first, second = i.v.clone(), torch.zeros_like(i.v), torch.zeros_like(i.v)
    if table is not None:
        return lambda: table.adam(grad, first, second, (3,), 0.9, 0.99, 1e-3)

    def run() -> Tensor:
        first.mul_(0.9).add_(grad, alpha=0.1)
        second.mul_(0.99).addcmul_(grad, grad, value=0.01)
        way = -(first / 0.27) / ((second / 0.03).sqrt() + 1e-8)
        return way * (0.25 / way.abs().max().clamp(min=1.0))

    return run


def iteration(i: Inputs, table: KernelTable | None) -> Form:
    """Warp, LNCC, gradient, its smoothing, Adam, composition, smoothing of the warp."""
    u, first, second = i.u.clone(), torch.zeros_like(i.u), torch.zeros_like(i.u)
    dim, shape = i.u.shape[1], i.u.shape[2:]
    state = [u]
    if table is None:
        weights, eye = _gaussian(u.device), torch.eye(dim, dim + 1, device=u.device)

        def usual() -> None:
            leaf = state[0].detach().requires_grad_()
            loss = -usual_lncc(usual_warp(i.moving, i.matrix, leaf), i.fixed)
            (grad,) = torch.autograd.grad(loss, leaf)
            grad = separable(grad, weights)
            first.mul_(0.9).add_(grad, alpha=0.1)
            second.mul_(0.99).addcmul_(grad, grad, value=0.01)
            way = -(first / 0.27) / ((second / 0.03).sqrt() + 1e-12)
            way = way * (0.25 / way.abs().max().clamp(min=1.0))
            state[0] = separable(way + usual_warp(state[0], eye, way), weights)

        return usual
    stats = table.window_stats(i.fixed, RADIUS, 1e-5)
    weight = torch.full((1,) * i.fixed.ndim, 1 / i.fixed.numel(), device=u.device)
    sigma = [SIGMA] * dim

    def fused() -> None:
        leaf = state[0].detach().requires_grad_()
        moving = table.warp(i.moving, i.matrix, shape, leaf, border=True)
        loss = -table.lncc(moving, i.fixed, stats, weight, RADIUS, 1e-5)
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        del moving, loss, leaf
        grad = table.smooth(grad, sigma, float(i.fixed.numel()))
        way = table.adam(grad, first, second, (3,), 0.9, 0.99, 1e-3)
        del grad
        factor = 0.25 / way.peaks.amax(1).clamp(min=1.0)
        moved = table.compose(way.values, state[0], factor)
        del way
        state[0] = table.smooth(moved, sigma)

    return fused


@dataclass(frozen=True)
class Operation:
    """`least`: volumes of one channel that have to pass through memory, for the roofline."""

    make: Callable[[Inputs, KernelTable | None], Form]
    title: str
    least: int


OPERATIONS = {
    # images 2 reads, u 2 reads, its gradient; the gradient of the value is one write, one read
    "sampler": Operation(sampler, "sampler, forward and backward (u, A)", 12),
    "warp": Operation(warp, "sampler, forward alone", 5),
    "compose": Operation(compose, "composition of warps", 9),
    "smooth": Operation(smooth, "Gaussian smoothing of a warp, 7 taps", 6),
    "lncc": Operation(lncc, "LNCC 7^3, forward and backward", 3),
    "mi": Operation(mutual_information, "MI 32 bins, forward and backward", 5),
    "adam": Operation(adam, "Adam with its step bound", 18),
    "iteration": Operation(iteration, "one greedy LNCC iteration", 12 + 3 + 6 + 18 + 9 + 6),
}
