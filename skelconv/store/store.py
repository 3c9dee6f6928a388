"""Reading a sequence store: `open_store` and `Store`. docs/store.md specifies what is read.

The store needs no help from here to be read: plain zarr, ``xarray.open_zarr`` and pandas do. This is the
short way to a table, a sequence, a recording, and the fast one to random reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.backends import ArrayReader, Backend, open_array
from skelconv.store.info import StoreError, StoreInfo
from skelconv.store.location import Location, locate, read_metadata
from skelconv.store.metadata_checks import check_roles
from skelconv.store.recording import Recording, Sequence
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton

PARTS = ("train", "test", "val")
"""What a split column may hold, besides nothing."""

_NAME = "sequence"
_FEW_NAMES = 200
_OF_ONE_BODY = (_NAME, "start", "length", "body", "digest")


class OutOfRangeError(StoreError, IndexError):
    """A sequence number or a range of frames that the store does not have."""


def open_store(path: str | Path, backend: Backend = "auto", verify: bool = True) -> Store:
    """Open a sequence store; exported as ``skelconv.open``.

    Only metadata is read; table and arrays are read when they are first asked for.

    Parameters
    ----------
    path
        Folder of the store, or a URL that fsspec knows (``s3://``, ``https://``, ...).
    backend
        How arrays are read; the values are the same, bit for bit:

        - ``auto``: ``direct`` for a local store, ``zarr`` for a URL or an array laid out in another way.
        - ``direct``: memory-mapped files, little memory, many times zarr's rate at random access.
        - ``zarr``: zarr-python.
        - ``resident``: each array is loaded whole on first use. Load before forking workers, and they
          share it; a spawned worker loads its own.
    verify
        Check the crc32c of every chunk that is read, which costs a few percent of the time. False leaves
        chunks unchecked (but by the back-end ``zarr``); that of a shard's index is always checked.

    Raises
    ------
    StoreError
        There is no store, or an unfinished one, or one of another kind or version, or a damaged one.
    UnknownNameError
        No such back-end.
    """
    return Store(path, backend, verify)


class Store:
    """A sequence store: N sequences along one long array of frames, and their table.

    ``store[3]`` and ``store["S001C001P001R001A001_b0"]`` are sequences, iteration gives all in store order.
    Pickles as path, back-end and ``verify`` only; safe in forked and in spawned DataLoader workers, whatever
    was read before.

    Attributes
    ----------
    path
        As it was given.
    backend
        As it was asked for.
    verify
        Whether checksums of chunks are checked when they are read.
    info
        The root attribute: dataset, licence, skeleton, axes, provenance.
    skeleton
        The joint layout, as the store embeds it.
    """

    def __init__(self, path: str | Path, backend: Backend = "auto", verify: bool = True) -> None:
        self.path = path
        self.backend: Backend = backend
        self.verify = verify
        self._location: Location = locate(path)
        metadata = read_metadata(self._location)
        self.info = StoreInfo.from_attributes(metadata.attributes.get(schema.ATTRIBUTE), str(path))
        if self.info.kind != "sequences":
            raise StoreError(
                f"{path}: found an S2I store, expected a sequence store. Open it with "
                "skelconv.s2i.read.open_s2i or xarray.open_zarr, or give the store that it was encoded from"
            )
        self._metadata: Mapping[str, Mapping[str, Any]] = metadata.arrays
        self._readers: dict[str, ArrayReader] = {}
        check_roles(metadata.arrays, str(path))
        try:
            self.skeleton: Skeleton = self.info.layout()
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from error
        self._reader(schema.POSITION)

    def __repr__(self) -> str:
        made = self.info.provenance
        return (
            f"<skelconv.Store {str(self.path)!r}: {self.info.dataset.name}, {len(self):,} sequences in "
            f"{made.recordings:,} recordings, {self.frames:,} frames of {self.skeleton.name}, {self.backend}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        folder = self._location.folder
        return Store, (self.path if folder is None else folder, self.backend, self.verify)

    def __len__(self) -> int:
        return int(self._metadata[_NAME]["shape"][0])

    def __contains__(self, name: object) -> bool:
        return name in self._row_of

    def __iter__(self) -> Iterator[Sequence]:
        return (self.sequence(number) for number in range(len(self)))

    def __getitem__(self, key: int | str) -> Sequence:
        return self.sequence(key)

    @property
    def folder(self) -> Path | None:
        """The store's folder; None where it is read from a URL."""
        return self._location.folder

    @property
    def frames(self) -> int:
        """Number of frames of all sequences: the length of the dimension ``frame``."""
        return int(self._metadata[schema.POSITION]["shape"][0])

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays along ``frame``: position, frame_index, and those that this store has."""
        return tuple(name for name in self._metadata if self._leading(name) == "frame")

    @property
    def columns(self) -> set[str]:
        """Names of the arrays that make the table, ``sequence`` among them."""
        return {
            name
            for name in self._metadata
            if self._leading(name) == _NAME and len(self._metadata[name]["shape"]) == 1
        }

    @property
    def all_arrays(self) -> tuple[str, ...]:
        """Names of all arrays of the store, sorted."""
        return tuple(sorted(self._metadata))

    @property
    def array_columns(self) -> tuple[str, ...]:
        """Names of the columns that hold a small array in each row, such as ``betas``; see `array`."""
        return tuple(
            sorted(
                name
                for name in self._metadata
                if self._leading(name) == _NAME and len(self._metadata[name]["shape"]) > 1
            )
        )

    @property
    def names(self) -> list[str]:
        """Ids of the sequences in store order."""
        names: list[str] = self._columns[_NAME]
        return names

    def to_frame(self) -> pd.DataFrame:
        """Return the table: a row a sequence in store order, indexed by id; text as pandas strings.

        Columns that hold arrays are not in it: `array` reads them whole, `sequence` a row of them.
        """
        return self._frame.copy(deep=False)

    def table(self, name: str) -> pd.DataFrame:
        """Return a side table, such as ``interval`` or ``calibration``, a row an entry; columns by name.

        A column that holds arrays comes as an object column of numpy arrays.

        Raises
        ------
        UnknownNameError
            The store has no such table; `StoreInfo.tables` describes those that it has.
        """
        if name not in self.info.tables:
            raise UnknownNameError("side table", name, tuple(self.info.tables))
        columns = {
            column: self.array(array) for column, array in sorted(side_columns(name, self._metadata).items())
        }
        if len({len(values) for values in columns.values()}) > 1:
            raise StoreError(
                f"{self.path}: found columns of different lengths in the side table {name!r}, expected one. "
                "Fetch or ingest the store again"
            )
        return pd.DataFrame({column: _as_column(values) for column, values in columns.items()})

    def array(self, name: str) -> NDArray[Any]:
        """Return any array of the store, whole: along frame, a column of any shape, labels; text as objects.

        Raises
        ------
        UnknownNameError
            The store has no such array.
        """
        if name not in self._metadata:
            raise UnknownNameError("array", name, self.all_arrays)
        return self._reader(name).read_all()

    def metadata(self, name: str) -> Mapping[str, Any]:
        """Return an array's zarr metadata (data type, shape, dimension names, attributes)."""
        if name not in self._metadata:
            raise UnknownNameError("array", name, self.all_arrays)
        return self._metadata[name]

    def reader(self, name: str) -> ArrayReader:
        """Return what reads an array along frame, chunk by chunk; raises `UnknownNameError`."""
        return self._frame_reader(name)

    def sequence(self, key: int | str) -> Sequence:
        """Read one sequence, by its number (negative ones count from the end) or its id.

        Raises
        ------
        OutOfRangeError
            No sequence has this number.
        UnknownNameError
            No sequence has this id.
        """
        number = self._number(key)
        row = self._row(number)
        start, stop = row["start"], row["start"] + row["length"]
        values = {name: self.read(start, stop, name) for name in self.arrays}
        return Sequence(
            name=row.pop(_NAME),
            body=row["body"],
            frame_index=values.pop(schema.FRAME_INDEX),
            position=values.pop(schema.POSITION),
            confidence=values.pop(schema.CONFIDENCE, None),
            extras=values,
            row=row,
        )

    def recording(self, name: str) -> Recording:
        """Read one recording with all its bodies, in the order of the table.

        Its ``row`` holds the columns that are the same for all its bodies.

        Raises
        ------
        UnknownNameError
            The store has no recording of this name with a body in it.
        """
        numbers = self._recording_rows.get(name)
        if numbers is None:
            raise UnknownNameError("recording", name, near_names(name, list(self._recording_rows)))
        bodies = tuple(self.sequence(number) for number in numbers)
        first, *others = (body.row for body in bodies)
        shared = {
            column: value
            for column, value in first.items()
            if column not in _OF_ONE_BODY and all(_equal(row[column], value) for row in others)
        }
        return Recording(name, int(first["recording_length"]), bodies, shared)

    def recordings(self) -> Iterator[Recording]:
        """Read one recording after another, in store order."""
        return (self.recording(name) for name in self._recording_rows)

    def recording_names(self) -> list[str]:
        """Names of the recordings in store order."""
        return list(self._recording_rows)

    def read(self, start: int, stop: int, array: str = schema.POSITION) -> NDArray[Any]:
        """Return frames ``start`` to ``stop`` of an array, (stop - start, ...), as a new array.

        Raises
        ------
        OutOfRangeError
            The range does not lie within the store's frames.
        UnknownNameError
            No such array.
        StoreError
            The array is damaged there.
        """
        reader = self._frame_reader(array)
        if not 0 <= start <= stop <= reader.shape[0]:
            raise OutOfRangeError(
                f"{self.path}: found the range {start} to {stop}, expected one within its {reader.shape[0]} "
                "frames"
            )
        return reader.read(int(start), int(stop))

    def load(self, arrays: tuple[str, ...] = (schema.POSITION,)) -> dict[str, NDArray[Any]]:
        """Return whole arrays in memory, by name; a resident store gives the arrays it holds itself."""
        return {name: self._frame_reader(name).read_all() for name in arrays}

    def select(self, protocol: str, part: str) -> NDArray[np.intp]:
        """Return the numbers of the sequences in one part of an official split.

        Raises
        ------
        UnknownNameError
            The store has no such protocol, or ``part`` is not train, test or val.
        """
        if part not in PARTS:
            raise UnknownNameError("part of a split", part, PARTS)
        return np.flatnonzero(self._split(protocol) == part)

    def leaked(self, protocol: str) -> pd.Series[bool]:
        """Return, for each sequence, whether it is a test sequence whose motion is also in the training set.

        Motions are equal when their digests are. Raises `UnknownNameError` for an unknown protocol.
        """
        part = self._split(protocol)
        digest = np.array(self._columns["digest"], object)
        # a set, since numpy compares objects one by one
        train = set(digest[part == "train"].tolist())
        leaked = (part == "test") & np.fromiter((one in train for one in digest), bool, len(digest))
        return pd.Series(leaked, index=self._frame.index, name="leaked")

    def _reader(self, name: str) -> ArrayReader:
        reader = self._readers.get(name)
        if reader is None:
            # the table is kept as columns anyway, so it is never loaded twice
            along_frame = self._leading(name) == "frame"
            backend = "auto" if self.backend == "resident" and not along_frame else self.backend
            reader = open_array(self._location, name, self._metadata[name], backend, self.verify)
            self._readers[name] = reader
        return reader

    def _frame_reader(self, name: str) -> ArrayReader:
        if name not in self._readers and name not in self.arrays:
            raise UnknownNameError("array along frame", name, self.arrays)
        return self._reader(name)

    def _leading(self, name: str) -> str | None:
        """Name of the first dimension of an array."""
        dims = self._metadata[name].get("dimension_names") or (None,)
        leading: str | None = dims[0]
        return leading

    @cached_property
    def _columns(self) -> dict[str, Any]:
        """Table columns by name: a list for text, an array for numbers; the id first."""
        columns: dict[str, Any] = {}
        for name in sorted(self.columns, key=_rank):
            values = self._reader(name).read_all()
            columns[name] = values.tolist() if values.dtype == object else values
            if len(values) != len(self):
                raise StoreError(
                    f"{self.path}: found {len(values)} rows in column {name!r}, expected {len(self)}. "
                    "Fetch or ingest the store again"
                )
        return columns

    @cached_property
    def _array_columns(self) -> dict[str, NDArray[Any]]:
        """Columns of arrays by name, each (N, ...)."""
        return {name: self.array(name) for name in self.array_columns}

    @cached_property
    def _frame(self) -> pd.DataFrame:
        columns = {
            name: pd.array(values, dtype="string") if isinstance(values, list) else values
            for name, values in self._columns.items()
        }
        return pd.DataFrame(columns).set_index(_NAME)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def _recording_rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for number, name in enumerate(self._columns["recording"]):
            rows.setdefault(name, []).append(number)
        return rows

    def _row(self, number: int) -> dict[str, Any]:
        row = {
            name: values[number] if isinstance(values, list) else values[number].item()
            for name, values in self._columns.items()
        }
        return row | {name: values[number].copy() for name, values in self._array_columns.items()}

    def _number(self, key: int | str) -> int:
        if isinstance(key, str):
            number = self._row_of.get(key)
            if number is None:
                raise UnknownNameError("sequence", key, near_names(key, self.names))
            return number
        number = key + len(self) if key < 0 else key
        if not 0 <= number < len(self):
            raise OutOfRangeError(f"{self.path}: found sequence number {key}, expected below {len(self)}")
        return int(number)

    def _split(self, protocol: str) -> NDArray[np.object_]:
        prefix = schema.split_column("")
        column = self._columns.get(schema.split_column(protocol))
        if column is None:
            known = tuple(name.removeprefix(prefix) for name in self._columns if name.startswith(prefix))
            raise UnknownNameError("protocol", protocol, known)
        return np.array(column, object)


def side_columns(table: str, arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns of a side table, name to array, among arrays with their metadata."""
    prefix = f"{table}_"
    return {
        name.removeprefix(prefix): name
        for name, node in arrays.items()
        if name.startswith(prefix) and (node.get("dimension_names") or (None,))[0] == table
    }


def _as_column(values: NDArray[Any]) -> Any:
    """Return an array's rows as a column of a DataFrame."""
    if values.ndim > 1:
        rows = np.empty(len(values), object)
        rows[:] = list(values)
        return rows
    return pd.array(values.tolist(), dtype="string") if values.dtype == object else values


def _equal(one: Any, other: Any) -> bool:
    """Whether two cells are the same; a NaN equals a NaN."""
    if isinstance(one, float | np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    return bool(one == other)


def _rank(column: str) -> tuple[int, str]:
    """Sort key of columns: those of every store in their order, the dataset's own, the splits."""
    order = [_NAME, *(base.name for base in schema.BASE_COLUMNS)]
    if column in order:
        return order.index(column), ""
    return len(order) + column.startswith(schema.split_column("")), column


def near_names(name: str, names: list[str]) -> tuple[str, ...]:
    """Return all names when they are few, else those around ``name`` in the alphabet.

    Looking for the most similar among 100,000 names takes seconds; those that begin alike are next to it.
    """
    if len(names) <= _FEW_NAMES:
        return tuple(names)
    ordered = sorted(names)
    at = bisect_left(ordered, name)
    return tuple(ordered[max(0, at - _FEW_NAMES // 2) : at + _FEW_NAMES // 2])
