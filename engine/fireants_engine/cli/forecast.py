"""`forecast`: the memory that a run will need, from the headers of two images."""

from __future__ import annotations

import argparse

from fireants_engine.cli.run import load_execution, load_recipe
from fireants_engine.workflows.forecast import Forecast, as_text, forecast
from fireants_engine.workflows.memory_of_images import Given, ImageSize


def command(args: argparse.Namespace) -> int:
    """Two lines, and the remedies where it does not fit; exit code 0, or 1 then."""
    recipe, execution = load_recipe(args), load_execution(args)
    fixed = ImageSize.read(args.fixed, args.fixed_mask)
    moving = ImageSize.read(args.moving, args.moving_mask)
    images = {name: ImageSize.read(own).channels for name, own, _ in args.inputs}
    found = forecast(
        recipe,
        fixed,
        moving,
        device=execution.device,
        kernels=execution.kernels,
        given=Given(images, args.labels),
        pairs=args.pairs,
    )
    print(f"{found.sentence} ({recipe.name} on {found.device}, {found.kernels} kernels)")
    print(f"At the worst moment: {parts_text(found)}.")
    if found.fits is False:
        for remedy in found.remedies:
            need = "" if remedy.peak_bytes is None else f": about {as_text(remedy.peak_bytes)}"
            print(f"  {remedy.text}{need} (loss: {remedy.loss})")
    return 1 if found.fits is False else 0


def parts_text(found: Forecast) -> str:
    """The parts, largest first."""
    parts = sorted(found.parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {as_text(size)}" for name, size in parts)
