"""Control: stopping is for good, a request is handed out once, from any thread."""

from __future__ import annotations

import threading

import pytest

from fireants_engine.pipeline import Control, PreviewRequest


def test_stop_is_for_good_and_of_one_run_only() -> None:
    control, other = Control(), Control()
    assert not control.stopped
    control.stop()
    control.stop()
    assert control.stopped
    assert not other.stopped


def test_stop_is_seen_from_another_thread() -> None:
    control = Control()
    thread = threading.Thread(target=control.stop)
    thread.start()
    thread.join()
    assert control.stopped


def test_the_newest_request_is_handed_out_once() -> None:
    control = Control()
    assert control.take_request() is None
    old, new = PreviewRequest(((0, 1),)), PreviewRequest(((1, 2),))
    control.request_preview(old)
    control.request_preview(new)
    assert control.take_request() is new
    assert control.take_request() is None


def test_no_request_is_handed_out_twice_or_out_of_order_between_threads() -> None:
    control, taken, done = Control(), [], threading.Event()

    def take() -> None:
        while not done.is_set() or len(taken) == 0:
            request = control.take_request()
            if request is not None:
                taken.append(request.planes[0][1])

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(3000):
        control.request_preview(PreviewRequest(((0, number),)))
    done.set()
    taker.join(timeout=20)
    assert not taker.is_alive()
    last = control.take_request()
    taken += [] if last is None else [last.planes[0][1]]
    assert taken == sorted(set(taken))
    assert taken[-1] == 2999


def test_a_request_cannot_be_changed_under_way() -> None:
    request = PreviewRequest(((0, 1),))
    with pytest.raises(AttributeError):
        request.planes = ()  # type: ignore[misc]
