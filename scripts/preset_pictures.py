"""Draws napari_fireants/pictures/NAME.png: what each preset is for, before and after it.

Every picture shows a real run of the preset, on the sample brains at 2 mm or on a phantom: on the
left the moving image as it was, on the right as the preset brought it. Fixed is green, moving
magenta, grey where they agree; images of two kinds share the picture instead, fixed left of the
middle and moving right of it. Run from the repository, with the names of presets to draw only
these: .venv/bin/python scripts/preset_pictures.py [NAME]...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image as Picture

import fireants_engine as fe
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine
from napari_fireants._preview import robust_limits
from napari_fireants._samples import load_phantoms, sample_path

FOLDER = Path(__file__).resolve().parents[1] / "napari_fireants" / "pictures"
WIDTH, HEIGHT, COLOURS = 160, 120, 48
Pair = tuple[fe.Image, fe.Image]
Plane = Callable[[np.ndarray], np.ndarray]


# ------------------------------------------------------------------ what is registered
def brain(name: str) -> fe.Image:
    """One of the sample heads at 2 mm."""
    image = sitk.ReadImage(str(sample_path(f"{name}_t1.nii.gz")), sitk.sitkFloat32)
    return as_image(sitk.BinShrink(image, [2, 2, 2]))


def as_image(image: sitk.Image) -> fe.Image:
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    grid = fe.Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)
    return fe.Image.from_numpy(sitk.GetArrayFromImage(image), grid)


def turned(image: fe.Image, degrees: float, shift: tuple[float, ...], scale: float) -> fe.Image:
    """The same head, turned about the front-to-back axis, moved and scaled."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ np.diag([scale, 1, 1 / scale])
    size = np.array(image.grid.size)
    centre = image.grid.direction @ ((size - 1) / 2 * image.grid.spacing_mm) + image.grid.origin_mm
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, centre - turn @ centre + shift
    return warp_image(image, Affine(matrix), image.grid)


def other_contrast(image: fe.Image) -> fe.Image:
    """Bright where the head was dark, as T2 is to T1; nothing stays nothing."""
    values = image.numpy().astype(np.float32)
    top = np.quantile(values, 0.995)
    return fe.Image.from_numpy((np.clip(top - values, 0, None) * (values > 0.12 * top)), image.grid)


def heads() -> Pair:
    return brain("icbm152"), turned(brain("colin27"), 5, (5, 6, 4), 1.02)


def contrasts() -> Pair:
    moving = other_contrast(brain("colin27"))
    return brain("icbm152"), turned(moving, 9, (0, 14, 6), 1.0)


def rotated() -> Pair:
    fixed = brain("icbm152")
    return fixed, turned(fixed, 18, (12, 0, -8), 1.0)


def stretched() -> Pair:
    fixed = brain("icbm152")
    return fixed, turned(brain("colin27"), -8, (0, 0, 10), 1.15)


def section() -> Pair:
    """Two stained sections with a known warp."""
    phantom = load_phantoms().microscopy_2d(peak=10, seed=3)
    return fe.Image.from_numpy(phantom.fixed), fe.Image.from_numpy(phantom.moving)


def chest() -> Pair:
    """A breathing chest: body, lungs with vessels and spine; the diaphragm moves 28 mm."""
    where = load_phantoms().lattice((104, 72, 92), (3.0, 3.0, 3.0))
    points = where.points()
    rng = np.random.default_rng(5)
    stems = [(side * rng.uniform(35, 100), *rng.uniform(-60, 70, 2)) for side in (-1, 1)
             for _ in range(30)]  # fmt: skip

    def value(at: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(at, -1, 0)
        body = soft(np.hypot(x / 145, y / 92) - 1)
        lungs = np.zeros_like(x)
        for side in (-1, 1):
            inside = ((x - side * 68) / 52) ** 2 + (y / 62) ** 2 + ((z - 5) / 105) ** 2
            lungs = np.maximum(lungs, soft(np.sqrt(inside) - 1) * soft(-(z + 75) / 40))
        spine = soft((np.hypot(x, y - 65) - 16) / 16)
        out = 40 * body - 36 * lungs + 45 * spine
        for cx, cy, cz in stems:
            along = np.hypot(y - cy * 0.7, z - cz - 0.3 * (x - cx))
            out += 34 * lungs * np.exp(-((along / 4) ** 2) - ((x - cx) / 26) ** 2)
        return out.astype(np.float32)

    lower = np.exp(-(((points[..., 2] + 75) / 50) ** 2) - (points[..., 1] / 90) ** 2)
    lower *= np.exp(-((np.abs(points[..., 0]) / 110) ** 4))
    breathed = points.copy()
    breathed[..., 2] += 28 * lower
    grid = fe.Grid(where.size, where.spacing, where.origin, where.direction)
    return tuple(fe.Image.from_numpy(value(at), grid) for at in (breathed, points))


def soft(distance: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(distance / 0.03, -40, 40)))


