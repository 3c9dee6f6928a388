"""The compiled half of the Skeleton-to-Image encoding: one sample after another, every row written once.

The work is bound by memory: an image is many times larger than the frames it grows from, so what counts is
how often the output crosses the bus. Four things follow.

- A frame is spread over the columns once (`_spread`), into a row buffer that stays in the first-level cache.
  Between two joint centres a row is a straight line, so spreading is one fused multiply-add over a run of
  neighbouring columns, with no gather.
- An image row is the mean of two such buffers, weighted by time (`_lerp`). A sample is walked down its rows,
  so each frame is spread once; two buffers are enough.
- A finished row goes past the cache to memory (a non-temporal store), where its address allows it: otherwise
  the processor first reads the line that is about to be overwritten, which doubles the traffic.
- Of a long sequence frames are skipped, which the processor does not foresee: they are asked for in advance.

Vectors are written out as LLVM vectors of sixteen floats (64 bytes, a cache line), because Numba's own
vectoriser gives neither overlapping runs nor non-temporal stores. LLVM splits them for narrower machines.
No fast-math flag is set on what makes an image: a NaN stays a NaN, where it is.

All of it stands in one file, because Numba's cache looks only at the file of the function it has compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LANES = 16
"""Floats in a vector; one cache line."""

ALIGNMENT = 64
"""Bytes. Non-temporal stores need every image row to begin at a multiple of it."""

_AHEAD = 4
"""Image rows by which the frames of a long sequence are asked for in advance; halves the time at T = 1000."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)

# An intrinsic is called without its first parameter, which its type does not say.
_intrinsic: Any = intrinsic


def aligned_empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Uninitialised float32 array, C-contiguous, beginning at a multiple of `ALIGNMENT` bytes."""
    size = 4 * int(np.prod(shape))
    raw = np.empty(size + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size].view(np.float32).reshape(shape)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, offset: Any, vector: bool = True) -> Any:
    """Address of a flat array's element, with no wrap-around of negative indices."""
    address = builder.gep(context.make_array(kind)(context, builder, array).data, [offset])
    return builder.bitcast(address, _VECTOR.as_pointer()) if vector else address


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, fused where the machine can; never a call into libm, as ``llvm.fma`` may become."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [x, y, z])


def _load(builder: Any, address: Any, align: int) -> Any:
    value = builder.load(address)
    value.align = align
    return value


@_intrinsic
def _ramp(typing: Any, row: Any, at: Any, weight: Any, run: Any, x: Any, low: Any, high: Any) -> Any:
    """``row[at : at + 16] = x[low] + weight[run : run + 16] * (x[high] - x[low])``."""
    index = types.intp
    signature = types.void(row, index, weight, index, x, index, index)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row_, at_, weight_, run_, x_, low_, high_ = args
        row_type, _, weight_type, _, x_type, _, _ = signature.args
        a = builder.load(_pointer(context, builder, x_type, x_, low_, vector=False))
        b = builder.load(_pointer(context, builder, x_type, x_, high_, vector=False))
        w = _load(builder, _pointer(context, builder, weight_type, weight_, run_), ALIGNMENT)
        value = _fma(builder, w, _broadcast(builder, builder.fsub(b, a)), _broadcast(builder, a))
        builder.store(value, _pointer(context, builder, row_type, row_, at_)).align = 4
        return context.get_dummy_value()

    return signature, generate


def _lerp_intrinsic(past_cache: bool) -> Any:
    def lerp(typing: Any, out: Any, at: Any, rows: Any, low: Any, high: Any, weight: Any) -> Any:
        """``out[at : at + 16] = rows[low : ...] + weight * (rows[high : ...] - rows[low : ...])``."""
        signature = types.void(out, types.intp, rows, types.intp, types.intp, types.float32)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_, at_, rows_, low_, high_, weight_ = args
            out_type, _, rows_type, _, _, _ = signature.args
            a = _load(builder, _pointer(context, builder, rows_type, rows_, low_), ALIGNMENT)
            b = _load(builder, _pointer(context, builder, rows_type, rows_, high_), ALIGNMENT)
            value = _fma(builder, _broadcast(builder, weight_), builder.fsub(b, a), a)
            store = builder.store(value, _pointer(context, builder, out_type, out_, at_))
            store.align = ALIGNMENT if past_cache else 4
            if past_cache:
                store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))
            return context.get_dummy_value()

        return signature, generate

    return _intrinsic(lerp)


_lerp = _lerp_intrinsic(past_cache=False)
_lerp_past_cache = _lerp_intrinsic(past_cache=True)


