"""Where the vertices stand in mesh files: they are replaced there, every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

Put = Callable[[np.ndarray], bytes]
"""The file again, with other coordinates (n, 3)."""
Found = tuple[np.ndarray, Put]
"""Coordinates (n, 3) float64 as the file has them, and how to put others in their place."""

_TOKEN = re.compile(rb"\S+")
_VTK_TYPES = {b"float": "f4", b"double": "f8"}
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_STL_FACET = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])


def _text(points: np.ndarray, digits: int = 9) -> list[bytes]:
    """Each row as `x y z`."""
    form = f"%.{digits}g %.{digits}g %.{digits}g"
    return [(form % tuple(row)).encode() for row in points]


def _rows(lines: Sequence[bytes], where: Sequence[int], first: int = 0) -> Found:
    """Coordinates in columns first, first + 1, first + 2 of the lines `where`."""
    points = np.array([[float(c) for c in lines[k].split()[first : first + 3]] for k in where])

    def put(new: np.ndarray) -> bytes:
        out = list(lines)
        for k, coordinates in zip(where, _text(new), strict=True):
            cells = lines[k].split()
            end = b"\r\n" if lines[k].endswith(b"\r\n") else b"\n"
            out[k] = b" ".join([*cells[:first], coordinates, *cells[first + 3 :]]) + end
        return b"".join(out)

    return points.reshape(-1, 3), put


def vtk(data: bytes) -> Found:
    """Legacy VTK, ASCII or binary, of any data set with POINTS (version 2 to 5)."""
    head = data.split(b"\n", 3)
    match = re.search(rb"^POINTS[ \t]+(\d+)[ \t]+(\w+)[ \t]*\r?\n", data, re.MULTILINE)
    if not data.startswith(b"# vtk DataFile") or match is None:
        raise ValueError("no legacy VTK file with POINTS")
    count, start = int(match[1]), match.end()
    kind = _VTK_TYPES.get(match[2].lower())
    if kind is None:
        raise ValueError(f"POINTS of type {match[2].decode('latin-1')}")
    if head[2].strip().upper() == b"BINARY":
        stored = np.frombuffer(data, ">" + kind, 3 * count, start)
        end = start + stored.nbytes

        def put(new: np.ndarray) -> bytes:
            return data[:start] + new.astype(">" + kind).tobytes() + data[end:]

        return stored.reshape(-1, 3).astype(np.float64), put
    tokens = _TOKEN.finditer(data, start)
    found = [next(tokens, None) for _ in range(3 * count)]
    if any(token is None for token in found):
        raise ValueError("fewer coordinates than POINTS says")
    end = found[-1].end() if found and found[-1] else start
    values = np.array([float(token[0]) for token in found if token]).reshape(-1, 3)
    digits = 17 if kind == "f8" else 9
    return values, lambda new: data[:start] + b"\n".join(_text(new, digits)) + data[end:]


def obj(data: bytes) -> Found:
    """Wavefront: lines `v x y z ...`; colours, textures, normals, groups and materials stay."""
    lines = data.splitlines(keepends=True)
    return _rows(lines, [k for k, line in enumerate(lines) if line.split(None, 1)[:1] == [b"v"]], 1)


def off(data: bytes) -> Found:
    """OFF, also with colours or normals (COFF, NOFF, ...), as text."""
    lines = data.splitlines(keepends=True)
    content = [k for k, line in enumerate(lines) if line.split(b"#")[0].strip()]
    first = lines[content[0]].split() if content else []
    if not first or not first[0].upper().endswith(b"OFF") or b"BINARY" in first:
        raise ValueError("no OFF file in text form")
    counts, body = (first[1:], 1) if len(first) > 1 else (lines[content[1]].split(), 2)
    vertices = content[body : body + int(counts[0])]
    if len(vertices) < int(counts[0]):
        raise ValueError("fewer vertices than the header says")
    return _rows(lines, vertices)


def stl(data: bytes) -> Found:
    """STL, binary or ASCII: three vertices a facet; the facets' normals follow them."""
    if len(data) >= 84:
        count = int(np.frombuffer(data, "<u4", 1, 80)[0])
        if len(data) == 84 + 50 * count:
            return _binary_stl(data, count)
    lines = data.splitlines(keepends=True)
    words = [line.split(None, 1)[:1] for line in lines]
    vertices = [k for k, word in enumerate(words) if word == [b"vertex"]]
    facets = [k for k, word in enumerate(words) if word == [b"facet"]]
    if not data.lstrip().startswith(b"solid") or len(vertices) != 3 * len(facets):
        raise ValueError("no STL file")
    points, put = _rows(lines, vertices, 1)

    def put_all(new: np.ndarray) -> bytes:
        _, turn = _rows(put(new).splitlines(keepends=True), facets, 2)
        return turn(_normals(new.reshape(-1, 3, 3)))

    return points, put_all


def _binary_stl(data: bytes, count: int) -> Found:
    facets = np.frombuffer(data, _STL_FACET, count, 84)

    def put(new: np.ndarray) -> bytes:
        out = facets.copy()
        out["vertices"] = new.reshape(-1, 3, 3)
        out["normal"] = _normals(new.reshape(-1, 3, 3))
        return data[:84] + out.tobytes()

    return facets["vertices"].reshape(-1, 3).astype(np.float64), put


def _normals(triangles: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) by the right-hand rule; zero for a triangle without area."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)


def ply(data: bytes) -> Found:
    """PLY, ASCII or binary: x, y, z of the first element, which has to be `vertex`."""
    match = re.search(rb"^end_header\r?\n", data, re.MULTILINE)
    if not data.startswith(b"ply") or match is None:
        raise ValueError("no PLY file")
    words = [line.split() for line in data[: match.start()].decode("latin-1").splitlines()]
    form = next((w[1] for w in words if w[:1] == ["format"]), "")
    elements = [k for k, w in enumerate(words) if w[:1] == ["element"]]
    if not elements or words[elements[0]][1] != "vertex":
        raise ValueError("its first element is not vertex")
    count, last = int(words[elements[0]][2]), [*elements[1:], len(words)][0]
    properties = [w[1:] for w in words[elements[0] : last] if w[:1] == ["property"]]
    names = [p[-1] for p in properties]
    if any(p[0] == "list" for p in properties) or not {"x", "y", "z"} <= set(names):
        raise ValueError("its vertices have no plain x, y, z")
    if form == "ascii":
        lines = data[match.end() :].splitlines(keepends=True)
        if names.index("y") != names.index("x") + 1 or names.index("z") != names.index("x") + 2:
            raise ValueError("x, y, z do not follow each other")
        points, put = _rows(lines, range(count), names.index("x"))
        return points, lambda new: data[: match.end()] + put(new)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
    kind = np.dtype([(p[1], order + _PLY_TYPES[p[0]]) for p in properties])
    stored = np.frombuffer(data, kind, count, match.end())

    def put_binary(new: np.ndarray) -> bytes:
        out = stored.copy()
        for name, column in zip("xyz", new.T, strict=True):
            out[name] = column
        return data[: match.end()] + out.tobytes() + data[match.end() + out.nbytes :]

    return np.stack([stored[name] for name in "xyz"], axis=1).astype(np.float64), put_binary


FORMATS: dict[str, Callable[[bytes], Found]] = {
    ".vtk": vtk,
    ".ply": ply,
    ".stl": stl,
    ".obj": obj,
    ".off": off,
}
