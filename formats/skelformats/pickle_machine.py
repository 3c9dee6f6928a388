"""The instructions of a pickle (``pickletools`` documents them), run on plain data: `Machine`.

Used by `skelformats.safe_pickle`. The standard unpickler calls what the file names and allocates what it
claims; this one looks names up in `skelformats.pickle_values`, and takes no more bytes than the file has.
"""

from __future__ import annotations

import codecs
import mmap
import struct
import sys
from collections.abc import Callable
from typing import Any

from skelformats.pickle_arrays import Budget, RefusedError
from skelformats.pickle_values import (
    Pending,
    call,
    check_key,
    fill,
    find_global,
    new,
)

_VALUE = 40
"""Bytes that an instruction may take whatever it does: a small object, and its place on the stack."""

_PAIR, _MEMBER = 60, 100
"""Bytes that a dictionary or a set takes for each pair or member, at the worst time of its growth."""


class Machine:
    """The pickle virtual machine, on data alone: a stack, its marks, and the memo."""

    def __init__(self, data: bytes | mmap.mmap, budget: Budget) -> None:
        self.data = data
        self.end = len(data)
        self.at = 0
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Run to the STOP instruction and return the one value that it leaves."""
        data, table, budget = self.data, _INSTRUCTIONS, self.budget
        while True:
            code = data[self.at]
            self.at += 1
            # here rather than in a call: it is done for every instruction
            budget.left -= _VALUE
            if budget.left < 0:
                budget.take(0)
            if code == _STOP:
                (value,) = self.stack
                return value
            instruction = table.get(code)
            if instruction is None:
                raise RefusedError(f"the instruction {code:#04x} at byte {self.at - 1}")
            instruction(self)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        stop = self.at + count
        if count < 0 or stop > self.end:
            raise IndexError
        taken = self.data[self.at : stop]
        self.at = stop
        return taken

    def number(self, size: int, signed: bool = False) -> int:
        """Return the next ``size`` bytes as an integer."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> bytes:
        """Return what is left of a line, without its end."""
        stop = self.data.find(b"\n", self.at)
        if stop < 0:
            raise IndexError
        taken = self.data[self.at : stop]
        self.at = stop + 1
        return taken

    def text_line(self) -> str:
        """Return what is left of a line of ASCII."""
        return self.line().decode("ascii")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def push_text(self, raw: bytes, encoding: str) -> None:
        """Put text on the stack; one wide character makes all others as wide."""
        text = raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        self.budget.take(max(0, sys.getsizeof(text) - len(raw) - _VALUE))
        self.stack.append(text)

    def to_mark(self) -> list[Any]:
        """Take everything above the last mark off the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def container(self, value: Any) -> None:
        """Put a new container on the stack, at the cost of its memory."""
        self.budget.take((240 if isinstance(value, set | frozenset) else 80) + 16 * len(value))
        self.stack.append(value)

    def remember(self, key: int) -> None:
        """Put the top of the stack into the memo."""
        value = self.stack[-1]
        if isinstance(value, Pending):
            value.keys.append(key)
        self.budget.take(40)
        self.memo[key] = value

    def integer(self, value: int) -> None:
        """Put an integer of up to 64 bits on the stack."""
        if not -(2**63) <= value < 2**64:
            raise RefusedError("an integer of more than 64 bits")
        self.stack.append(value)

    def build(self) -> None:
        """Fill the object below the top of the stack with the state on top."""
        state = self.stack.pop()
        target = self.stack[-1]
        filled = fill(target, state, self.budget)
        self.stack[-1] = filled
        if isinstance(target, Pending):
            for key in target.keys:
                self.memo[key] = filled

    def append(self, items: list[Any]) -> None:
        """Append items to the list on top of the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            raise RefusedError(f"items for a {type(target).__name__}, which is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values into the dictionary on top of the stack."""
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise RefusedError(f"keys and values for a {type(target).__name__}, which is not a dictionary")
        self.budget.take(_PAIR * (len(items) // 2))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key, self.budget)] = value

    def dict_of(self) -> None:
        """Make everything above the last mark one dictionary."""
        items = self.to_mark()
        self.container({})
        self.set_items(items)

    def add_items(self, items: list[Any]) -> None:
        """Put members into the set on top of the stack."""
        target = self.stack[-1]
        if type(target) is not set:
            raise RefusedError(f"members for a {type(target).__name__}, which is not a set")
        self.budget.take(_MEMBER * len(items))
        target.update(check_key(item, self.budget) for item in items)

    def reduce(self) -> None:
        """Call the function below the top of the stack with the arguments on top."""
        args = self.stack.pop()
        self.stack[-1] = call(self.stack[-1], args, self.budget)

    def make(self) -> None:
        """Make an object of the class below the top of the stack."""
        args = self.stack.pop()
        self.stack[-1] = new(self.stack[-1], args)

    def stack_global(self) -> None:
        """Look up the global whose module and name are on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise RefusedError("a global whose name is not text")
        self.stack.append(find_global(module, name))

    def tuple_of(self, count: int) -> None:
        """Make the top ``count`` values one tuple."""
        if len(self.stack) < count:
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.container(items)

    def old_integer(self) -> None:
        """Read an INT line, which also spells booleans."""
        text = self.text_line()
        self.stack.append(text == "01") if text in ("00", "01") else self.integer(_small(text))

    def quoted(self) -> None:
        """Read a STRING line: a quoted Python 2 byte string, as latin-1 text."""
        text = self.line().strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise ValueError
        self.stack.append(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))


def _small(text: str) -> int:
    if len(text) > 24:
        raise RefusedError("an integer of more than 64 bits")
    return int(text.removesuffix("L"))


def _text(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push_text(m.take(m.number(size)), "utf-8")


def _latin(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(size)).decode("latin-1"))


def _raw(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(size)))


def _recall(m: Machine, key: int) -> None:
    m.push(m.memo[key])


_STOP = ord(".")
_INSTRUCTIONS: dict[int, Callable[[Machine], object]] = {
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME: what it frames follows as it would without
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): lambda m: m.stack.pop(),
    ord("1"): lambda m: m.to_mark(),
    ord("2"): lambda m: m.push(m.stack[-1]),
    # numbers
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): Machine.old_integer,
    ord("L"): lambda m: m.integer(_small(m.text_line())),
    ord("J"): lambda m: m.push(m.number(4, signed=True)),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    0x8A: lambda m: m.integer(m.number(m.number(1), signed=True)),
    0x8B: lambda m: m.integer(m.number(m.number(4), signed=True)),
    ord("F"): lambda m: m.push(float(m.text_line())),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    # text and bytes
    ord("S"): Machine.quoted,
    ord("T"): _latin(4),
    ord("U"): _latin(1),
    ord("V"): lambda m: m.push_text(m.line(), "raw-unicode-escape"),
    0x8C: _text(1),
    ord("X"): _text(4),
    0x8D: _text(8),
    ord("C"): _raw(1),
    ord("B"): _raw(4),
    0x8E: _raw(8),
    0x96: _raw(8),  # BYTEARRAY8
    # containers
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.container(tuple(m.to_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("]"): lambda m: m.container([]),
    ord("l"): lambda m: m.container(m.to_mark()),
    ord("a"): lambda m: m.append([m.stack.pop()]),
    ord("e"): lambda m: m.append(m.to_mark()),
    ord("}"): lambda m: m.container({}),
    ord("d"): Machine.dict_of,
    ord("s"): lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    ord("u"): lambda m: m.set_items(m.to_mark()),
    0x8F: lambda m: m.container(set()),
    0x90: lambda m: m.add_items(m.to_mark()),
    0x91: lambda m: m.container(frozenset(check_key(item, m.budget) for item in m.to_mark())),
    # memo
    ord("p"): lambda m: m.remember(_small(m.text_line())),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("g"): lambda m: _recall(m, _small(m.text_line())),
    ord("h"): lambda m: _recall(m, m.number(1)),
    ord("j"): lambda m: _recall(m, m.number(4)),
    # what stands for objects
    ord("c"): lambda m: m.push(find_global(m.text_line(), m.text_line())),
    0x93: Machine.stack_global,
    ord("R"): Machine.reduce,
    0x81: Machine.make,
    ord("b"): Machine.build,
}
"""Every instruction that is run. Not among them: persistent ids, extension codes, old-style instances
(INST, OBJ), NEWOBJ_EX and out-of-band buffers, none of which plain data need."""
