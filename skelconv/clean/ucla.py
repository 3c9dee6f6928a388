"""The NW-UCLA chain of Cheng et al. (Shift-GCN, CVPR 2020), as in the feeders of DecoupleGCN and CTR-GCN.

Their view rotation and scaling stand between centring and the final scaling; they are augmentation, and
done where augmentation is done. That is why the scaling is a step that can be left for later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.clean.candidates import Actors
from skelformats.skeleton import Skeleton

FEEDER_FRAMES = 52
"""Frames a clip is resampled to in the published feeders; the S2I encoding takes the whole clip instead."""


def centre_on_first_frame(actors: Actors, skeleton: Skeleton) -> Actors:
    """Move all persons so that the first one's origin joint (the spine) is 0 in frame 0.

    As published, missing joints move too; absent persons stay at 0.
    """
    centre = actors.position[0, 0, list(skeleton.origin)].mean(axis=0, dtype=np.float32)
    return replace(actors, position=np.where(_shown(actors), actors.position - centre, np.float32(0)))


def scale_to_unit_range(actors: Actors, skeleton: Skeleton) -> Actors:
    """Stretch each axis to [-1, 1] over all frames, joints and persons; absent persons stay at 0."""
    position = np.zeros_like(actors.position)
    position[actors.present] = to_unit_range(actors.position[actors.present])
    return replace(actors, position=position)


def resample_to_52_frames(actors: Actors, skeleton: Skeleton) -> Actors:
    """Take 52 frames at even steps from the first to the last, rounded down: the feeders' test branch.

    A clip of fewer frames repeats some.
    """
    frames = actors.position.shape[1]
    return actors.take_frames(np.linspace(0, frames - 1, FEEDER_FRAMES).astype(np.intp))


def to_unit_range(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stretch each axis of (R, J, A) to [-1, 1] over all rows and joints, in float64, rounded to float32.

    A constant axis becomes 0, the middle of the range, where the published code divides by 0.
    """
    if not len(rows):
        return rows
    low = rows.min(axis=(0, 1)).astype(np.float64)
    span = rows.max(axis=(0, 1)) - low
    scaled = (rows - low) / np.where(span > 0, span, 1.0) * 2 - 1
    return np.where(span > 0, scaled, 0.0).astype(np.float32)


def _shown(actors: Actors) -> NDArray[Any]:
    return actors.present[..., None, None]
