"""A run's life: to the end, paused, stopped, failed, out of memory, and closed."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_fireants._layers import snapshot
from napari_fireants._preview import Wanted
from napari_fireants._session import Job, Session, State

pytestmark = pytest.mark.gui
LONG = 100_000


@pytest.fixture
def job(pair_3d: Any, recipe: Callable[..., Any]) -> Callable[..., Job]:
    def make(**options: Any) -> Job:
        layers = [Image(data, units=("mm",) * 3) for data in pair_3d]
        fixed, moving = (snapshot(layer) for layer in layers)
        return Job(fixed, moving, recipe(**options), "cpu")

    return make


@pytest.fixture
def session(qtbot: Any) -> Any:
    made = Session(lambda: Wanted(planes=((0, 11),)))
    yield made
    made.shutdown()


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """Weak references to the tensors every run prepares."""
    from fireants_engine.pipeline.prepare import Prepared

    seen: list[weakref.ref] = []
    level = Prepared.level

    def watched(self: Prepared, *args: Any) -> Any:
        pair = level(self, *args)
        seen.extend(weakref.ref(t) for t in (self.fixed, self.moving, pair.fixed, pair.moving))
        return pair

    monkeypatch.setattr(Prepared, "level", watched)
    return seen


def steps_seen(session: Session) -> list[int]:
    steps: list[int] = []
    session.progressed.connect(lambda now: steps.append(now.step))
    return steps


def assert_all_dead(tensors: list[weakref.ref]) -> None:
    assert tensors
    gc.collect()
    assert [ref for ref in tensors if ref() is not None] == []


def test_to_the_end(qtbot: Any, session: Session, job: Any, tensors: list) -> None:
    states, frames, losses = [], [], []
    session.state_changed.connect(states.append)
    session.frames_ready.connect(frames.append)
    session.losses_added.connect(losses.extend)
    session.start(job(steps=150))
    assert session.state is State.RUNNING
    session.start(job())  # nothing: one is active
    with qtbot.waitSignal(session.finished, timeout=60_000):
        pass
    assert states == [State.RUNNING, State.FINISHED]
    assert sum(len(batch.values) for batch in losses) == 150
    assert frames[0].images[(0, 11)].shape == (32, 28)
    product = session.product
    assert product.info["outcome"] == "MAX_STEPS"
    assert product.pictures.moved.shape == (24, 32, 28)
    shift = product.result.transform(np.array([[14.0, 16.0, 11.0]]))[0]
    np.testing.assert_allclose(shift, [15, 13, 13], atol=0.5)
    assert not session.busy
    assert_all_dead(tensors)


def test_pause_holds_the_run_and_resume_goes_on(qtbot: Any, session: Session, job: Any) -> None:
    steps = steps_seen(session)
    session.start(job(steps=LONG))
    qtbot.waitUntil(lambda: len(steps) > 2, timeout=60_000)
    session.pause()
    assert session.state is State.PAUSED
    qtbot.wait(400)
    held = steps[-1]
    qtbot.wait(500)
    assert steps[-1] == held
    session.resume()
    assert session.state is State.RUNNING
    qtbot.waitUntil(lambda: steps[-1] > held, timeout=20_000)


@pytest.mark.parametrize("paused", [False, True])
def test_stop_keeps_the_best_state(
    qtbot: Any, session: Session, job: Any, tensors: list, paused: bool
) -> None:
    steps = steps_seen(session)
    session.start(job(steps=LONG))
    qtbot.waitUntil(lambda: len(steps) > 2, timeout=60_000)
    if paused:
        session.pause()
    before = time.perf_counter()
    with qtbot.waitSignal(session.finished, timeout=20_000):
        session.stop()
        assert session.state is State.STOPPING
    assert session.state is State.FINISHED
    assert session.product.info["outcome"] == "STOPPED"
    assert time.perf_counter() - before < 10
    assert not session.busy
    assert_all_dead(tensors)


def test_stop_takes_effect_within_one_step(
    qtbot: Any, session: Session, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fireants_engine.similarity.ssd import SSD

    calls: list[float] = []
    bind = SSD.bind

    def slow(self: SSD, *args: Any) -> Any:
        loss = bind(self, *args)

        def counted(views: Any) -> Any:
            calls.append(time.perf_counter())
            time.sleep(0.15)
            return loss(views)

        return counted

    monkeypatch.setattr(SSD, "bind", slow)
    session.start(job(steps=LONG))
    qtbot.waitUntil(lambda: len(calls) > 3, timeout=60_000)
    with qtbot.waitSignal(session.finished, timeout=20_000):
        session.stop()
        stopped = time.perf_counter()
    after = [t for t in calls if t > stopped]
    assert len(after) <= 2  # at most the step that had begun, and the loss of the state kept


def fail_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: Callable[[], Exception]) -> None:
    """Make the similarity raise on its nth evaluation, with a tensor in its frame."""
    from fireants_engine.similarity.ssd import SSD

    bind, count = SSD.bind, iter(range(10**6))

    def failing(self: SSD, *args: Any) -> Any:
        loss = bind(self, *args)

        def wrapped(views: Any) -> Any:
            kept = views.moving * 2
            if next(count) >= calls:
                raise error()
            return loss(views) + 0 * kept.sum()

        return wrapped

    monkeypatch.setattr(SSD, "bind", failing)


def out_of_memory() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: RuntimeError("the sky fell"), "unexpectedly (RuntimeError: the sky fell)"),
        (out_of_memory, "Out of memory"),
        (lambda: ValueError("odd"), "ValueError"),
        (MemoryError, "Out of memory"),
    ],
    ids=["runtime", "oom", "value", "memory"],
)
def test_an_error_becomes_one_sentence_and_frees_everything(
    qtbot: Any, session: Session, job: Any, tensors: list, monkeypatch: Any, error: Any, words: str
) -> None:
    fail_after(monkeypatch, 7, error)
    with qtbot.waitSignal(session.failed, timeout=60_000) as caught:
        session.start(job(steps=LONG))
    assert words in caught.args[0]
    assert "Traceback" in session.details
    assert session.state is State.FAILED
    assert not session.busy
    assert session.product is None
    assert_all_dead(tensors)
    monkeypatch.undo()
    with qtbot.waitSignal(session.finished, timeout=60_000):
        session.start(job(steps=5))  # and it runs again


def test_bad_images_are_reported(qtbot: Any, session: Session, job: Any, recipe: Any) -> None:
    flat = snapshot(Image(np.ones((8, 8, 8)), name="blank", contrast_limits=(0, 1)))
    with qtbot.waitSignal(session.failed, timeout=60_000) as caught:
        session.start(Job(flat, flat, recipe()))
    assert caught.args[0] == "blank: every value is 1, a constant image cannot be registered."
    with qtbot.waitSignal(session.failed, timeout=60_000) as caught:
        session.start(Job(job().fixed, job().moving, recipe(), device="cuda:9"))
    assert "cuda:9" in caught.args[0]


def test_shutdown_ends_a_paused_run(qtbot: Any, session: Session, job: Any, tensors: list) -> None:
    steps = steps_seen(session)
    session.start(job(steps=LONG))
    qtbot.waitUntil(lambda: len(steps) > 1, timeout=60_000)
    session.pause()
    thread = session._run._thread
    session.shutdown()
    assert not thread.is_alive()
    assert not session.busy
    assert_all_dead(tensors)


def test_wait_for_scripts(session: Session, job: Any) -> None:
    session.start(job(steps=5))
    assert session.wait(60) is State.FINISHED
    assert session.result is session.product.result
