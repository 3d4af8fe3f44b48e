"""Stained sections as numbers: optical density, and how much of each stain a pixel holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError

StainSet = Literal["hed", "own"]
TISSUE_DENSITY = 0.15
"""Optical density above which a pixel tells the colours of its stains."""


def optical_density(rgb: Tensor, background: Sequence[float]) -> Tensor:
    """Beer and Lambert: `-log((I + 1) / (I0 + 1))`, at least 0, float32, of the shape of `rgb`.

    rgb: (C, Y, X) from 0 to 255; background: I0 of each channel, the empty slide.
    Proportional to the amount of stain, which intensities are not.
    """
    empty = torch.tensor([float(value) for value in background])[:, None, None]
    return torch.log((empty + 1) / (rgb.float() + 1).clamp(min=1)).clamp_(min=0)


def haematoxylin(rgb: Tensor, background: Sequence[float]) -> Tensor:
    """(Y, X): the nuclear stain that most sections share, by the colours of `hed`."""
    return stain_channels(rgb, background, "hed")[0]


def stain_channels(rgb: Tensor, background: Sequence[float], stains: StainSet = "hed") -> Tensor:
    """(S, Y, X): optical density of each stain, at least 0.

    hed: haematoxylin, eosin and DAB of Ruifrok and Johnston (Anal Quant Cytol Histol 23, 2001),
    by scikit-image's matrix. own: two stains whose colours this section tells, the bluer first
    (`own_colours`). rgb: (3, Y, X) from 0 to 255. Raises InputError unless there are 3 channels.
    """
    if rgb.shape[0] != 3:
        raise InputError(
            f"Stains are told apart by colour, and this image has {rgb.shape[0]} channel(s); give "
            "an RGB image, or compare densities."
        )
    density = optical_density(rgb, background)
    if stains == "own":
        unmix = np.linalg.pinv(own_colours(density))
    else:
        from skimage.color import hed_from_rgb

        unmix = hed_from_rgb
    parts = torch.as_tensor(unmix.T.copy(), dtype=torch.float32) @ density.flatten(1)
    return parts.clamp_(min=0).view(-1, *density.shape[1:])


def own_colours(density: Tensor) -> np.ndarray:
    """(2, 3): unit absorbance in red, green and blue of the two stains of a section.

    The plane that holds most of the density, and in it the directions that 1 % of the pixels lie
    beyond (Macenko et al., ISBI 2009). density: (3, Y, X). Raises InputError for empty slides.
    """
    values = density.flatten(1).numpy().astype(np.float64)
    values = values[:, values.mean(axis=0) > TISSUE_DENSITY]
    if values.shape[1] < 100:
        raise InputError("Nothing on this slide is stained strongly enough to tell its stains.")
    values = values[:, :: max(1, values.shape[1] // 200_000)]
    plane = np.linalg.eigh(np.cov(values))[1][:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    along = plane.T @ values
    angles = np.percentile(np.arctan2(along[1], along[0]), (1, 99))
    colours = np.stack([plane @ (np.cos(a), np.sin(a)) for a in angles]).clip(min=1e-3)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    return colours[np.argsort(-colours[:, 0])]  # a blue dye takes away red
