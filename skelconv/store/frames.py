"""Where the frames of a sequence lie until they are encoded: in memory, or in a spool file beside the store.

A worker that parsed sources leaves their frames in a spool file, and another one encodes whole shards from
such files: frames pass neither through a pipe nor through the process that keeps the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skelconv.store.encode import FrameArray

BLOCK_FRAMES = 4096
"""Frames that are read from a spool file at once: a multiple of every chunk's."""


class Frames(Protocol):
    """The frames of one sequence, in the dtypes of the store or such as can be assigned to them."""

    @property
    def count(self) -> int:
        """Number of frames."""


@dataclass(frozen=True, eq=False)
class HeldFrames:
    """Frames in memory: each array's rows (count, ...), by its name."""

    values: Mapping[str, NDArray[Any]]
    count: int


@dataclass(frozen=True)
class Spool:
    """A file of the frames of several sequences: array after array, rows as the store has them."""

    path: Path
    offsets: Mapping[str, int]

    def read(self, array: FrameArray, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield rows ``start`` to ``stop`` of an array, in blocks."""
        row = row_bytes(array)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offsets[array.name] + start * row)
            for first in range(start, stop, BLOCK_FRAMES):
                block = np.empty((min(BLOCK_FRAMES, stop - first), *array.tail), array.kind)
                _read_whole(file, block.reshape(-1).view(np.uint8).data, self.path)
                yield block


@dataclass(frozen=True)
class SpooledFrames:
    """Frames in a spool file, from its frame ``first`` on."""

    spool: Spool
    first: int
    count: int


def write_spool(
    path: Path, arrays: Sequence[FrameArray], sequences: Sequence[HeldFrames]
) -> list[SpooledFrames]:
    """Write the frames of several sequences as one file; raises `OSError` with its path."""
    total, at = sum(frames.count for frames in sequences), 0
    offsets = {}
    for array in arrays:
        offsets[array.name] = at
        at += total * row_bytes(array)
    try:
        with path.open("wb") as file:
            for array in arrays:
                for frames in sequences:
                    file.write(_rows(frames, array).data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    spool, first, spooled = Spool(path, offsets), 0, []
    for frames in sequences:
        spooled.append(SpooledFrames(spool, first, frames.count))
        first += frames.count
    return spooled


def row_bytes(array: FrameArray) -> int:
    """Bytes of one frame of an array."""
    return array.kind.itemsize * int(np.prod(array.tail, dtype=np.int64))


def _rows(frames: HeldFrames, array: FrameArray) -> NDArray[Any]:
    values = frames.values[array.name]
    if values.dtype == array.kind and values.shape == (frames.count, *array.tail):
        return np.ascontiguousarray(values)
    rows = np.empty((frames.count, *array.tail), array.kind)
    rows[...] = values
    return rows


def _read_whole(file: Any, room: memoryview, path: Path) -> None:
    done = 0
    while done < len(room):
        count = file.readinto(room[done:])
        if not count:
            raise OSError(0, "found a spool file that ends early, expected what was written", str(path))
        done += count
