"""Where a run happens: devices by name, what `auto` takes, and honest refusals."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.context import ExecutionContext, available_devices, resolve_device
from fireants_engine.errors import BackendUnavailableError, InputError
from fireants_engine.kernels import select


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """`machine(cuda=2, mps=True)`: a computer with these devices."""

    def build(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card {i}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (3 * 2**30, 8 * 2**30))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


def test_devices_are_listed_best_first_with_a_description(machine) -> None:
    machine(cuda=2, mps=True)
    found = available_devices()
    assert list(found) == ["cuda:0", "cuda:1", "mps", "cpu"]
    assert found["cuda:1"] == "Card 1, 3.0 of 8.0 GiB free"
    assert found["cpu"] == f"CPU, {torch.get_num_threads()} threads"


def test_a_computer_without_a_graphics_card_has_its_cpu(machine) -> None:
    machine()
    assert list(available_devices()) == ["cpu"]


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(0, False, "cpu"), (2, False, "cuda:0"), (1, True, "cuda:0"), (0, True, "cpu")],
)
def test_auto_takes_cuda_then_the_cpu_and_apple_only_when_asked(cuda, mps, chosen, machine) -> None:
    machine(cuda=cuda, mps=mps)
    assert resolve_device("auto") == torch.device(chosen)
    assert resolve_device() == torch.device(chosen)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("cpu", "cpu"),
        ("cuda", "cuda:0"),
        ("cuda:0", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("mps", "mps"),
    ],
)
def test_a_device_is_found_by_its_name(name: str, device: str, machine) -> None:
    machine(cuda=2, mps=True)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "", "cpu:0"])
def test_an_absent_device_is_refused_with_what_was_found(name: str, machine) -> None:
    """LESSONS 14: never a silent fallback to another device."""
    machine()
    with pytest.raises(BackendUnavailableError, match=r"not available; found: cpu\.") as caught:
        resolve_device(name)
    wanted = "cuda:0" if name == "cuda" else name
    assert repr(wanted) in str(caught.value)
    assert "'auto'" in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_a_card_beyond_the_last_is_refused_with_all_there_are(machine) -> None:
    machine(cuda=2)
    with pytest.raises(BackendUnavailableError, match="found: cuda:0, cuda:1, cpu"):
        resolve_device("cuda:2")


def test_a_context_is_made_of_names_and_says_why(machine) -> None:
    machine()
    ctx = ExecutionContext.create()
    assert ctx.device == torch.device("cpu")
    assert ctx.dtype is torch.float32
    assert (ctx.kernels, ctx.why) == select("auto", "cpu")
    assert "cpu" in ctx.why
    assert ExecutionContext.create("cpu", "reference").why == "reference was asked for."


def test_kernels_that_are_not_there_are_refused(machine) -> None:
    machine()
    with pytest.raises(BackendUnavailableError, match=r"'warp-drive' are not installed.*reference"):
        ExecutionContext.create("cpu", "warp-drive")


def test_a_context_is_frozen_and_nothing_global() -> None:
    ctx = ExecutionContext()
    with pytest.raises(AttributeError):
        ctx.device = torch.device("meta")  # type: ignore[misc]
    assert ctx == ExecutionContext()
    assert torch.get_default_dtype() is torch.float32
