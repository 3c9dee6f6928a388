"""Reading a sequence store: `open_store` and `Store`. docs/store.md specifies what is read.

The store needs no help from here to be read: plain zarr, ``xarray.open_zarr`` and pandas do. This is the
short way to a table, a sequence, a recording, and the fast one to random reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.backends import ArrayReader, Backend, open_array
from skelconv.store.cells import as_column, column_rank, equal_cells, near_names, side_columns
from skelconv.store.info import OutOfRangeError, StoreError, StoreInfo
from skelconv.store.integrity import STORED
from skelconv.store.labels import Labels
from skelconv.store.location import Location, locate, read_metadata
from skelconv.store.markup import table
from skelconv.store.metadata_checks import check_roles
from skelconv.store.recording import Recording, Sequence
from skelconv.store.selection import Many, Selection, numbers_of
from skelconv.store.stored import Row, stored_sequence
from skelconv.store.windows import Short, Windows
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton

PARTS = ("train", "test", "val")
"""What a split column may hold, besides nothing."""

_NAME = "sequence"
_OF_ONE_BODY = (_NAME, "start", "length", "body", "digest")


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

    ``store[3]`` and ``store["S001C001P001R001A001_b0"]`` are sequences, iteration gives all in store order;
    ``store[0:3]``, ``store[[1, 2]]``, ``store[store.select("xsub", "train")]`` and masks are selections.
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
        self._frame_readers: dict[str, ArrayReader] = {}
        self._array_columns: dict[str, NDArray[Any]] = {}
        check_roles(metadata.arrays, str(path))
        try:
            self.skeleton: Skeleton = self.info.layout()
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from error
        self._count = int(metadata.arrays[_NAME]["shape"][0])
        self._reader(schema.POSITION)

    def __repr__(self) -> str:
        made = self.info.provenance
        return (
            f"<skelconv.Store {str(self.path)!r}: {self.info.dataset.name}, {len(self):,} sequences in "
            f"{made.recordings:,} recordings, {self.frames:,} frames of {self.skeleton.name}, {self.backend}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "dataset": self.info.dataset.title,
            "sequences": f"{len(self):,} in {self.info.provenance.recordings:,} recordings",
            "frames": f"{self.frames:,}",
            "layout": f"{self.skeleton.name}, {len(self.skeleton)} joints",
            "arrays": ", ".join(self.arrays),
            "columns": ", ".join(sorted(self.columns, key=column_rank)),
            "splits": ", ".join(self.info.protocols) or "none",
            "licence": self.info.dataset.licence,
        }
        return table(f"skelconv.Store {self.path}", facts)

    def __reduce__(self) -> tuple[Any, ...]:
        folder = self._location.folder
        return Store, (self.path if folder is None else folder, self.backend, self.verify)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        return name in self._row_of

    def __iter__(self) -> Iterator[Sequence]:
        return (self.sequence(number) for number in range(len(self)))

    @overload
    def __getitem__(self, key: int | str) -> Sequence: ...

    @overload
    def __getitem__(self, key: Many) -> Selection: ...

    def __getitem__(self, key: int | str | Many) -> Sequence | Selection:
        if type(key) is int or isinstance(key, str | np.integer):
            return self.sequence(key)
        return Selection(self, numbers_of(key, len(self), self.number, str(self.path)))

    @property
    def folder(self) -> Path | None:
        """The store's folder; None where it is read from a URL."""
        return self._location.folder

    @property
    def frames(self) -> int:
        """Number of frames of all sequences: the length of the dimension ``frame``."""
        return int(self._metadata[schema.POSITION]["shape"][0])

    @cached_property
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

    @cached_property
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
        return pd.DataFrame({column: as_column(values) for column, values in columns.items()})

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
        """Return one sequence, by its number (negative ones count from the end) or its id.

        Its arrays and its row are read when they are first looked at, each by itself.

        Raises
        ------
        OutOfRangeError
            No sequence has this number.
        UnknownNameError
            No sequence has this id.
        """
        return stored_sequence(self, self.number(key))

    def numbers(self, key: Many) -> NDArray[np.intp]:
        """Return the numbers of several sequences, named by a slice, numbers, ids, or a mask of bools.

        A mask with the ids as its index, as ``to_frame().length > 60`` gives, goes by id in whatever order it
        stands; the index of a frame, or a frame, are ids.

        Raises
        ------
        OutOfRangeError
            No sequence has one of the numbers, or a mask is not one bool a sequence.
        UnknownNameError
            No sequence has one of the ids.
        StoreError
            The key is none of these.
        """
        return numbers_of(key, len(self), self.number, str(self.path))

    def number(self, key: int | str) -> int:
        """Return the number, counted from 0, of a sequence by its id or its number; negative ones count back.

        Raises what `sequence` raises.
        """
        if isinstance(key, str):
            number = self._row_of.get(key)
            if number is None:
                raise UnknownNameError("sequence", key, near_names(key, self.names))
            return number
        number = key + len(self) if key < 0 else key
        if not 0 <= number < len(self):
            raise OutOfRangeError(f"{self.path}: found sequence number {key}, expected below {len(self)}")
        return int(number)

    def windows(self, length: int, stride: int | None = None, short: Short = "fill") -> Windows:
        """Return stretches of ``length`` frames of every sequence, ``stride`` apart; see `Windows`.

        ``store[...].windows(...)`` gives those of a part of the store.
        """
        return Windows(self, np.arange(len(self)), length, stride, short)

    def row(self, key: int | str) -> Row:
        """Return a sequence's row of the table; its cells are looked up when they are asked for.

        Raises what `sequence` raises, and `UnknownNameError` for a column that is not there.
        """
        return Row(self._cells, self.array_columns, self._array_column, self.number(key))

    def recording(self, name: str) -> Recording:
        """Return one recording with all its bodies, in the order of the table.

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
            if column not in _OF_ONE_BODY and all(equal_cells(row[column], value) for row in others)
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
        reader = self._frame_readers.get(array) or self._frame_reader(array)
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
        if name not in self.arrays:
            raise UnknownNameError("array along frame", name, self.arrays)
        reader = self._frame_readers[name] = self._reader(name)
        return reader

    def _leading(self, name: str) -> str | None:
        """Name of the first dimension of an array."""
        dims = self._metadata[name].get("dimension_names") or (None,)
        leading: str | None = dims[0]
        return leading

    @cached_property
    def _columns(self) -> dict[str, Any]:
        """Table columns by name: a list for text, an array for numbers; the id first."""
        columns: dict[str, Any] = {}
        for name in sorted(self.columns, key=column_rank):
            values = self._reader(name).read_all()
            columns[name] = values.tolist() if values.dtype == object else values
            if len(values) != len(self):
                raise StoreError(
                    f"{self.path}: found {len(values)} rows in column {name!r}, expected {len(self)}. "
                    "Fetch or ingest the store again"
                )
        return columns

    @cached_property
    def _cells(self) -> dict[str, Any]:
        return {name: values for name, values in self._columns.items() if name != _NAME}

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """First frame of each sequence, and the one after its last, along the dimension ``frame``."""
        start, length = self._columns["start"], self._columns["length"]
        return list(zip(start.tolist(), (start + length).tolist(), strict=True))

    @cached_property
    def labels(self) -> Labels:
        """What the arrays along frame hold: names of joints and axes, units, frames a second."""
        nodes = {name: self._metadata[name] for name in self.arrays}
        dims = {name: tuple(map(str, node["dimension_names"][1:])) for name, node in nodes.items()}
        labelled = {dim for one in dims.values() for dim in one if dim in self._metadata}
        coords = {dim: tuple(map(str, self.array(dim))) for dim in sorted(labelled)}
        attributes = {
            name: {key: value for key, value in (node.get("attributes") or {}).items() if key != STORED}
            for name, node in nodes.items()
        }
        return Labels(self.skeleton.name, self.info.frame_rate, dims, coords, attributes)

    def _array_column(self, name: str) -> NDArray[Any]:
        values = self._array_columns.get(name)
        if values is None:
            values = self._array_columns[name] = self.array(name)
        return values

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

    def _split(self, protocol: str) -> NDArray[np.object_]:
        prefix = schema.split_column("")
        column = self._columns.get(schema.split_column(protocol))
        if column is None:
            known = tuple(name.removeprefix(prefix) for name in self._columns if name.startswith(prefix))
            raise UnknownNameError("protocol", protocol, known)
        return np.array(column, object)
