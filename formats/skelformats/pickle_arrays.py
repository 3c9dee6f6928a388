"""Numpy arrays, dtypes and sparse matrices out of a pickle, each built from what was checked.

Numpy's own ``__setstate__`` trusts what it is given: a dtype whose fields claim to be objects makes it read
any bytes as pointers. It is never called here.
"""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np

_DTYPE = re.compile(r"[|<>=]?(?:([biufc])(\d{1,2})|([SU])(\d{1,6})|(O)8?|(\?))")
_MAX_DIMS = 32
_MAX_DENSE = 64 * 2**20
"""Bytes of a sparse matrix once dense. The largest joint regressor in use (SMPL-X) takes 4.6 MB."""


class RefusedError(Exception):
    """Something in a pickle that is not data; the text says what, for the message to the user."""


MAX_AIMED_KEYS = 4096
"""Keys of one file whose hashes the file may choose: tuples, complex numbers, numpy scalars. Equal hashes
cost the square of their number. Those of text are secret; of numbers of up to 64 bits at most 34 are equal.
"""


@dataclass
class Budget:
    """Bytes that may still be allocated, and keys that may still be hashed though the file chose how."""

    left: int
    keys: int = MAX_AIMED_KEYS

    def aim(self) -> None:
        """Take one such key; raises `RefusedError` where there have been too many."""
        self.keys -= 1
        if self.keys < 0:
            raise RefusedError(
                f"more than {MAX_AIMED_KEYS} dictionary keys that are neither text nor numbers"
            )

    def take(self, size: int) -> None:
        """Take ``size`` bytes; raises `RefusedError` where they are not there."""
        self.left -= size
        if self.left < 0:
            raise RefusedError("values that take far more memory than the file's size accounts for")


@dataclass
class DType:
    """A numpy dtype under construction: the text it was made from, and its byte order."""

    text: str
    order: str = ""

    def build(self) -> np.dtype[Any]:
        """Return the dtype; raises `RefusedError` unless it is of plain numbers, text or objects."""
        if not _DTYPE.fullmatch(self.text):
            raise RefusedError(f"the numpy dtype {self.text!r:.60}")
        try:
            plain = np.dtype(self.text)
        except TypeError as error:
            raise RefusedError(f"the numpy dtype {self.text!r:.60}") from error
        if self.order == ">":
            return plain.newbyteorder(">")
        return plain.newbyteorder("<") if self.order == "<" else plain


def make_array(shape: Any, dtype: Any, raw: Any, order: str, budget: Budget) -> np.ndarray[Any, Any]:
    """Build an array over the bytes (or the list of objects) that the file holds for it.

    The array is read-only, as it shares the bytes' memory.
    """
    if not isinstance(dtype, DType):
        raise RefusedError("a numpy array whose dtype is not one")
    plain = dtype.build()
    count = size_of(shape)
    if plain.kind == "O":
        return _object_array(shape, raw, order, count, budget)
    if isinstance(raw, str):
        # bytes of a Python 2 pickle come out as text: latin-1, one character a byte
        budget.take(len(raw))
        raw = raw.encode("latin-1")
    if not isinstance(raw, bytes):
        raise RefusedError("a numpy array whose data are not bytes")
    if plain.itemsize == 0 or count * plain.itemsize != len(raw):
        raise RefusedError(
            f"a numpy array of shape {short(shape)} and dtype {plain} ({count * plain.itemsize} bytes) "
            f"with {len(raw)} bytes of data"
        )
    if plain.kind == "b":
        # any byte but 0 and 1 would be a bool that is neither
        budget.take(len(raw))
        return np.ndarray(shape, np.uint8, raw, order="F" if order == "F" else "C") != 0
    if plain.kind == "U" and count:
        codes = np.frombuffer(raw, np.dtype("u4").newbyteorder(plain.byteorder))
        if codes.max() > 0x10FFFF:
            raise RefusedError("a numpy array of text with characters beyond Unicode")
    return np.ndarray(shape, plain, raw, order="F" if order == "F" else "C")


