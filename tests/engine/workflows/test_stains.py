"""Optical density is linear in the stain, and stains come apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireants_engine.errors import InputError
from fireants_engine.workflows.stains import optical_density, own_colours, stain_channels

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def mixed() -> tuple[np.ndarray, torch.Tensor]:
    """(2, n, n) amounts of both stains, and the RGB they make."""
    rng = np.random.default_rng(4)
    amounts = rng.uniform(0, 1.2, (2, 60, 60))
    amounts[0, :20], amounts[1, 40:] = 0, 0
    dense = np.einsum("kyx,kc->cyx", amounts, np.stack([HAEMATOXYLIN, EOSIN]))
    return amounts, torch.from_numpy(241 * np.exp(-dense) - 1).float()


def test_density() -> None:
    rgb = torch.tensor([[[240.0, 119.5, 250.0]]])
    dense = optical_density(rgb, [240.0])
    assert dense[0, 0].tolist() == pytest.approx([0.0, np.log(2), 0.0], abs=1e-6)


def test_known_stains() -> None:
    amounts, rgb = mixed()
    found = stain_channels(rgb, (240.0, 240.0, 240.0))
    for k in range(2):
        assert np.corrcoef(found[k].numpy().ravel(), amounts[k].ravel())[0, 1] > 0.99


def test_own_stains_are_those_of_the_section() -> None:
    amounts, rgb = mixed()
    empty = (240.0, 240.0, 240.0)
    colours = own_colours(optical_density(rgb, empty))
    for found, true in zip(colours, (HAEMATOXYLIN, EOSIN), strict=True):
        angle = np.degrees(np.arccos(found @ true / np.linalg.norm(true)))
        assert angle < 2
    found = stain_channels(rgb, empty, "own")
    assert np.corrcoef(found[0].numpy().ravel(), amounts[0].ravel())[0, 1] > 0.99


def test_what_has_no_colour() -> None:
    with pytest.raises(InputError, match="told apart by colour"):
        stain_channels(torch.zeros(1, 5, 5), (240.0,))
    with pytest.raises(InputError, match="Nothing on this slide"):
        own_colours(torch.zeros(3, 20, 20))
