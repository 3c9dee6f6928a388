"""The compiled form of augmentation in joint space, for a CPU: each row is read, turned and written once.

As tensor operations the same takes a dozen passes over the rows of a batch, which a CPU fetches from memory
each time. Products and sums are those of `skeltrain.data.augment.JointAugment` in the same order, each
rounded by itself (no fast-math flag, no fused multiply-add), so that the results are equal bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@njit(cache=True, nogil=True)
def augment_rows(
    rows: tuple[Floats, NDArray[np.int64], Floats, Floats],
    drawn: tuple[NDArray[np.bool_], Floats, Floats, Floats],
    joints: tuple[NDArray[np.int64], NDArray[np.bool_]],
) -> Any:
    """Transform R rows of J joints; N samples.

    Parameters
    ----------
    rows
        Position (R, J, 3), sample of each row (R,), standard normal numbers (R, J, 3) or (0, J, 3) for no
        noise, and the result (R, J, 3), which is written.
    drawn
        Flip (N,), matrix (N, 3, 3), shift (N, 3) and standard deviation of the noise (N,).
    joints
        The mirrored joint of each, and whether a joint may be missing; (J,).
    """
    position, sample, noise, out = rows
    flip, matrix, shift, sigma = drawn
    mirror, may_be_missing = joints
    noisy = len(noise) > 0
    zero = np.float32(0)
    for r in range(len(position)):
        n = sample[r]
        for j in range(position.shape[1]):
            if flip[n]:
                source = position[r, mirror[j]]
                x, y, z = -source[0], source[1], source[2]
            else:
                source = position[r, j]
                x, y, z = source[0], source[1], source[2]
            missing = may_be_missing[j] and x == 0 and y == 0 and z == 0
            for axis in range(3):
                if missing:
                    out[r, j, axis] = zero
                    continue
                line = matrix[n, axis]
                moved = x * line[0] + y * line[1] + z * line[2] + shift[n, axis]
                if noisy:
                    moved = moved + noise[r, j, axis] * sigma[n]
                out[r, j, axis] = moved
