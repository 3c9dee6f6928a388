"""The text of a PKU-MMD skeleton file: a line of 150 numbers a frame, two bodies of 25 joints of x, y and z.

An absent body is 75 zeros (the authors' readme). There are no ids, tracking states or time stamps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.kernel import kernel
from skelformats.simd import pointer
from skelformats.text import SCANNER, Text, is_blank, is_line_end, parse_float, quote, skip_blanks, skip_space

BODIES, JOINTS, AXES = 2, 25, 3
NUMBERS = BODIES * JOINTS * AXES

_ROW_BYTES = 2 * NUMBERS - 1
"""The fewest bytes that a frame can have: the last line may lack its end."""

_OK, _NUMBER, _COUNT = range(3)


def parse_frames(text: Text) -> NDArray[np.float32]:
    """Parse a skeleton file's text.

    Returns
    -------
    (F, 2, 25, 3) float32: the numbers as they stand there, lines without any left out.

    Raises
    ------
    FormatError
        A line holds something else than 150 numbers.
    """
    values = np.empty((text.size // _ROW_BYTES + 1, NUMBERS), np.float32)
    rows, status, at = _scan(text.buffer, text.size, values)
    if status != _OK:
        raise _error(text, status, at, rows)
    return values[:rows].reshape(rows, BODIES, JOINTS, AXES)


@kernel
def _scan(
    buffer: NDArray[np.uint8], size: int, values: NDArray[np.float32], scanner: int = SCANNER
) -> tuple[int, int, int]:
    """Fill ``values``; return the whole rows, why it stopped, and the position where it did."""
    text, out = pointer(buffer), pointer(values)
    width = values.shape[1]
    rows = 0
    at = skip_space(text, 0)
    while at < size:
        first = rows * width
        for column in range(width):
            value, end = parse_float(text, at)
            if end == at or not is_blank(text, end):
                return rows, (_COUNT if is_line_end(text, at) else _NUMBER), at
            out[first + column] = value
            at = skip_blanks(text, end)
        if not is_line_end(text, at):
            return rows, _COUNT, at
        at = skip_space(text, at)
        rows += 1
    return rows, _OK, at


def _error(text: Text, status: int, at: int, rows: int) -> FormatError:
    """Say why a scan stopped."""
    frame = f"in frame {rows + 1}"
    if status == _NUMBER:
        return text.error(at, f"{quote(text.field(at))} {frame}", "a number")
    # a line that ends too soon was left at its end
    count = len(text.fields(at))
    action = None
    if count < NUMBERS and text.cut_off(at):
        action = "The file is cut off; fetch it again"
    elif count < NUMBERS // 10:
        action = "If this is a label file, its folder must have 'label' in its name"
    return text.error(at, f"{count} numbers {frame}", f"{NUMBERS}: two bodies of 25 joints", action)
