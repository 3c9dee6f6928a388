"""Back from images to frames and joints: `decode` inverts the encoding, `transpose` carries weights back.

The encoding of one channel is ``image = A X B'`` (`skelconv.s2i.plan`), with A (rows, frames) and B (columns,
joints) of interpolation weights. Both directions follow from these two matrices, in float64.

Legend: C channels, F rows of a sample (frames, of one person or of several), J joints of the layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.s2i.plan import S2IError, S2IPlan, Weights

SMOOTHNESS = 1e-6
"""Weight of the differences between neighbours: it decides only what the image leaves open."""

RIDGE = 1e-11
"""Weight of the values themselves, which decides what even the differences leave open."""


def time_matrix(plan: S2IPlan, frames: int) -> NDArray[np.float64]:
    """Return A (rows, frames): what each row of an image takes of each frame; its rows sum to 1."""
    return _dense(plan.weights_time(frames), frames)


def joint_matrix(plan: S2IPlan) -> NDArray[np.float64]:
    """Return B (columns, J): what each column of an image takes of each joint; its rows sum to 1.

    Joints are in the order of the layout; one that the plan leaves out has zeros.
    """
    whole = np.zeros((plan.size[1], plan.joint_count))
    whole[:, list(plan.order)] = _dense(plan.weights_joint(), len(plan.order))
    return whole


def transpose(weight: NDArray[Any], plan: S2IPlan, frames: int) -> NDArray[np.float64]:
    """Carry a weight of each pixel back to frames and joints: ``A' M B``.

    Each pixel's weight is shared out as the pixel's value was put together, so the sum stays what it was.

    Parameters
    ----------
    weight
        (rows, columns).
    frames
        Rows of the sample that the image was made of.

    Returns
    -------
    (F, J).

    Raises
    ------
    S2IError
        The weights are not those of an image of the plan.
    """
    if weight.shape != plan.size:
        raise S2IError(f"found weights of shape {weight.shape}, expected those of {plan.size} pixels")
    return time_matrix(plan, frames).T @ weight.astype(np.float64) @ joint_matrix(plan)


def decode(
    image: NDArray[Any], plan: S2IPlan, frames: int, next_row: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.float64]:
    """Find the values whose encoding is nearest to an image, by least squares.

    For an image that `skelconv.s2i.encode` made of no more frames than it has rows, and no more joints than
    columns, these are the values that it was made of. What an image leaves open (frames between its rows)
    becomes as smooth as the image lets it be: it lies on a line between its neighbours.

    Parameters
    ----------
    image
        (C, rows, columns), not normalised.
    frames
        F, rows of the sample.
    next_row
        (F,) row of the same person's next frame, a row's own number for the last; by default the rows are
        one person's frames.

    Returns
    -------
    (F, J, C); NaN for a joint that the plan leaves out.

    Raises
    ------
    S2IError
        The image is not of the plan's size, or there is no frame.
    """
    if image.ndim != 3 or image.shape[1:] != plan.size or frames < 1:
        raise S2IError(
            f"found an image of shape {image.shape} and {frames} frames, expected (channels, "
            f"{plan.size[0]}, {plan.size[1]}) and at least one frame"
        )
    rows = np.arange(frames)
    following = np.minimum(rows + 1, frames - 1) if next_row is None else np.asarray(next_row, np.int64)
    order = np.arange(len(plan.order))
    along_joints = _solver(_dense(plan.weights_joint(), len(order)), np.minimum(order + 1, len(order) - 1))
    along_time = _solver(time_matrix(plan, frames), following)
    values = np.einsum("fr,crk,jk->fjc", along_time, image.astype(np.float64), along_joints, optimize=True)
    whole = np.full((frames, plan.joint_count, len(image)), np.nan)
    whole[:, list(plan.order)] = values
    return whole


def _dense(weights: Weights, count: int) -> NDArray[np.float64]:
    lower, upper, weight = weights
    matrix = np.zeros((len(lower), count))
    points = np.arange(len(lower))
    matrix[points, lower] = 1 - weight
    # where the weight is 0 both are one index
    np.add.at(matrix, (points, upper), weight)
    return matrix


def _solver(matrix: NDArray[np.float64], following: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """(count, points): what takes values at the points to the smoothest of the best values."""
    count = matrix.shape[1]
    differences = np.eye(count)[following] - np.eye(count)
    normal = matrix.T @ matrix + SMOOTHNESS * differences.T @ differences + RIDGE * np.eye(count)
    return np.linalg.solve(normal, matrix.T)
