"""The byte scanner that every reader of text shares: a file's bytes, a cursor, and what stands at it.

`load_text` reads a file into a `Text`. A reader's own kernel then walks over ``text.buffer`` with the
functions below, each of which takes a position and returns the next one. None of them checks bounds, since
the text is followed by zero bytes, which are neither digit nor blank and so end every walk. For speed the
kernel hands them ``pointer(text.buffer)`` (see `skelformats.simd`); the array itself works too.

A kernel compiled against this module must not outlive a change of it, but Numba watches only the kernel's
own file. So a kernel takes one more parameter, ``scanner=SCANNER``: a default value is part of what Numba
looks a compiled kernel up by.
"""

from __future__ import annotations

import os
import pkgutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.exact import exact_float
from skelformats.kernel import kernel
from skelformats.simd import PADDING, Pointer, blanks, eight_bytes, foreign, newlines, ones, trailing_zeros

_SOURCES = ("text.py", "exact.py", "simd.py", "kernel.py")
SCANNER = zlib.crc32(b"".join(pkgutil.get_data("skelformats", name) or b"" for name in _SOURCES))
"""Changes whenever the scanner does."""

_TAB, _NEWLINE, _RETURN, _SPACE = 9, 10, 13, 32
_PLUS, _MINUS, _POINT, _ZERO = 43, 45, 46, 48
_TEN_TO = 10.0 ** np.arange(23)
"""All powers of ten that a float64 holds exactly."""
_WHOLE_TEN_TO = np.uint64(10) ** np.arange(9, dtype=np.uint64)
_EXPONENT_LIMIT = 1_000_000
_EACH = np.uint64(0x0101010101010101)
_INFINITY, _INF, _NAN = (np.uint64(int.from_bytes(word, "little")) for word in (b"infinity", b"inf", b"nan"))
_SHOWN = 40


@dataclass(frozen=True, eq=False)
class Text:
    """A text file's bytes.

    Attributes
    ----------
    path
        Where they came from, for messages.
    buffer
        (size + PADDING,) uint8: printable ASCII, tabs and line ends, then zeros.
    size
        Bytes of text.
    """

    path: str
    buffer: NDArray[np.uint8]
    size: int

    def line(self, at: int) -> int:
        """Return the 1-based number of the line that position ``at`` is on."""
        return int(np.count_nonzero(self.buffer[:at] == _NEWLINE)) + 1

    def fields(self, at: int) -> list[str]:
        """Return the fields, separated by blanks, of the line that position ``at`` is on."""
        start = at
        while start > 0 and self.buffer[start - 1] != _NEWLINE:
            start -= 1
        end = at
        while end < self.size and self.buffer[end] != _NEWLINE:
            end += 1
        return self.buffer[start:end].tobytes().decode("ascii").split()

    def field(self, at: int) -> str:
        """Return the field that begins at position ``at``."""
        return self.buffer[at : field_end(self.buffer, at)].tobytes().decode("ascii")

    def cut_off(self, at: int) -> bool:
        """Whether the text ends on the line that position ``at`` is on, without a line end."""
        return _NEWLINE not in self.buffer[at : self.size]

    def error(self, at: int, found: str, expected: str, action: str | None = None) -> FormatError:
        """Return the error that says what was found on the line of position ``at``."""
        return FormatError(self.path, found, expected, self.line(at), action)


