"""A small object in a known field, and what readouts show of it (independent of the engine)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fireants_engine.geometry import Encoding, Grid, Image
from fireants_engine.workflows.epi import Volume

Array = NDArray[np.float64]
SHAPE = (10, 40, 32)
READOUT = 0.05
OVER = 8


def truth(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Array:
    """An ellipsoid with structure inside."""
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum((x / 0.75) ** 2 for x in place[-2:]) < 1
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=shape), (1.5, 2, 2)[-len(shape) :])
    image = (1.0 + 2.5 * rough / np.abs(rough).max()) * inside
    return ndimage.gaussian_filter(image.clip(0), 0.6)


def field_hz(shape: tuple[int, ...] = SHAPE, peak: float = 60.0) -> Array:
    """A smooth field; 60 Hz are 3 voxels at .05 s."""
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    bump = np.exp(-sum((x - 0.2) ** 2 for x in place[-2:]) / 0.18)
    return peak * (bump - 0.3)


def laid(image: Array, shift: Array, axis: int) -> Array:
    """What is at x shows at x + shift(x) along an array axis, its signal kept."""
    values, moves = (np.moveaxis(a, axis, -1) for a in (image, shift))
    n = values.shape[-1]
    x = (np.arange(n * OVER) + 0.5) / OVER - 0.5
    left = np.clip(np.floor(x).astype(int), 0, n - 2)
    part = np.clip(x - left, 0, 1)
    fine = [a[..., left] * (1 - part) + a[..., left + 1] * part for a in (values, moves)]
    place = x + fine[1]
    out = np.zeros(values.shape).reshape(-1, n)
    signal = fine[0].reshape(len(out), -1) / OVER
    low = np.floor(place).astype(int).reshape(len(out), -1)
    rest = place.reshape(len(out), -1) - low
    for where, share in ((low, 1 - rest), (low + 1, rest)):
        ok = (where >= 0) & (where < n)
        rows = np.broadcast_to(np.arange(len(out))[:, None], where.shape)
        np.add.at(out, (rows[ok], where[ok]), (signal * share)[ok])
    return np.moveaxis(out.reshape(values.shape), -1, axis)


def volume(
    image: Array, hz: Array, direction: str, readout_s: float = READOUT, grid: Grid | None = None
) -> Volume:
    """The object as it is read out so in the field."""
    encoding = Encoding.parse(direction, readout_s)
    axis = encoding.array_axis(image.ndim)
    shown = laid(image, hz * encoding.signed_readout_s, axis)
    own = grid or Grid.identity(image.shape[::-1])
    data = torch.as_tensor(shown, dtype=torch.float32)[None]
    return Volume(Image(data, own, name=f"dir-{direction}"), encoding)


def pair(directions: tuple[str, ...] = ("j", "j-"), **more: float) -> list[Volume]:
    """Volumes of the same object and field."""
    return [volume(truth(), field_hz(), one, **more) for one in directions]


def inside(threshold: float = 0.2) -> NDArray[np.bool_]:
    """Where the object is, without its rim."""
    return ndimage.binary_erosion(truth() > threshold, iterations=1)
