"""The size of a slide's pixel, from what TIFF and OME-TIFF files say of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fireants_engine.errors import InputError

Pixel = tuple[float, float]
"""Width and height of a pixel in mm: x, y."""

MM = {
    "nm": 1e-6,
    "µm": 1e-3,
    "μm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "\\u00b5m": 1e-3,
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "inch": 25.4,
    "in": 25.4,
}
"""Millimetres in a unit as OME-XML and ImageJ write it, in lower case."""
PLAUSIBLE_MM = (2e-5, 0.0255)
"""Pixels that TIFF's own resolution may mean: 20 nm to 1000 dots an inch; fewer are for printers
and screens (72, 96, 300, 600)."""
_PER_UNIT = {2: 25.4, 3: 10.0}
"""ResolutionUnit of TIFF: inch, centimetre."""


def pixel_of_tiff(tiff: Any) -> tuple[Pixel | None, str]:
    """Of an open `tifffile.TiffFile`: (x, y) in mm or None, and why it is None.

    Looks at OME-XML (PhysicalSizeX and its unit), Aperio's MPP, ImageJ's unit, and TIFF's
    resolution tags where their unit is cm or inch and the pixel is one of a microscope. A
    size without a unit, or in "pixel", is none.
    """
    if tiff.ome_metadata:
        found, why = pixel_of_ome(tiff.ome_metadata)
        if found is not None or why:
            return found, why
    page = tiff.pages[0]
    found = _of_aperio(page.description or "") if tiff.is_svs else None
    if found is None and tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).lower()
        found = _of_tags(page, MM.get(unit))
    if found is not None:
        return found, ""
    return _of_resolution(page)


def pixel_of_ome(text: str) -> tuple[Pixel | None, str]:
    """PhysicalSizeX and Y of the first image in OME-XML; see `pixel_of_tiff`."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None, "its OME-XML is damaged"
    pixels = next((e for e in root.iter() if e.tag.rsplit("}", 1)[-1] == "Pixels"), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None, ""
    sizes = []
    for axis in "XY":
        text = pixels.get(f"PhysicalSize{axis}") or pixels.attrib["PhysicalSizeX"]
        unit = pixels.get(f"PhysicalSize{axis}Unit") or pixels.get("PhysicalSizeXUnit")
        if unit is None:
            return None, f"its OME-XML says PhysicalSize{axis}={text} without a unit"
        factor = MM.get(unit.lower())
        if factor is None:
            return None, f"its OME-XML gives the pixel in {unit!r}"
        value = _number(text)
        if value is None:
            return None, f"its OME-XML says PhysicalSize{axis}={text}"
        sizes.append(value * factor)
    return (sizes[0], sizes[1]), ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _of_aperio(description: str) -> Pixel | None:
    """Micrometres a pixel in an Aperio description: `|MPP = 0.2520|`."""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", description)
    value = _number(found.group(1)) if found else None
    return None if value is None else (value * 1e-3, value * 1e-3)


def _of_tags(page: Any, unit_mm: float | None) -> Pixel | None:
    """`unit / resolution` of the XResolution and YResolution tags, whatever it is."""
    if unit_mm is None:
        return None
    sizes = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is None:
            return None
        above, below = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
        if not above or not below:
            return None
        sizes.append(unit_mm * below / above)
    return sizes[0], sizes[1]


def _of_resolution(page: Any) -> tuple[Pixel | None, str]:
    tag = page.tags.get("ResolutionUnit")
    found = _of_tags(page, _PER_UNIT.get(int(tag.value)) if tag is not None else None)
    if found is None:
        return None, "the file does not say it"
    if all(PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1] for size in found):
        return found, ""
    return None, f"the file says {25.4 / found[0]:.0f} dots an inch, which is for printing"


def as_pixel(size: float | tuple[float, float], path: Path) -> Pixel:
    """A pixel size that a person gave, one number or (x, y), checked; raises InputError."""
    values = (size, size) if isinstance(size, int | float) else tuple(size)
    good = len(values) == 2 and all(0 < float(v) < float("inf") for v in values)
    if not good:
        raise InputError(
            f"{path}: a pixel of {size} mm is not possible; give a positive number, such as "
            "0.00025 for 0.25 um."
        )
    return float(values[0]), float(values[1])
