"""What a pickle may hold besides plain containers: numpy, OrderedDict, sparse matrices, chumpy arrays.

`skelformats.safe_pickle` runs a pickle's instructions; where one names a Python object or asks for one to be
called, it comes here. Every name that is known stands in one table, and stands for a few lines below that
build plain data out of checked arguments. Nothing is imported or called by a name from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skelformats.pickle_arrays import (
    Budget,
    DType,
    RefusedError,
    dense,
    fill_dtype,
    frombuffer,
    make_array,
    scalar,
    short,
    size_of,
)


@dataclass(frozen=True)
class Global:
    """A name that stands in a pickle, and is known."""

    module: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Pending:
    """An object that was made and not yet filled; ``keys`` are where the pickle's memo holds it."""

    kind: str
    keys: list[int] = field(default_factory=list)


_KINDS = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    **{
        f"numpy.{core}.{name}": kind
        for core in ("core", "_core")
        for name, kind in (
            ("multiarray._reconstruct", "reconstruct"),
            ("multiarray.scalar", "scalar"),
            ("numeric._frombuffer", "frombuffer"),
        )
    },
    "_codecs.encode": "encode",
    "collections.OrderedDict": "ordered",
    "copy_reg._reconstructor": "reconstructor",
    "copyreg._reconstructor": "reconstructor",
    **{
        f"{builtins}.{name}": name
        for builtins in ("builtins", "__builtin__")
        for name in ("object", "set", "frozenset", "bytes", "bytearray", "complex")
    },
    "scipy.sparse.csc.csc_matrix": "csc",
    "scipy.sparse._csc.csc_matrix": "csc",
    "scipy.sparse._csc.csc_array": "csc",
    "chumpy.ch.Ch": "chumpy",
    "chumpy.reordering.Select": "select",
}
"""Every global that a pickle may name, and what it stands for."""


def find_global(module: str, name: str) -> Global:
    """Return what a name stands for; raises `RefusedError` for all that are not in the table."""
    kind = _KINDS.get(f"{module}.{name}")
    if kind is None:
        full = f"{module}.{name}"
        raise RefusedError(
            f"the global {full if full.isprintable() and len(full) < 200 else ascii(full)[:200]}"
        )
    return Global(module, name, kind)


def call(function: Any, args: Any, budget: Budget) -> Any:
    """Do what calling a known global with ``args`` would do; raises `RefusedError`."""
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise RefusedError("a call of something that is not a function")
    if function.kind not in _CALLS:
        raise RefusedError(f"a call of {function}")
    return _CALLS[function.kind](args, budget)


def new(cls: Any, args: Any) -> Pending:
    """Make an empty object of a known class; raises `RefusedError`."""
    if not isinstance(cls, Global) or cls.kind not in ("csc", "chumpy", "select") or args != ():
        raise RefusedError(f"an object of {cls}" if isinstance(cls, Global) else "an object of no class")
    return Pending(cls.kind)


def fill(target: Any, state: Any, budget: Budget) -> Any:
    """Return the object that ``target`` becomes with its state; raises `RefusedError`."""
    if isinstance(target, DType):
        return fill_dtype(target, state)
    if isinstance(target, dict) and not state:
        return target
    if not isinstance(target, Pending):
        raise RefusedError(f"a state for an object of type {type(target).__name__}")
    if target.kind == "ndarray":
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("a numpy array without shape, dtype and data")
        _, shape, dtype, fortran, raw = state
        return make_array(shape, dtype, raw, "F" if fortran is True or fortran == 1 else "C", budget)
    if not isinstance(state, dict):
        raise RefusedError(f"a {target.kind} object whose state is not a dictionary")
    if target.kind == "csc":
        return dense(state, budget)
    return _chumpy(state) if target.kind == "chumpy" else _select(state, budget)


def _make_dtype(args: tuple[Any, ...], budget: Budget) -> DType:
    if not args or not isinstance(args[0], str | bytes):
        raise RefusedError("a numpy dtype that is not given as text")
    return DType(args[0].decode("latin-1") if isinstance(args[0], bytes) else args[0])


def _reconstruct(args: tuple[Any, ...], budget: Budget) -> Pending:
    if (
        len(args) != 3
        or not isinstance(args[0], Global)
        or args[0].kind != "ndarray"
        or args[1] not in ((0,), (1,))
    ):
        raise RefusedError("a numpy array that is not made as numpy makes them")
    return Pending("ndarray")


