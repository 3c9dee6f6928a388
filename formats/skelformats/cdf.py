"""Reading one variable of a CDF file (NASA's Common Data Format), without trusting the file.

Human3.6M is distributed so. cdflib reads such files, but believes them: a dimension count of two thousand
million keeps it busy for minutes, and it inflates whatever a block holds. Here every record stays within the
file, no chain of records is followed twice, and nothing is allocated before its size is known to be allowed.

Follows the CDF Internal Format Description, versions 2.6 to 3.9: single-file CDFs, r- and z-variables of
floating point numbers, row or column major, either byte order, plain or gzip-compressed.
"""

from __future__ import annotations

import math
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError

MAX_BYTES = 2**28
"""Default limit of what a variable, or a compressed file, may take in memory."""

_WIDE, _NARROW = b"\xcd\xf3\x00\x01", b"\xcd\xf2\x60\x02"
_PLAIN, _PACKED = b"\x00\x00\xff\xff", b"\xcc\xcc\x00\x01"
_CDR, _GDR, _RVDR, _VXR, _VVR, _ZVDR, _CCR, _CPR, _CVVR = 1, 2, 3, 6, 7, 8, 10, 11, 13
_GZIP = 5
_BIG_ENDIAN = frozenset({1, 2, 5, 7, 9, 11, 12, 18})
_LITTLE_ENDIAN = frozenset({4, 6, 13, 16, 17, 19})
_TYPES = {21: "f4", 44: "f4", 22: "f8", 45: "f8"}
_MOST_VARIABLES, _MOST_DIMENSIONS, _MOST_BLOCKS = 1000, 10, 100_000

_EXPECTED = "a CDF file, as cdflib or NASA's library writes it"


class _DamagedError(Exception):
    """What is wrong, without the file's name."""


