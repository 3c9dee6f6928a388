"""A sequence of a store whose arrays and row are read when they are looked at.

``store[i].position`` reads the positions and nothing else: the name, the frame numbers, the other arrays
and the row of the table wait until somebody asks for them, and are kept from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.markup import short, table
from skelconv.store.recording import Sequence
from skelformats.errors import UnknownNameError

if TYPE_CHECKING:
    from skelconv.store.store import Store


class Row(Mapping[str, Any]):
    """One row of the table, by column name; a cell is taken from its column when it is looked at.

    Numbers are Python's; a column of arrays gives a new array each time.

    Parameters
    ----------
    columns
        Decoded columns but the id: a list for text, an array for numbers, each of N cells.
    array_columns
        Names of the columns that hold arrays.
    array
        Returns such a column whole, (N, ...).
    number
        Which row.
    """

    __slots__ = ("_array", "_array_columns", "_columns", "_number")

    def __init__(
        self,
        columns: Mapping[str, Any],
        array_columns: tuple[str, ...],
        array: Callable[[str], NDArray[Any]],
        number: int,
    ) -> None:
        self._columns = columns
        self._array_columns = array_columns
        self._array = array
        self._number = number

    def __getitem__(self, name: str) -> Any:
        values = self._columns.get(name)
        if values is None:
            if name not in self._array_columns:
                raise UnknownNameError("column", str(name), tuple(self))
            return self._array(name)[self._number].copy()
        return values[self._number] if isinstance(values, list) else values[self._number].item()

    def __iter__(self) -> Iterator[str]:
        yield from self._columns
        yield from self._array_columns

    def __len__(self) -> int:
        return len(self._columns) + len(self._array_columns)

    def __repr__(self) -> str:
        cells = (
            f"{name}={short(value) if isinstance(value, np.ndarray) else repr(value)}"
            for name, value in self.items()
        )
        return f"Row({', '.join(cells)})"

    def _repr_html_(self) -> str:
        return table("Row", self)


class _WhenRead:
    """A field that is read on first use. What was read replaces it: the instance's own value comes first."""

    def __init__(self, read: Callable[[Store, int], Any]) -> None:
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, sequence: Sequence | None, owner: type) -> Any:
        if sequence is None:
            return self
        kept = sequence.__dict__
        value = kept[self._name] = self._read(kept["_store"], kept["_number"])
        return value


def _frames(array: str) -> Callable[[Store, int], Any]:
    def read(store: Store, number: int) -> Any:
        start, stop = store.bounds[number]
        return store.read(start, stop, array)

    return read


def _confidence(store: Store, number: int) -> Any:
    if schema.CONFIDENCE not in store.arrays:
        return None
    return _frames(schema.CONFIDENCE)(store, number)


def _extras(store: Store, number: int) -> Any:
    base = (schema.POSITION, schema.FRAME_INDEX, schema.CONFIDENCE)
    return {name: _frames(name)(store, number) for name in store.arrays if name not in base}


class StoredSequence(Sequence):
    """A `Sequence` of a store, read as far as it is looked at. Pickles, and is replaced, as what it holds.

    Reading raises `StoreError` where the store is damaged, when the damaged array is looked at.
    """

    if not TYPE_CHECKING:  # to a type checker these are the fields of `Sequence`
        name = _WhenRead(lambda store, number: store.names[number])
        body = _WhenRead(lambda store, number: store.row(number)["body"])
        frame_index = _WhenRead(_frames(schema.FRAME_INDEX))
        position = _WhenRead(_frames(schema.POSITION))
        confidence = _WhenRead(_confidence)
        extras = _WhenRead(_extras)
        row = _WhenRead(lambda store, number: store.row(number))
        labels = _WhenRead(lambda store, number: store.labels)

    def __len__(self) -> int:
        if "_store" not in self.__dict__:
            return super().__len__()
        start, stop = self.__dict__["_store"].bounds[self.__dict__["_number"]]
        return int(stop - start)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.name, self.body, self.frame_index, self.position, self.confidence, self.extras)
        return Sequence, (*fields, dict(self.row), self.labels)


def stored_sequence(store: Store, number: int) -> Sequence:
    """Return the sequence of a row of ``store``, of which nothing is read yet."""
    sequence = object.__new__(StoredSequence)
    kept = sequence.__dict__
    kept["_store"] = store
    kept["_number"] = number
    return sequence