def ultrasound() -> Pair:
    """A head as MR sees it, and the fan in which ultrasound sees its borders, with speckle."""
    phantoms = load_phantoms()
    where = phantoms.lattice((72, 72, 72), (2.0, 2.0, 2.0))
    points, rng = where.points(), np.random.default_rng(1)
    grid = fe.Grid(where.size, where.spacing, where.origin, where.direction)
    mr, _ = phantoms.head(points, 62)
    c, s = np.cos(0.12), np.sin(0.12)
    moved = points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) + (7, 0, -5)
    seen, _ = phantoms.head(moved, 62)
    borders = sum(np.abs(part) for part in np.gradient(seen))
    speckle = rng.rayleigh(0.5, seen.shape)
    probe = moved - (0, 0, 75)
    angle = np.arctan2(np.hypot(probe[..., 0], probe[..., 1] * 0.8), -probe[..., 2])
    fan = (angle < 0.75) & (np.linalg.norm(probe, axis=-1) < 125)
    echo = fan * speckle * (1.2 * borders + 0.3 * seen + 6)
    return fe.Image.from_numpy(mr.astype(np.float32), grid), fe.Image.from_numpy(
        echo.astype(np.float32), grid
    )


def axial(array: np.ndarray) -> np.ndarray:
    return array[round(0.53 * len(array))]


def coronal(array: np.ndarray) -> np.ndarray:
    return array[::-1, array.shape[1] // 2]


def sagittal(array: np.ndarray) -> np.ndarray:
    return array[::-1, :, array.shape[2] // 2 + 3]


def chest_plane(array: np.ndarray) -> np.ndarray:
    return coronal(array)[:-6, 6:-6]


def inner(array: np.ndarray) -> np.ndarray:
    return array[14:-14, 14:-14]


SHOWN: dict[str, tuple[Callable[[], Pair], Plane]] = {
    "brain-mri": (heads, axial),
    "brain-mri-fast": (heads, sagittal),
    "multimodal": (contrasts, axial),
    "ct-lung": (chest, chest_plane),
    "microscopy": (section, inner),
    "ultrasound-mr": (ultrasound, coronal),
    "affine": (stretched, coronal),
    "rigid": (rotated, coronal),
}


OF_TWO_KINDS = ("multimodal", "ultrasound-mr")
WHITE = {"ct-lung": 1.8}
"""Where most of the picture would be white."""


# ------------------------------------------------------------------ how it is shown
def overlay(fixed: np.ndarray, moving: np.ndarray, white: float = 1.0) -> np.ndarray:
    """Bytes, red and blue from `moving`, green from `fixed`. white: of the robust range."""
    out = []
    for image in (moving, fixed, moving):
        low, high = robust_limits(image)
        out.append(np.clip((image - low) / (high - low) / white, 0, 1))
    return (255 * np.stack(out, -1)).astype(np.uint8)


def curtain(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Bytes, grey: `fixed` on the left half, `moving` on the right."""
    red, green, _ = np.moveaxis(overlay(fixed, moving), -1, 0)
    middle = fixed.shape[1] // 2
    out = np.where(np.arange(fixed.shape[1]) < middle, green, red)
    return np.repeat(out[..., None], 3, -1)


def fitted(array: np.ndarray, width: int, height: int) -> Picture.Image:
    """Scaled to `width` x `height`; a little may be cut off the sides of what is not wide."""
    picture = Picture.fromarray(array)
    scale = width / picture.width
    if picture.width < 1.05 * picture.height:
        scale = max(scale, 0.86 * height / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    out = Picture.new("RGB", (width, height), picture.getpixel((0, 0)))
    out.paste(
        picture.resize(size, Picture.Resampling.LANCZOS),
        ((width - size[0]) // 2, (height - size[1]) // 2),
    )
    return out


def draw(name: str) -> Path:
    pair, plane = SHOWN[name]
    fixed, moving = pair()
    result = fe.register(fixed, moving, name, execution=fe.Execution("cpu"))
    before = warp_image(moving, Affine.identity(fixed.dim), fixed.grid)
    half = WIDTH // 2 - 1
    out = Picture.new("RGB", (WIDTH, HEIGHT), (90, 90, 90))
    for k, image in enumerate((before, result.moved)):
        both = plane(fixed.numpy()), plane(image.numpy())
        shown = curtain(*both) if name in OF_TWO_KINDS else overlay(*both, WHITE.get(name, 1.0))
        out.paste(fitted(shown, half, HEIGHT), (k * (half + 2), 0))
    path = FOLDER / f"{name}.png"
    out.quantize(COLOURS, dither=Picture.Dither.NONE).save(path, optimize=True)
    return path


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SHOWN:
        since = time.monotonic()
        path = draw(name)
        print(f"{path}: {path.stat().st_size} bytes, {time.monotonic() - since:.0f} s", flush=True)


if __name__ == "__main__":
    main()
