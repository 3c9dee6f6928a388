"""Correct rounding of any decimal number to float64, in Numba: the slow path of `skelformats.text`.

Numbers of up to 15 digits and small exponents, which is all that motion capture devices print, never get
here. The rest is done in whole numbers of any length: the digits times a power of ten, or the digits
shifted left and divided by one, and then the leading 53 bits, rounded half to even (IEEE 754, section 4.3).

Python's ``float`` would be shorter, but a kernel reaches it in Numba's object mode only: that takes arrays
and not the pointers that the scanners walk on, holds the interpreter's lock in kernels that are to run
without it, and Numba warns of it at every compilation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.kernel import kernel
from skelformats.simd import Pointer

SIGNIFICANT = 800
"""Digits that are kept; 768 decide every case, and of those beyond only matters whether one is not 0."""

_LIMBS = 256
"""32-bit limbs: 800 digits are 84, and the longest shift, for 10^-1130, is 120 more."""


@kernel
def exact_float(buffer: Pointer, at: int, end: int, exponent: int) -> float:
    """Return the float64 nearest to ``buffer[at:end]`` (digits, at most one point) times 10^exponent."""
    limbs = np.zeros(_LIMBS, np.uint32)
    used, digits, exponent, rest = _read_digits(buffer, at, end, exponent, limbs)
    if used == 0 or digits + exponent < -330:
        return 0.0
    if digits + exponent > 310:
        return math.inf
    shift = 0
    if exponent >= 0:
        while exponent > 0:
            step = min(exponent, 9)
            used = _multiply_add(limbs, used, 10**step, 0)
            exponent -= step
    else:
        # enough bits that the quotient still has 64 of them
        moved = (-exponent * 10 // 3 + 65) // 32 + 1
        for i in range(used - 1, -1, -1):
            limbs[i + moved] = limbs[i]
        limbs[:moved] = 0
        used += moved
        shift = 32 * moved
        while exponent < 0:
            step = min(-exponent, 9)
            used, remainder = _divide(limbs, used, 10**step)
            rest = rest or remainder
            exponent += step
    return _round(limbs, used, shift, rest)


@kernel
def _read_digits(
    buffer: Pointer, at: int, end: int, exponent: int, limbs: NDArray[np.uint32]
) -> tuple[int, int, int, bool]:
    """Read the digits into ``limbs``; return limbs used, digits kept, the exponent left, a non-zero rest."""
    used = digits = waiting = 0
    number, scale = 0, 1
    rest = after_point = False
    for i in range(at, end):
        if buffer[i] == 46:
            after_point = True
            continue
        digit = buffer[i] - 48
        if digits == SIGNIFICANT:
            rest = rest or digit != 0
            exponent += 0 if after_point else 1
            continue
        exponent -= 1 if after_point else 0
        if digits == 0 and digit == 0:
            continue
        digits += 1
        number, scale, waiting = number * 10 + digit, scale * 10, waiting + 1
        if waiting == 9:
            used = _multiply_add(limbs, used, scale, number)
            number, scale, waiting = 0, 1, 0
    if waiting:
        used = _multiply_add(limbs, used, scale, number)
    return used, digits, exponent, rest


@kernel
def _multiply_add(limbs: NDArray[np.uint32], used: int, factor: int, summand: int) -> int:
    """Replace the number in ``limbs`` by number * factor + summand; return how many limbs it uses."""
    carry = np.uint64(summand)
    for i in range(used):
        carry += np.uint64(limbs[i]) * np.uint64(factor)
        limbs[i] = np.uint32(carry & np.uint64(0xFFFFFFFF))
        carry >>= np.uint64(32)
    if carry != np.uint64(0):
        limbs[used] = np.uint32(carry)
        used += 1
    return used


@kernel
def _divide(limbs: NDArray[np.uint32], used: int, divisor: int) -> tuple[int, bool]:
    """Replace the number in ``limbs`` by number // divisor; return limbs used, and if anything is left."""
    remainder = np.uint64(0)
    for i in range(used - 1, -1, -1):
        remainder = (remainder << np.uint64(32)) | np.uint64(limbs[i])
        limbs[i] = np.uint32(remainder // np.uint64(divisor))
        remainder %= np.uint64(divisor)
    while used > 0 and limbs[used - 1] == 0:
        used -= 1
    return used, remainder != np.uint64(0)


@kernel
def _round(limbs: NDArray[np.uint32], used: int, shift: int, rest: bool) -> float:
    """Return the number in ``limbs``, plus less than 1 where ``rest``, times 2^-shift as a float64."""
    top = 0
    while limbs[used - 1] >> np.uint32(top) != 0:
        top += 1
    bits = 32 * (used - 1) + top
    # below 2^-1022 a float64 has fewer than 53 bits
    precision = min(53, bits - shift + 1074)
    if precision < 0:
        return 0.0
    drop = max(bits - precision, 0)
    mantissa = np.uint64(0)
    for i in range(bits - 1, drop - 1, -1):
        mantissa = mantissa << np.uint64(1) | np.uint64(_bit(limbs, i))
    if drop > 0 and _bit(limbs, drop - 1):
        for i in range(drop - 1):
            if rest:
                break
            rest = _bit(limbs, i) != 0
        if rest or mantissa & np.uint64(1) != np.uint64(0):
            mantissa += np.uint64(1)
    return math.ldexp(np.float64(mantissa), drop - shift)


@kernel
def _bit(limbs: NDArray[np.uint32], i: int) -> Any:
    return (limbs[i >> 5] >> np.uint32(i & 31)) & np.uint32(1)
