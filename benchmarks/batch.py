"""Batches against the same pairs one after the other: seconds per pair and peak memory.

    python benchmarks/batch.py [--device D] [--threads N] [--sizes 1,2,4,8] [--steps N]

Phantom pairs (smoothed noise and a smooth known warp; no data needed) of two volumes and a plane,
LNCC and greedy, every planned step taken. Each row is a process of its own, so that its peak
memory is its own, and the pairs of a row are the same however they are grouped.
Writes benchmarks/results/batch.json; docs/benchmarks.md shows it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, machine

SHAPES = {"plane 256 x 256": (256, 256), "volume 48^3": (48,) * 3, "volume 96^3": (96,) * 3}
PAIRS = 8


def _images(shape: tuple[int, ...], count: int):
    """`count` pairs: smooth noise, and the same moved by a smooth field of about two voxels."""
    import torch

    from fireants_engine import Case, Grid, Image
    from fireants_engine.kernels import REFERENCE

    grid = Grid.identity(shape[::-1])
    dim = len(shape)
    eye = torch.eye(dim, dim + 1)
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)

        def noise(channels: int, sigma: float, generator=generator):
            field = torch.randn((1, channels, *shape), generator=generator)
            field = REFERENCE.smooth(field, [sigma] * dim)
            return field / field.std()

        fixed = noise(1, 3.0)
        moving = REFERENCE.warp(fixed, eye, shape, 2 * noise(dim, 12.0), border=True)
        yield Case(Image(fixed[0], grid, name="fixed"), Image(moving[0], grid, name="moving"))


def measure(shape: tuple[int, ...], size: int, steps: int, device: str) -> dict[str, float]:
    """Seconds per pair for all pairs in groups of `size`; peak memory of the process."""
    from fireants_engine import Execution, Recipe, register_batch

    recipe = Recipe.from_dict(
        {
            "name": "batch",
            "start": {"kind": "identity"},
            "stages": [
                {
                    "name": "greedy",
                    "deformation": {"kind": "greedy"},
                    "terms": [{"kind": "lncc", "radius_vox": 2}],
                    "stop": {"tolerance": 0},
                    "pyramid": {
                        "levels": [
                            {"shrink": 2, "max_steps": steps},
                            {"shrink": 1, "max_steps": steps},
                        ]
                    },
                }
            ],
        }
    )
    cases = list(_images(shape, PAIRS))
    execution = Execution(device)
    if device != "cpu":  # the first use of a GPU is not what is measured
        register_batch(cases[:1], recipe, execution=execution)
    started = time.perf_counter()
    losses, peak = [], 0.0
    for first in range(0, PAIRS, size):
        results = register_batch(cases[first : first + size], recipe, execution=execution)
        losses += [result.output.stages[-1][1].loss for result in results]
        peak = max(peak, *(result.peak_memory_mb for result in results))
    seconds = (time.perf_counter() - started) / PAIRS
    return {"seconds_per_pair": seconds, "peak_mb": peak, "loss": sum(losses) / PAIRS}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--sizes", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    if args.one:
        shape, size = SHAPES[args.one[0]], int(args.one[1])
        print(json.dumps(measure(shape, size, args.steps, args.device)))
        return
    rows = []
    for name in SHAPES:
        for size in map(int, args.sizes.split(",")):
            command = [sys.executable, __file__, "--one", name, str(size)]
            command += ["--device", args.device, "--steps", str(args.steps)]
            command += ["--threads", str(args.threads)] if args.threads else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"images": name, "size": size, **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1])
    settings = {"device": args.device, "pairs": PAIRS, "steps": args.steps}
    document = {"machine": machine(args.threads), "settings": settings, "rows": rows}
    (RESULTS / "batch.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
