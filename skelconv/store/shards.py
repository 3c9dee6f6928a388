"""The direct reader: chunks straight from memory-mapped files through the shard index, no zarr involved.

zarr-python spends about 1 ms a read on its event loop whatever the size; random reads of whole sequences
go many times faster this way (benchmarks/store_reads.py). The result is the same, bit for bit.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.chunk_layout import ABSENT, ChunkLayout, DamagedChunkError, crc_matches
from skelconv.store.info import StoreError

CACHED_CHUNKS = 8
"""Decoded chunks kept an array: sequences are contiguous, so neighbours share them."""

OPEN_FILES = 64
"""Files kept mapped an array; bounds the file descriptors that a large store takes."""

_REMEDY = "Run `skelconv verify`, then fetch or ingest the store again"


@dataclass(frozen=True, eq=False)
class ShardFile:
    """A mapped chunk or shard file: its bytes, and (chunks, 2) uint64 offset and size of each chunk.

    ``data`` is None for a file that does not exist: all its chunks are absent.
    """

    data: memoryview | None
    index: NDArray[np.uint64]

    def payload(self, slot: int) -> memoryview | None:
        """Stored bytes of the file's chunk number ``slot``, or None where it is absent."""
        if self.data is None:
            return None
        offset, size = self.index[slot].tolist()
        return None if offset == ABSENT == size else self.data[offset : offset + size]


