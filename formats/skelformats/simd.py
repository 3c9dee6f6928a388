"""Numba intrinsics for what Numba itself has no words for: bare pointers, and many bytes looked at at once.

The looks are plain LLVM vector operations: every CPU that Numba runs on has them (all are little-endian),
in one or two instructions. None of them checks bounds: the caller's buffer goes on for `PADDING` bytes
after the last byte that may be looked at. ``buffer`` is a uint8 array, or a pointer to its first item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types

PADDING = 64
"""Bytes that must follow the last one that is looked at."""

Pointer = Any
"""A bare pointer in compiled code, or the array that it would point into."""

# to a type checker an intrinsic still has the parameter `typing`, which callers do not give
intrinsic: Any = extending.intrinsic

_BYTE = ir.IntType(8)
_WORD = ir.IntType(64)


@intrinsic
def pointer(typing: Any, array: Any) -> Any:
    """Return a bare pointer to the first item of a C-contiguous array; it is indexed like a flat array.

    An array that is handed from function to function has its references counted at each call, which costs
    more than scanning a number does. Whoever makes a pointer keeps the array alive while it is used.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def blanks(typing: Any, buffer: Any, at: Any) -> Any:
    """Return a uint64 whose bit k says that byte ``at + k`` is a space or a control character."""
    return types.uint64(buffer, at), _look(lambda builder, loaded: _compare(builder, loaded, "<=", " "))


@intrinsic
def newlines(typing: Any, buffer: Any, at: Any) -> Any:
    r"""Return a uint64 whose bit k says that byte ``at + k`` is ``\n``."""
    return types.uint64(buffer, at), _look(lambda builder, loaded: _compare(builder, loaded, "==", "\n"))


@intrinsic
def foreign(typing: Any, buffer: Any, at: Any) -> Any:
    """Return a uint64 whose bit k says that byte ``at + k`` is neither printable ASCII nor white space."""

    def look(builder: Any, loaded: Any) -> Any:
        control, high = _compare(builder, loaded, "<", " "), _compare(builder, loaded, ">", "~")
        for space in "\t\n\r":
            control = builder.and_(control, _compare(builder, loaded, "!=", space))
        return builder.or_(control, high)

    return types.uint64(buffer, at), _look(look)


@intrinsic
def eight_bytes(typing: Any, buffer: Any, at: Any) -> Any:
    """Return the 8 bytes from ``at`` on as a uint64, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(_WORD, context, builder, signature, arguments)

    return types.uint64(buffer, at), generate


@intrinsic
def trailing_zeros(typing: Any, word: Any) -> Any:
    """Return how many low bits of a uint64 are 0; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def ones(typing: Any, word: Any) -> Any:
    """Return how many bits of a uint64 are 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _load(kind: Any, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Load a value of LLVM type ``kind`` from ``buffer[at:]``, at any alignment."""
    buffer, at = arguments
    if isinstance(signature.args[0], types.Array):
        buffer = context.make_array(signature.args[0])(context, builder, buffer).data
    at = context.cast(builder, at, signature.args[1], types.intp)
    item = builder.gep(buffer, [at])
    return builder.load(builder.bitcast(item, kind.as_pointer()), align=1)


def _look(judge: Callable[[Any, Any], Any]) -> Any:
    """Generate code that loads 64 bytes and returns what ``judge`` says of each as the bits of a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = _load(ir.VectorType(_BYTE, 64), context, builder, signature, arguments)
        return builder.bitcast(judge(builder, loaded), _WORD)

    return generate


def _compare(builder: Any, loaded: Any, relation: str, byte: str) -> Any:
    """Compare each of the 64 bytes with one, unsigned."""
    return builder.icmp_unsigned(relation, loaded, ir.Constant(loaded.type, [ord(byte)] * 64))