def _object_array(shape: Any, items: Any, order: str, count: int, budget: Budget) -> np.ndarray[Any, Any]:
    if not isinstance(items, list) or len(items) != count:
        raise RefusedError(
            f"a numpy array of objects of shape {short(shape)} with other than {count} objects"
        )
    budget.take(8 * count)
    flat = np.empty(count, object)
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray) and item.dtype.kind == "O":
            # nested often enough, these would overflow the C stack when they are freed
            raise RefusedError("a numpy array of arrays of objects")
        flat[i] = item
    return flat.reshape(shape, order="F" if order == "F" else "C")


def size_of(shape: Any) -> int:
    """Return the number of elements of a shape; raises `RefusedError` where it is not one."""
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_DIMS
        or not all(type(n) is int and 0 <= n < 2**48 for n in shape)
        or (0 in shape and math.prod(n for n in shape if n) >= 2**48)
    ):
        raise RefusedError(f"a numpy array of shape {short(shape)}")
    return math.prod(shape)


def short(value: Any) -> str:
    """Return a value as text for a message: little of it, however large or deeply nested it is."""
    return reprlib.repr(value)[:80]


def fill_dtype(dtype: DType, state: Any) -> DType:
    """Take the byte order; numpy's own ``__setstate__`` trusts fields and sizes, and is never called."""
    if (
        not isinstance(state, tuple)
        or len(state) < 5
        or state[1] not in ("<", ">", "|", "=", b"<", b">", b"|")
    ):
        raise RefusedError("a numpy dtype without byte order")
    if any(part is not None for part in state[2:5]):
        raise RefusedError("a numpy dtype with fields")
    dtype.order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    return dtype


def scalar(args: tuple[Any, ...], budget: Budget) -> Any:
    """Build a numpy scalar from its dtype and bytes."""
    if len(args) != 2 or not isinstance(args[0], DType) or args[0].build().kind == "O":
        raise RefusedError("a numpy scalar without dtype and data")
    return make_array((), args[0], args[1], "C", budget)[()]


def frombuffer(args: tuple[Any, ...], budget: Budget) -> np.ndarray[Any, Any]:
    """Build an array of protocol 5: buffer, dtype, shape, order and, from numpy 2.3 on, axis order."""
    if len(args) not in (4, 5) or args[3] not in ("C", "F", "K"):
        raise RefusedError("a numpy array that is not made as numpy makes them")
    if isinstance(args[1], DType) and args[1].build().kind == "O":
        raise RefusedError("a numpy array of objects in a buffer")
    array = make_array(args[2], args[1], args[0], "F" if args[3] == "F" else "C", budget)
    axes = args[4] if len(args) == 5 else None
    if axes is None or args[3] != "K":
        return array
    if not isinstance(axes, tuple) or sorted(axes) != list(range(array.ndim)):
        raise RefusedError(f"a numpy array with the axis order {short(axes)}")
    return array.transpose(axes)


def dense(state: dict[Any, Any], budget: Budget) -> np.ndarray[Any, Any]:
    """Return a matrix in compressed sparse column form as a dense array; duplicate entries add up."""
    shape = state.get("_shape", state.get("shape"))
    data, rows, starts = (state.get(key) for key in ("data", "indices", "indptr"))
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise RefusedError(f"a sparse matrix of shape {short(shape)}")
    for part, kinds in ((data, "biuf"), (rows, "iu"), (starts, "iu")):
        if not isinstance(part, np.ndarray) or part.ndim != 1 or part.dtype.kind not in kinds:
            raise RefusedError("a sparse matrix without data, indices and indptr")
    data, rows, starts = np.asarray(data), np.asarray(rows, np.int64), np.asarray(starts, np.int64)
    counts = np.diff(starts)
    if (
        len(starts) != shape[1] + 1
        or starts[0] != 0
        or starts[-1] != len(rows)
        or len(rows) != len(data)
        or (counts < 0).any()
        or (len(rows) and not 0 <= rows.min() <= rows.max() < shape[0])
    ):
        raise RefusedError(f"a sparse matrix of shape {short(shape)} whose indices do not fit it")
    size = shape[0] * shape[1] * 8
    if size > _MAX_DENSE:
        raise RefusedError(f"a sparse matrix of shape {short(shape)}")
    budget.take(size)
    dense = np.zeros(shape)
    np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), counts)), data)
    return dense
