"""How one array of a store lies in its files, read from its ``zarr.json``: what the direct reader relies on.

Covered is what docs/store.md specifies and a little more: arrays chunked along their first dimension only,
with or without shards (``sharding_indexed``, index at the end), little-endian numbers or ``vlen-utf8`` text,
with or without blosc and crc32c. Anything else raises `UnknownLayoutError` and is left to zarr.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import VLenUTF8, blosc
from numpy.typing import NDArray

from skelconv.store.info import StoreError
from skelconv.store.integrity import STORED

CRC_BYTES = 4
ABSENT = 2**64 - 1
"""Offset and size of a chunk that its shard does not hold: all fill value (sharding specification)."""

_NUMBERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"}
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TEXT = VLenUTF8()


class UnknownLayoutError(StoreError):
    """An array is valid zarr, but not laid out as docs/store.md has it."""


class DamagedChunkError(StoreError):
    """The bytes of a chunk do not decode, or not to what their checksum says."""


@dataclass(frozen=True)
class ChunkLayout:
    """Layout of an array of shape (N, *tail).

    Attributes
    ----------
    shape
        The array's shape.
    dtype
        Dtype of what is read; object for text.
    chunk
        Rows a chunk along the first dimension; every chunk spans the others.
    shard
        Rows a shard, or None where each chunk is a file of its own.
    text, blosc, checksum
        Whether the values are vlen-utf8 text, compressed by blosc, and followed by their crc32c.
    index_checksum
        Whether a shard's index is followed by its crc32c.
    fill
        Value of every element of an absent chunk.
    complete
        Whether every chunk is stored, so that an absent one is damage and not fill value.
    separator
        What stands between the coordinates in the key of a chunk.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int
    shard: int | None
    text: bool
    blosc: bool
    checksum: bool
    index_checksum: bool
    fill: Any
    complete: bool
    separator: str

    @property
    def tail(self) -> tuple[int, ...]:
        """The shape without its first dimension."""
        return self.shape[1:]

    @property
    def chunks(self) -> int:
        """Number of chunks that the array has, absent ones included."""
        return -(-self.shape[0] // self.chunk)

    @property
    def chunks_a_file(self) -> int:
        """Number of chunks in a file."""
        return 1 if self.shard is None else self.shard // self.chunk

    @property
    def files(self) -> int:
        """Number of chunk or shard files that the array can have."""
        return -(-self.chunks // self.chunks_a_file)

    @property
    def index_bytes(self) -> int:
        """Bytes of a shard's index, its checksum included."""
        return 16 * self.chunks_a_file + (CRC_BYTES if self.index_checksum else 0)

    def key(self, file: int) -> str:
        """Path of a chunk or shard file within the array's folder."""
        return self.separator.join(["c", str(file), *("0" for _ in self.tail)])

    def check(self, payload: memoryview) -> bool:
        """Whether the stored checksum is that of the payload; true where there is none."""
        return not self.checksum or crc_matches(payload)

    def decode(self, payload: memoryview) -> NDArray[Any]:
        """Decode a stored chunk to (chunk, *tail); may be a read-only view of ``payload``.

        Raises
        ------
        DamagedChunkError
            The bytes are not those of such a chunk; says why, the caller says where.
        """
        body = payload[:-CRC_BYTES] if self.checksum else payload
        if self.text:
            return self._decode_text(_unpack(body) if self.blosc else body)
        if self.blosc:
            # checked before anything is allocated for it
            self._expect_size(_blosc_size(body))
            out = np.empty((self.chunk, *self.tail), self.dtype)
            self.decode_into(payload, out)
            return out
        self._expect_size(len(body))
        return np.frombuffer(body, self.dtype).reshape(self.chunk, *self.tail)

    def decode_into(self, payload: memoryview, out: NDArray[Any]) -> None:
        """Decode a stored chunk of numbers into ``out`` (chunk, *tail), which must be contiguous."""
        body = payload[:-CRC_BYTES] if self.checksum else payload
        if not self.blosc:
            self._expect_size(len(body))
            out[...] = np.frombuffer(body, self.dtype).reshape(out.shape)
            return
        self._expect_size(_blosc_size(body))
        _decompress(body, out)

    def _expect_size(self, found: int) -> None:
        expected = self.chunk * math.prod(self.tail) * self.dtype.itemsize
        if found != expected:
            raise DamagedChunkError(f"found {found} bytes of values, expected {expected}")

    def _decode_text(self, body: memoryview) -> NDArray[Any]:
        # the count is checked first: the decoder allocates for as many strings as the bytes claim
        count = int.from_bytes(body[:4], "little")
        expected = self.chunk * math.prod(self.tail)
        if count != expected or len(body) < 4 * (count + 1):
            raise DamagedChunkError(f"found {count} strings in {len(body)} bytes, expected {expected}")
        try:
            values: NDArray[Any] = _TEXT.decode(body)
        except ValueError as error:
            raise DamagedChunkError(f"found damaged text ({error}), expected {expected} strings") from error
        return values.reshape(self.chunk, *self.tail)


def crc_matches(payload: memoryview) -> bool:
    """Whether the last 4 bytes are the crc32c of what stands before them."""
    if len(payload) < CRC_BYTES:
        return False
    body = np.frombuffer(payload[:-CRC_BYTES], np.uint8)
    return bool(google_crc32c.value(body) == int.from_bytes(payload[-CRC_BYTES:], "little"))


def parse_layout(metadata: Mapping[str, Any], where: str) -> ChunkLayout:
    """Read the layout of an array from its metadata.

    Raises
    ------
    UnknownLayoutError
        The array is laid out in another way; says in which.
    """
    try:
        return _parse(metadata, _Parser(where))
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise UnknownLayoutError(
            f"{where}: found metadata that does not read as an array's ({error}), expected what "
            "docs/store.md specifies. Fetch or ingest the store again"
        ) from error


def _parse(metadata: Mapping[str, Any], parse: _Parser) -> ChunkLayout:
    shape = tuple(int(n) for n in metadata.get("shape", ()))
    parse.expect(len(shape) >= 1, "a shape without dimensions", "one or more")
    kind = metadata.get("data_type")
    text = kind == "string"
    parse.expect(text or (isinstance(kind, str) and kind in _NUMBERS), f"data type {kind!r}", "one of v1")
    parse.expect(not metadata.get("storage_transformers"), "storage transformers", "none")
    encoding = metadata.get("chunk_key_encoding") or {}
    parse.expect(encoding.get("name") == "default", f"chunk keys {encoding.get('name')!r}", "'default'")
    outer = parse.rows_a_chunk(metadata.get("chunk_grid") or {}, shape)
    codecs: Sequence[Mapping[str, Any]] = metadata.get("codecs") or ()
    index_checksum, shard, chunk = False, None, outer
    if codecs and codecs[0].get("name") == "sharding_indexed":
        parse.expect(len(codecs) == 1, "codecs around the shards", "none")
        sharding = codecs[0].get("configuration") or {}
        parse.expect(sharding.get("index_location", "end") == "end", "an index at the start", "at the end")
        inner = {"name": "regular", "configuration": {"chunk_shape": sharding.get("chunk_shape")}}
        shard, chunk = outer, parse.rows_a_chunk(inner, shape)
        parse.expect(outer % chunk == 0, f"shards of {outer} rows", f"a multiple of {chunk}")
        compressed, index_checksum = parse.chain(sharding.get("index_codecs") or (), "bytes")
        parse.expect(not compressed, "a compressed shard index", "a plain one")
        codecs = sharding.get("codecs") or ()
    blosc, checksum = parse.chain(codecs, "vlen-utf8" if text else "bytes")
    dtype = np.dtype(object) if text else np.dtype(str(kind)).newbyteorder("<")
    fill = metadata.get("fill_value")
    fill = _SPECIAL.get(fill, fill) if isinstance(fill, str) and not text else fill
    parse.expect(isinstance(fill, str if text else (int, float)), f"fill value {fill!r}", "text or a number")
    separator = (encoding.get("configuration") or {}).get("separator", "/")
    parse.expect(separator in ("/", "."), f"the separator {separator!r}", "'/' or '.'")
    complete = (metadata.get("attributes") or {}).get(STORED) is True
    return ChunkLayout(
        shape, dtype, chunk, shard, text, blosc, checksum, index_checksum, fill, complete, separator
    )


@dataclass(frozen=True)
class _Parser:
    where: str

    def expect(self, holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise UnknownLayoutError(
                f"{self.where}: found {found}, expected {expected}, as docs/store.md lays arrays out. "
                "Read it with backend='zarr'"
            )

    def rows_a_chunk(self, grid: Mapping[str, Any], shape: tuple[int, ...]) -> int:
        """Rows along the first dimension of a grid that does not cut the other dimensions."""
        self.expect(grid.get("name") == "regular", f"the chunk grid {grid.get('name')!r}", "'regular'")
        chunk = tuple((grid.get("configuration") or {}).get("chunk_shape") or ())
        whole = len(chunk) == len(shape) and chunk[1:] == shape[1:] and 0 < chunk[0] < 2**62
        self.expect(whole, f"chunks {chunk} of an array {shape}", "chunks along the first dimension only")
        return int(chunk[0])

    def chain(self, codecs: Sequence[Mapping[str, Any]], first: str) -> tuple[bool, bool]:
        """Whether a codec chain has blosc, and crc32c, after ``first``; in this order and nothing else."""
        names = [str(codec.get("name")) for codec in codecs]
        self.expect(names[:1] == [first], f"codecs {names}", f"{first!r} as the first")
        endian = (codecs[0].get("configuration") or {}).get("endian", "little")
        self.expect(endian == "little", f"{endian}-endian numbers", "little-endian ones")
        rest = names[1:]
        blosc = rest[:1] == ["blosc"]
        checksum = rest[int(blosc) :] == ["crc32c"]
        self.expect(rest == ["blosc"] * blosc + ["crc32c"] * checksum, f"codecs {names}", "blosc and crc32c")
        return blosc, checksum


def _blosc_size(body: memoryview) -> int:
    """Bytes that a blosc buffer decompresses to, from its header (bytes 4 to 8)."""
    if len(body) < 16:
        raise DamagedChunkError(f"found {len(body)} bytes, expected a blosc buffer of 16 or more")
    size, _, stored = struct.unpack_from("<III", body, 4)
    if stored != len(body):
        raise DamagedChunkError(
            f"found a blosc buffer of {len(body)} bytes, expected {stored} as its header says"
        )
    return int(size)


def _unpack(body: memoryview) -> memoryview:
    size = _blosc_size(body)
    # blosc expands at most 255-fold, so a larger claim is damage and must not be allocated for
    if size > 256 * len(body):
        raise DamagedChunkError(f"found a claim of {size} bytes in {len(body)}, expected at most 256-fold")
    out = np.empty(size, np.uint8)
    _decompress(body, out)
    return out.data


def _decompress(body: memoryview, out: NDArray[Any]) -> None:
    try:
        blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedChunkError(f"found bytes that do not decompress ({error}), expected blosc") from error
