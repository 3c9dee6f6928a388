"""MATLAB level 5 files (``save -v6`` and ``-v7``): numeric arrays and cells of them, and nothing else.

Follows "MAT-File Format" (MathWorks), chapter 1. Sizes are checked against the bytes that are there before
anything is allocated, compressed variables expand within a budget, and cells may not nest: so a hostile file
ends in a `FormatError`, not in a full memory or stack.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError

MAX_BYTES = 2 * 2**30
"""Default limit of a file's size, and of what its variables expand to."""

Value = NDArray[Any] | list[NDArray[Any]]

_HEADER, _INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 128, 1, 5, 6, 14, 15
_TYPES = {
    1: "<i1",
    2: "<u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}
_CELL, _NUMERIC = 1, range(6, 16)
_COMPLEX = 0x0800
_FLOOR, _GROWTH = 64 * 2**20, 64
_NAME_BYTES = 512
_MOST_ELEMENTS = 2**31 - 2
_EXPECTED = "a MATLAB level 5 file (save -v6 or -v7)"


class _DamagedError(Exception):
    """What is wrong within the file, for the message."""


def load_mat(path: str | Path, names: Collection[str], max_bytes: int = MAX_BYTES) -> dict[str, Value]:
    """Read the named variables: an array, or for a cell the list of its arrays, in MATLAB's order.

    Arrays are read-only. Variables of other kinds (text, structures) and other names are left out.

    Raises
    ------
    FormatError
        The file is not of this kind, is damaged, or expands beyond ``max_bytes``, or beyond 64 MiB and 64
        times its size.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > max_bytes:
        raise FormatError(path, f"a file of {size:,} bytes", f"at most {max_bytes:,}")
    data = path.read_bytes()
    if b"\x89HDF" in (data[:4], data[512:516]):
        raise FormatError(path, "a MATLAB 7.3 (HDF5) file", _EXPECTED)
    if len(data) < _HEADER or data[124:128] != b"\x00\x01IM":
        raise FormatError(path, "another header", _EXPECTED, action="It may be cut off; fetch it again")
    found: dict[str, Value] = {}
    try:
        for element in _variables(memoryview(data), names, min(max_bytes, _FLOOR + _GROWTH * size)):
            name, value = _matrix(element)
            if name in names and value is not None:
                found[name] = value
    except (_DamagedError, struct.error, zlib.error) as error:
        raise FormatError(
            path, f"damage ({error})", _EXPECTED, action="It may be cut off; fetch it again"
        ) from error
    return found


def _variables(data: memoryview, names: Collection[str], budget: int) -> Iterator[memoryview]:
    """Yield the content of each top-level matrix, compressed ones only when their names are asked for."""
    place = _HEADER
    while place < len(data):
        kind, start, size, after = _tag(data, place, pad=False)
        content = data[start : start + size]
        if kind == _COMPRESSED:
            begin = memoryview(zlib.decompressobj().decompress(content, _NAME_BYTES))
            if len(begin) > 8 and _name_of(begin[8:]) in names:
                text = zlib.decompressobj().decompress(content, budget + 1)
                budget -= len(text)
                if budget < 0:
                    raise _DamagedError("a variable that expands beyond all proportion")
                inner, start, size, _ = _tag(memoryview(text), 0)
                if inner == _MATRIX:
                    yield memoryview(text)[start : start + size]
        elif kind == _MATRIX:
            yield content
            after += -size % 8
        place = after


def _tag(data: memoryview, place: int, pad: bool = True) -> tuple[int, int, int, int]:
    """Return type, start and bytes of the element at ``place``, and where the next one begins."""
    (first,) = struct.unpack_from("<I", data, place)
    if first >> 16:  # up to four bytes stand in the tag itself
        kind, size, start, after = first & 0xFFFF, first >> 16, place + 4, place + 8
        if size > 4:
            raise _DamagedError(f"a small element of {size} bytes")
    else:
        kind, (size,), start = first, struct.unpack_from("<I", data, place + 4), place + 8
        after = start + size + (-size % 8 if pad else 0)
    if start + size > len(data):
        raise _DamagedError(f"an element of {size:,} bytes where {max(0, len(data) - start):,} are left")
    return kind, start, size, after


def _head(data: memoryview) -> tuple[int, tuple[int, ...], str, int]:
    """Return flags, dimensions, name and the place after them of a matrix."""
    kind, start, size, place = _tag(data, 0)
    if kind != _UINT32 or size != 8:
        raise _DamagedError("a matrix without flags")
    (flags,) = struct.unpack_from("<I", data, start)
    kind, start, size, place = _tag(data, place)
    if kind != _INT32 or size % 4 or not 8 <= size <= 128:
        raise _DamagedError("a matrix without dimensions")
    dims = struct.unpack_from(f"<{size // 4}i", data, start)
    kind, start, size, place = _tag(data, place)
    if kind != _INT8 or min(dims) < 0:
        raise _DamagedError("a matrix without a name, or of negative size")
    if math.prod(n for n in dims if n) > _MOST_ELEMENTS:
        # a dimension of 0 takes no bytes, whatever the others claim
        raise _DamagedError(f"a matrix of size {dims}")
    return flags, dims, bytes(data[start : start + size]).decode("latin-1"), place


def _name_of(data: memoryview) -> str:
    try:
        return _head(data)[2]
    except struct.error:
        return ""


def _matrix(data: memoryview, nested: bool = False) -> tuple[str, Value | None]:
    """Return name and value of a matrix; None for kinds that nobody needs."""
    flags, dims, name, place = _head(data)
    kind = flags & 0xFF
    count = 1
    for dim in dims:
        count *= dim
    if kind == _CELL and not nested:
        return name, [_entry(data, *bounds) for bounds in _entries(data, place, count)]
    if kind not in _NUMERIC or flags & _COMPLEX:
        return name, None
    stored, start, size, _ = _tag(data, place)
    if stored not in _TYPES:
        raise _DamagedError(f"numbers of the unknown type {stored}")
    dtype = np.dtype(_TYPES[stored])
    if count * dtype.itemsize != size:
        raise _DamagedError(f"{size:,} bytes for an array of {count:,} {dtype}")
    array = np.frombuffer(data[start : start + size], dtype)
    return name, array.reshape(dims, order="F")


def _entries(data: memoryview, place: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and bytes of each of a cell's entries."""
    if count > (len(data) - place) // 8:
        raise _DamagedError(f"a cell of {count:,} entries in {len(data) - place:,} bytes")
    for _ in range(count):
        kind, start, size, place = _tag(data, place)
        yield kind, start, size


def _entry(data: memoryview, kind: int, start: int, size: int) -> NDArray[Any]:
    if kind != _MATRIX:
        raise _DamagedError(f"a cell with an entry of type {kind}")
    value = _matrix(data[start : start + size], nested=True)[1] if size else np.zeros((0, 0))
    if not isinstance(value, np.ndarray):
        raise _DamagedError("a cell of something else than numeric arrays")
    return value
