"""The kernel table: frozen, complete, chosen aloud."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import FrozenInstanceError, fields
from types import SimpleNamespace

import pytest
import torch

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels import (
    BACKENDS,
    REFERENCE,
    chosen_for,
    describe,
    load,
    missing,
    select,
    table,
)
from fireants_engine.kernels.cuda import launch
from fireants_engine.kernels.native import library


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_fills_every_slot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "cuda":  # filling a table needs no GPU
        table._cuda.cache_clear()
        monkeypatch.setattr(launch, "problem", lambda: None)
    elif why := missing().get(name):
        pytest.skip(why)
    kernels = load(name)
    assert kernels.name == name
    functions = [f.name for f in fields(kernels) if f.name != "name"]
    assert all(callable(getattr(kernels, f)) for f in functions)
    assert set(describe(kernels)) == set(functions)
    own = not describe(kernels)["unbend"].startswith("fireants_engine.kernels.unbend.")
    assert own == (name == "native")  # on CUDA it is plain torch, and says so


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        REFERENCE.warp = print  # type: ignore[misc]


def test_a_backend_that_is_absent_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(BackendUnavailableError, match=r"'quantum'.*reference"):
        select("quantum")


def test_auto_says_what_it_chose() -> None:
    chosen, why = select("auto", "cpu")
    assert chosen.name in why
    assert "cpu" in why
    assert chosen.name == ("reference" if "native" in missing() else "native")
    assert select("reference")[0] is REFERENCE


def test_kernels_do_not_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    if "native" not in missing():
        with pytest.raises(BackendUnavailableError, match=r"cuda:0; choose device cpu"):
            select("native", "cuda:0")
    monkeypatch.setattr(launch, "problem", lambda: None)
    with pytest.raises(BackendUnavailableError, match=r"not on cpu; choose device cuda"):
        select("cuda", "cpu")
    assert select("cuda", "cuda:1")[0].name == "cuda"
    table._cuda.cache_clear()


def test_cuda_kernels_are_chosen_by_name_until_a_gpu_has_proved_them() -> None:
    chosen, why = select("auto", "cuda:0")
    assert chosen is REFERENCE
    assert "ask for them with kernels cuda" in why


def test_why_cuda_kernels_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("fireants_kernels"):
        driver = importlib.import_module("fireants_kernels.driver")

        def library() -> object:
            raise OSError("libcuda.so.1: no such file")

        monkeypatch.setattr(driver, "library", library)
        told = "cannot run here .libcuda.so.1: no such file.; choose auto or reference"
    else:
        told = "not installed; pip install fireants-kernels"
    launch.problem.cache_clear()
    with pytest.raises(BackendUnavailableError, match=told):
        load("cuda")
    launch.problem.cache_clear()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (None, "not installed; pip install fireants-kernels"),
        (OSError("no such symbol"), "cannot be loaded .no such symbol."),
        (7, "speak version 7, this engine version"),
    ],
)
def test_a_library_that_is_absent_or_unfit_is_told_with_its_remedy(
    fault: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error where it was asked for, and in what `auto` says."""

    def cpu() -> object:
        if isinstance(fault, OSError):
            raise fault
        return SimpleNamespace(fireants_abi=lambda: fault)

    package = SimpleNamespace(cpu=cpu, __version__="9.9")
    monkeypatch.setitem(sys.modules, "fireants_kernels", package if fault else None)
    library.library.cache_clear()
    table._native.cache_clear()
    try:
        with pytest.raises(BackendUnavailableError, match=told):
            select("native")
        chosen, why = select("auto")
        assert chosen is REFERENCE
        assert re.search(told, why)
    finally:
        monkeypatch.undo()
        library.library.cache_clear()
        table._native.cache_clear()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_work_outside_of_a_run_uses_what_auto_chooses_for_the_tensor(device: str) -> None:
    assert chosen_for(torch.ones(2, device=device)) is select("auto", device)[0]
