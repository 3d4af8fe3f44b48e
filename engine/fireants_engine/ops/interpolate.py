"""Interpolation between voxels: nearest, linear, cubic B-spline, windowed sinc.

SciPy and ITK are imported by those that use them: the loop itself runs on torch and numpy alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.kernels import chosen_for

INTERPOLATIONS = ("linear", "nearest", "bspline", "sinc", "label")
"""Names that `warp_image` takes; `label` is the vote of `warp_labels`."""


def check_interpolation(name: str) -> None:
    """Raise InputError, listing the choices, unless `name` is a known interpolation."""
    if name not in INTERPOLATIONS:
        raise InputError(
            f"interpolation {name!r} is not known; choose one of {', '.join(INTERPOLATIONS)}."
        )


class Interpolator(ABC):
    """Values between the voxels of one image of shape (C, *spatial).

    Coordinates are float64 arrays (d, *slab) in voxels, axis order z, y, x, each within
    [-0.5, n - 0.5] of its axis of n samples. `support`: how many voxels beyond the two
    neighbours of a coordinate its value depends on (to rounding).
    """

    support: int

    @abstractmethod
    def __init__(self, data: Tensor) -> None: ...

    @abstractmethod
    def __call__(self, coords: np.ndarray) -> Tensor:
        """Values (C, *slab)."""


class Nearest(Interpolator):
    """The value of the nearest voxel, halves upwards as in ITK; the values' type is kept."""

    support = 0

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __call__(self, coords: np.ndarray) -> Tensor:
        shape = self.data.shape[1:]
        index = [
            torch.from_numpy(np.clip(np.floor(axis + 0.5), 0, n - 1).astype(np.int64))
            for axis, n in zip(coords, shape, strict=True)
        ]
        return self.data[(slice(None), *index)]


class Linear(Interpolator):
    """Linear along every axis; the outer half voxel takes the value at the edge."""

    support = 0

    def __init__(self, data: Tensor) -> None:
        self.data = data[None].float()

    def __call__(self, coords: np.ndarray) -> Tensor:
        places = torch.from_numpy(np.ascontiguousarray(coords, dtype=np.float32))
        return chosen_for(self.data).sample(self.data, places[None], border=True)[0]


class BSpline(Interpolator):
    """Cubic B-spline through the voxels (prefiltered), mirrored at the border as in ITK.

    Reproduces polynomials of degree 3 and overshoots a little at edges. The prefilter decays by
    0.27 a voxel: `support` is where that is below float32's rounding. Unser (1999).
    """

    support = 14

    def __init__(self, data: Tensor) -> None:
        self.coefficients = [self._prefilter(channel.numpy()) for channel in data]

    @staticmethod
    def _prefilter(channel: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        out: Any = channel.astype(np.float32)
        kind: Any = np.float32  # the stubs know float64 only
        for axis, n in enumerate(channel.shape):
            if n > 1:  # one sample is constant along its axis
                out = ndimage.spline_filter1d(out, 3, axis, output=kind, mode="mirror")
        return out

    def __call__(self, coords: np.ndarray) -> Tensor:
        from scipy import ndimage

        out = torch.empty((len(self.coefficients), *coords.shape[1:]), dtype=torch.float32)
        for channel, values in zip(self.coefficients, out, strict=True):
            ndimage.map_coordinates(
                channel, coords, output=values.numpy(), order=3, mode="mirror", prefilter=False
            )
        return out


class Sinc(Interpolator):
    """Lanczos-windowed sinc of radius 5 (10 samples along each axis): ITK's own.

    `sum_k I_k sinc(x - k) sinc((x - k) / 5)`; beyond the border the edge value goes on. Sharpest
    of all, rings at edges, and the weights add up to 1 within 0.5%.
    """

    support = 5

    def __init__(self, data: Tensor) -> None:
        import SimpleITK as sitk

        self.channels = [sitk.GetImageFromArray(c.float().numpy()) for c in data]

    def __call__(self, coords: np.ndarray) -> Tensor:
        import SimpleITK as sitk

        # An image of the slab's shape whose displacement field leads to the coordinates: its
        # samples lie on that image's, so only the image itself is interpolated.
        shape = coords.shape[1:]
        edge = np.nextafter(np.array(self.channels[0].GetSize()[::-1]) - 0.5, 0)  # < is inside
        places = np.minimum(coords, edge.reshape(-1, *(1,) * len(shape)))
        step = (places - np.indices(shape))[::-1]
        field = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(step, 0, -1)), True)
        leads = sitk.DisplacementFieldTransform(field)
        out = torch.empty((len(self.channels), *shape), dtype=torch.float32)
        like = sitk.Image(shape[::-1], sitk.sitkUInt8)
        method = sitk.sitkLanczosWindowedSinc
        for channel, values in zip(self.channels, out, strict=True):
            done = sitk.Resample(channel, like, leads, method, 0.0, sitk.sitkFloat32)
            values.copy_(torch.from_numpy(sitk.GetArrayFromImage(done)))
        return out


KINDS: dict[str, type[Interpolator]] = {
    "linear": Linear,
    "nearest": Nearest,
    "bspline": BSpline,
    "sinc": Sinc,
}
