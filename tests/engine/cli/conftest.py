"""Two tiny discs in files, a recipe that takes a moment, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fireants_engine.cli.main import main

RECIPE = """
name: tiny
start: {kind: identity}
stages:
  - name: greedy
    deformation: {kind: greedy, sigma_grad_mm: 2, sigma_warp_mm: 0.5}
    terms: [{kind: ssd}]
    pyramid: {levels: [{shrink: 2, max_steps: 10}], min_size: 6}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`cli(*arguments)`: exit code and everything written to both streams, by C code too."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Outcome(code, written.out, written.err)

    return call


def disc(radius: float, centre: float, size: tuple[int, ...]) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(n) for n in size], indexing="ij")
    distance = np.sqrt(sum((axis - centre) ** 2 for axis in axes))
    return (100 / (1 + np.exp(np.clip(2 * (distance - radius), -50, 50)))).astype(np.float32)


def write(array: np.ndarray, path: Path, vector: bool = False) -> Path:
    item = sitk.GetImageFromArray(array, isVector=vector)
    item.SetSpacing((1.5, 1.2, 1.3)[: item.GetDimension()])
    item.SetOrigin((-10.0, 4.0, 2.0)[: item.GetDimension()])
    sitk.WriteImage(item, str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """2D and 3D images, labels and the tiny recipe, by name."""
    data = tmp_path / "data"
    data.mkdir()
    out: dict[str, Path] = {"recipe": data / "tiny.yaml"}
    out["recipe"].write_text(RECIPE)
    for name, radius, centre in (("fixed", 6.0, 11.0), ("moving", 5.0, 12.0)):
        flat, deep = disc(radius, centre, (24, 22)), disc(radius, centre, (20, 22, 24))
        out[name] = write(flat, data / f"{name}.nii.gz")
        out[f"{name}3d"] = write(deep, data / f"{name}3d.nii.gz")
        labels = np.where(flat > 50, 4, 0).astype(np.int16)
        out[f"{name}_labels"] = write(labels, data / f"{name}_labels.nii.gz")
    return out
