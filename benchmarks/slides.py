"""A large RGB slide through an affine map and a warp: peak memory, seconds, and the error.

    python benchmarks/slides.py [--side 20000] [--threads 1] [--folder SCRATCH]

Makes a tiled slide of noise and discs (deflate, no pyramid) in a scratch folder, warps it in a
process of its own by a rotation alone and by the rotation after a warp on a grid of 1000 x 1000,
and writes results/slides.json: peak memory of the process, seconds, size of the result, the
largest difference in pixels between the warp and what was sampled, and on 64 regions drawn at
random the largest difference in grey levels from the exact map in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, machine, run_measured

from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.transforms import Affine, Chain, Displacement, Transform

PIXEL_MM = 0.0005
LIMIT_MIB = 2048
TILE = 512
REGIONS, REGION = 64, 48


def tiles(side: int) -> Iterator[np.ndarray]:
    """Tiles of a stained disc on white: waves of two lengths and a little noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 12, (TILE, TILE, 3)).astype(np.float32)
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            y, x = np.mgrid[top : top + TILE, left : left + TILE].astype(np.float32)
            wave = np.sin(x / 9) * np.sin(y / 7) + np.sin(x / 310) * np.cos(y / 270)
            inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (0.42 * side) ** 2
            colour = np.array([165, 110, 150], np.float32) + wave[..., None] * [25, 35, 20] + noise
            yield np.where(inside[..., None], colour, 243).astype(np.uint8)


def make(path: Path, side: int) -> None:
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            tiles(side), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE),
            photometric="rgb", compression="zlib", compressionargs={"level": 1},
            buffersize=2**24, metadata=None,
        )  # fmt: skip


def transform(side: int, deform: bool) -> Transform:
    """20 degrees about the middle, after a warp of up to 40 pixels where `deform`."""
    grid = Grid.identity((side, side), PIXEL_MM)
    angle = np.deg2rad(20)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = Affine.about(linear, np.zeros(2), grid.centre_mm)
    if not deform:
        return turn
    coarse = grid.resized((1000, 1000))
    points = coarse.points_mm().reshape(1000, 1000, 2) / grid.extent_mm * 2 * np.pi
    waves = np.stack([np.sin(3 * points[..., 1]), np.cos(2 * points[..., 0])], -1)
    return Chain([Displacement.from_mm(waves * 40 * PIXEL_MM, coarse), turn])


def warp(source: Path, out: Path, side: int, deform: bool) -> None:
    """In a process of its own."""
    import torch

    from fireants_engine.io.slides import open_slide
    from fireants_engine.workflows.slides import warp_slide

    moving = open_slide(source, PIXEL_MM)
    start = time.perf_counter()
    told = warp_slide(transform(side, deform), moving, moving, out)
    print(json.dumps({
        "seconds": round(time.perf_counter() - start, 1), "error_px": round(told.error_px, 5),
        "tiles_evaluated_whole": told.exact, "levels": len(told.shapes),
        "background": told.background.tolist(), "torch_threads": torch.get_num_threads(),
    }))  # fmt: skip


def difference(source: Path, out: Path, side: int, deform: bool, fill: list[int]) -> float:
    """Largest difference in grey levels from the map at every pixel, in float64."""
    from scipy.ndimage import map_coordinates

    from fireants_engine.io.slides import open_slide

    moving, moved = open_slide(source, PIXEL_MM), open_slide(out)
    through, grid = transform(side, deform), moving.grid
    rng, most = np.random.default_rng(1), 0.0
    for row, column in rng.integers(0, side - REGION, (REGIONS, 2)).tolist():
        box = (slice(row, row + REGION), slice(column, column + REGION))
        places = apply_matrix(grid.matrix("mm", "voxel"), through(grid.part(box).points_mm()))
        low = np.clip(np.floor(places.min(0)).astype(int) - 1, 0, side - 1)
        high = np.clip(np.ceil(places.max(0)).astype(int) + 2, 1, side)
        if np.any(places.min(0) < 0) or np.any(places.max(0) > side - 1):
            continue
        part = moving.read((slice(low[0], high[0]), slice(low[1], high[1])))
        found = moved.read(box).reshape(3, -1)
        for channel, values in zip(part, found, strict=True):
            wanted = map_coordinates(channel.astype(float), (places - low).T, order=1)
            most = max(most, float(np.abs(values - wanted).max()))
    return round(most, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the slides are made (needs 6 GB)")
    parser.add_argument("--warp", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--deform", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.warp:
        warp(*options.warp, options.side, options.deform)
        return
    results: dict[str, Any] = {"machine": machine(options.threads), "side": options.side}
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        source, out, log = (Path(scratch, name) for name in ("m.tif", "out.ome.tif", "log"))
        make(source, options.side)
        results["source_mib"] = round(source.stat().st_size / 2**20)
        for name, deform in (("affine", False), ("warp", True)):
            command = [sys.executable, __file__, "--warp", str(source), str(out),
                       "--side", str(options.side), *(["--deform"] if deform else [])]  # fmt: skip
            measured = run_measured(command, options.threads, log)
            if measured.exit_code:
                raise SystemExit(log.read_text())
            told = json.loads(log.read_text().splitlines()[-1])
            results[name] = told | measured.as_dict() | {
                "result_mib": round(out.stat().st_size / 2**20),
                "within_limit": measured.process_peak_mib < LIMIT_MIB,
                "largest_grey_difference": difference(
                    source, out, options.side, deform, told["background"]
                ),
            }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1)
    (RESULTS / "slides.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
