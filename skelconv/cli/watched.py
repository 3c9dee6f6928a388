"""Stores that show how much of them has been read, for verbs that read each frame once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from skelconv.cli.command import progress
from skelconv.store import schema
from skelconv.store.store import Store


class WatchedStore(Store):
    """A store that tells, at each read of `frame_index`, how many frames were read."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.told: Callable[[int], None] = lambda frames: None

    def read(self, start: int, stop: int, array: str = schema.POSITION) -> NDArray[Any]:
        """Return frames of an array, as `Store.read`."""
        values = super().read(start, stop, array)
        if array == schema.FRAME_INDEX:
            self.told(len(values))
        return values


@contextmanager
def watched(paths: Sequence[str | Path], quiet: bool = False) -> Iterator[list[WatchedStore]]:
    """Open stores and show, while the block runs, how many of their frames have been read.

    Raises
    ------
    StoreError
        A store cannot be opened.
    """
    stores = [WatchedStore(path) for path in paths]
    with progress(sum(store.frames for store in stores), "frames", 0, quiet) as advance:
        for store in stores:
            store.told = lambda frames: advance(frames, 0)
        yield stores