def load_text(path: Path) -> Text:
    """Read a text file.

    Raises
    ------
    FormatError
        The file is empty, or holds bytes that are not ASCII text.
    OSError
        It cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        buffer = np.empty(size + PADDING, np.uint8)
        free = buffer.data
        read = 0
        while read < size and (step := file.readinto(free[read:size])):
            read += step
    return _checked(path, buffer, read)


def as_text(content: bytes, path: str | Path) -> Text:
    """Take bytes as a `Text`; raises `FormatError` as `load_text` does."""
    buffer = np.empty(len(content) + PADDING, np.uint8)
    buffer[: len(content)] = np.frombuffer(content, np.uint8)
    return _checked(path, buffer, len(content))


def _checked(path: str | Path, buffer: NDArray[np.uint8], size: int) -> Text:
    buffer[size:] = 0
    text = Text(str(path), buffer, size)
    at = first_foreign(buffer, size)
    if at < size:
        raise text.error(at, f"the byte 0x{buffer[at]:02x}", "plain text", "The file is damaged or no text")
    if skip_space(buffer, 0) == size:
        found = f"{size} bytes of white space" if size else "an empty file"
        raise FormatError(text.path, found, "text", action="Fetch the file again")
    return text


def quote(text: str) -> str:
    """Return a piece of a file as it should stand in a message: quoted and not too long."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


@kernel
def skip_blanks(buffer: Pointer, at: int) -> int:
    """Return the position of the next byte that is not a space, tab or carriage return."""
    while buffer[at] == _SPACE or buffer[at] == _TAB or buffer[at] == _RETURN:
        at += 1
    return at


@kernel
def skip_space(buffer: Pointer, at: int) -> int:
    """Return the position of the next byte that is not white space, on this line or a later one."""
    while 0 < buffer[at] <= _SPACE:
        at += 1
    return at


@kernel
def field_end(buffer: Pointer, at: int) -> int:
    """Return the position after the field that ``at`` is in."""
    while buffer[at] > _SPACE:
        at += 1
    return at


@kernel
def is_blank(buffer: Pointer, at: int) -> bool:
    """Whether a field cannot go on at ``at``: a blank, a line end, or the end of the text."""
    return buffer[at] <= _SPACE


@kernel
def is_line_end(buffer: Pointer, at: int) -> bool:
    """Whether ``at`` is a line end or the end of the text."""
    return buffer[at] == _NEWLINE or buffer[at] == 0


@kernel
def skip_fields(buffer: Pointer, size: int, at: int, count: int) -> int:
    """Return where the field begins that stands ``count`` > 0 after the one that begins at ``at``.

    Returns -1 when the line ends before it. Looks at 64 bytes a step, whatever is in them.
    """
    before = np.uint64(0)
    while at < size:
        blank = blanks(buffer, at)
        # a field ends where a blank follows a byte that is not one
        ends = blank & ~((blank << np.uint64(1)) | before)
        line_ends = newlines(buffer, at)
        found = ones(ends)
        if found >= count:
            for _ in range(count - 1):
                ends &= ends - np.uint64(1)
            end = trailing_zeros(ends)
            if trailing_zeros(line_ends) <= end:
                return -1
            at = skip_blanks(buffer, at + end)
            return -1 if is_line_end(buffer, at) else at
        if line_ends != np.uint64(0):
            return -1
        count -= found
        before = blank >> np.uint64(63)
        at += 64
    return -1


@kernel
def parse_int(buffer: Pointer, at: int) -> tuple[int, int]:
    """Return the int64 that begins at ``at``, and the position after it; ``at`` itself where there is none.

    A number beyond int64 does not count.
    """
    start = at
    negative = buffer[at] == _MINUS
    if negative or buffer[at] == _PLUS:
        at += 1
    first = at
    value = 0
    while _ZERO <= buffer[at] < _ZERO + 10:
        digit = buffer[at] - _ZERO
        # int64 ends at 9223372036854775807; its negative end is given up, for simplicity
        if value > 922337203685477580 or (value == 922337203685477580 and digit > 7):
            return 0, start
        value = value * 10 + digit
        at += 1
    if at == first:
        return 0, start
    return (-value if negative else value), at


