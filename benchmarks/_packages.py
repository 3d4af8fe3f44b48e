"""The operations of kernels.py by public packages, on the same inputs.

The forms run in an environment of their own (`peers/setup.sh packages`). `check` holds each against
the engine's reference; `differs` says where the definitions part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from _forms import BINS, OPERATIONS, Form, Inputs
from _package_forms import (
    adam_direction,
    deepali_compose,
    deepali_lncc,
    deepali_mi,
    deepali_smooth,
    from_array,
    from_cube,
    from_image,
    from_vectors,
    kornia_mi,
    monai_compose,
    monai_iteration,
    monai_lncc,
    monai_mi,
    monai_sampler,
    monai_smooth,
    monai_warp,
    ranged_mi,
    scipy_compose,
    scipy_smooth,
    scipy_warp,
    simpleitk_compose,
    simpleitk_smooth,
    simpleitk_warp,
    torch_adam,
    usual_mi,
)
from torch import Tensor

from fireants_engine.kernels import load


@dataclass(frozen=True)
class Peer:
    """A package's form of an operation.

    package: as it is installed; what: its function; differs: from ours; ours: what the engine has
    by the same definition (None: its reference form); back: a result in our convention; crop:
    voxels at the border that the definitions treat unlike; within: the largest difference that
    `check` lets pass, of the results' directions where `direction` (scales differ).
    """

    package: str
    make: Callable[[Inputs], Form]
    what: str
    differs: str = ""
    ours: Callable[[Inputs], Form] | None = None
    back: Callable[[Any, Inputs], Any] = lambda result, _: result
    crop: int = 0
    within: float = 1e-3
    direction: bool = False


def check(name: str, form: str, shape: tuple[int, ...]) -> float | None:
    """Norm of a form's difference from ours over the norm of ours; None where nothing is compared.

    Raises ValueError where it is above what the form declares.
    """
    peer, inputs = PEERS[name][form], Inputs.make(shape, "cpu")
    inputs = replace(inputs, moving=0.7 * inputs.fixed + 0.3 * inputs.moving)  # what MI is for
    got = peer.back(peer.make(inputs)(), inputs)
    if got is None:
        return None
    ours = peer.ours(inputs) if peer.ours else OPERATIONS[name].make(inputs, load("reference"))
    got, want = _tensors(got, peer.crop), _tensors(ours(), peer.crop)
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        if peer.direction:
            a, b = a / a.norm(), b / b.norm()
        worst = max(worst, float((a - b).norm() / b.norm()))
    if not worst <= peer.within:
        raise ValueError(f"the result differs by {worst:.2g} from ours; {peer.within:g} is allowed")
    return worst


def _tensors(result: Any, crop: int) -> list[Tensor]:
    parts = [result] if isinstance(result, Tensor) else list(result)
    inner = (..., *[slice(crop, -crop or None)] * (parts[0].ndim - 2))
    return [(part[inner] if part.ndim > 2 else part).double() for part in parts]


PEERS: dict[str, dict[str, Peer]] = {
    "sampler": {
        "monai": Peer(
            "monai", monai_sampler, "Warp", "A folded into the displacement by torch", within=1e-2
        ),
    },
    "warp": {
        "monai": Peer("monai", monai_warp, "Warp", "A folded into the displacement by torch"),
        "scipy": Peer("scipy", scipy_warp, "map_coordinates", "one thread", back=from_array),
        "simpleitk": Peer(
            "SimpleITK",
            simpleitk_warp,
            "Resample",
            "float64; nearest voxel outside",
            back=from_image,
            crop=6,
        ),
    },
    "compose": {
        "monai": Peer("monai", monai_compose, "Warp"),
        "deepali": Peer("hf-deepali", deepali_compose, "compose_flows", back=from_cube),
        "scipy": Peer("scipy", scipy_compose, "map_coordinates", "one thread", back=from_array),
        "simpleitk": Peer(
            "SimpleITK",
            simpleitk_compose,
            "TransformToDisplacementField",
            "float64; 0 outside the field",
            back=from_vectors,
            crop=1,
        ),
    },
    "smooth": {
        "monai": Peer(
            "monai",
            monai_smooth,
            "GaussianFilter",
            "weights add up to 0.9997; 0 outside",
            crop=3,
            within=2e-3,
        ),
        "deepali": Peer("hf-deepali", deepali_smooth, "conv", "0 outside", crop=3),
        "scipy": Peer(
            "scipy",
            scipy_smooth,
            "gaussian_filter",
            "one thread; border value outside",
            back=from_array,
            crop=3,
        ),
        "simpleitk": Peer(
            "SimpleITK",
            simpleitk_smooth,
            "SmoothingRecursiveGaussian",
            "recursive, no cut at 3 sigma",
            back=from_vectors,
            crop=4,
            within=5e-3,
        ),
    },
    "lncc": {
        "monai": Peer(
            "monai",
            monai_lncc,
            "LocalNormalizedCrossCorrelationLoss",
            "epsilon is a least variance; 0 outside",
            crop=6,
            within=5e-2,
        ),
        "deepali": Peer(
            "hf-deepali",
            deepali_lncc,
            "lcc_loss",
            "each voxel less the mean of its own window",
            crop=6,
            within=1.0,
            direction=True,
        ),
    },
    "mi": {
        "monai": Peer(
            "monai",
            lambda i: monai_mi(i, "gaussian"),
            "GlobalMutualInformationLoss, gaussian",
            "both images smoothed",
            ours=usual_mi,
        ),
        "monai-bspline": Peer(
            "monai",
            lambda i: monai_mi(i, "b-spline"),
            "GlobalMutualInformationLoss, b-spline",
            "range differentiated too",
            # its range is BINS - 4 bins wide, the last of them clamped
            ours=lambda i: ranged_mi(i, (BINS - 5) / (BINS - 4), "bspline"),
            within=1e-3,
        ),
        "kornia": Peer(
            "kornia",
            kornia_mi,
            "mutual_information_loss",
            "Xu's window, two bins, both images",
            ours=lambda i: ranged_mi(i, 1.0, "linear"),
            within=1.0,
            direction=True,
        ),
        "deepali": Peer(
            "hf-deepali",
            deepali_mi,
            "mi_loss",
            "Gaussian of one bin's width, both images",
            within=1.0,
            direction=True,
        ),
    },
    "adam": {
        "torch.optim": Peer(
            "torch",
            torch_adam,
            "optim.Adam, fused",
            "epsilon absolute; bounded by torch",
            ours=adam_direction,
            within=5e-2,
            direction=True,
        ),
    },
    "iteration": {
        "monai": Peer(
            "monai",
            monai_iteration,
            "Warp, LNCC, GaussianFilter; torch's Adam",
            "as its parts",
        ),
    },
}
