"""Is a file all there? ITK fills what a truncated NIfTI, TIFF or JPEG lacks without a word."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError

BLOCK = 2**22
"""Bytes read at a time; a multiple of every sample's size."""
FLOATS = {16: "f4", 64: "f8"}
"""NIfTI datatype codes that can hold NaN."""


def check_complete(path: Path) -> None:
    """Raise InputError when `path` is shorter than its own header says.

    Checks .nii, .nii.gz, .tif, .jpg and single-file .mha; other formats are left to their
    readers, which notice.
    """
    name = path.name.lower()
    try:
        if os.path.getsize(path) == 0:
            whole = False
        elif name.endswith((".nii", ".nii.gz")):
            whole = _nifti(path)
        elif name.endswith((".tif", ".tiff")):
            whole = _tiff(path)
        elif name.endswith((".jpg", ".jpeg")):
            whole = _jpeg(path.read_bytes())
        elif name.endswith(".mha"):
            whole = _meta(path)
        else:
            whole = True
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if not whole:
        raise InputError(
            f"{path}: the file is truncated or damaged; copy, download or export it again."
        )


@dataclass(frozen=True)
class _Layout:
    """Where a NIfTI file keeps its samples: byte order, datatype code, first and last byte."""

    order: str
    datatype: int
    start: int
    end: int


def _layout(header: bytes) -> _Layout | None:
    """Of a single-file NIfTI-1 or -2 by its header; None when this is no such header."""
    if len(header) < 348:
        return None
    for order in "<>":
        size = struct.unpack(order + "i", header[:4])[0]
        if size == 348 and header[344:346] == b"n+":
            dims = struct.unpack(order + "8h", header[40:56])
            datatype, bits = struct.unpack(order + "2h", header[70:74])
            start = struct.unpack(order + "f", header[108:112])[0]
        elif size == 540 and len(header) >= 540:
            dims = struct.unpack(order + "8q", header[16:80])
            datatype, bits = struct.unpack(order + "2h", header[12:16])
            start = struct.unpack(order + "q", header[168:176])[0]
        else:
            continue
        voxels = 1
        for n in dims[1 : 1 + max(0, min(7, dims[0]))]:
            voxels *= max(1, n)
        return _Layout(order, datatype, int(start), int(start) + voxels * bits // 8)
    return None


def _nifti(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            layout = _layout(file.read(540))
            return layout is None or os.path.getsize(path) >= layout.end
        file.seek(-4, os.SEEK_END)
        stored = struct.unpack("<I", file.read(4))[0]
    try:
        with gzip.open(path, "rb") as stream:
            header = stream.read(540)
            layout = _layout(header)
            if layout is None or stored == layout.end % 2**32:
                return len(header) >= 348  # the length at the end agrees: no need to inflate
            length = len(header)
            while block := stream.read(BLOCK):
                length += len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return length >= layout.end


def check_finite(path: Path) -> None:
    """Raise InputError when a NIfTI file holds NaN or infinity: its reader makes them 0 silently.

    `path` must be complete. Other formats keep such values, which are then found in memory.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        layout = _layout(stream.read(540))
        if layout is None or layout.datatype not in FLOATS:
            return
        stream.seek(layout.start)
        left = layout.end - layout.start
        while left > 0 and (block := stream.read(min(BLOCK, left))):
            left -= len(block)
            values = np.frombuffer(block, layout.order + FLOATS[layout.datatype])
            if not np.isfinite(values).all():
                raise InputError(
                    f"{path}: contains NaN or infinite values; replace them (for example by 0) "
                    "first."
                )


def _jpeg(data: bytes) -> bool:
    """An end marker after the last start of a scan."""
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _meta(path: Path) -> bool:
    """Uncompressed LOCAL data of at least DimSize times the element's size."""
    sizes = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "DOUBLE": 8, "LONG_LONG": 8}
    with path.open("rb") as file:
        head = file.read(65536)
    end = head.find(b"ElementDataFile")
    newline = head.find(b"\n", end)
    if end < 0 or newline < 0:
        return True
    fields = dict[str, str]()
    for line in head[:newline].decode("latin-1").splitlines():
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
    if fields.get("ElementDataFile") != "LOCAL":
        return True
    present = os.path.getsize(path) - newline - 1
    if fields.get("CompressedData", "False").lower() == "true":
        needed = int(fields.get("CompressedDataSize", "0"))
    else:
        kind = fields.get("ElementType", "").removeprefix("MET_").replace("_ARRAY", "")
        needed = sizes.get(kind.replace("UCHAR", "CHAR").replace("USHORT", "SHORT")
                           .replace("UINT", "INT").replace("ULONG", "LONG"), 0)  # fmt: skip
        needed *= int(fields.get("ElementNumberOfChannels", "1"))
        for n in fields.get("DimSize", "").split():
            needed *= int(n)
    return present >= needed


def _tiff(path: Path) -> bool:
    """Every directory and the pixel data it points to lie inside the file."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(16)
        if head[:2] not in (b"II", b"MM"):
            return True  # not a TIFF: the reader will say so
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        width = struct.calcsize(word)
        start = 8 if big else 4
        offset = struct.unpack(order + word, head[start : start + width])[0]
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            raw = file.read(struct.calcsize(count))
            if len(raw) < struct.calcsize(count):
                return False
            entries = struct.unpack(order + count, raw)[0]
            body = file.read(entries * entry + width)
            if len(body) < entries * entry + width:
                return False
            here = file.tell()
            if _tiff_data_end(file, body[:-width], order, entry, word) > size:
                return False
            file.seek(here)
            offset = struct.unpack(order + word, body[-width:])[0]
    return True


def _tiff_data_end(file, body: bytes, order: str, entry: int, word: str) -> int:
    """Where the strips or tiles of one directory end."""
    starts: list[int] = []
    lengths: list[int] = []
    types = {3: "H", 4: "I", 16: "Q"}
    width = struct.calcsize(word)
    for k in range(0, len(body), entry):
        tag, kind = struct.unpack(order + "HH", body[k : k + 4])
        if tag not in (273, 279, 324, 325) or kind not in types:
            continue
        number = struct.unpack(order + word, body[k + 4 : k + 4 + width])[0]
        length = number * struct.calcsize(types[kind])
        raw = body[k + 4 + width : k + 4 + 2 * width]
        if length > width:
            file.seek(struct.unpack(order + word, raw)[0])
            raw = file.read(length)
        if len(raw) < length:
            return 2**63
        values = struct.unpack(f"{order}{number}{types[kind]}", raw[:length])
        (starts if tag in (273, 324) else lengths).extend(values)
    return max((a + b for a, b in zip(starts, lengths, strict=False)), default=0)
