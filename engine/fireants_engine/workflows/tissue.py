"""The foreground of a section: where there is tissue, and how that was decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Image
from fireants_engine.pipeline.prepare import robust_range
from fireants_engine.pipeline.pyramid import shrink_image
from fireants_engine.workflows.stains import optical_density

Background = Literal["light", "dark"]

LONGEST = 1024
"""Pixels of the long side at which tissue is looked for."""
SATURATION = 0.1
"""Density at which `cover` has come to 63 %: pale stains count nearly as much as dark ones."""
MIN_SHARE = 0.05
"""Of the largest piece: what is smaller is dust."""
LIKE_SIZE, APART = 0.5, 0.2
"""Two pieces are two sections when the smaller has this share of the larger, and the gap is this
share of the smaller one's diameter."""
_STRIP = 4096


@dataclass(frozen=True)
class Piece:
    """A connected part, numbered from 1 by its place: left to right, then top to bottom.

    share: of the area of all pieces; centre_mm: x, y; kept: belongs to the tissue.
    """

    number: int
    share: float
    centre_mm: tuple[float, float]
    kept: bool


@dataclass(frozen=True, eq=False)
class Tissue:
    """mask: (Y, X) bool on `image`, which holds the section at low resolution; density: (Y, X).

    background: brightness of the empty slide per channel, in the image's own values; light: kind
    of it; threshold: density above which there is tissue; pieces: all that are no dust.
    """

    image: Image
    mask: Tensor
    density: Tensor
    background: tuple[float, ...]
    kind: Background
    threshold: float
    pieces: tuple[Piece, ...]

    @property
    def area_mm2(self) -> float:
        return float(self.mask.sum()) * float(np.prod(self.image.grid.spacing_mm))

    def to_dict(self) -> dict[str, Any]:
        return {
            "background": list(self.background),
            "kind": self.kind,
            "threshold": self.threshold,
            "share_of_image": float(self.mask.float().mean()),
            "pieces": [vars(piece) for piece in self.pieces],
        }


