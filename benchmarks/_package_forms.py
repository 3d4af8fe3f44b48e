"""The forms of `_packages.py`: functions of the inputs, by packages that are imported when called.

A conversion to a package's convention that its users need only once (arrays, channel order,
coordinates from -1 to 1) happens before a form is timed; `from_...` are the ways back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _forms import BINS, OPERATIONS, RADIUS, SIGMA, Form, Inputs, differentiated
from torch import Tensor

from fireants_engine.kernels import load


def _folded(u: Tensor, matrix: Tensor, grid: Tensor) -> Tensor:
    """The affine and the displacement as one displacement, for packages that warp by that."""
    dim = u.shape[1]
    where = torch.einsum("ij,bj...->bi...", matrix[:, :dim], grid + u)
    return where + matrix[:, dim].view(1, -1, *(1,) * dim) - grid


def _grid(like: Tensor) -> Tensor:
    axes = [torch.arange(n, dtype=like.dtype) for n in like.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


# MONAI
def _monai_warp() -> Any:
    from monai.networks.blocks import Warp

    return Warp(mode="bilinear", padding_mode="border")


def _monai_lncc(dim: int) -> Any:
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    return LocalNormalizedCrossCorrelationLoss(dim, 2 * RADIUS + 1, "rectangular", smooth_dr=1e-5)


def _monai_filter(dim: int) -> Any:
    from monai.networks.layers import GaussianFilter

    return GaussianFilter(dim, SIGMA, truncated=3.0, approx="sampled")


def monai_sampler(i: Inputs) -> Form:
    warp, grid = _monai_warp(), _grid(i.u)
    return differentiated(lambda u, a: warp(i.moving, _folded(u, a, grid)), i.u, i.matrix)


def monai_warp(i: Inputs) -> Form:
    warp, grid = _monai_warp(), _grid(i.u)
    return lambda: warp(i.moving, _folded(i.u, i.matrix, grid))


def monai_compose(i: Inputs) -> Form:
    warp = _monai_warp()
    return lambda: i.v + warp(i.u, i.v)  # as in its DVF2DDF


def monai_smooth(i: Inputs) -> Form:
    smooth = _monai_filter(i.u.shape[1])
    return lambda: smooth(i.u)


def monai_lncc(i: Inputs) -> Form:
    loss = _monai_lncc(i.u.shape[1])
    return differentiated(lambda m: -loss(m, i.fixed), i.moving)


def monai_mi(i: Inputs, kernel: str) -> Form:
    from monai.losses import GlobalMutualInformationLoss

    loss = GlobalMutualInformationLoss(kernel, BINS, smooth_nr=1e-12, smooth_dr=1e-12)
    return differentiated(lambda m: -loss(m, i.fixed), i.moving)


def usual_mi(i: Inputs) -> Form:
    return OPERATIONS["mi"].make(i, None)


def ranged_mi(i: Inputs, high: float, window: str) -> Form:
    """Ours on the images' own range, found and differentiated in each call; `high`: last bin's."""

    def own_range(image: Tensor) -> Tensor:
        return (image - image.min()) / (image.max() - image.min())

    ends, fixed = torch.tensor([[0.0, high]]), own_range(i.fixed)
    run = load("reference").parzen_mi
    return differentiated(
        lambda m: run(own_range(m), fixed, ends, ends, None, BINS, window=window), i.moving
    )


def optimiser(i: Inputs) -> Callable[[Tensor], Tensor]:
    """Gradient -> what the third step of torch.optim.Adam adds, bounded; moments go on."""
    parameter = torch.zeros_like(i.v, requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=1.0, betas=(0.9, 0.99), fused=True)
    parameter.grad = torch.zeros_like(i.v)
    adam.step()
    state = adam.state[parameter]

    @torch.no_grad()
    def run(grad: Tensor) -> Tensor:
        parameter.grad = grad
        parameter.zero_()
        state["step"].fill_(2)
        adam.step()
        return parameter * (0.25 / parameter.abs().max().clamp(min=1.0))

    return run


def torch_adam(i: Inputs) -> Form:
    run, grad = optimiser(i), i.v.clone()
    return lambda: run(grad)


def adam_direction(i: Inputs) -> Form:
    run = OPERATIONS["adam"].make(i, load("reference"))
    return lambda: run().values


def monai_iteration(i: Inputs) -> Form:
    dim = i.u.shape[1]
    warp, loss, smooth, step = _monai_warp(), _monai_lncc(dim), _monai_filter(dim), optimiser(i)
    grid, state = _grid(i.u), [i.u.clone()]

    def run() -> None:
        leaf = state[0].detach().requires_grad_()
        moved = warp(i.moving, _folded(leaf, i.matrix, grid))
        (grad,) = torch.autograd.grad(loss(moved, i.fixed), leaf)
        del moved, leaf
        way = step(smooth(grad))
        state[0] = smooth(way + warp(state[0], way))

    return run


# kornia
def kornia_mi(i: Inputs) -> Form:
    from kornia.losses import mutual_information_loss

    fixed = i.fixed.flatten()
    return differentiated(
        lambda m: -mutual_information_loss(m.flatten(), fixed, num_bins=BINS), i.moving
    )


# deepali: coordinates from -1 to 1 at the outermost voxels' centres, x first
def _to_cube(field: Tensor) -> Tensor:
    sizes = torch.tensor(field.shape[2:]).view(1, -1, *(1,) * (field.ndim - 2))
    return (field * (2 / (sizes - 1))).flip(1).contiguous()


def from_cube(flow: Tensor, _: Inputs) -> Tensor:
    sizes = torch.tensor(flow.shape[2:]).view(1, -1, *(1,) * (flow.ndim - 2))
    return flow.flip(1) * ((sizes - 1) / 2)


def deepali_compose(i: Inputs) -> Form:
    from deepali.core.flow import compose_flows

    u, v = _to_cube(i.u), _to_cube(i.v)
    return lambda: compose_flows(v, u)


def deepali_smooth(i: Inputs) -> Form:
    from deepali.core.image import conv
    from deepali.core.kernels import gaussian1d

    kernel = gaussian1d(SIGMA, radius=round(3 * SIGMA))
    return lambda: conv(i.u, kernel)


def deepali_lncc(i: Inputs) -> Form:
    from deepali.losses.functional import lcc_loss

    return differentiated(
        lambda m: -lcc_loss(m, i.fixed, kernel_size=2 * RADIUS + 1, epsilon=1e-5), i.moving
    )


def deepali_mi(i: Inputs) -> Form:
    from deepali.losses.functional import mi_loss

    run = mi_loss
    return differentiated(lambda m: -run(m, i.fixed, vmin=0, vmax=1, num_bins=BINS), i.moving)


# SciPy
def scipy_warp(i: Inputs) -> Form:
    from scipy.ndimage import map_coordinates

    image, matrix, u = (part.numpy() for part in (i.moving[0, 0], i.matrix, i.u[0]))
    axes = np.ogrid[tuple(map(slice, image.shape))]

    def run() -> Any:
        where = np.stack([part + axis for part, axis in zip(u, axes, strict=True)], dtype="f4")
        where = np.tensordot(matrix[:, :-1], where, 1)
        where += matrix[:, -1].reshape(-1, *(1,) * image.ndim)
        return map_coordinates(image, where, order=1, mode="nearest", prefilter=False)

    return run


def scipy_compose(i: Inputs) -> Form:
    from scipy.ndimage import map_coordinates

    u, v = i.u[0].numpy(), i.v[0].numpy()
    axes = np.ogrid[tuple(map(slice, u.shape[1:]))]

    def run() -> Any:
        where = np.stack([part + axis for part, axis in zip(v, axes, strict=True)], dtype="f4")
        out = v.copy()
        for k, part in enumerate(u):
            out[k] += map_coordinates(part, where, order=1, mode="nearest", prefilter=False)
        return out

    return run


def scipy_smooth(i: Inputs) -> Form:
    from scipy.ndimage import gaussian_filter

    u = i.u[0].numpy()
    axes = tuple(range(1, u.ndim))
    return lambda: gaussian_filter(u, SIGMA, mode="nearest", truncate=3.0, axes=axes)


def from_array(array: Any, i: Inputs) -> Tensor:
    return torch.from_numpy(array)[(None,) * (i.u.ndim - array.ndim)]


# SimpleITK: spacing 1, components x first, channels last
def _vectors(field: Tensor) -> Any:
    import SimpleITK as sitk

    array = field[0].flip(0).movedim(0, -1).contiguous().numpy()
    return sitk.GetImageFromArray(array, isVector=True)


def from_vectors(image: Any, i: Inputs) -> Tensor:
    import SimpleITK as sitk

    return torch.from_numpy(sitk.GetArrayFromImage(image)).movedim(-1, 0).flip(0)[None]


def from_image(image: Any, i: Inputs) -> Tensor:
    import SimpleITK as sitk

    return torch.from_numpy(sitk.GetArrayFromImage(image))[None, None]


def simpleitk_warp(i: Inputs) -> Form:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(i.moving[0, 0].numpy())
    matrix = i.matrix.flip(0).double().numpy()
    affine = sitk.AffineTransform(image.GetDimension())
    affine.SetMatrix(matrix[:, -2::-1].flatten().tolist())
    affine.SetTranslation(matrix[:, -1].tolist())
    field = sitk.DisplacementFieldTransform(sitk.Cast(_vectors(i.u), sitk.sitkVectorFloat64))
    both = sitk.CompositeTransform([affine, field])  # the last acts first
    return lambda: sitk.Resample(
        image, image, both, sitk.sitkLinear, useNearestNeighborExtrapolator=True
    )


def simpleitk_compose(i: Inputs) -> Form:
    import SimpleITK as sitk

    u, v = (sitk.Cast(_vectors(part), sitk.sitkVectorFloat64) for part in (i.u, i.v))
    size = u.GetSize()
    both = sitk.CompositeTransform([sitk.DisplacementFieldTransform(part) for part in (u, v)])
    return lambda: sitk.TransformToDisplacementField(both, sitk.sitkVectorFloat32, size)


def simpleitk_smooth(i: Inputs) -> Form:
    import SimpleITK as sitk

    u = _vectors(i.u)
    return lambda: sitk.SmoothingRecursiveGaussian(u, [SIGMA] * u.GetDimension())