def _encode(args: tuple[Any, ...], budget: Budget) -> bytes:
    if len(args) != 2 or not isinstance(args[0], str) or args[1] not in ("latin1", "latin-1"):
        raise RefusedError("text to be encoded in another way than latin-1")
    budget.take(len(args[0]))
    return args[0].encode("latin-1")


def _ordered(args: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    pairs = args[0] if args else []
    if (
        len(args) > 1
        or not isinstance(pairs, list)
        or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
    ):
        raise RefusedError("an OrderedDict that is not made of pairs")
    budget.take(100 * len(pairs))
    return {check_key(key, budget): value for key, value in pairs}


def _set(args: tuple[Any, ...], budget: Budget) -> set[Any]:
    if len(args) > 1 or (args and not isinstance(args[0], list | tuple)):
        raise RefusedError("a set that is not made of a list")
    budget.take(100 * len(args[0]) if args else 100)
    return {check_key(item, budget) for item in args[0]} if args else set()


def _bytes(args: tuple[Any, ...], budget: Budget) -> bytes:
    if not args:
        return b""
    if isinstance(args[0], str):
        return _encode(args, budget)
    if len(args) > 1 or not isinstance(args[0], bytes):
        raise RefusedError("bytes that are not made of bytes")
    return args[0]


def _complex(args: tuple[Any, ...], budget: Budget) -> complex:
    if len(args) != 2 or not all(type(part) is float for part in args):
        raise RefusedError("a complex number that is not made of two")
    return complex(*args)


def _reconstructor(args: tuple[Any, ...], budget: Budget) -> Pending:
    if len(args) != 3 or not isinstance(args[1], Global) or args[1].kind != "object" or args[2] is not None:
        raise RefusedError("an object that derives from a built-in type")
    return new(args[0], ())


_CALLS: dict[str, Callable[[tuple[Any, ...], Budget], Any]] = {
    "dtype": _make_dtype,
    "reconstruct": _reconstruct,
    "scalar": scalar,
    "frombuffer": frombuffer,
    "encode": _encode,
    "ordered": _ordered,
    "set": _set,
    "frozenset": lambda args, budget: frozenset(_set(args, budget)),
    "bytes": _bytes,
    "bytearray": _bytes,
    "complex": _complex,
    "reconstructor": _reconstructor,
}


def check_key(key: Any, budget: Budget) -> Any:
    """Return a dictionary key or set member as it is; raises `RefusedError` for what is costly to hash.

    The hash of deeply nested tuples overflows the C stack; those of flat ones, of complex numbers and of
    numpy scalars can be made to collide, so there may be only `MAX_AIMED_KEYS` of them.
    """
    if type(key) in _HASHED_SAFELY:
        return key
    budget.aim()
    if isinstance(key, tuple):
        if len(key) > 64 or any(isinstance(part, tuple) for part in key):
            raise RefusedError("a dictionary key that is a tuple of tuples")
        for part in key:
            check_key(part, budget)
    elif not isinstance(key, complex | np.generic):
        raise RefusedError(f"a dictionary key of type {type(key).__name__}")
    return key


_HASHED_SAFELY = frozenset({str, bytes, int, float, bool, type(None)})


def _chumpy(state: dict[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array of a chumpy leaf, which stands under ``x`` in its state."""
    value = state.get("x")
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise RefusedError("a chumpy expression that is not a leaf (it has no array 'x')")
    return value


def _select(state: dict[Any, Any], budget: Budget) -> np.ndarray[Any, Any]:
    """Return what chumpy's one common expression selects: elements of the flattened array ``a`` by number.

    The shape directions of some released models are such a selection of the first ten columns.
    """
    source, numbers, shape = (state.get(key) for key in ("a", "idxs", "preferred_shape"))
    if not isinstance(source, np.ndarray) or source.dtype.kind not in "biuf":
        raise RefusedError("a chumpy selection from something that is not an array of numbers")
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise RefusedError("a chumpy selection without numbers of elements")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < source.size:
        raise RefusedError("a chumpy selection of elements that are not there")
    budget.take(source.nbytes + 8 * len(numbers))
    chosen = source.ravel()[numbers]
    if size_of(shape) != len(numbers):
        raise RefusedError(f"a chumpy selection of {len(numbers)} elements in the shape {short(shape)}")
    return chosen.reshape(shape)
