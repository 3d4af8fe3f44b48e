"""Which kernels a run uses, said under the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fireants_engine.kernels import missing, select, table
from fireants_engine.kernels.native import library
from napari_fireants._session import Kernels, Machine

pytestmark = pytest.mark.gui


@pytest.fixture(params=["installed", "absent"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The native kernels as they are here, or as if they had never been installed."""
    if request.param == "installed" and (why := missing().get("native")):
        pytest.skip(why)
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "fireants_kernels", None)
        library.library.cache_clear()
        table._native.cache_clear()
    yield request.param
    monkeypatch.undo()
    library.library.cache_clear()
    table._native.cache_clear()


def test_a_run_tells_its_kernels(dock: Any, qtbot: Any, recipe: Any, native: str) -> None:
    """In one line that is not clipped; the engine's whole sentence is the tooltip."""
    assert not dock.kernels.isVisibleTo(dock)  # nothing is known before torch is there
    dock.store.use(recipe(steps=3))
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        dock.start()
    assert dock.kernels.isVisibleTo(dock)
    words = {
        "installed": "Fused C++ kernels",
        "absent": "Plain PyTorch kernels; faster: make kernels",
    }
    assert dock.kernels.text() == words[native]
    assert dock.kernels.toolTip() == select("auto", "cpu")[1]
    room = dock.minimumWidth() - 30  # margins and a scroll bar
    assert dock.kernels.fontMetrics().horizontalAdvance(dock.kernels.text()) < room
    used = dock.session.product.info["kernels"]
    assert used == {"installed": "native", "absent": "reference"}[native]
    assert dock.session.product.result.execution["why"] == dock.kernels.toolTip()


def test_the_line_is_that_of_the_chosen_device(dock: Any) -> None:
    fast, plain = Kernels("Fused CUDA kernels", "why so"), Kernels("Plain PyTorch kernels", "or so")
    devices = {"cuda:0": "A GPU", "cpu": "CPU, 2 threads"}
    kernels = {"auto": fast, "cuda:0": fast, "cpu": plain}
    dock.session.machine_found.emit(Machine(devices, kernels))
    assert dock.device.currentData() == "auto"
    assert (dock.kernels.text(), dock.kernels.toolTip()) == (fast.text, fast.why)
    dock.device.setCurrentIndex(dock.device.findData("cpu"))
    assert (dock.kernels.text(), dock.kernels.toolTip()) == (plain.text, plain.why)
