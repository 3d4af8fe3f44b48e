"""Registers one pair with the public FireANTs package (`fireants`), through its documented API.

Moments (centres of mass), affine and `GreedyRegistration` with CC (MI when the contrasts differ):
scales 4, 2, 1 with 200, 100, 50 steps of Adam, 0.5, CC window 7, sigmas 1 (gradient) and 0.5
(warp): its documented defaults, the ones it recommends for OASIS. On the CPU, where its fused CUDA
operations do not exist. Intensities are scaled to 0..1: with others its CC is not a correlation. It
takes no masks here. The inverse is the one it saves, a whole map on the
moving grid (`InverseTotal.nii.gz`); labels by linear interpolation of each label, as it recommends.
Its licence restricts use: it is only run, in a process and an environment of its own. Run with the
interpreter of `.venv-peers-fireants`; what it writes: see `_peer.py`.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from _fields import affine_transform, resample, save_split
from _peer import Clock, arguments, write_report
from fireants.io import BatchedImages, Image
from fireants.registration.affine import AffineRegistration
from fireants.registration.greedy import GreedyRegistration
from fireants.registration.moments import MomentsRegistration

AFFINE = {"scales": [8, 4, 2, 1], "iterations": [200, 100, 50, 20], "optimizer_lr": 3e-3}
GREEDY = {
    "scales": [4, 2, 1],
    "iterations": [200, 100, 50],
    "optimizer": "Adam",
    "optimizer_lr": 0.5,
    "cc_kernel_size": 7,
    "smooth_grad_sigma": 1.0,
    "smooth_warp_sigma": 0.5,
}


def register(fixed: BatchedImages, moving: BatchedImages, args):
    """The affine as LPS mm matrix (dim + 1) and the finished deformable registration."""
    loss = {"loss_type": "mi" if args.multimodal else "cc"}
    start = None
    if args.start == "centres":
        moments = MomentsRegistration(1.0, fixed, moving, moments=1)
        moments.optimize()
        start = moments.get_affine_init()
    affine = AffineRegistration(
        fixed_images=fixed, moving_images=moving, init_rigid=start, **AFFINE, **loss
    )
    affine.optimize()
    matrix = affine.get_affine_matrix().detach()
    greedy = GreedyRegistration(
        fixed_images=fixed, moving_images=moving, init_affine=matrix, **GREEDY, **loss
    )
    greedy.optimize()
    return matrix[0].double().cpu().numpy(), greedy


_array_to_image = sitk.GetImageFromArray


def _plane_of_vectors(array: np.ndarray, isVector: bool | None = None) -> sitk.Image:
    """In 2D the package saves its (y, x, 2) warp without saying that it holds vectors."""
    return _array_to_image(array, isVector=(array.ndim == 3 and array.shape[-1] == 2) or isVector)


def field_from(greedy: GreedyRegistration, folder: str, inverse: bool) -> sitk.Image:
    path = Path(folder) / ("inverse.nii.gz" if inverse else "warp.nii.gz")
    greedy.save_as_ants_transforms([str(path)], save_inverse=inverse)
    return sitk.ReadImage(str(path), sitk.sitkVectorFloat64)


def main() -> None:
    args = arguments("Register one pair with FireANTs.").parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    clock = Clock()
    with clock.step("read"):
        reference, other = (
            sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (args.fixed, args.moving)
        )
        fixed, moving = (
            BatchedImages([Image(sitk.RescaleIntensity(i, 0, 1), device="cpu")])
            for i in (reference, other)
        )
    with clock.step("register"):
        matrix, greedy = register(fixed, moving, args)
    if reference.GetDimension() == 2:
        sitk.GetImageFromArray = _plane_of_vectors
    with clock.step("write"), tempfile.TemporaryDirectory() as folder:
        dim = reference.GetDimension()
        total = sitk.GetArrayFromImage(field_from(greedy, folder, inverse=False))
        affine = affine_transform(matrix[:dim, :dim], matrix[:dim, dim])
        chain = save_split(np.asarray(total, np.float64), reference, affine, args.out)
        resample(args.moving, reference, chain, sitk.sitkLinear, args.out / "warped.nii.gz")
    with clock.step("inverse"), tempfile.TemporaryDirectory() as folder:
        field = sitk.Cast(field_from(greedy, folder, inverse=True), sitk.sitkVectorFloat32)
        sitk.WriteImage(field, str(args.out / "InverseTotal.nii.gz"), useCompression=True)
    if args.moving_labels:
        with clock.step("labels"):
            target = args.out / "warped_labels.nii.gz"
            resample(args.moving_labels, reference, chain, sitk.sitkLabelLinear, target)

    write_report(
        args,
        clock,
        method="fireants",
        version=f"fireants {version('fireants')}",
        parameters={
            "start": "moments, order 1" if args.start == "centres" else "header",
            "affine": AFFINE,
            "greedy": GREEDY,
            "intensities": "0..1",
            "loss": "mi" if args.multimodal else "cc",
            "labels": "linear per label",
        },
        precision="single",
    )


if __name__ == "__main__":
    main()