def read_variable(path: str | Path, name: str, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a variable of numbers.

    Returns
    -------
    (records, ...) float32 or float64 in this machine's byte order; the dimensions that vary, in their order.

    Raises
    ------
    FormatError
        It is not a CDF file, is damaged or cut off, has no such variable, or one that is larger than
        ``max_bytes`` or no floating point numbers.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise FormatError(path, "an empty file", _EXPECTED, action="Fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(data, name, max_bytes)
    except _DamagedError as problem:
        raise FormatError(
            path, str(problem), _EXPECTED, action="The file may be cut off; fetch it again"
        ) from None
    except OSError as error:
        raise FormatError(path, f"a file that cannot be read ({error.strerror})", _EXPECTED) from error


def _read(data: bytes | mmap.mmap, name: str, max_bytes: int) -> NDArray[Any]:
    magic, packing = data[:4], data[4:8]
    if magic not in (_WIDE, _NARROW):
        raise _DamagedError(f"no CDF file of version 2.6 or later (it begins with {magic.hex(' ')!r})")
    wide = magic == _WIDE
    if packing == _PACKED:
        data = _unpacked(_Records(data, wide), max_bytes)
    elif packing != _PLAIN:
        raise _DamagedError(f"a CDF file with the second magic number {packing.hex(' ')!r}")
    records = _Records(data, wide)
    header = records.at(8, _CDR)
    gdr = header.offset()
    header.skip(8)  # version and release
    encoding, flags = header.integer(), header.integer()
    if not flags & 2:
        raise _DamagedError("a CDF that is spread over several files")
    if encoding not in _BIG_ENDIAN | _LITTLE_ENDIAN:
        raise _DamagedError(f"numbers in the encoding {encoding}")
    variable = _find(records, gdr, name)
    order = ">" if encoding in _BIG_ENDIAN else "<"
    return _values(records, variable, order, row_major=bool(flags & 1), max_bytes=max_bytes)


@dataclass
class _Record:
    """One internal record: reads its fields one after another, and never beyond its end."""

    data: bytes | mmap.mmap
    position: int
    end: int
    wide: bool
    kind: int

    def take(self, count: int) -> bytes:
        stop = self.position + count
        if count < 0 or stop > self.end:
            raise _DamagedError(f"a record that ends at byte {self.end}, in the middle of its fields")
        taken = self.data[self.position : stop]
        self.position = stop
        return taken

    def skip(self, count: int) -> None:
        self.take(count)

    def integer(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def integers(self, count: int) -> list[int]:
        return np.frombuffer(self.take(4 * count), ">i4").tolist()

    def offset(self) -> int:
        return int.from_bytes(self.take(8 if self.wide else 4), "big", signed=True)

    def offsets(self, count: int) -> list[int]:
        size = 8 if self.wide else 4
        return np.frombuffer(self.take(size * count), f">i{size}").tolist()

    def rest(self) -> bytes:
        return self.take(self.end - self.position)


@dataclass(frozen=True)
class _Records:
    """The internal records of a file; their offsets have 8 bytes since version 3, 4 before."""

    data: bytes | mmap.mmap
    wide: bool

    def at(self, start: int, *kinds: int) -> _Record:
        """Open the record at byte ``start``, which must be of one of ``kinds``."""
        width = 8 if self.wide else 4
        head = start + width + 4
        if start < 8 or head > len(self.data):
            raise _DamagedError(f"a reference to byte {start} of {len(self.data)}")
        size = int.from_bytes(self.data[start : start + width], "big", signed=True)
        kind = int.from_bytes(self.data[start + width : head], "big", signed=True)
        if kind not in kinds:
            raise _DamagedError(f"a record of type {kind} at byte {start} where one of {kinds} should be")
        if size < width + 4 or start + size > len(self.data):
            raise _DamagedError(f"a record of {size} bytes at byte {start} of {len(self.data)}")
        return _Record(self.data, head, start + size, self.wide, kind)


def _unpacked(records: _Records, max_bytes: int) -> bytes:
    """Return a compressed file as it was before, its eight magic bytes included."""
    header = records.at(8, _CCR)
    method, size = header.offset(), header.offset()
    header.skip(4)
    if not 0 <= size <= max_bytes:
        raise _DamagedError(f"a compressed file that claims {size} bytes, of at most {max_bytes}")
    _expect_gzip(records, method)
    return bytes(records.data[:8]) + _inflate(header.rest(), size)


def _expect_gzip(records: _Records, start: int) -> None:
    method = records.at(start, _CPR).integer()
    if method != _GZIP:
        raise _DamagedError(f"values compressed by method {method}, not by gzip")


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        data = zlib.decompressobj(wbits=31).decompress(packed, size) if size else b""
    except zlib.error as error:
        raise _DamagedError(f"values that do not decompress ({error})") from None
    if len(data) != size:
        raise _DamagedError(f"{len(data)} bytes in a compressed block of {size}")
    return data


@dataclass(frozen=True)
class _Variable:
    dtype: str
    last_record: int
    shape: tuple[int, ...]
    index: int
    method: int | None


def _find(records: _Records, gdr: int, name: str) -> _Variable:
    """Look for a variable by name among the z-variables, then among the r-variables."""
    header = records.at(gdr, _GDR)
    first_r, first_z = header.offset(), header.offset()
    header.offset()  # attributes
    header.offset()  # end of file
    count_r = header.integer()
    header.skip(8)  # attributes, last r-record
    dims_r, count_z = header.integer(), header.integer()
    header.offset()  # unused records
    header.skip(12)
    if not (0 <= count_r <= _MOST_VARIABLES and 0 <= count_z <= _MOST_VARIABLES):
        raise _DamagedError(f"{max(count_r, count_z)} variables, of at most {_MOST_VARIABLES}")
    sizes_r = header.integers(_checked_dimensions(dims_r))
    names = []
    for start, count, kind in ((first_z, count_z, _ZVDR), (first_r, count_r, _RVDR)):
        for _ in range(count):
            record = records.at(start, kind)
            start = record.offset()
            found, variable = _variable(record, sizes_r, name)
            if variable is not None:
                if variable.method is not None:
                    _expect_gzip(records, variable.method)
                return variable
            names.append(found)
    raise _DamagedError(f"no variable {name!r} among {', '.join(names)[:200] or 'none'}")


def _variable(record: _Record, sizes_r: list[int], name: str) -> tuple[str, _Variable | None]:
    """Read a variable's descriptor: its name, and the variable if it is the one called ``name``."""
    data_type, last = record.integer(), record.integer()
    index = record.offset()
    record.offset()  # last index record
    flags, sparse = record.integer(), record.integer()
    record.skip(12)
    elements = record.integer()
    record.skip(4)  # number
    method = record.offset()
    record.skip(4)  # blocking factor
    found = record.take(256 if record.wide else 64).split(b"\0")[0].decode("latin-1").strip()
    if found.lower() != name.lower():
        return found, None
    if record.kind == _ZVDR:
        count = _checked_dimensions(record.integer())
        sizes = record.integers(count)
    else:
        count, sizes = len(sizes_r), sizes_r
    varies = record.integers(count)
    if data_type not in _TYPES or elements != 1:
        raise _DamagedError(f"the variable {found!r} of data type {data_type}, not floating point numbers")
    if sparse:
        raise _DamagedError(f"the variable {found!r} with records left out")
    shape = tuple(size for size, vary in zip(sizes, varies, strict=True) if vary)
    if last < -1 or any(size < 0 for size in shape):
        raise _DamagedError(f"the variable {found!r} with {last + 1} records of shape {shape}")
    return found, _Variable(_TYPES[data_type], last, shape, index, method if flags & 4 else None)


def _checked_dimensions(count: int) -> int:
    if not 0 <= count <= _MOST_DIMENSIONS:
        raise _DamagedError(f"{count} dimensions, of at most {_MOST_DIMENSIONS}")
    return count


def _values(
    records: _Records, variable: _Variable, order: str, row_major: bool, max_bytes: int
) -> NDArray[Any]:
    """Gather a variable's records from their blocks."""
    dtype = np.dtype(order + variable.dtype)
    count = variable.last_record + 1
    size = math.prod(variable.shape) * dtype.itemsize
    if count * size > max_bytes:
        raise _DamagedError(
            f"a variable of {count} records of shape {variable.shape} ({count * size} bytes, of at most "
            f"{max_bytes})"
        )
    parts, done = [], 0
    for first, last, start in sorted(_blocks(records, variable.index)) if count * size else ():
        if first != done or last < first or last >= count:
            raise _DamagedError(f"records {first} to {last} where {done} to {count - 1} are left")
        wanted = (last - first + 1) * size
        block = records.at(start, _VVR, _CVVR)
        if block.kind == _VVR:
            parts.append(block.take(wanted))
        else:
            block.skip(4)
            parts.append(_inflate(block.take(block.offset()), wanted))
        done = last + 1
    if count * size and done != count:
        raise _DamagedError(f"{done} records, of {count}")
    flat = np.frombuffer(b"".join(parts), dtype).astype(dtype.newbyteorder("="))
    if row_major:
        return flat.reshape(count, *variable.shape)
    turned = flat.reshape(count, *reversed(variable.shape))
    return np.ascontiguousarray(turned.transpose(0, *range(turned.ndim - 1, 0, -1)))


def _blocks(records: _Records, index: int) -> list[tuple[int, int, int]]:
    """List (first record, last record, byte) of every block of values, following a tree of index records."""
    found: list[tuple[int, int, int]] = []
    waiting, known = [index], set()
    while waiting:
        start = waiting.pop()
        if start in known:
            raise _DamagedError(f"an index that returns to byte {start}")
        known.add(start)
        record = records.at(start, _VXR)
        following = record.offset()
        if following:
            waiting.append(following)
        entries, used = record.integer(), record.integer()
        if not 0 <= used <= entries or used + len(found) + len(known) > _MOST_BLOCKS:
            raise _DamagedError(f"an index of {used} entries among {entries}")
        first, last, starts = record.integers(entries), record.integers(entries), record.offsets(entries)
        for k in range(used):
            if records.at(starts[k], _VXR, _VVR, _CVVR).kind == _VXR:
                waiting.append(starts[k])
            else:
                found.append((first[k], last[k], starts[k]))
    return found