def at_most(image: Image, pixels: int) -> Image:
    """A 2D image whose long side has at most `pixels`, float32; its mask by majority.

    Averages of whole pixels, strip by strip, then anti-aliased resampling. Up to one averaged pixel
    at the far ends may be left out; places stay exact.
    """
    longest = max(image.grid.size)
    if longest <= pixels:
        return replace(image, data=image.data.float())
    factor = longest // pixels
    pooled = [n // factor for n in image.grid.shape]
    box = [slice(0, n * factor) for n in pooled]
    scale = pixels / max(pooled)
    grid = image.grid.part(box).resized([max(1, round(n * scale)) for n in pooled[::-1]])
    data = image.data[(slice(None), *box)]
    if factor > 1:
        strips = data.split(factor * max(1, _STRIP // factor), 1)
        data = torch.cat([_pooled(strip, factor) for strip in strips], 1)
    mask = image.mask
    if mask is not None:
        soft = F.interpolate(mask[tuple(box)][None, None].float(), size=grid.shape, mode="area")
        mask = soft[0, 0] > 0.5
    return replace(image, data=shrink_image(data[None].float(), grid)[0], grid=grid, mask=mask)


def _pooled(strip: Tensor, factor: int) -> Tensor:
    """Means of `factor` x `factor` pixels, channel by channel."""
    return torch.cat([F.avg_pool2d(channel[None].float(), factor) for channel in strip])


# ------------------------------------------------------------------ density
def background_of(image: Image) -> tuple[tuple[float, ...], Background]:
    """The empty slide: medians per channel where the border has its most frequent brightness.

    Light where that lies above the middle of the image's range of brightness.
    """
    grey = image.data.float().mean(0)
    wide = max(1, round(0.02 * min(grey.shape)))
    border = torch.ones_like(grey, dtype=torch.bool)
    border[wide:-wide, wide:-wide] = False
    values = image.data.float()[:, border]
    low, high = robust_range(grey)
    brightness = values.mean(0)
    bins = ((brightness - low) / max(high - low, 1e-12) * 64).round().clamp(0, 64).long()
    mode = int(torch.bincount(bins).argmax())
    chosen = values[:, (bins - mode).abs() <= 1]
    kind: Background = "light" if mode > 32 else "dark"
    return tuple(float(value) for value in chosen.median(1).values), kind


def density_of(image: Image, background: tuple[float, ...], kind: Background) -> Tensor:
    """(Y, X) float32, 0 on the empty slide.

    light: mean optical density of the channels. dark: mean brightness over the background, in
    units of its robust range.
    """
    data = image.data.float()
    if kind == "light":
        data, scale = as_bytes(image)
        return optical_density(data, [scale * value for value in background]).mean(0)
    above = (data - torch.tensor(background)[:, None, None]).mean(0).clamp_(min=0)
    least = 0.01 * float(data.abs().max())  # rounding is no contrast
    return above / max(robust_range(above)[1], least, 1e-12)


def _evenly_lit(density: Tensor) -> Tensor:
    """Less the plane that fits the border: a slide is darker to one side, which is no tissue.

    Fitted again to those within 2.5 robust deviations, so that tissue at the border counts little.
    """
    wide = max(1, round(0.02 * min(density.shape)))
    border = torch.ones_like(density, dtype=torch.bool)
    border[wide:-wide, wide:-wide] = False
    rows, columns = (torch.linspace(-1, 1, n) for n in density.shape)
    design = torch.stack([torch.ones_like(density), *torch.meshgrid(rows, columns, indexing="ij")])
    where, values = design[:, border].T, density[border]
    kept, plane = torch.ones_like(values, dtype=torch.bool), torch.zeros(3)
    for _ in range(4):
        plane = torch.linalg.lstsq(where[kept], values[kept, None]).solution[:, 0]
        apart = (values - where @ plane).abs()
        kept = apart <= 2.5 * 1.4826 * apart.median() + 1e-6
    return (density - torch.einsum("k,kyx->yx", plane, design)).clamp_(min=0)


def as_bytes(image: Image) -> tuple[Tensor, float]:
    """Values from 0 to 255 as float32, and the factor that made them so."""
    low, high = float(image.data.min()), robust_range(image.data.float())[1]
    scale = 1.0 if low >= 0 and 1.5 < high <= 255 else 255 / max(high, 1e-12)
    return image.data.float().clamp(min=0) * scale, scale


def cover(density: Tensor) -> Tensor:
    """`1 - exp(-density / 0.1)`: 0 where the slide is empty, near 1 where it is stained at all.

    It makes sections of unlike stains alike: where tissue is, how dense, and its gaps.
    """
    return 1 - torch.exp(-density / SATURATION)


# ------------------------------------------------------------------ tissue
def find_tissue(image: Image, component: int | None = None) -> Tissue:
    """Where `image` (2D; RGB, grey or any channels) shows tissue.

    The density, smoothed by 0.2 % of the long side, above Otsu's threshold of its `cover` and of
    three times the noise at the border; gaps of 0.4 % closed; pieces of at least 5 % of the
    largest. image.mask: where tissue may be. component: the only piece that counts, by its number.
    Raises InputError for no tissue, two sections on one slide, or a piece that is not there.
    """
    if image.dim != 2:
        raise InputError(f"{image.name}: is {image.dim}D; a section is a 2D image.")
    small = at_most(image, LONGEST)
    background, kind = background_of(small)
    density = _evenly_lit(density_of(small, background, kind))
    if small.mask is not None:
        density = density * small.mask
    found, threshold = _above(density, image.name)
    labels, pieces = _pieces(found, small)
    chosen = _chosen(labels, pieces, component, image.name)
    pieces = tuple(replace(piece, kept=piece.number in chosen) for piece in pieces)
    mask = torch.from_numpy(np.isin(labels, chosen))
    return Tissue(small, mask, density, background, kind, threshold, pieces)


def _above(density: Tensor, name: str) -> tuple[np.ndarray, float]:
    """What is dense enough, closed, and the threshold."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    longest = max(density.shape)
    smooth = ndimage.gaussian_filter(density.numpy(), 0.002 * longest, mode="nearest")
    covered = cover(torch.from_numpy(smooth)).numpy()
    if not covered.max() > covered.min():
        raise _nothing(name)
    share = float(threshold_otsu(covered))
    threshold = -SATURATION * float(np.log(max(1 - share, 1e-6)))
    inside = smooth > threshold
    wide = max(1, round(0.02 * min(density.shape)))
    edge = np.ones(density.shape, bool)
    edge[wide:-wide, wide:-wide] = False
    empty = smooth[edge & ~inside]
    noise = 1.4826 * float(np.median(np.abs(empty - np.median(empty)))) if empty.size else 0.0
    apart = float(smooth[inside].mean() - smooth[~inside].mean()) if inside.any() else 0.0
    if inside.mean() < 5e-4 or apart < max(0.02, 8 * noise):
        raise _nothing(name)
    threshold = max(threshold, 3 * noise)
    radius = max(1, round(0.004 * longest))
    return _closed(smooth > threshold, radius), threshold


def _nothing(name: str) -> InputError:
    return InputError(
        f"{name}: no tissue was found, the image is nearly empty; check that it is the right file, "
        "or give a mask of the tissue."
    )


def _closed(mask: np.ndarray, radius: int) -> np.ndarray:
    """Without gaps narrower than twice the radius, and without holes of less than 0.2 %."""
    padded = np.pad(mask, radius + 1)
    grown = distance_inside(~padded) <= radius
    closed = distance_inside(grown) > radius
    closed = (closed | padded)[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    holes, count = _labelled(~closed)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes < 0.002 * closed.sum()
    small[0] = False
    return closed | small[holes]


def distance_inside(mask: np.ndarray) -> np.ndarray:
    """Of every pixel inside from the outside, in pixels."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(mask))


def _labelled(mask: np.ndarray, corners: bool = False) -> tuple[np.ndarray, int]:
    """Numbers of the connected parts from 1, and how many; corners: they connect, too."""
    from scipy import ndimage

    labels = np.zeros(mask.shape, dtype=np.int32)
    count = ndimage.label(mask, structure=np.ones((3, 3)) if corners else None, output=labels)
    return labels, int(np.asarray(count).item())


def _pieces(mask: np.ndarray, image: Image) -> tuple[np.ndarray, tuple[Piece, ...]]:
    """Labels of what is no dust, and what the labels are."""
    from scipy import ndimage

    labels, count = _labelled(mask, corners=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = 1 + np.flatnonzero(sizes >= MIN_SHARE * sizes.max())
    centres = np.array(ndimage.center_of_mass(mask, labels, kept)).reshape(-1, 2)
    order = np.lexsort((centres[:, 0], centres[:, 1]))
    matrix = image.grid.matrix("voxel", "mm")
    renumbered = np.zeros(count + 1, dtype=np.int32)
    pieces = []
    for number, k in enumerate(order, start=1):
        renumbered[kept[k]] = number
        x, y = (matrix @ np.array([*centres[k], 1.0]))[:2]
        share = float(sizes[kept[k] - 1] / sizes[kept - 1].sum())
        pieces.append(Piece(number, share, (float(x), float(y)), True))
    return renumbered[labels], tuple(pieces)


def _chosen(
    labels: np.ndarray, pieces: tuple[Piece, ...], component: int | None, name: str
) -> list[int]:
    """The numbers that count. Raises InputError where a person has to say which."""
    if component is not None:
        if not 1 <= component <= len(pieces):
            raise InputError(
                f"{name}: there is no piece {component}; the slide has {len(pieces)}, numbered "
                "from left to right."
            )
        return [component]
    first, *rest = sorted(pieces, key=lambda piece: -piece.share)
    if rest and rest[0].share >= LIKE_SIZE * first.share:
        away = distance_inside(labels != first.number)
        other = labels == rest[0].number
        if away[other].min() > APART * 2 * np.sqrt(other.sum() / np.pi):
            numbers = " and ".join(str(n) for n in sorted((first.number, rest[0].number)))
            raise InputError(
                f"{name}: shows two sections (pieces {numbers} of {len(pieces)}, counted from left "
                "to right); crop the image to one, or say which piece counts (component)."
            )
    return [piece.number for piece in pieces]
