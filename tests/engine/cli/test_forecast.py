"""`fireants-engine forecast`: two lines from headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two images without contrast, which no run would take: nothing of them is looked at."""
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    for path in paths:
        sitk.WriteImage(sitk.Image([60, 70, 80], sitk.sitkInt16), str(path))
    return paths


def test_two_lines(cli: Callable[..., Any], files: tuple[Path, Path]) -> None:
    done = cli("forecast", *files, "--preset", "brain-mri", "--device", "cpu", "--fixed-mask")
    first, second = done.out.splitlines()
    assert done.code == 0
    assert first.startswith("Needs about ")
    assert "brain-mri on cpu" in first
    assert second.startswith("At the worst moment: ")
    assert "images" in second


def test_what_does_not_fit(cli: Callable[..., Any], files: tuple[Path, Path]) -> None:
    done = cli("forecast", *files, "--device", "cpu", "--pairs", 1_000_000)
    assert done.code == 1
    assert "but only" in done.out
    assert "pair(s) at once" in done.out


def test_a_file_that_is_not_there(cli: Callable[..., Any], files: tuple[Path, Path]) -> None:
    done = cli("forecast", files[0], "none.nii")
    assert done.code == 2
    assert "there is no such file" in done.err
