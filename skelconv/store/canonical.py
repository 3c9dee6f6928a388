"""From the positions of a source to those of a store: axes, unit, and the grid of ``--precision``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skelconv.store.errors import StoreError
from skelformats.reader import AxisMap


def canonical_positions(
    raw: NDArray[np.float32], axis_map: AxisMap, precision: float | None = None
) -> NDArray[np.float32]:
    """Map raw positions (..., A) to the store's axes and unit; float32 in and out.

    A joint with a coordinate that is NaN or infinite is missing: NaN in every axis.

    Parameters
    ----------
    precision
        Largest error in the store's unit that rounding may make, or None to round nothing: positions are
        rounded to a grid of a power of two, which compresses better and costs nothing else.

    Raises
    ------
    StoreError
        ``precision`` is not a length above 0.
    """
    position = axis_map.to_canonical(np.asarray(raw, np.float32))
    lost = ~np.isfinite(position).all(axis=-1, keepdims=True)
    if lost.any():
        position = np.where(lost, np.float32("nan"), position)
    if precision is None:
        return position
    step = grid_step(precision)
    return (np.round(position.astype(np.float64) / step) * step).astype(np.float32)


def grid_step(precision: float) -> float:
    """Largest power of two whose rounding error, half a step, is within ``precision``; else `StoreError`."""
    if not (math.isfinite(precision) and precision > 0):
        raise StoreError(f"found precision {precision}, expected a length above 0, such as 1e-4")
    return 2.0 ** math.floor(math.log2(2 * precision))
