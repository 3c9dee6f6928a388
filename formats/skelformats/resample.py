"""Motion at another frame rate, by time: every new frame is taken at its own instant between two old ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelformats.rotation import Array, from_quaternion, slerp, to_quaternion

_TOLERANCE = 0.01
"""Frames by which a last instant may lie beyond the last frame, and is then it: 120.00004577636719 is 120."""


def sample_times(frames: int, source: float, target: float) -> Array:
    """Return the instants of the new frames, in frames of the source: 0, source / target, ... up to the last.

    The first frame is kept; no instant lies outside of the recording.
    """
    step = source / target
    count = int(np.floor((frames - 1) / step + _TOLERANCE)) + 1
    return np.minimum(np.arange(count) * step, frames - 1.0)


def resample_linear(values: Array, times: Array) -> Array:
    """Return values (T, ...) at the instants (N,), along straight lines: (N, ...)."""
    lower, weight = _neighbours(len(values), times)
    share = weight.reshape(-1, *(1,) * (values.ndim - 1))
    return (1.0 - share) * values[lower] + share * values[np.minimum(lower + 1, len(values) - 1)]


def resample_rotations(vectors: Array, times: Array) -> Array:
    """Return axis-angle rotations (T, K, 3) at the instants (N,), at constant speed along the shorter arc.

    The angles of what comes out are up to pi, whatever went in; instants that are frames keep their rotation.
    """
    lower, weight = _neighbours(len(vectors), times)
    quaternions = to_quaternion(vectors)
    upper = np.minimum(lower + 1, len(vectors) - 1)
    share = np.repeat(weight[:, None], vectors.shape[1], axis=1)
    return from_quaternion(slerp(quaternions[lower], quaternions[upper], share))


def _neighbours(frames: int, times: Array) -> tuple[NDArray[np.intp], Array]:
    lower = np.minimum(np.floor(times), max(frames - 2, 0)).astype(np.intp)
    return lower, times - lower
