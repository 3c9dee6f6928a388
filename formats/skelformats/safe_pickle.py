"""Reading pickles as data: `load_pickle` never imports, calls or allocates what the file asks for.

Some datasets and every original SMPL model come as Python pickles. The standard unpickler calls what the
file names, and allocates what it claims: for a memo index of two thousand million it takes 34 GB at once. So
the instructions (``pickletools`` documents them) are run here, on plain data only. Python 2 pickles are read
as ``encoding="latin1"`` would read them.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from skelformats.errors import FormatError
from skelformats.pickle_arrays import Budget, RefusedError
from skelformats.pickle_machine import Machine
from skelformats.pickle_values import Global

MAX_BYTES = 2 * 2**30
"""Default limit of a file's size, and of the memory that its values may take."""

_EXPECTED = "a pickle of numpy arrays, numbers, text and plain containers"
_MAX_DEPTH = 64
_FLOOR = 64 * 2**20
_GROWTH = 64
"""Values of real files take up to about ten times the bytes of the pickle: small dictionaries do."""

_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, np.ndarray})
_NUMBERS = frozenset({float, int, bool})

_DAMAGED = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    struct.error,
    OverflowError,
    MemoryError,
)
"""What malformed instructions end in: an empty stack, an unknown memo index, text for a number, ..."""


def load_pickle(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a pickle of any protocol as plain data.

    Parameters
    ----------
    max_bytes
        Limit of the file's size and of its values; beside it, values may take 64 MiB and 64 times the file.

    Returns
    -------
    None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, numpy arrays and scalars,
    nested up to 64 deep. An OrderedDict comes out as dict, a bytearray as bytes, a sparse csc matrix as dense
    float64 array, a chumpy leaf or selection as its array. Arrays are read-only. Python 2 byte strings are
    str (latin-1).

    Raises
    ------
    FormatError
        It names something else (the global stands in the text), is damaged, or too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise FormatError(path, f"{size} bytes", f"a pickle of at most {max_bytes} bytes")
        if not size:
            raise FormatError(path, "an empty file", _EXPECTED, action="Fetch it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _load(data, path, max_bytes)
    except OSError as error:
        raise FormatError(path, f"a file that cannot be read ({error.strerror})", _EXPECTED) from error


def parse_pickle(data: bytes, path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a pickle from memory; ``path`` is what errors name. As `load_pickle`."""
    return _load(data, path, max_bytes)


def _load(data: bytes | mmap.mmap, path: str | Path, max_bytes: int) -> Any:
    allowance = min(max_bytes, _FLOOR + _GROWTH * len(data))
    machine = Machine(data, Budget(allowance))
    try:
        value = machine.run()
        _measure(value, 0, {}, allowance)
    except RefusedError as refusal:
        raise FormatError(
            path,
            f"{refusal} in the pickle",
            _EXPECTED,
            action="Nothing in it was run. If you trust where the file is from, save its arrays as .npz",
        ) from None
    except _DAMAGED as error:
        raise FormatError(
            path,
            f"a pickle that is damaged at byte {machine.at} ({type(error).__name__})",
            _EXPECTED,
            action="The file may be cut off; fetch it again",
        ) from None
    return value


def _measure(value: Any, depth: int, known: dict[int, int], most: int) -> int:
    """Return the bytes that a value would take if nothing in it were shared; raises `RefusedError`.

    Also refuses what is nested too deep, contains itself, or was never filled. ``known`` holds the sizes of
    containers by id, -1 while inside of one.
    """
    kind = type(value)
    if kind not in _CONTAINERS or (kind is np.ndarray and value.dtype.kind != "O"):
        return _measure_leaf(value)
    if (size := known.get(id(value))) is not None:
        if size < 0:
            raise RefusedError("a container that contains itself")
        return size
    if depth == _MAX_DEPTH:
        raise RefusedError(f"containers nested more than {_MAX_DEPTH} deep")
    known[id(value)] = -1
    size = 8
    if kind is dict:
        size += sum(_measure(key, depth + 1, known, most) for key in value)
        value_items = value.values()
    else:
        value_items = value.flat if kind is np.ndarray else value
    for item in value_items:
        size += 8 if type(item) in _NUMBERS else _measure(item, depth + 1, known, most)
    if size > most:
        raise RefusedError("containers that hold each other so often that they would take all memory")
    known[id(value)] = size
    return size


def _measure_leaf(value: Any) -> int:
    if value is None or isinstance(value, int | float | complex | np.generic):
        return 8
    if isinstance(value, str | bytes):
        return 8 + len(value)
    if isinstance(value, np.ndarray):
        return 8 + int(value.nbytes)
    raise RefusedError(f"{value} as a value" if isinstance(value, Global) else "an unfinished object")
