"""Anything at all given to the native kernels: plain torch's result, or a sentence that says no."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fireants_engine.errors import OutOfMemoryError
from fireants_engine.kernels import REFERENCE, KernelTable, load
from fireants_engine.kernels.native import library
from tests.engine.kernels.calls import OPERATIONS, WIDE, Given

if why := library.problem():
    pytest.skip(why, allow_module_level=True)

NATIVE = load("native")

SPEAKERS = re.compile(rf"({'|'.join(OPERATIONS)}|jacobian|folds): |Parzen |-?\d+ bins ")
"""How a sentence begins that names what is wrong."""

PRECISION = {torch.float16: 1e-2, torch.float32: 1e-5}


# ---------------------------------------------------------------- what may come of it
def outcome(name: str, table: KernelTable, arguments: Given) -> list[Tensor | None] | Exception:
    try:
        return OPERATIONS[name].run(table, **arguments)
    except Exception as error:
        return error


def widened(value: Any) -> Any:
    """Numbers of any precision as doubles, also in tuples."""
    if isinstance(value, Tensor):
        return value.to(WIDE)
    if isinstance(value, tuple) and isinstance(value[0], Tensor):
        return tuple(map(widened, value))
    return value


def clear(error: Exception) -> bool:
    """A sentence that begins with the operation, or tells of memory that there is not."""
    if isinstance(error, OutOfMemoryError):
        return True
    return isinstance(error, (TypeError, ValueError)) and bool(SPEAKERS.match(str(error)))


def judge(name: str, arguments: Given, invalid: bool = False) -> None:
    """Either a clear refusal or what plain torch makes of the same numbers in double precision.

    invalid: there is a NaN or an infinity among the numbers: values are compared where both are
    finite, and a result that is none has to show.
    """
    found = outcome(name, NATIVE, arguments)
    if isinstance(found, Exception):
        assert clear(found), f"{type(found).__name__}: {found}"
        return
    if not found:
        return
    given = {k: v if k == "labels" else widened(v) for k, v in arguments.items()}
    with torch.set_grad_enabled(not invalid):  # torch's own sampler crashes where a place is NaN
        truth = outcome(name, REFERENCE, given)
    assert not isinstance(truth, Exception), f"accepted, but plain torch says {truth!r}"
    for a, b in zip(found[:1] if invalid else found, truth, strict=False):
        if a is None or b is None:
            continue
        assert a.shape == b.shape
        rel = PRECISION.get(a.dtype, 1e-9)
        a, b = a.to(WIDE), b.to(WIDE)
        if invalid:
            assert bool(torch.isfinite(b).all()) or not bool(torch.isfinite(a).all())
            both = torch.isfinite(a) & torch.isfinite(b)
            if a.ndim > 2:  # plain torch sees NaN in all of a place with one infinite coordinate
                both = both.all(1, keepdim=True).expand(a.shape)
            a, b = a[both], b[both]
        size = float(b.abs().nan_to_num().max().clamp(min=1e-6)) if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=0, atol=rel * size, equal_nan=True)


def sizes(least: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(least, 9), min_size=2, max_size=3).map(tuple)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(size=sizes(1), rows=st.integers(1, 3), seed=st.integers(0, 999))
def test_what_fits_is_never_refused(name, size, rows: int, seed: int) -> None:
    arguments = OPERATIONS[name].make(size, rows, seed)
    found = outcome(name, NATIVE, arguments)
    assert not isinstance(found, Exception), repr(found)
    judge(name, arguments)


# ---------------------------------------------------------------- what does not fit
def strided(tensor: Tensor) -> Tensor:
    """The same numbers, every second of a larger block along the last axis."""
    between = math.nan if tensor.is_floating_point() else 99
    out = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1]), between)[..., ::2]
    return out.copy_(tensor)


def turned(tensor: Tensor) -> Tensor:
    """The same numbers in the opposite order of axes."""
    axes = list(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


def spoilt(tensor: Tensor, value: float) -> Tensor:
    out = tensor.clone()
    out.view(-1)[out.numel() // 2] = value
    return out


MUTATIONS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "type": {
        "half": Tensor.half,
        "single": Tensor.float,
        "whole numbers": Tensor.int,
        "elsewhere": lambda t: t.to("meta"),
    },
    "layout": {
        "strided": strided,
        "turned": turned,
        "one row for all": lambda t: t[:1].expand(t.shape),
    },
    "shape": {
        "no rows": lambda t: t[:0],
        "one row": lambda t: t[:1],
        "three rows": lambda t: torch.cat([t, t[:1]]),
        "nothing along the last axis": lambda t: t[..., :0],
        "one along the last axis": lambda t: t[..., :1],
        "more along the last axis": lambda t: torch.cat([t, t], -1),
        "less along the second axis": lambda t: t[:, :-1] if t.ndim > 1 else t[:-1],
        "without its first axis": lambda t: t[0],
        "without its last axis": lambda t: t[..., 0],
        "with one more axis": lambda t: t[..., None],
        "with one more axis in front": lambda t: t[None],
        "a number": lambda t: t.flatten()[0],
    },
    "value": {
        "NaN": lambda t: spoilt(t, math.nan),
        "infinite": lambda t: spoilt(t, -math.inf),
    },
}


def places(arguments: Given) -> list[tuple[str, int | None]]:
    """Every tensor among the arguments, those in tuples by their number."""
    out: list[tuple[str, int | None]] = []
    for key, value in arguments.items():
        if isinstance(value, Tensor):
            out.append((key, None))
        elif isinstance(value, tuple) and isinstance(value[0], Tensor):
            out.extend((key, number) for number in range(len(value)))
    return out


def changed(arguments: Given, key: str, number: int | None, change: Callable) -> Given:
    if number is None:
        return arguments | {key: change(arguments[key])}
    parts = list(arguments[key])
    parts[number] = change(parts[number])
    return arguments | {key: tuple(parts)}


def faults(calls: dict[str, tuple[str, Given]], invalid: bool = False) -> list[str]:
    """What `judge` finds wrong with each."""
    out = []
    for what, (name, arguments) in calls.items():
        try:
            judge(name, arguments, invalid)
        except AssertionError as error:
            out.append(f"{what}: {error}")
    return out


def spoilt_calls() -> Iterator[Any]:
    for name, operation in OPERATIONS.items():
        for key, number in places(operation.make((5, 6), 2, 0)):
            for kind in MUTATIONS:
                if kind == "value" and key == "labels":  # whole numbers are always numbers
                    continue
                yield pytest.param(name, key, number, kind, id=f"{name}-{key}-{number}-{kind}")


@pytest.mark.parametrize(("name", "key", "number", "kind"), list(spoilt_calls()))
def test_one_tensor_that_is_not_as_it_should_be(name, key, number, kind: str) -> None:
    calls = {}
    for size in ((5, 6), (4, 1, 7)):
        arguments = OPERATIONS[name].make(size, 2, 1)
        for what, change in MUTATIONS[kind].items():
            calls[f"{what} {size}"] = (name, changed(arguments, key, number, change))
    assert faults(calls, invalid=kind == "value") == []


SCALARS: dict[str, list[Given]] = {
    "warp": [{"shape": shape} for shape in ((), (5,), (5, 6, 7, 8), (5, 0), (5, -6), (2**40, 6))],
    "smooth": [
        *({"sigma_vox": s} for s in ([], [1.0], [1.0] * 3, [-1.0, 1.0], [math.nan, 1.0])),
        *({"sigma_vox": [s, 0.7]} for s in (1e-30, 0.05, 50.0, 1e6, 1e300, math.inf)),
    ],
    "lncc": [{"radius": r} for r in (-1, 0, 4, 5, 6, 40, 2**31, 2**40)],
    "window_stats": [{"radius": r} for r in (-1, 0, 2**40)],
    "parzen_mi": [
        *({"bins": n} for n in (-1, 0, 1, 5, 300, 4097, 2**40)),
        *({"bins": n, "window": "linear"} for n in (-1, 0, 1, 2, 300)),
        *({"window": "box"}, {"histogram": "none"}),
    ],
    "adam": [{"counts": c} for c in ((), (1, 1, 1), (0,), (10**9,))],
    "levenberg_marquardt": [{"tile": n} for n in (-1, 0, 2, 3, 99)],
}


@pytest.mark.parametrize("name", list(SCALARS))
def test_one_number_that_is_not_as_it_should_be(name: str) -> None:
    calls = {
        f"{change}": (name, OPERATIONS[name].make((5, 6), 2, 0) | change)
        for change in SCALARS[name]
    }
    assert faults(calls) == []


# ---------------------------------------------------------------- more than there can be
@pytest.fixture
def little_memory() -> Iterator[None]:
    """One more GiB of addresses: to copy what only looks large fails at once."""
    resource = pytest.importorskip("resource")
    if sys.platform != "linux":
        pytest.skip("needs Linux: no other system keeps to a limit of addresses")
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


HUGE = [(2**31 + 1, 1), (1, 2**31 + 1), (2**16, 2**16), (2**20, 2**20), (2**12, 2**12, 2**12)]


def huge(arguments: Given, small: tuple[int, ...], size: tuple[int, ...]) -> Given:
    """Every tensor of a `small` size that has one sample, as one of `size` that costs no memory."""

    def grow(value: Any) -> Any:
        if isinstance(value, Tensor) and tuple(value.shape[2:]) == small:
            return value.expand(*value.shape[:2], *size)
        return value

    grown = {key: grow(value) for key, value in arguments.items()}
    return grown | ({"shape": size} if "shape" in arguments else {})


@pytest.mark.parametrize("name", OPERATIONS)
def test_more_samples_than_fit_anywhere(name: str, little_memory: None) -> None:
    """A sentence of ours, or the one of torch that the pipeline turns into one about memory."""
    for size in HUGE:
        small = (1,) * len(size)
        found = outcome(name, NATIVE, huge(OPERATIONS[name].make(small, 1, 0), small, size))
        if name == "window_stats":  # nothing is computed yet
            assert found == []
            continue
        assert isinstance(found, Exception)
        if not clear(found):
            assert "can't allocate memory" in str(found), f"{size}: {found!r}"
            assert isinstance(found, RuntimeError)
