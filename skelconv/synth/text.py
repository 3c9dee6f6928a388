"""Kinect v2 ``.skeleton`` text, fast: numbers of seven significant digits, written by a compiled kernel.

A number is made of a whole number of up to seven digits and a power of ten, as the recorder's own text is
(.NET's ``G7``): no trailing zeros, ``1.2E-05`` below 0.0001. `as_written` gives the float32 that such a text
reads back as. Dividing the digits by the power of ten in float64 is exact to the last bit of float32, so
both come from one function and cannot disagree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelformats.kernel import kernel

_DIGITS = 7
_LARGEST = 10**_DIGITS
_POWERS = 10.0 ** np.arange(23)
"""Powers of ten that float64 holds exactly."""
_NUMBER_BYTES = 16
_ZERO, _POINT, _MINUS, _BLANK = ord("0"), ord("."), ord("-"), ord(" ")
_NAN = np.frombuffer(b"NaN", np.uint8)
_EXPONENT = np.frombuffer(b"E-", np.uint8)


def as_written(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the text of each value reads back as, float32 of the same shape.

    Magnitudes must be below 10^7; those below 10^-15 become 0.
    """
    out = np.empty(values.shape, np.float32)
    _round_all(np.ascontiguousarray(values).reshape(-1), out.reshape(-1))
    return out


def skeleton_text(
    counts: NDArray[np.int64],
    identity: NDArray[np.int64],
    flags: NDArray[np.int64],
    lean: NDArray[np.float64],
    cells: NDArray[np.float64],
    state: NDArray[np.uint8],
) -> bytes:
    """Write a ``.skeleton`` file of F frames with R bodies in all, lines ended by CR LF.

    Parameters
    ----------
    counts
        (F,) bodies in each frame; they sum to R.
    identity
        (R,) body ids.
    flags
        (R, 6) clipped edges; confidence and state of the left, then of the right hand; restricted.
    lean
        (R, 2).
    cells
        (R, J, 11): position, depth pixel, colour pixel, orientation.
    state
        (R, J) tracking states.
    """
    joints = cells.shape[1]
    size = 16 * (len(counts) + 1) + len(identity) * (256 + joints * (11 * _NUMBER_BYTES + 8))
    buffer = np.empty(size, np.uint8)
    used = _write(buffer, counts, identity, flags, lean, np.ascontiguousarray(cells), state)
    return buffer[:used].tobytes()


@kernel
def _write(
    buffer: NDArray[np.uint8],
    counts: NDArray[np.int64],
    identity: NDArray[np.int64],
    flags: NDArray[np.int64],
    lean: NDArray[np.float64],
    cells: NDArray[np.float64],
    state: NDArray[np.uint8],
) -> int:
    at = _end_line(buffer, _put_whole(buffer, 0, len(counts)))
    row = 0
    for count in counts:
        at = _end_line(buffer, _put_whole(buffer, at, count))
        for _ in range(count):
            at = _put_whole(buffer, at, identity[row])
            for flag in flags[row]:
                at = _put_whole(buffer, _put_blank(buffer, at), flag)
            for value in lean[row]:
                at = _put_number(buffer, _put_blank(buffer, at), value)
            # a body in the file is always a tracked one
            at = _end_line(buffer, _put_whole(buffer, _put_blank(buffer, at), 2))
            at = _end_line(buffer, _put_whole(buffer, at, cells.shape[1]))
            for joint in range(cells.shape[1]):
                for column in range(cells.shape[2]):
                    at = _put_blank(buffer, _put_number(buffer, at, cells[row, joint, column]))
                at = _end_line(buffer, _put_whole(buffer, at, state[row, joint]))
            row += 1
    return at


@kernel
def _decimal(value: float) -> tuple[int, int]:
    """Round to seven digits: (digits, places) with the value being digits / 10^places; (0, 0) for zero."""
    size = abs(value)
    if size < 1e-15:
        return 0, 0
    # the place of the leading digit
    lead = 0
    while size >= _POWERS[lead + 1]:
        lead += 1
    while lead <= 0 and size * _POWERS[-lead] < 1.0:
        lead -= 1
    places = _DIGITS - 1 - lead
    digits = int(np.rint(size * _POWERS[places]))
    if digits >= _LARGEST:
        digits //= 10
        places -= 1
    return (-digits if value < 0 else digits), places


@kernel
def _round_all(values: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    for i in range(len(values)):
        if np.isnan(values[i]):
            out[i] = np.nan
        else:
            digits, places = _decimal(values[i])
            out[i] = np.float32(digits / _POWERS[places])


@kernel
def _put_number(buffer: NDArray[np.uint8], at: int, value: float) -> int:
    if np.isnan(value):
        buffer[at : at + 3] = _NAN
        return at + 3
    digits, places = _decimal(value)
    if digits < 0:
        buffer[at] = _MINUS
        at += 1
        digits = -digits
    if digits == 0:
        buffer[at] = _ZERO
        return at + 1
    while digits % 10 == 0 and places > 0:
        digits //= 10
        places -= 1
    length = _length(digits)
    lead = length - 1 - places
    if lead < -4:
        at = _put_digits(buffer, at, digits, length, length - 1)
        buffer[at : at + 2] = _EXPONENT
        buffer[at + 2] = _ZERO + (-lead) // 10
        buffer[at + 3] = _ZERO + (-lead) % 10
        return at + 4
    if places >= length:
        buffer[at] = _ZERO
        buffer[at + 1] = _POINT
        at += 2
        for _ in range(places - length):
            buffer[at] = _ZERO
            at += 1
        return _put_digits(buffer, at, digits, length, 0)
    return _put_digits(buffer, at, digits, length, places)


@kernel
def _put_digits(buffer: NDArray[np.uint8], at: int, digits: int, length: int, places: int) -> int:
    """Write ``digits`` with a point before the last ``places`` of them (none for 0)."""
    end = at + length + (places > 0)
    put = end - 1
    for k in range(length):
        if places > 0 and k == places:
            buffer[put] = _POINT
            put -= 1
        buffer[put] = _ZERO + digits % 10
        digits //= 10
        put -= 1
    return end


@kernel
def _put_whole(buffer: NDArray[np.uint8], at: int, number: int) -> int:
    return _put_digits(buffer, at, number, _length(number), 0)


@kernel
def _length(number: int) -> int:
    length = 1
    while number >= 10:
        number //= 10
        length += 1
    return length


@kernel
def _put_blank(buffer: NDArray[np.uint8], at: int) -> int:
    buffer[at] = _BLANK
    return at + 1


@kernel
def _end_line(buffer: NDArray[np.uint8], at: int) -> int:
    buffer[at] = 13
    buffer[at + 1] = 10
    return at + 2
