"""Clips of equal length out of videos of any length: which frames each takes.

As MotionBERT cuts them (its lib/utils/utils_data.py); T is the clip's length.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skeltrain.data.motion_random import Randomness, uniform, whole
from skeltrain.models.errors import ModelError

Index = NDArray[np.int64]

_FLOAT64 = torch.zeros((), dtype=torch.float64)


def resample(
    length: int,
    target: int,
    generator: Randomness | None = None,
    replay: bool = False,
    parity: bool = False,
) -> Index:
    """Choose ``target`` frames, in order, out of ``length``.

    Parameters
    ----------
    generator
        None takes evenly spaced frames. Else a longer video gives one frame from each of ``target`` equal
        spans, at random, and a shorter one repeats frames unevenly.
    replay
        Keep the video's speed instead: a stretch of a longer one (the first without a generator), a shorter
        one over and over.
    parity
        With ``replay``, never take the very last stretch, as the released code does not.

    Returns
    -------
    (target,) int64.

    Raises
    ------
    ModelError
        There is no frame to take, or none is asked for.
    """
    if length < 1 or target < 1:
        raise ModelError(f"resample: found {length} frames for {target}, expected at least 1 of each")
    if replay:
        if length <= target:
            return np.arange(target, dtype=np.int64) % length
        starts = length - target + (0 if parity else 1)
        start = 0 if generator is None else int(whole(generator, starts))
        return np.arange(start, start + target, dtype=np.int64)
    even = np.linspace(0, length, num=target, endpoint=False)
    if generator is None:
        return even.astype(np.int64)
    if length < target:
        low = whole(generator, 2, target).astype(bool)
        chosen = np.sort(np.where(low, np.floor(even), np.ceil(even)))
    else:
        span = length / target
        chosen = uniform(generator, (target,), _FLOAT64).numpy() * span + even
    return np.clip(chosen, 0, length - 1).astype(np.int64)


def split_clips(
    ids: Sequence[Any] | NDArray[Any],
    clip_length: int,
    stride: int,
    generator: Randomness | None = None,
    parity: bool = False,
) -> Index:
    """Cut videos into clips: a window every ``stride`` frames, none across two videos.

    The tail of a video that a window does not fill is dropped. A video shorter than a window gives one clip,
    `resample`-d to the length.

    Parameters
    ----------
    ids
        (frames,) the video of each frame; frames of one video stand together.
    generator
        For short videos; None repeats their frames evenly.
    parity
        As the released code: a short video at the very end is lost, and so is a short stretch of a video that
        has given a clip before.

    Returns
    -------
    (clips, clip_length) int64 frame numbers; with no frames or clips (0, clip_length).

    Raises
    ------
    ModelError
        Length or stride are less than 1.
    """
    if clip_length < 1 or stride < 1:
        raise ModelError(
            f"split_clips: found clip_length={clip_length} and stride={stride}, expected at least 1"
        )
    names = np.asarray(ids)
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)] if len(names) else [0]
    clips, seen = [np.zeros((0, clip_length), np.int64)], set()
    for start, stop in itertools.pairwise(edges):
        name = names[start].item()
        if stop - start >= clip_length:
            first = np.arange(start, stop - clip_length + 1, stride)
            clips.append(first[:, None] + np.arange(clip_length))
            seen.add(name)
        elif not parity or (name not in seen and stop < len(names)):
            clips.append(start + resample(stop - start, clip_length, generator)[None])
            seen.add(name)
    return np.concatenate(clips)
