"""`presets` and `kernels`."""

from __future__ import annotations

import argparse

from fireants_engine.recipe import Recipe, preset_names


def presets(args: argparse.Namespace) -> int:
    """List the packaged recipes with their sentence, or print one."""
    if args.name is not None:
        print(Recipe.preset(args.name).to_yaml(), end="")
        return 0
    names = preset_names()
    width = max(len(name) for name in names)
    for name in names:
        print(f"{name:<{width}}  {Recipe.preset(name).description}")
    return 0


def kernels(args: argparse.Namespace) -> int:
    """Devices found, the table that `auto` chooses and why, and the function of each operation."""
    from fireants_engine.context import ExecutionContext, available_devices
    from fireants_engine.kernels import BACKENDS, describe, missing

    ctx = ExecutionContext.create()
    print("Devices:")
    for name, text in available_devices().items():
        print(f"  {name:<8} {text}{'   <- auto' if name == str(ctx.device) else ''}")
    absent = missing()
    print(f"Kernels: {', '.join(n for n in BACKENDS if n not in absent)}; {ctx.why}")
    for why in absent.values():
        print(f"  {why}")
    for operation, function in describe(ctx.kernels).items():
        print(f"  {operation:<20} {function}")
    return 0
