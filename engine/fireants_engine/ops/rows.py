"""Pairs of a batch as rows: tensors whose first axis is N, or N times a fixed number, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from fireants_engine.kernels.reference import spread

__all__ = ["join", "pair_mean", "pair_sum", "per_pair", "spread", "take"]

T = TypeVar("T")


def per_pair(tensor: Tensor, pairs: int) -> Tensor:
    """(N, everything of a pair) from (k N, ...): reductions over its axis 1 are per pair."""
    return tensor.reshape(pairs, -1)


def pair_sum(tensor: Tensor) -> Tensor:
    """(N, ...) -> (N,)."""
    return tensor.flatten(1).sum(1)


def pair_mean(tensor: Tensor) -> Tensor:
    """(N, ...) -> (N,)."""
    return tensor.flatten(1).mean(1)


def take(value: T, rows: Sequence[int], pairs: int) -> T:
    """What belongs to pairs number `rows` of a state of `pairs` pairs.

    Tensors and tuples are cut along their first axis, dataclasses field by field, everything else
    belongs to all. One pair, or all of them, is a view; nothing is copied.
    """
    if list(rows) == list(range(pairs)):
        return value
    out: Any = value
    if isinstance(value, Tensor) and value.ndim:
        each = len(value) // pairs
        if len(rows) == 1:
            out = value.narrow(0, rows[0] * each, each)
        else:
            index = torch.tensor(list(rows), device=value.device)
            out = value.unflatten(0, (pairs, each)).index_select(0, index).flatten(0, 1)
    elif isinstance(value, tuple):
        out = tuple(value[row] for row in rows)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: take(getattr(value, f.name), rows, pairs) for f in fields(value)}
        out = replace(value, **parts)
    return out


def join(parts: Sequence[T]) -> T:
    """One state of all pairs from the states of some: what `take` has taken apart.

    A tensor that only some of them have is 0 in the others; of numbers the largest counts.
    """
    first: Any = next((part for part in parts if part is not None), None)
    out: Any = first
    if len(parts) == 1 or first is None:
        return out
    given: list[Any] = list(parts)
    if isinstance(first, Tensor):
        given = [torch.zeros_like(first) if part is None else part for part in given]
        out = torch.cat(given) if first.ndim else torch.stack(given).amax()
    elif isinstance(first, tuple):
        out = tuple(item for part in given for item in part)
    elif is_dataclass(first) and not isinstance(first, type):
        names = [f.name for f in fields(first)]
        out = replace(first, **{n: join([getattr(part, n) for part in given]) for n in names})
    elif isinstance(first, int) and not isinstance(first, bool):
        out = max(given)
    return out
