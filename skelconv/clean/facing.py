"""Turning a clip to a canonical facing: one rotation about the vertical for all of it.

The rotation follows from how the main person stands at the start, so that a clip seen by another camera, or
turned by hand, comes out the same. What the persons do to each other and to the floor stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skelconv.clean.candidates import Actors, observed_joints
from skelformats.skeleton import Skeleton

FACING_FRAMES = 5
"""Frames at the start over which the facing is averaged: one alone has the sensor's jitter."""

PAIRS = (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"))
"""Joints that stand left and right of the middle of the body."""

UPRIGHT_SHARE = 0.1
"""Smallest horizontal part of the way from right to left by which a facing is known."""


def turn_to_face_z(actors: Actors, skeleton: Skeleton) -> Actors:
    """Turn all persons about the vertical (+y) so that the main one faces +z at the start, its left at +x.

    The main person is the first that ever shows both hips or both shoulders. Its way from right to left is
    the sum over both pairs and over its first `FACING_FRAMES` frames that show a pair; the horizontal part of
    it is turned onto +x. One rotation serves the whole clip. Missing joints and absent persons, at 0, stay
    at 0; the rotation is about the point 0, so whatever a chain has centred stays centred.

    A clip without such a person is left as it is, and so is one whose way from right to left has less than
    `UPRIGHT_SHARE` of its length in the horizontal plane: somebody who lies on a side faces nowhere.

    Raises
    ------
    UnknownNameError
        The layout names no left and right hip and shoulder.
    """
    across = _right_to_left(actors, skeleton)
    level = float(np.hypot(across[0], across[2]))
    if level <= UPRIGHT_SHARE * float(np.linalg.norm(across)):
        return actors
    cosine, sine = across[0] / level, across[2] / level
    rotation = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    turned = (actors.position.astype(np.float64) @ rotation.T).astype(np.float32)
    return replace(actors, position=turned)


def _right_to_left(actors: Actors, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return the main person's way from right to left (3,), summed; 0 where nobody shows any of it."""
    left, right = (np.array([skeleton.index(pair[side]) for pair in PAIRS]) for side in (0, 1))
    observed = observed_joints(actors.position)
    both_MTP = np.logical_and(observed[..., left], observed[..., right])
    frames_MT = np.logical_or.reduce(both_MTP, axis=-1)
    shown = np.flatnonzero(np.logical_or.reduce(frames_MT, axis=1))
    if not len(shown):
        return np.zeros(3)
    main = int(shown[0])
    first = np.flatnonzero(frames_MT[main])[:FACING_FRAMES]
    poses = actors.position[main, first].astype(np.float64)
    ways = np.where(both_MTP[main, first][..., None], poses[:, left] - poses[:, right], 0.0)
    across: NDArray[np.float64] = ways.sum(axis=(0, 1))
    return across
