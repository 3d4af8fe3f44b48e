"""The operators of torch: torch's own check of each, values, gradients, `torch.compile`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, load, missing, ops
from fireants_engine.kernels.lncc import Scaling
from tests.engine.kernels.cases import WIDE, noise

FIREANTS = torch.ops.fireants
BACKENDS = [name for name in ("reference", "native") if name not in missing()]


def ends(image: Tensor) -> Tensor:
    return torch.stack(image.flatten(1).aminmax(dim=1), 1)


def arguments(dim: int) -> dict[str, list[tuple[Any, ...]]]:
    """Calls of every operator."""
    size = (5, 6, 7)[-dim:]
    image, other, u = noise(2, 1, *size), noise(2, 1, *size, seed=1), noise(2, dim, *size, seed=2)
    matrix = torch.eye(dim, dim + 1, dtype=WIDE) + 0.05 * noise(dim, dim + 1, seed=3)
    weight = noise(2, 1, *size, seed=4).abs()
    scaling = torch.stack([noise(2, seed=5), 0.5 + noise(2, seed=6).abs()], 1)
    ranges = ends(image), ends(other)
    seen = weight, False, "approximate", "gaussian", scaling, 2 * scaling
    return {
        "warp": [
            (image, matrix, size, u, False, True),
            (image[:1], torch.stack([matrix, matrix + 0.1]), (4, 5, 6)[-dim:], None, False, False),
        ],
        "compose": [(u, noise(2, dim, *size, seed=7)), (u, u + 1, noise(2, seed=8))],
        "smooth": [
            (u, [1.3, 0.0, 2.0][-dim:], -0.5, "gaussian"),
            (u, [1.3] * dim, 1.0, "box"),
            (u, [0.0] * dim),
        ],
        "lncc": [
            (image, other, weight, 1, 1e-2, None, True, "exact", "box", None, None),
            (image, other, weight, 2, 1e-2, *seen),
        ],
        "parzen_mi": [
            (image, other, *ranges, None, 8, "bspline", False, "exact"),
            (image, other, *ranges, weight, 9, "linear", True, "approximate"),
        ],
        "jacobian_determinant": [(u,)],
        "strict_fold_mask": [(u,)],
    }


def plain_warp(image, matrix, shape, u, nearest, border) -> Tensor:
    return REFERENCE.warp(image, matrix, shape, u, nearest=nearest, border=border)


def plain_lncc(m, f, weight, radius, e, mask, squared, gradient, window, scaling, other) -> Tensor:
    own, its = (None if s is None else Scaling(s[:, 0], s[:, 1]) for s in (scaling, other))
    stats = REFERENCE.window_stats(f, radius, e, mask, window=window, scaling=its)
    how = {"squared": squared, "gradient": gradient, "scaling": own}
    return REFERENCE.lncc(m, f, stats, weight, radius, e, **how)


def plain_mi(m, f, m_range, f_range, weight, bins, window, normalised, histogram) -> Tensor:
    how = {"window": window, "normalised": normalised, "histogram": histogram}
    return REFERENCE.parzen_mi(m, f, m_range, f_range, weight, bins, **how)


TRUTH = {
    "warp": plain_warp,
    "compose": REFERENCE.compose,
    "smooth": REFERENCE.smooth,
    "lncc": plain_lncc,
    "parzen_mi": plain_mi,
    "jacobian_determinant": lambda u: torch.cat([*map(REFERENCE.jacobian_determinant, u.split(1))]),
    "strict_fold_mask": lambda u: torch.cat([*map(REFERENCE.strict_fold_mask, u.split(1))]),
}


def leaves(name: str, given: tuple) -> tuple:
    """With gradients asked of what the kernels have them of."""
    asked = {"lncc": 2, "parzen_mi": 1}.get(name, len(given))
    return tuple(
        item.detach().clone().requires_grad_(k < asked) if isinstance(item, Tensor) else item
        for k, item in enumerate(given)
    )


def outcome(call, given: tuple) -> list[Tensor]:
    """Value, and gradients for a weighting."""
    out = call(*given)
    asked = [item for item in given if isinstance(item, Tensor) and item.requires_grad]
    if not asked or not out.requires_grad:
        return [out]
    weights = torch.linspace(1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), asked)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `auto` chooses."""
    monkeypatch.setattr(ops, "chosen_for", lambda tensor: load(request.param))
    return request.param


@pytest.mark.parametrize("name", ops.OPERATORS)
def test_torch_finds_nothing_wrong(name: str, backend: str) -> None:
    for given in arguments(3)[name]:
        torch.library.opcheck(getattr(FIREANTS, name).default, leaves(name, given))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", ops.OPERATORS)
def test_values_and_gradients_are_plain_torchs(name: str, dim: int, backend: str) -> None:
    for given in arguments(dim)[name]:
        calls = getattr(FIREANTS, name), TRUTH[name]
        found, truth = (outcome(call, leaves(name, given)) for call in calls)
        assert len(found) == len(truth)
        for a, b in zip(found, truth, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_one_gradient_alone(backend: str) -> None:
    """None of those that are not asked for is needed for it."""
    for name, *numbers in (("warp", 0, 1, 3), ("compose", 0, 1, 2), ("lncc", 0, 1)):
        given = arguments(3)[name][name == "compose"]
        for k in numbers:
            alone = tuple(
                item.detach().clone().requires_grad_(n == k) if isinstance(item, Tensor) else item
                for n, item in enumerate(given)
            )
            found, truth = (outcome(f, alone) for f in (getattr(FIREANTS, name), TRUTH[name]))
            assert len(found) == 2
            torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-10)


def test_a_compiled_function_gives_what_it_gives_uncompiled() -> None:
    image, u = noise(1, 1, 6, 7, 8), noise(1, 3, 6, 7, 8, seed=1)
    eye = torch.eye(3, 4, dtype=WIDE)

    def loss(image: Tensor, u: Tensor) -> Tensor:
        field = FIREANTS.smooth(u, [1.0, 0.7, 1.5])
        return (FIREANTS.warp(image, eye, u.shape[2:], field, border=True) ** 2).sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    ways = [outcome(call, leaves("", (image, u))) for call in (compiled, loss)]
    for a, b in zip(*ways, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_only_who_asks_for_the_operators_pays_for_them() -> None:
    code = (
        "import sys, torch, fireants_engine.kernels\n"
        "assert 'fireants_engine.kernels.ops' not in sys.modules\n"
        "from fireants_engine.kernels import ops\n"
        "torch.ops.fireants.smooth(torch.ones(1, 1, 3, 3), [1.0, 1.0])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_kernels_refuse_the_operators_refuse() -> None:
    with pytest.raises(ValueError, match="window 'round' is not one of"):
        FIREANTS.smooth(noise(1, 1, 4, 5), [1.0, 1.0], 1.0, "round")
