"""The streams, and `encode`, which makes images of a ragged batch.

A skeleton sequence becomes an image of three channels, x, y and z: rows are time, columns are joints in the
order of the five body parts, and both axes are resized linearly to a fixed size (S2I paper, sections 3.1 and
4.2, Table 14). That is one linear map a sample, ``image[c] = A @ position[:, order, c] @ B.T``; an `S2IPlan`
holds the order and the weights. docs/s2i.md tells what the paper leaves open and what was decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.s2i import kernel
from skelconv.s2i.plan import S2IError, S2IPlan
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton

STREAMS = ("joint", "bone", "motion")
"""What an image can be made of: positions, bones (joint minus its parent), or steps between frames."""


def stream_rows(
    position: NDArray[np.floating[Any]], next_row: NDArray[np.integer[Any]], skeleton: Skeleton, stream: str
) -> NDArray[np.float32]:
    """Turn positions into the values of a stream, before any resize.

    Parameters
    ----------
    position
        (R, J, A) positions in the layout's joint order.
    next_row
        (R,) row of the same person's next frame, a row's own index for a person's last frame: two people
        whose frames alternate are never subtracted from each other.
    stream
        ``joint``: the positions. ``motion``: next frame minus this one, 0 for the last. ``bone``: joint minus
        the mean of its references (`Skeleton.bones`), 0 for the root.

    Returns
    -------
    (R, J, A) float32.

    Raises
    ------
    UnknownNameError
        There is no such stream.
    S2IError
        The positions are not of this layout.
    """
    position = np.asarray(position, np.float32)
    if position.ndim != 3 or position.shape[1] != len(skeleton):
        raise S2IError(
            f"found positions of shape {position.shape}, expected (rows, {len(skeleton)}, axes) for the "
            f"layout {skeleton.name}"
        )
    if stream == "joint":
        return position
    if stream == "motion":
        return position[next_row] - position
    if stream != "bone":
        raise UnknownNameError("stream", stream, STREAMS)
    bone = np.zeros_like(position)
    for child, references in enumerate(skeleton.bones):
        if references:
            origin = position[:, references].mean(axis=1, dtype=np.float64)
            bone[:, child] = position[:, child] - origin
    return bone


def encode(
    position: NDArray[np.floating[Any]],
    offsets: NDArray[np.integer[Any]] | Sequence[int],
    plan: S2IPlan,
    out: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Encode a ragged batch of N samples.

    Parameters
    ----------
    position
        (R, joint_count, 3) rows of all samples, one after another. A missing joint may be NaN; the pixels
        it contributes to are NaN then.
    offsets
        (N + 1,) first row of each sample, and R; every sample has at least one row.
    out
        (N, 3, rows, columns) float32, C-contiguous: where to write. Saves page faults when it is used
        again; fastest if `aligned_images` made it.
    threads
        Threads to work with; the result is the same, bit for bit, for any number.

    Returns
    -------
    ``out``, or a new array of its shape.

    Raises
    ------
    S2IError
        A shape does not fit the plan, or a sample is empty.
    """
    position = np.ascontiguousarray(position, np.float32)
    starts = np.ascontiguousarray(offsets, np.int64)
    _check_batch(position, starts, plan)
    samples = len(starts) - 1
    rows, columns = plan.size
    images = aligned_images(samples, plan) if out is None else _checked_out(out, (samples, 3, rows, columns))
    runs, weight = _column_runs(plan)
    past_cache = columns % kernel.LANES == 0 and images.ctypes.data % kernel.ALIGNMENT == 0

    def work(first: int, last: int) -> None:
        row = kernel.aligned_empty((6 * kernel.pitch_of(columns),))
        kernel.encode_samples(
            position.reshape(-1), starts, plan.joint_count, runs, weight, row, images.reshape(-1),
            rows, columns, plan.align_corners, past_cache, first, last,
        )  # fmt: skip

    in_threads(work, samples, threads)
    return images


def aligned_images(samples: int, plan: S2IPlan) -> NDArray[np.float32]:
    """Uninitialised (samples, 3, rows, columns) float32, aligned so that `encode` writes it at full speed."""
    return kernel.aligned_empty((samples, 3, *plan.size))


def in_threads(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``work(first, last)`` for stretches of ``range(count)``, in ``threads`` threads."""
    if threads <= 1 or count <= 1:
        work(0, count)
        return
    # a few stretches a thread, so that one long stretch does not leave the others waiting
    edges = np.linspace(0, count, min(count, 4 * threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


@cache
def _column_runs(plan: S2IPlan) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Cut the columns into straight runs of at most 16, which the kernel writes with one vector each.

    Returns
    -------
    (K, 3) int64: first column of a run, and where its lower and upper joint begin in a flat frame; and
    (K * 16,) float32, aligned: the weights of the upper joint, 0 beyond the run's end.
    """
    lower, upper, weight = plan.weights_joint()
    order = np.asarray(plan.order, np.int64)
    columns = plan.size[1]
    turns = np.flatnonzero((np.diff(lower) != 0) | (np.diff(upper) != 0)) + 1
    cuts = [0, *turns.tolist(), columns]
    pieces = [
        (first, min(first + kernel.LANES, stop))
        for start, stop in pairwise(cuts)
        for first in range(start, stop, kernel.LANES)
    ]
    runs = np.array([(at, 3 * order[lower[at]], 3 * order[upper[at]]) for at, _ in pieces], np.int64)
    weights = kernel.aligned_empty((len(pieces), kernel.LANES))
    weights[:] = 0
    for row, (first, stop) in zip(weights, pieces, strict=True):
        row[: stop - first] = weight[first:stop]
    return runs, weights.reshape(-1)


def _check_batch(position: NDArray[np.float32], offsets: NDArray[np.int64], plan: S2IPlan) -> None:
    if position.ndim == 3 and position.shape[2] != 3:
        raise S2IError(
            f"found positions of {position.shape[2]} axes, expected three: an image has three channels"
        )
    if position.ndim != 3 or position.shape[1] != plan.joint_count:
        raise S2IError(
            f"found positions of shape {position.shape}, expected (rows, {plan.joint_count}, 3) for the "
            f"layout {plan.skeleton_name}. Remap the joints to that layout first, or make a plan for theirs"
        )
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(position):
        raise S2IError(
            f"found offsets of shape {offsets.shape}, expected them to run from 0 to the "
            f"{len(position)} rows there are"
        )
    empty = np.flatnonzero(np.diff(offsets) < 1)
    if len(empty):
        raise S2IError(f"found no row in sample {empty[0]} of the batch, expected at least one. Leave it out")


def _checked_out(out: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise S2IError(
            f"found an output array {out.shape} {out.dtype}, expected {shape} float32, C-contiguous and "
            "writeable"
        )
    return out
