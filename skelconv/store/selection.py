"""Several sequences of a store at once: by slice, numbers, ids, or a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store.info import OutOfRangeError, StoreError
from skelconv.store.markup import rows
from skelconv.store.windows import Short, Windows

if TYPE_CHECKING:
    from skelconv.store.recording import Sequence
    from skelconv.store.store import Store

Many: TypeAlias = (
    "slice | range | list[Any] | tuple[Any, ...] | NDArray[Any] | pd.Series[Any] | pd.Index[Any]"
    " | pd.DataFrame"
)
"""What names several sequences."""

_SHOWN = 10


class Selection:
    """Sequences of a store in an order of their own; each is read as far as it is looked at.

    ``selection[3]`` is its fourth sequence, and slices, numbers and masks count within it. Pickles as the
    store does, with the numbers.

    Attributes
    ----------
    store
        The store that the sequences are of.
    numbers
        (N,) intp: their numbers in it.
    """

    def __init__(self, store: Store, numbers: NDArray[np.intp]) -> None:
        self.store = store
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Sequence]:
        return (self.store.sequence(int(number)) for number in self.numbers)

    @overload
    def __getitem__(self, key: int | str) -> Sequence: ...

    @overload
    def __getitem__(self, key: Many) -> Selection: ...

    def __getitem__(self, key: int | str | Many) -> Sequence | Selection:
        if type(key) is int or isinstance(key, str | np.integer):
            return self.store.sequence(int(self.numbers[self._place(key)]))
        return Selection(self.store, self.numbers[numbers_of(key, len(self), self._place, repr(self))])

    def __repr__(self) -> str:
        return (
            f"<skelconv.Selection: {len(self):,} of the {len(self.store):,} sequences of {self.store.path}>"
        )

    def _repr_html_(self) -> str:
        columns = ("number", "name", "frames", "action")
        lines: list[list[Any]] = []
        for number in self.numbers[:_SHOWN].tolist():
            one = self.store.sequence(number)
            lines.append([number, one.name, len(one), one.row["action"]])
        if len(self) > _SHOWN:
            lines.append(["...", "", "", ""])
        return rows(f"{len(self):,} of {len(self.store):,} sequences", columns, lines)

    @property
    def names(self) -> list[str]:
        """Ids of the sequences, in the selection's order."""
        names = self.store.names
        return [names[number] for number in self.numbers]

    def to_frame(self) -> pd.DataFrame:
        """Return the table's rows of these sequences, in the selection's order."""
        return self.store.to_frame().iloc[self.numbers]

    def windows(self, length: int, stride: int | None = None, short: Short = "fill") -> Windows:
        """Return stretches of ``length`` frames of each sequence, ``stride`` apart; see `Windows`."""
        return Windows(self.store, self.numbers, length, stride, short)

    def _place(self, key: int | str) -> int:
        """Where a sequence stands in the selection."""
        number = self.store.number(key) if isinstance(key, str) else None
        if number is not None:
            found = np.flatnonzero(self.numbers == number)
            if not len(found):
                raise OutOfRangeError(f"{self!r}: found the id {key!r}, expected one of a selected sequence")
            return int(found[0])
        place = int(key)
        if not -len(self) <= place < len(self):
            raise OutOfRangeError(f"{self!r}: found number {place}, expected below {len(self)}")
        return place


def numbers_of(key: Any, count: int, number: Callable[[Any], int], where: str) -> NDArray[np.intp]:
    """Return the numbers that a key names among ``count`` sequences.

    Parameters
    ----------
    number
        Number of one sequence, by its number or its id; raises where there is none.
    where
        What is asked, for messages.

    Raises
    ------
    OutOfRangeError
        A number that is out of range, or a mask that is not one bool a sequence.
    StoreError
        The key is nothing that names sequences.
    """
    if isinstance(key, slice):
        return _slice(key, count, where)
    if isinstance(key, pd.DataFrame):
        key = key.index
    if isinstance(key, pd.Series) and pd.api.types.is_bool_dtype(key) and _holds_text(key.index):
        chosen = key.index[key.to_numpy(dtype=bool, na_value=False)]
        return np.sort(np.array([number(name) for name in chosen], np.intp))
    values = _as_array(key, where)
    if values.dtype.kind == "b":
        if len(values) != count:
            raise OutOfRangeError(
                f"{where}: found a mask of {len(values)}, expected one bool for each of {count} sequences"
            )
        return np.flatnonzero(values)
    if values.dtype.kind in "iu":
        wrong = values[(values < -count) | (values >= count)]
        if len(wrong):
            raise OutOfRangeError(f"{where}: found sequence number {wrong[0]}, expected below {count}")
        return np.where(values < 0, values + count, values).astype(np.intp)
    return np.array([number(name) for name in values.tolist()], np.intp)


def _slice(key: slice, count: int, where: str) -> NDArray[np.intp]:
    try:
        return np.arange(count, dtype=np.intp)[key]
    except (TypeError, ValueError) as error:
        raise StoreError(f"{where}: found {key}, expected a slice of whole numbers such as [0:3]") from error


def _as_array(key: Any, where: str) -> NDArray[Any]:
    """Return a key as a one-dimensional array of bools, integers or text."""
    expected = "a number, an id, a slice, a mask of bools, or a list of numbers or of ids"
    if isinstance(key, pd.Series | pd.Index) and pd.api.types.is_bool_dtype(key):
        return key.to_numpy(dtype=bool, na_value=False)
    if not isinstance(key, list | tuple | range | np.ndarray | pd.Series | pd.Index):
        raise StoreError(f"{where}: found {key!r} of type {type(key).__name__}, expected {expected}")
    values = np.asarray(key)
    if values.ndim != 1:
        raise StoreError(f"{where}: found an array of shape {values.shape}, expected {expected}")
    if not len(values):
        return np.zeros(0, np.intp)
    text = values.dtype.kind in "OUT" and all(isinstance(value, str) for value in values.tolist())
    if values.dtype.kind not in "biu" and not text:
        raise StoreError(
            f"{where}: found values such as {values.tolist()[0]!r} ({values.dtype}), expected {expected}"
        )
    return values


def _holds_text(index: pd.Index[Any]) -> bool:
    return bool(pd.api.types.is_string_dtype(index.dtype))