@kernel
def parse_float(buffer: Pointer, at: int) -> tuple[float, int]:
    """Return the number that begins at ``at`` and the position after it; ``at`` itself where there is none.

    Accepts what Python's ``float`` accepts of ASCII, but for underscores, and gives the same float64 to
    the last bit: signs, ``.5`` and ``5.``, exponents, NaN, inf and infinity in upper and lower case.
    """
    start = at
    negative = buffer[at] == _MINUS
    at += negative | (buffer[at] == _PLUS)  # added rather than asked: signs cannot be predicted
    first = at
    mantissa = np.uint64(0)
    while _ZERO <= buffer[at] < _ZERO + 10:
        mantissa = mantissa * np.uint64(10) + np.uint64(buffer[at] - _ZERO)
        at += 1
    digits = at - first
    fraction = 0
    if buffer[at] == _POINT:
        at += 1
        after_point = at
        while True:
            group, length = _digits(buffer, at)
            mantissa = mantissa * _WHOLE_TEN_TO[length] + group
            at += length
            if length < 8:
                break
        fraction = at - after_point
        digits += fraction
    if digits == 0:
        value, at = _parse_word(buffer, first)
        return (-value if negative else value), (start if at == first else at)
    end = at
    exponent, at = _parse_exponent(buffer, at)
    power = exponent - fraction
    # both factors are exact in float64, so the one operation rounds correctly
    if digits <= 19 and mantissa <= np.uint64(1 << 53) and -22 <= power <= 22:
        value = np.float64(np.int64(mantissa))
        value = value / _TEN_TO[-power] if power < 0 else value * _TEN_TO[power]
    else:
        value = exact_float(buffer, first, end, exponent)
    return (-value if negative else value), at


@kernel
def _digits(buffer: Pointer, at: int) -> tuple[Any, int]:
    """Return the number that the next at most 8 digits make, and how many they are.

    The eight bytes are taken as one word: digits become the values 0 to 9, the others something larger,
    which is seen by its carry into the top bit of the byte. Neighbours are then joined three times.
    """
    word = eight_bytes(buffer, at) ^ (np.uint64(_ZERO) * _EACH)
    other = ((word + np.uint64(0x76) * _EACH) | word) & (np.uint64(0x80) * _EACH)
    length = trailing_zeros(other) // 8
    if length == 0:
        return np.uint64(0), 0
    word <<= np.uint64(64 - 8 * length)
    word = word * np.uint64(10) + (word >> np.uint64(8))
    low = (word & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)
    high = ((word >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(0x0000271000000001)
    return (low + high) >> np.uint64(32), length


@kernel
def _parse_exponent(buffer: Pointer, at: int) -> tuple[int, int]:
    """Return the exponent at ``at`` and the position after it; 0 and ``at`` where there is none."""
    if buffer[at] | 32 != ord("e"):
        return 0, at
    i = at + 1
    negative = buffer[i] == _MINUS
    if negative or buffer[i] == _PLUS:
        i += 1
    first = i
    exponent = 0
    while _ZERO <= buffer[i] < _ZERO + 10:
        exponent = min(exponent * 10 + buffer[i] - _ZERO, _EXPONENT_LIMIT)
        i += 1
    if i == first:
        return 0, at
    return (-exponent if negative else exponent), i


@kernel
def _parse_word(buffer: Pointer, at: int) -> tuple[float, int]:
    """Return what the word at ``at`` means (nan, inf, infinity) and the position after it, or ``at``."""
    word = eight_bytes(buffer, at) | (np.uint64(32) * _EACH)  # in lower case
    if word == _INFINITY:
        return np.inf, at + 8
    word &= np.uint64(0xFFFFFF)
    if word == _INF:
        return np.inf, at + 3
    return np.nan, at + 3 if word == _NAN else at


@kernel
def first_foreign(buffer: Pointer, size: int) -> int:
    """Return the position of the first byte that is neither printable ASCII nor white space, or ``size``."""
    for at in range(0, size, 64):
        found = foreign(buffer, at)
        if found != np.uint64(0):
            return min(at + trailing_zeros(found), size)
    return size
