"""2D poses beside the 3D ones that belong to them, as one recording to be turned and played.

A 2D pose stands as a flat figure in the plane of its picture, to the left of its 3D pose as the camera saw
them, at the same height and in the same size: seen from the camera the two agree, and turning them shows what
the third axis adds. Legend: T frames of a body, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.info import StoreError
from skelconv.store.recording import Recording, Sequence

PIXEL = "pixel"
"""The array that holds the 2D poses by convention (docs/store.md)."""

CAMERA_YAW = np.pi
"""Turn about +y that shows a store whose x and y are a camera's, reversed, as the camera saw it."""

GAP = 0.25
"""Between the two, in parts of the height of what is shown."""

_FEWEST = 4
"""Joints that must be there to tell how large a body is."""


def flat_beside(recording: Recording, array: str = PIXEL) -> Recording:
    """Return the recording with a flat body for each of its bodies, in the order 2D, 3D, 2D, 3D, ...

    Parameters
    ----------
    recording
        Bodies with positions (T, J, 3) whose axes are a camera's with x and y reversed (x to the left, y up,
        z ahead), in any unit, and with ``array``.
    array
        (T, J, 2) x to the right, y down, NaN where a joint is missing.

    Raises
    ------
    StoreError
        A body lacks the array, or no joint has both.
    """
    flats = [_flat(body, array) for body in recording.bodies]
    unit = _units_a_pixel([body.position for body in recording.bodies], flats)
    middle = np.nanmean(np.concatenate([flat.reshape(-1, 3) for flat in flats]), axis=0)
    scaled = [(flat - middle) * unit for flat in flats]
    placed = [_moved(body.position, flat) for body, flat in zip(recording.bodies, scaled, strict=True)]
    # outliers of a detector would push the two far apart
    points = np.concatenate([place.reshape(-1, 3) for place in placed])
    low, high = np.nanpercentile(points, (1, 99), axis=0)
    shift = np.array([high[0] - low[0] + GAP * (high[1] - low[1]), 0, 0])
    bodies: list[Sequence] = []
    for body, flat, pose in zip(recording.bodies, scaled, placed, strict=True):
        bodies += [
            replace(body, position=place.astype(np.float32), confidence=None, extras={})
            for place in (flat + shift, pose)
        ]
    return replace(recording, bodies=tuple(bodies))


def beside_names(count: int, flat: str = "2D", solid: str = "3D") -> list[str]:
    """Return what a legend calls the bodies of `flat_beside`, of ``count`` persons."""
    if count == 1:
        return [flat, solid]
    return [f"{word}, person {number + 1}" for number in range(count) for word in (flat, solid)]


def _flat(body: Sequence, array: str) -> NDArray[np.float64]:
    """(T, J, 3) in pixels, with the axes of the positions and 0 ahead."""
    if array not in body.extras:
        raise StoreError(
            f"{body.name}: found no array {array!r}, expected 2D poses beside the 3D ones. skeltrain predict "
            "writes them, and skelconv ingest h36m --with pixel"
        )
    pixel = np.asarray(body.extras[array], np.float64)
    return np.concatenate([-pixel, np.where(np.isfinite(pixel[..., :1]), 0.0, np.nan)], axis=-1)


def _units_a_pixel(positions: Listing[NDArray[Any]], flats: Listing[NDArray[np.float64]]) -> float:
    """How much larger the 3D bodies are: the median over frames of the ratio of their extents."""
    ratios = []
    for position, flat in zip(positions, flats, strict=True):
        both = np.isfinite(position).all(axis=-1) & np.isfinite(flat).all(axis=-1)
        for frame in np.flatnonzero(both.sum(axis=1) >= _FEWEST):
            there = both[frame]
            wide, narrow = (pose[frame][there][:, :2].std(axis=0).sum() for pose in (position, flat))
            if narrow > 0:
                ratios.append(wide / narrow)
    if not ratios:
        raise StoreError(
            f"found no frame with {_FEWEST} joints in 2D and in 3D, expected poses to be put side by side"
        )
    return float(np.median(ratios))


def _moved(position: NDArray[Any], flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move 3D poses (T, J, 3) in the plane so that the middle of their joints is that of the flat ones."""
    both = (np.isfinite(position).all(axis=-1) & np.isfinite(flat).all(axis=-1))[..., None]
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    offset = np.where(both, flat - position, 0).sum(axis=1, keepdims=True) / count
    offset[..., 2] = 0
    moved: NDArray[np.float64] = position + offset
    return moved
