"""Where the frames of a store go while it is written: into whole shard files, one after another.

A `StoreWriter` says which frames come next and when a shard is full; how they are encoded is behind
`Shards`. `InlineShards` encodes in this process, as the frames come; `skelconv.ingest.pooled` has workers
do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from skelconv.store.encode import FrameArray, ShardEncoder
from skelconv.store.frames import Frames, HeldFrames
from skelconv.store.publish import sync


class Shards(Protocol):
    """Takes the frames of a store in order."""

    def add(self, frames: Frames, start: int, stop: int, shard: int) -> None:
        """Take frames ``start`` to ``stop`` of a sequence as the next ones of shard number ``shard``."""

    def full(self, shard: int, last: bool) -> None:
        """Complete a shard. The ``last`` one may be cut short, and is not told of."""

    def drain(self) -> None:
        """Return when every shard is on disk."""


def shard_file(store: Path, array: FrameArray, number: int) -> Path:
    """Path of a shard of an array."""
    return store.joinpath(array.name, "c", str(number), *("0" for _ in array.tail))


class InlineShards:
    """Encodes frames in this process, chunk by chunk, straight into the files of ``store``.

    ``on_shard`` is called with the digests of a shard's files, by array, after it is on disk and before
    anything of the next one is written.
    """

    def __init__(
        self,
        store: Path,
        arrays: Sequence[FrameArray],
        on_shard: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        self._store = store
        self._arrays = tuple(arrays)
        self._on_shard = on_shard
        self._open: dict[str, ShardEncoder] = {}

    def add(self, frames: Frames, start: int, stop: int, shard: int) -> None:
        """Encode frames that are in memory."""
        if not isinstance(frames, HeldFrames):
            raise TypeError(f"found {type(frames).__name__}, expected frames in memory")
        if not self._open:
            self._open = {array.name: ShardEncoder(array) for array in self._arrays}
        for name, encoder in self._open.items():
            encoder.add(frames.values[name][start:stop])

    def full(self, shard: int, last: bool) -> None:
        """Write the shard's files and see them onto the disk."""
        digests = {}
        encoders, self._open = self._open, {}
        for array in self._arrays:
            file = shard_file(self._store, array, shard)
            digests[array.name] = encoders[array.name].write(file)
            for folder in file.parents:
                sync(folder)
                if folder == self._store:
                    break
        if not last and self._on_shard is not None:
            self._on_shard(digests)

    def drain(self) -> None:
        """Nothing is pending."""
