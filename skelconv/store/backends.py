"""The three ways to read an array of a store, behind one ``read(start, stop)`` and equal bit for bit.

======== ================================================================ =================================
resident whole array in memory, loaded on first use                       fastest; a store that fits in RAM
direct   memory-mapped files through the shard index, no zarr involved    local stores; little memory
zarr     zarr-python                                                      URLs, stores laid out in other ways
======== ================================================================ =================================

``auto`` takes direct for a local array of known layout, and zarr otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from skelconv.store import remote
from skelconv.store.chunk_layout import ChunkLayout, UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError
from skelconv.store.location import Location
from skelconv.store.shards import DirectArray
from skelformats.errors import UnknownNameError

Backend = Literal["auto", "resident", "direct", "zarr"]
BACKENDS: tuple[Backend, ...] = ("auto", "resident", "direct", "zarr")


class ArrayReader(Protocol):
    """One array of shape (N, *tail), read by ranges of its first dimension.

    ``read`` returns a new array that the caller may write to; text comes as Python strings in an object
    array. Ranges must lie within the array; `Store.read` checks them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``, (stop - start, *tail)."""

    def read_all(self) -> NDArray[Any]:
        """Return the whole array."""


def open_array(
    location: Location,
    name: str,
    metadata: Mapping[str, Any],
    backend: Backend = "auto",
    verify: bool = True,
) -> ArrayReader:
    """Open one array of the store at ``location``, whose metadata is known; touches no chunk.

    Parameters
    ----------
    verify
        Check the crc32c of every chunk that is read. zarr always does.

    Raises
    ------
    UnknownNameError
        No such back-end.
    UnknownLayoutError
        ``direct`` was asked for and cannot read this array; says why.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("back-end", str(backend), BACKENDS)
    if backend == "zarr":
        return ZarrArray(location, name, metadata)
    where = f"{location.text}, array {name}"
    if backend == "resident":
        return ResidentArray(open_array(location, name, metadata, "auto", verify))
    try:
        if location.folder is None:
            raise UnknownLayoutError(
                f"{where}: found a URL, expected a folder for the direct back-end. Use backend='zarr'"
            )
        layout = parse_layout(metadata, where)
    except UnknownLayoutError:
        if backend == "direct":
            raise
        return ZarrArray(location, name, metadata)
    return DirectArray(location.folder / name, layout, verify)


class ZarrArray:
    """An array read by zarr-python: about 1 ms a read, but any codec, any layout, any URL."""

    def __init__(self, location: Location, name: str, metadata: Mapping[str, Any]) -> None:
        self.shape = tuple(int(n) for n in metadata["shape"])
        self._location = location
        self._name = name
        self._layout = _complete_layout(metadata)
        self._opened: tuple[int, zarr.Array[Any]] | None = None
        # as zarr has it, which reads the array's own metadata and not the root's copy
        self._text = self._array().dtype.kind in "TOU"
        self.dtype = np.dtype(object) if self._text else self._array().dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``."""
        try:
            values = self._read(start, stop)
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            raise StoreError(
                f"{self._location.text}, array {self._name}: found damage in rows {start} to {stop} "
                f"({error}), expected them as written. Run `skelconv verify`, then fetch or ingest the "
                "store again"
            ) from error
        if not self._text:
            return values
        return np.array([str(text) for text in values.ravel()], object).reshape(values.shape)

    def read_all(self) -> NDArray[Any]:
        """Return the whole array."""
        return self.read(0, self.shape[0])

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        location = self._location
        try:
            values = np.asarray(self._array()[start:stop])
            self._expect_chunks(start, stop, values)
        except StoreError:
            raise
        except Exception as error:  # each protocol's library raises its own kinds
            if location.folder is not None:
                raise
            rows = f"rows {start} to {stop}"
            raise remote.not_read(location.url, self._name, rows, error) from error
        return values

    def _expect_chunks(self, start: int, stop: int, values: NDArray[Any]) -> None:
        """Raise `StoreError` where a file is absent that must be there: zarr takes it for fill value."""
        layout = self._layout
        if layout is None:
            return
        rows = layout.chunk * layout.chunks_a_file
        for file in range(start // rows, -(-stop // rows)) if stop > start else ():
            low, high = max(start, file * rows) - start, min(stop, (file + 1) * rows) - start
            if _is_fill(values[low:high], layout.fill) and not self._exists(layout.key(file)):
                raise StoreError(
                    f"{self._location.text}, array {self._name}: found no file {layout.key(file)}, expected "
                    "a shard or chunk, as every one was stored. Fetch or ingest the store again"
                )

    def _exists(self, key: str) -> bool:
        if self._location.folder is not None:
            return (self._location.folder / self._name / key).exists()
        path = self._array().store_path / key
        return bool(sync(path.store.exists(path.path)))

    def _array(self) -> zarr.Array[Any]:
        # Opened anew in a forked process: connections to remote stores do not survive a fork.
        if self._opened is None or self._opened[0] != os.getpid():
            array = zarr.open_array(self._location.target, path=self._name, mode="r", zarr_format=3)
            self._opened = (os.getpid(), array)
        return self._opened[1]


def _complete_layout(metadata: Mapping[str, Any]) -> ChunkLayout | None:
    """Return the layout of an array of which every chunk is stored, else None."""
    try:
        layout = parse_layout(metadata, "")
    except UnknownLayoutError:
        return None
    return layout if layout.complete else None


def _is_fill(values: NDArray[Any], fill: Any) -> bool:
    if values.dtype.kind == "f" and fill != fill:  # NaN
        return bool(np.isnan(values).all())
    return bool((values == fill).all())


class ResidentArray:
    """An array held in memory; loaded on first use, and shared with processes forked afterwards."""

    def __init__(self, source: ArrayReader) -> None:
        self.shape = source.shape
        self.dtype = source.dtype
        self._source = source
        self._values: NDArray[Any] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of rows ``start`` to ``stop``."""
        return self.read_all()[start:stop].copy()

    def read_all(self) -> NDArray[Any]:
        """Return the array itself, not a copy of it: who writes to it changes what is read."""
        if self._values is None:
            self._values = self._source.read_all()
        return self._values