@_intrinsic
def _fence(typing: Any) -> Any:
    """Let no later write overtake the non-temporal ones, so that who is told of the images can read them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@_intrinsic
def _prefetch(typing: Any, x: Any, at: Any) -> Any:
    """Ask for the cache line of ``x[at]``; never faults."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        x_, at_ = args
        address = _pointer(context, builder, signature.args[0], x_, at_, vector=False)
        read, keep, data = (ir.Constant(_INT, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(address, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(x, types.intp), generate


@njit(nogil=True, error_model="numpy", inline="always")
def _spread(
    x: Floats, frame: int, runs: NDArray[np.int64], weight: Floats, row: Floats, slot: int, pitch: int
) -> None:
    """Spread a frame, flat from ``x[frame]`` on, over the columns: three row buffers from ``row[slot]`` on.

    A run may write beyond its end; the next one overwrites that, the last one ends in the padding.
    """
    for c in range(3):
        for k in range(runs.shape[0]):
            at = slot + c * pitch + runs[k, 0]
            _ramp(row, at, weight, LANES * k, x, frame + runs[k, 1] + c, frame + runs[k, 2] + c)


@njit(nogil=True, error_model="numpy", inline="always")
def _locate(i: int, frames: int, rows: int, align_corners: bool) -> tuple[int, int, np.float32]:
    """Frames below and above output row ``i`` and the weight of the upper; exact up to the last division.

    The same rule as `skelconv.s2i.line_weights`, one row at a time.
    """
    if align_corners:
        over, under = i * (frames - 1), max(rows - 1, 1)
    else:
        over, under = max((2 * i + 1) * frames - rows, 0), 2 * rows
    low = over // under
    rest = over - low * under
    if low >= frames - 1:
        return frames - 1, frames - 1, np.float32(0)
    if rest == 0:  # a frame of weight nought must not matter, not even as NaN
        return low, low, np.float32(0)
    return low, low + 1, np.float32(rest / under)


@njit(nogil=True, error_model="numpy", inline="always")
def _look_ahead(
    x: Floats, start: int, size: int, i: int, frames: int, rows: int, align_corners: bool
) -> None:
    """Ask for the two frames of output row ``i``, which is yet to come."""
    if i < rows:
        low, high, _ = _locate(i, frames, rows, align_corners)
        for at in range(start + low * size, start + (high + 1) * size, LANES):
            _prefetch(x, at)


@njit(nogil=True, error_model="numpy", inline="always")
def _write(
    out: Floats,
    at: int,
    rows: int,
    columns: int,
    row: Floats,
    low: int,
    high: int,
    weight: np.float32,
    past_cache: bool,
) -> None:
    """Write one image row of all channels, the first from ``out[at]`` on: the mean of two buffers."""
    pitch = row.shape[0] // 6
    whole = columns - columns % LANES
    for c in range(3):
        to = at + c * rows * columns
        a = low + c * pitch
        b = high + c * pitch
        if past_cache:
            for k in range(0, columns, LANES):
                _lerp_past_cache(out, to + k, row, a + k, b + k, weight)
        else:
            for k in range(0, whole, LANES):
                _lerp(out, to + k, row, a + k, b + k, weight)
            for k in range(whole, columns):
                out[to + k] = row[a + k] + weight * (row[b + k] - row[a + k])


@njit(nogil=True, error_model="numpy", cache=True)
def encode_samples(
    x: Floats,
    offsets: NDArray[np.int64],
    joints: int,
    runs: NDArray[np.int64],
    weight: Floats,
    row: Floats,
    out: Floats,
    rows: int,
    columns: int,
    align_corners: bool,
    past_cache: bool,
    first: int,
    last: int,
) -> None:
    """Encode the samples from ``first`` to before ``last``; the caller has checked every argument.

    Parameters
    ----------
    x
        Flat positions, (R * joints * 3,) float32.
    offsets
        (N + 1,) int64: first frame of each sample, and R.
    runs, weight
        (K, 3) int64 of column, lower and upper joint's place in a frame, and (K * 16,) float32, aligned: the
        columns as straight runs (`skelconv.s2i`).
    row
        Scratch of this call alone: (6 * pitch,) float32, aligned, pitch being `pitch_of(columns)`.
    out
        Flat images (N * 3 * rows * columns,) float32; aligned, and ``columns`` a multiple of 16, where
        ``past_cache`` is set.
    """
    size = joints * 3
    pitch = row.shape[0] // 6
    for n in range(first, last):
        start = offsets[n] * size
        frames = offsets[n + 1] - offsets[n]
        held_low, held_high = -1, -1  # the frames that the two row buffers hold
        slot_low, slot_high = 0, 3 * pitch
        for i in range(rows):
            if frames > 2 * rows:
                _look_ahead(x, start, size, i + _AHEAD, frames, rows, align_corners)
            low, high, w = _locate(i, frames, rows, align_corners)
            if low != held_low:
                if low == held_high:
                    slot_low, slot_high = slot_high, slot_low
                    held_high = -1
                else:
                    _spread(x, start + low * size, runs, weight, row, slot_low, pitch)
                held_low = low
            other = slot_low
            if high != low:
                other = slot_high
                if high != held_high:
                    _spread(x, start + high * size, runs, weight, row, slot_high, pitch)
                    held_high = high
            _write(out, (3 * n * rows + i) * columns, rows, columns, row, slot_low, other, w, past_cache)
    if past_cache:
        _fence()


@njit(nogil=True, error_model="numpy", cache=True, fastmath={"reassoc", "contract"})
def channel_moments(
    images: Floats,
    pixels: int,
    mean: NDArray[np.float64],
    square: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    """Mean and summed squared deviation of planes of ``pixels`` values, in double precision.

    ``images`` is flat; plane p of it gives ``mean[p]`` and ``square[p]``, for p from ``first`` to before
    ``last``. Sums are reordered (so that they vectorise), always in the same way.
    """
    for p in range(first, last):
        plane = images[p * pixels : (p + 1) * pixels]
        total = 0.0
        for k in range(pixels):
            total += np.float64(plane[k])
        centre = total / pixels
        spread = 0.0
        for k in range(pixels):
            spread += (np.float64(plane[k]) - centre) ** 2
        mean[p] = centre
        square[p] = spread


def pitch_of(columns: int) -> int:
    """Floats from one row buffer to the next: room for a run that begins in the last column."""
    return -(-(columns + LANES) // LANES) * LANES
