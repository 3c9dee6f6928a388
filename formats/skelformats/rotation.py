"""Rotations as axis-angle vectors, matrices and unit quaternions; float64, vectorised over leading axes.

Quaternions are (w, x, y, z). Formulas: O. Rodrigues (1840) for the matrix; K. Shoemake, Animating Rotation
with Quaternion Curves, SIGGRAPH 1985, for `slerp`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALL = 1e-6
"""Angle in radians below which sin(x) / x is its series: the next term is smaller than float64 resolves."""


def to_matrix(vector: Array) -> Array:
    """Return the matrices (..., 3, 3) of axis-angle vectors (..., 3) in radians."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    small = angle < _SMALL
    safe = np.where(small, 1.0, angle)
    sine = np.where(small, 1.0 - angle**2 / 6.0, np.sin(safe) / safe)
    # (1 - cos a) / a^2 as a sine, which does not cancel
    versine = np.where(small, 0.5 - angle**2 / 24.0, 0.5 * (np.sin(safe / 2.0) / (safe / 2.0)) ** 2)
    cross = np.zeros((*vector.shape, 3))
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -z, y, -x
    cross -= np.swapaxes(cross, -1, -2)
    return np.eye(3) + sine * cross + versine * (cross @ cross)


def to_quaternion(vector: Array) -> Array:
    """Return the unit quaternions (..., 4) of axis-angle vectors (..., 3) in radians."""
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    small = angle < _SMALL
    safe = np.where(small, 1.0, angle)
    factor = np.where(small, 0.5 - angle**2 / 48.0, np.sin(safe / 2.0) / safe)
    return np.concatenate([np.cos(angle / 2.0), factor * vector], axis=-1)


def from_quaternion(quaternion: Array) -> Array:
    """Return the axis-angle vectors (..., 3), of angles up to pi, of unit quaternions (..., 4)."""
    positive = np.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)
    sine = np.linalg.norm(positive[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, positive[..., :1])
    small = sine < _SMALL
    return np.where(small, 2.0, angle / np.where(small, 1.0, sine)) * positive[..., 1:]


def slerp(first: Array, second: Array, weight: Array) -> Array:
    """Return the quaternions a fraction ``weight`` of the way from ``first`` to ``second``, the shorter way.

    Parameters
    ----------
    first, second
        (..., 4) unit quaternions.
    weight
        (...) 0 for ``first``, 1 for ``second``.
    """
    dot = (first * second).sum(axis=-1, keepdims=True)
    second = np.where(dot < 0.0, -second, second)
    # of the angle between unit vectors, from their difference and sum: exact for small angles too
    half = np.arctan2(
        np.linalg.norm(second - first, axis=-1, keepdims=True),
        np.linalg.norm(second + first, axis=-1, keepdims=True),
    )
    angle, share = 2.0 * half, weight[..., None]
    small = angle < _SMALL
    sine = np.where(small, 1.0, np.sin(angle))
    start = np.where(small, 1.0 - share, np.sin((1.0 - share) * angle) / sine)
    stop = np.where(small, share, np.sin(share * angle) / sine)
    mixed = start * first + stop * second
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
