"""MotionBERT's evaluation on Human3.6M: which frames count, how often, and how they become one number.

From the released code (train.py, evaluate): errors of clips are put back to the frames they came from, frames
to actions, and actions to the mean of action means. Three videos are left out, whose 3D poses are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeltrain.models.errors import ModelError

Array = NDArray[np.float64]

#: Recordings of S9 whose 3D poses are shifted, in all four cameras (MotionBERT, train.py).
BLOCKED = frozenset({"s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01"})

_CAMERA_SUFFIX = len("_ca_01")


@dataclass(frozen=True, eq=False)
class ProtocolResult:
    """Errors of an evaluation.

    Attributes
    ----------
    frame
        (frames,) error of each frame; NaN where none was predicted, or the video is blocked.
    action
        Mean over its frames for each action that has any, by name.
    mean
        Mean over the actions: the published number.
    frame_mean
        Mean over frames, whatever their action.
    unscored
        Number of frames without an error.
    """

    frame: Array
    action: Mapping[str, float]
    mean: float
    frame_mean: float
    unscored: int


def blocked(source: Sequence[str] | NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tell of each source, such as ``s_09_act_05_subact_02_ca_02``, whether its recording is left out."""
    return np.array([str(name)[:-_CAMERA_SUFFIX] in BLOCKED for name in source], dtype=bool)


def evaluate_clips(
    error: Array,
    clips: NDArray[np.integer[Any]],
    action: Sequence[str] | NDArray[np.str_],
    source: Sequence[str] | NDArray[np.str_],
    parity: bool = True,
) -> ProtocolResult:
    """Put the errors of clips together.

    Parameters
    ----------
    error
        (clips, T) of every frame of every clip.
    clips
        (clips, T) the frame that each is, as `skeltrain.data.motion.split_clips` returns them.
    action, source
        (frames,) of each frame.
    parity
        As the released code counts, which the published numbers are: of a frame that occurs several times in
        one clip (a short video, stretched) only the last error counts, and a frame whose error is exactly 0
        does not. When off, every error counts.

    Raises
    ------
    ModelError
        Shapes do not belong together, or nothing is left to average.
    """
    error, clips = np.asarray(error, np.float64), np.asarray(clips)
    frames = len(action)
    if error.shape != clips.shape or len(source) != frames or (clips.size and clips.max() >= frames):
        raise ModelError(
            f"found errors of shape {error.shape}, clips of {clips.shape}, {frames} actions and "
            f"{len(source)} sources, expected an error for each frame of each clip, and an action and a "
            "source for each frame"
        )
    total, count = np.zeros(frames), np.zeros(frames)
    left_out = blocked(source)
    for frame, value in zip(clips, error, strict=True):
        if left_out[frame].any():
            continue
        if parity:
            total[frame] += value
            count[frame] += 1
        else:
            np.add.at(total, frame, value)
            np.add.at(count, frame, 1)
    scored = total > 0 if parity else count > 0
    if not scored.any():
        raise ModelError("found no frame with an error, expected clips of videos that are not blocked")
    per_frame = np.full(frames, np.nan)
    per_frame[scored] = total[scored] / count[scored]
    names = np.asarray(action)
    by_action = {
        str(name): float(per_frame[scored & (names == name)].mean()) for name in np.unique(names[scored])
    }
    return ProtocolResult(
        frame=per_frame,
        action=MappingProxyType(by_action),
        mean=float(np.mean(list(by_action.values()))),
        frame_mean=float(per_frame[scored].mean()),
        unscored=int((~scored).sum()),
    )
