"""Rows of an array to the bytes of its shard files, chunk by chunk (docs/store.md, section 2).

The bytes are those that zarr would write. Encoded here, a chunk is compressed as soon as it is full: no shard
is held in memory as it is, none is read again for its digest, and a worker needs nothing of zarr.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

CHUNK_FRAMES = 256
SHARD_FRAMES = 65_536

POSITION = "position"
CONFIDENCE = "confidence"
FRAME_INDEX = "frame_index"

COMPRESSOR: Final = "lz4"
LEVEL = 5

_ABSENT = 2**64 - 1


@dataclass(frozen=True)
class FrameArray:
    """An array that is long along its first dimension, ``leading``: (frames, *tail), sharded along it.

    ``dims`` names the other dimensions; ``chunk`` and ``shard`` count rows. Missing values are NaN in float
    arrays, 0 in others.
    """

    name: str
    tail: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    leading: str = "frame"
    chunk: int = CHUNK_FRAMES
    shard: int = SHARD_FRAMES

    @property
    def kind(self) -> np.dtype[Any]:
        """The dtype as it is stored: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def fill(self) -> float:
        """What a row holds that was never written."""
        return float("nan") if self.kind.kind == "f" else 0


def is_shuffled(dtype: np.dtype[Any]) -> bool:
    """Whether the bytes of a dtype are shuffled before they are compressed: all but single bytes."""
    return dtype.itemsize > 1


def encode_chunk(rows: NDArray[Any]) -> bytes:
    """Encode a whole chunk, C-contiguous and little-endian: blosc, then the crc32c of that."""
    shuffle = blosc.SHUFFLE if is_shuffled(rows.dtype) else blosc.NOSHUFFLE
    body: bytes = blosc.compress(
        rows.reshape(-1), COMPRESSOR.encode(), LEVEL, shuffle, typesize=rows.dtype.itemsize
    )
    return body + google_crc32c.value(body).to_bytes(4, "little")


class ShardEncoder:
    """One shard of an array, encoded while its rows come and written in one piece.

    What is held are the encoded chunks; a shard that is never finished leaves nothing behind.
    """

    def __init__(self, array: FrameArray) -> None:
        self._array = array
        self._rows = np.empty((array.chunk, *array.tail), array.kind)
        self._filled = 0
        self._payloads: list[bytes | memoryview] = []

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows (n, *tail), no more than the shard has room for; copied before this returns."""
        done, chunk = 0, self._array.chunk
        while done < len(rows):
            count = min(len(rows) - done, chunk - self._filled)
            part = rows[done : done + count]
            done += count
            if part.shape == self._rows.shape and part.dtype == self._rows.dtype and part.flags.c_contiguous:
                self._payloads.append(encode_chunk(part))
                continue
            self._rows[self._filled : self._filled + count] = part
            self._filled += count
            if self._filled == chunk:
                self._payloads.append(encode_chunk(self._rows))
                self._filled = 0

    @property
    def at_chunk(self) -> bool:
        """Whether the next row begins a chunk."""
        return not self._filled

    @property
    def to_chunk(self) -> int:
        """Rows until the next chunk begins; 0 where the next row does."""
        return self._array.chunk - self._filled if self._filled else 0

    def add_encoded(self, payload: bytes | memoryview) -> None:
        """Take a whole chunk as it is; only where `at_chunk`."""
        if self._filled:
            raise ValueError(f"found {self._filled} rows of a chunk that is begun, expected none")
        self._payloads.append(payload)

    def write(self, path: Path) -> str:
        """Write the shard's file, see it onto the disk, return its `skelconv.store.digest.file_digest`.

        Its folders are made; what stands at ``path`` is replaced.
        """
        if self._filled:
            self._rows[self._filled :] = self._array.fill
            self._payloads.append(encode_chunk(self._rows))
            self._filled = 0
        return write_shard(path, self._payloads, self._array.shard // self._array.chunk)


def write_shard(path: Path, payloads: Sequence[bytes | memoryview], slots: int) -> str:
    """Write encoded chunks and their index as a shard file of ``slots`` chunks; as `ShardEncoder.write`."""
    index = np.full((slots, 2), _ABSENT, "<u8")
    at = 0
    for number, payload in enumerate(payloads):
        index[number] = (at, len(payload))
        at += len(payload)
    listed = index.tobytes()
    digest = hashlib.blake2b(digest_size=16)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as file:
            for part in (*payloads, listed, google_crc32c.value(listed).to_bytes(4, "little")):
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return digest.hexdigest()