class DirectArray:
    """One array of a local store; equal bit for bit to what zarr reads.

    Reads share no locks and no state that a fork could break: caches are fixed slots, each replaced in one
    step, so threads and forked workers may read at any time.

    Parameters
    ----------
    folder
        The array's folder.
    layout
        Its layout, from its metadata.
    verify
        Check the crc32c of every chunk that is decoded. That of a shard's index is always checked.
    """

    def __init__(self, folder: Path, layout: ChunkLayout, verify: bool = True) -> None:
        self.folder = folder
        self.layout = layout
        self.shape = layout.shape
        self.dtype = layout.dtype
        self._verify = verify
        self._chunks: list[tuple[int, NDArray[Any]] | None] = [None] * CACHED_CHUNKS
        self._files: list[tuple[int, ShardFile] | None] = [None] * OPEN_FILES

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` as a new array; raises `StoreError` for damage."""
        out = self._room(stop - start)
        self._read_into(out, start, stop)
        return out

    def read_all(self) -> NDArray[Any]:
        """Return the whole array, decoded by a few threads (blosc releases the interpreter's lock)."""
        rows = self.shape[0]
        block = self.layout.chunk * max(1, self.layout.chunks_a_file)
        starts = range(0, rows, block)
        out = self._room(rows)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            list(
                pool.map(lambda at: self._read_into(out[at : at + block], at, min(at + block, rows)), starts)
            )
        return out

    def chunk(self, number: int) -> NDArray[Any] | None:
        """Return chunk ``number`` decoded, (chunk, *tail), rows beyond the array's end included.

        None for a chunk that is absent, and so nothing but fill value; raises `StoreError` for damage, an
        absent chunk of an array that has every chunk among it.
        """
        payload = self._present(number)
        if payload is None:
            return None
        try:
            self._check(payload)
            return self.layout.decode(payload)
        except DamagedChunkError as error:
            raise self._damaged(number, error) from error

    def payload(self, number: int) -> memoryview | None:
        """Stored bytes of chunk ``number``, or None where it is absent."""
        return self.file(number // self.layout.chunks_a_file).payload(number % self.layout.chunks_a_file)

    def file(self, number: int) -> ShardFile:
        """Return chunk or shard file ``number``, mapped; raises `StoreError` for a damaged index."""
        slot = number % OPEN_FILES
        kept = self._files[slot]
        if kept is not None and kept[0] == number:
            return kept[1]
        opened = self._open(number)
        self._files[slot] = (number, opened)
        return opened

    def path(self, file: int) -> Path:
        """Path of a chunk or shard file."""
        return self.folder / self.layout.key(file)

    def _read_into(self, out: NDArray[Any], start: int, stop: int) -> None:
        rows = self.layout.chunk
        for number, first in _chunks_of(start, stop, rows):
            low, high = max(start, first), min(stop, first + rows)
            part = out[low - start : high - start]
            if high - low == rows and not self.layout.text:
                self._decode_into(number, part)
                continue
            values = self._cached(number)
            part[...] = self.layout.fill if values is None else values[low - first : high - first]

    def _decode_into(self, number: int, out: NDArray[Any]) -> None:
        """Decode a whole chunk into its place."""
        payload = self._present(number)
        if payload is None:
            out[...] = self.layout.fill
            return
        try:
            self._check(payload)
            self.layout.decode_into(payload, out)
        except DamagedChunkError as error:
            raise self._damaged(number, error) from error

    def _present(self, number: int) -> memoryview | None:
        payload = self.payload(number)
        if payload is None and self.layout.complete:
            raise self._damaged(
                number, DamagedChunkError("found no bytes, expected the chunk, as every chunk was stored")
            )
        return payload

    def _room(self, rows: int) -> NDArray[Any]:
        try:
            return np.empty((rows, *self.layout.tail), self.dtype)
        except (MemoryError, ValueError) as error:
            raise StoreError(
                f"{self.folder}: found {rows:,} rows of {self.layout.tail} {self.dtype}, expected what fits "
                "in memory. Read it in parts"
            ) from error

    def _cached(self, number: int) -> NDArray[Any] | None:
        slot = number % CACHED_CHUNKS
        kept = self._chunks[slot]
        if kept is not None and kept[0] == number:
            return kept[1]
        values = self.chunk(number)
        if values is not None:
            self._chunks[slot] = (number, values)
        return values

    def _check(self, payload: memoryview) -> None:
        if self._verify and not self.layout.check(payload):
            raise DamagedChunkError("found bytes that differ from their crc32c, expected them as written")

    def _damaged(self, number: int, error: DamagedChunkError) -> DamagedChunkError:
        file = self.path(number // self.layout.chunks_a_file)
        return DamagedChunkError(f"{file}, chunk {number}: {error}. {_REMEDY}")

    def _open(self, number: int) -> ShardFile:
        path = self.path(number)
        try:
            # without O_NONBLOCK, opening a pipe would wait for somebody to write to it
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise StoreError(
                        f"{path}: found something that is not a file, expected a shard or chunk. {_REMEDY}"
                    )
                size = found.st_size
                data = memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ)) if size else None
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not (self.folder / "zarr.json").exists():
                raise StoreError(
                    f"{self.folder}: found nothing there any more, expected the array that was opened. "
                    "The store was moved, deleted or replaced; open it again"
                ) from error
            if self.layout.complete:
                raise StoreError(
                    f"{path}: found no file, expected a shard or chunk, as every one was stored. {_REMEDY}"
                ) from error
            return ShardFile(None, np.empty((0, 2), np.uint64))
        except OSError as error:
            raise StoreError(
                f"{path}: found an unreadable file ({error.strerror}), expected a shard. {_REMEDY}"
            ) from error
        if data is None:
            raise StoreError(f"{path}: found an empty file, expected chunks of the array. {_REMEDY}")
        if self.layout.shard is None:
            return ShardFile(data, np.array([[0, size]], np.uint64))
        return ShardFile(data, self._index(path, data))

    def _index(self, path: Path, data: memoryview) -> NDArray[np.uint64]:
        """Read and check the index at the end of a shard: offset and size of each chunk."""
        layout = self.layout
        encoded = data[-layout.index_bytes :]
        if len(encoded) < layout.index_bytes or (layout.index_checksum and not crc_matches(encoded)):
            raise StoreError(
                f"{path}: found a damaged shard index, expected {layout.index_bytes} bytes at the file's end "
                f"with their crc32c. {_REMEDY}"
            )
        index = np.frombuffer(encoded, "<u8", 2 * layout.chunks_a_file).reshape(-1, 2).astype(np.uint64)
        present = ~(index == ABSENT).all(axis=1)
        offset, size = index[present].T
        room = np.uint64(len(data) - layout.index_bytes)
        # compared without a sum, which could wrap around
        if (size > room).any() or (offset > room - np.minimum(size, room)).any():
            raise StoreError(
                f"{path}: found an index that points outside the file, expected chunks within its first "
                f"{room} bytes. {_REMEDY}"
            )
        return index


def _chunks_of(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield (number, first row) of the chunks that hold rows ``start`` to ``stop``."""
    if stop > start:
        for number in range(start // rows, -(-stop // rows)):
            yield number, number * rows
