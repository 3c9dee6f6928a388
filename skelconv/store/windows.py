"""Stretches of equal length of the sequences of a store, read one at a time.

Legend: L frames of a window, J joints, A axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.info import OutOfRangeError, StoreError

if TYPE_CHECKING:
    from skelconv.store.store import Store

Short = Literal["fill", "leave_out"]
"""What becomes of a sequence that is shorter than a window."""


@dataclass(frozen=True, eq=False, repr=False)
class Window:
    """L frames of one sequence, one after another in the recording's time.

    Attributes
    ----------
    name, number
        Id and number of the sequence.
    start
        Number, in the recording, of the window's first frame.
    position
        (L, J, A) float32; NaN in frames in which the body was not observed, and for missing joints.
    valid
        (L,) bool: the frames in which the body was observed.
    confidence
        (L, J), 0 where the body was not observed, or None.
    row
        The sequence's row of the table.
    """

    name: str
    number: int
    start: int
    position: NDArray[np.float32]
    valid: NDArray[np.bool_]
    confidence: NDArray[Any] | None
    row: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.valid)

    def __repr__(self) -> str:
        return (
            f"<skelconv.Window of {self.name!r}: frames {self.start} to {self.start + len(self)}, "
            f"{int(self.valid.sum())} of {len(self)} observed>"
        )


class Windows:
    """Windows of sequences of a store, in the sequences' order; each is read when it is asked for.

    A window is ``length`` frames of the recording's time: a frame in which the body was not observed is in
    it, as NaN and not ``valid``. A sequence's first window begins with its first frame, the next ones
    ``stride`` frames later each, as long as a whole window fits; what remains at the end is in none. A
    sequence that is shorter than ``length`` gives one window, filled up at its end with frames that are
    not ``valid`` (``short="fill"``), or none (``"leave_out"``).

    Making it reads ``frame_index`` and no other array. Pickles as its store does, with the places of the
    windows, so that a worker opens the store once.

    Parameters
    ----------
    store
        The store.
    numbers
        Numbers of its sequences.
    length, stride
        Frames, at least 1; ``stride`` is ``length`` where it is left out.

    Attributes
    ----------
    numbers
        (N,) intp: the number of each window's sequence in the store.
    starts
        (N,) int64: the number, in its recording, of each window's first frame.

    Raises
    ------
    StoreError
        ``length``, ``stride`` or ``short`` that cannot be; a damaged table.
    """

    def __init__(
        self,
        store: Store,
        numbers: NDArray[np.intp],
        length: int,
        stride: int | None = None,
        short: Short = "fill",
    ) -> None:
        stride = length if stride is None else stride
        for name, value in (("length", length), ("stride", stride)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise StoreError(
                    f"found a {name} of {value!r}, expected a whole number of frames, at least 1"
                )
        if short not in get_args(Short):
            raise StoreError(f"found short={short!r}, expected one of {', '.join(get_args(Short))}")
        self.store = store
        self.length = int(length)
        self.stride = int(stride)
        self.short = short
        self.numbers, self.starts, self._rows = _places(store, numbers, self.length, self.stride, short)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        apart = f"{self.length} frames, {self.stride} apart"
        return f"<skelconv.Windows: {len(self):,} of {apart}, of {self.store.path}>"

    def __iter__(self) -> Iterator[Window]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Window:
        count = len(self)
        if isinstance(place, bool) or not isinstance(place, int | np.integer):
            raise StoreError(f"{self!r}: found {place!r}, expected the number of a window")
        if not -count <= place < count:
            raise OutOfRangeError(f"{self!r}: found window {place}, expected below {count}")
        number, start = int(self.numbers[place]), int(self.starts[place])
        first, stop = self._rows[place].tolist()
        store, confidence = self.store, None
        position = store.read(first, stop)
        if schema.CONFIDENCE in store.arrays:
            confidence = store.read(first, stop, schema.CONFIDENCE)
        valid = np.ones(self.length, bool)
        if stop - first != self.length:
            at = self._at(store.read(first, stop, schema.FRAME_INDEX) - start)
            valid = np.zeros(self.length, bool)
            valid[at] = True
            position = self._spread(position, at, np.nan)
            confidence = None if confidence is None else self._spread(confidence, at, 0)
        return Window(store.names[number], number, start, position, valid, confidence, store.row(number))

    def _at(self, at: NDArray[np.int32]) -> NDArray[np.int32]:
        if len(at) and not 0 <= at.min() <= at.max() < self.length:
            raise StoreError(
                f"{self.store.path}: found frame numbers that do not increase within a sequence, expected "
                "them to. Run `skelconv verify`, then fetch or ingest the store again"
            )
        return at

    def _spread(self, values: NDArray[Any], at: NDArray[np.int32], fill: float) -> NDArray[Any]:
        out = np.full((self.length, *values.shape[1:]), fill, values.dtype)
        out[at] = values
        return out


def _places(
    store: Store, numbers: NDArray[np.intp], length: int, stride: int, short: Short
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Return of each window the sequence's number, the first frame's number, and its rows along ``frame``."""
    frame_index = store.array(schema.FRAME_INDEX)
    bounds = np.array(store.bounds, np.int64).reshape(-1, 2)[numbers]
    start, stop = bounds.T
    if ((start < 0) | (stop <= start) | (stop > len(frame_index))).any():
        raise StoreError(
            f"{store.path}: found sequences that lie outside its frames, expected them within. "
            "Run `skelconv verify`, then fetch or ingest the store again"
        )
    first = frame_index[start].astype(np.int64)
    span = frame_index[stop - 1] - first + 1
    count = np.where(span >= length, (span - length) // stride + 1, int(short == "fill"))
    of = np.repeat(np.arange(len(numbers)), count)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    begin = first[of] + nth * stride
    rows = start[of] + nth * stride
    places = np.stack([rows, np.minimum(rows + length, stop[of])], axis=1)
    # rows and frames go together but where the track has gaps
    ends = np.cumsum(count)
    for gappy in np.flatnonzero((span != stop - start) & (count > 0)):
        own = slice(ends[gappy] - count[gappy], ends[gappy])
        frames = frame_index[start[gappy] : stop[gappy]]
        asked = np.stack([begin[own], begin[own] + length], axis=1)
        places[own] = start[gappy] + np.searchsorted(frames, asked)
    return numbers[of].astype(np.intp), begin, places
