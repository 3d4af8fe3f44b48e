"""Local normalised cross-correlation by the fused kernels; what it computes: `kernels.lncc`."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels.lncc import Gradient, Scaling, Window
from fireants_engine.kernels.native.library import call, checked, sizes3
from fireants_engine.kernels.native.memory import empty
from fireants_engine.kernels.reference import spread


class LnccShape(Structure):
    """`struct LnccShape` of shapes.h and shapes.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "channels")),
        ("size", c_int64 * 3),
        *((name, c_int64) for name in ("radius", "mask_rows", "weight_rows", "weight_channels")),
        *((n, c_int64) for n in ("weight_field", "gaussian", "squared", "exact", "threads")),
        ("epsilon", c_double),
    ]


@dataclass(frozen=True)
class FixedImage:
    """How a fixed image is seen; its window sums are computed with those of the moving one.

    mask: (B or 1, 1, *spatial) share of each sample, None for 1.
    """

    mask: Tensor | None
    window: Window
    scaling: Scaling | None


def window_stats(
    image: Tensor,
    radius: int,
    epsilon: float,
    mask: Tensor | None = None,
    *,
    window: Window = "box",
    scaling: Scaling | None = None,
) -> FixedImage:
    """`lncc.window_stats` without the work: nothing of the size of the image is computed."""
    del radius, epsilon  # `lncc` is given them too
    _check_mask(mask, image)
    return FixedImage(None if mask is None else mask.detach(), window, scaling)


def _check_mask(mask: Tensor | None, image: Tensor) -> None:
    """Raise ValueError where the mask is not one of one row, or of all, of the image."""
    spatial = tuple(image.shape[2:])
    if mask is None or tuple(mask.shape) in ((1, 1, *spatial), (*image.shape[:1], 1, *spatial)):
        return
    raise ValueError(
        f"lncc: a mask of shape {tuple(mask.shape)} does not fit an image of {tuple(image.shape)}"
    )


def _pairs(scaling: Scaling | None, image: Tensor) -> Tensor | None:
    """(B, 2) doubles."""
    if scaling is None:
        return None
    rows = len(image)
    if any(tuple(t.shape) not in ((1,), (rows,)) for t in scaling):
        sizes = " and ".join(str(tuple(t.shape)) for t in scaling)
        raise ValueError(f"lncc: a scaling of shapes {sizes} does not fit {rows} rows")
    if any(t.device != image.device for t in scaling):
        raise TypeError(f"lncc: a scaling has to be on {image.device}, as the images")
    return torch.stack([t.detach().double().expand(rows) for t in scaling], 1)


def _weight_layout(weight: Tensor, image: Tensor) -> tuple[Tensor, bool]:
    """The weight as (B or 1, C or 1, 1...) numbers or as such volumes; is it volumes?"""
    spatial = tuple(image.shape[2:])
    own = (1,) * (image.ndim - weight.ndim) + tuple(weight.shape)
    if len(own) != image.ndim or any(
        a not in (1, b) for a, b in zip(own, image.shape, strict=True)
    ):
        raise ValueError(
            f"lncc: a weight of shape {tuple(weight.shape)} does not fit images of "
            f"{tuple(image.shape)}"
        )
    wide = weight.reshape(own)
    if all(size == 1 for size in wide.shape[2:]):
        return wide, False
    return wide.expand(*wide.shape[:2], *spatial), True


def _run(
    images: tuple[Tensor, Tensor, Tensor | None, Tensor],
    scalings: tuple[Tensor | None, Tensor | None],
    shape: LnccShape,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """Value and the wanted gradients of its sum."""
    moving, fixed, mask, weight = images
    value = torch.empty(shape.rows, dtype=torch.float64, device=moving.device)
    grads = [empty(moving.shape, moving.dtype, moving.device) if want else None for want in wanted]
    arguments = moving, fixed, mask, *scalings, weight, value, *grads
    call("lncc", moving.dtype, shape, *arguments)
    return value.to(moving.dtype), grads


class _LNCC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed, weight, mask, scalings, shape, grad_enabled):
        wanted = tuple(grad_enabled and need for need in ctx.needs_input_grad[:2])
        images = tuple(checked("lncc", moving, fixed, mask, weight))
        value, ctx.grads = _run(images, scalings, shape, wanted)  # pyright: ignore
        ctx.save_for_backward(*images)
        ctx.scalings, ctx.shape, ctx.wanted = scalings, shape, wanted
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        own, ctx.grads = ctx.grads, None  # given away: a second backward computes them again
        if own is None:
            _, own = _run(ctx.saved_tensors, ctx.scalings, ctx.shape, ctx.wanted)
        # on a device looking at them would wait for it
        if grads[0].device.type != "cpu" or not bool((grads[0] == 1).all()):
            own = [None if g is None else g.mul_(spread(grads[0], g)) for g in own]
        return *own, None, None, None, None, None


def lncc(
    moving: Tensor,
    fixed: Tensor,
    fixed_stats: FixedImage,
    weight: Tensor,
    radius: int,
    epsilon: float,
    *,
    squared: bool = True,
    gradient: Gradient = "exact",
    scaling: Scaling | None = None,
) -> Tensor:
    """`lncc.lncc` in one pass, its gradients by the images that require them included.

    Beyond the images only the gradients are of their size.
    """
    if moving.shape != fixed.shape:
        raise ValueError(
            f"lncc: images of shapes {tuple(moving.shape)} and {tuple(fixed.shape)}; they have to "
            "be of one"
        )
    if not 3 <= moving.ndim <= 5:
        raise ValueError(f"lncc: images of shape {tuple(moving.shape)} have no 1 to 3 axes")
    if radius < 0:
        raise ValueError(f"lncc: a window of radius {radius}; it has to be 0 or more")
    spatial = sizes3(tuple(moving.shape[2:]))
    if 0 in moving.shape or max(spatial) >= 2**31:
        raise ValueError(f"lncc: no samples, or too many, along an axis of {tuple(moving.shape)}")
    rows, channels = moving.shape[:2]
    mask = fixed_stats.mask
    _check_mask(mask, moving)
    numbers, is_field = _weight_layout(weight, moving)
    shape = LnccShape(
        *(rows, channels, spatial, radius, 0 if mask is None else len(mask)),
        *(*numbers.shape[:2], is_field, fixed_stats.window == "gaussian"),
        *(squared, gradient == "exact", torch.get_num_threads(), epsilon),
    )
    scalings = _pairs(scaling, moving), _pairs(fixed_stats.scaling, moving)
    grad_enabled = torch.is_grad_enabled()
    return _LNCC.apply(moving, fixed, numbers, mask, scalings, shape, grad_enabled)  # pyright: ignore
