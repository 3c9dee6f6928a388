"""One AMASS file: its parameters, checked, and the same motion at another frame rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.body_folder import GENDERS
from skelformats.errors import FormatError
from skelformats.resample import resample_linear, resample_rotations, sample_times
from skelformats.rotation import Array
from skelformats.safe_npz import load_npz
from skelformats.smpl import KINDS, Motion

BETAS = 16
"""Most shape coefficients that a file has."""

MOST_RESAMPLED = 500_000
"""Most frames of a resampled recording: over an hour at 120 a second."""

_MAX_BYTES = 2**30
_RATES = ("mocap_framerate", "mocap_frame_rate")
"""How SMPL+H and SMPL-X files spell it."""


@dataclass(frozen=True)
class Take:
    """What one file holds, as it stands there.

    Attributes
    ----------
    motion
        Poses (T, K, 3), translation, betas and, where the file has them, dmpls.
    gender
        ``male``, ``female`` or ``neutral``.
    frame_rate
        Frames a second.
    """

    motion: Motion
    gender: str
    frame_rate: float

    @property
    def kind(self) -> str:
        """The model family that the poses are for."""
        return KINDS[self.motion.pose.shape[1]]


def read_take(path: Path) -> Take:
    """Read the parameters of one file, with nothing computed; raises `FormatError`."""
    wanted = ("poses", "trans", "betas", "gender")
    arrays = load_npz(path, wanted, _MAX_BYTES, optional=("dmpls", *_RATES))
    numbers = {key: _numbers(path, key, value) for key, value in arrays.items() if key != "gender"}
    poses, frames = numbers["poses"], len(numbers["poses"]) if numbers["poses"].ndim else 0
    widths = {3 * joints: joints for joints in KINDS}
    if poses.ndim != 2 or poses.shape[1] not in widths or not frames:
        raise FormatError(
            path,
            f"'poses' of shape {poses.shape}",
            "(T, 156) of SMPL+H, (T, 165) of SMPL-X or (T, 72) of SMPL",
        )
    if numbers["trans"].shape != (frames, 3):
        raise FormatError(
            path, f"'trans' of shape {numbers['trans'].shape}", f"({frames}, 3), as 'poses' has"
        )
    betas, dmpls = numbers["betas"], numbers.get("dmpls")
    if betas.ndim != 1 or len(betas) > BETAS:
        raise FormatError(path, f"'betas' of shape {betas.shape}", f"up to {BETAS} shape coefficients")
    if dmpls is not None and dmpls.shape != (frames, 8):
        raise FormatError(path, f"'dmpls' of shape {dmpls.shape}", f"({frames}, 8), as 'poses' has")
    pose = poses.reshape(frames, widths[poses.shape[1]], 3)
    return Take(
        Motion(pose, numbers["trans"], betas, dmpls), _gender(path, arrays["gender"]), _rate(path, numbers)
    )


def _numbers(path: Path, key: str, value: NDArray[Any]) -> Array:
    if value.dtype.kind not in "iuf":
        raise FormatError(path, f"{key!r} of dtype {value.dtype}", "numbers")
    value = value.astype(np.float64)
    if not np.isfinite(value).all():
        where = f" in frame {np.argwhere(~np.isfinite(value))[0, 0]}" if value.ndim > 1 else ""
        raise FormatError(path, f"{key!r} with a value that is not finite{where}", "finite numbers")
    return value


def _gender(path: Path, value: NDArray[Any]) -> str:
    """Return the gender, which may be text, bytes, or what Python 2's bytes became when printed."""
    item = value.reshape(-1)[0] if value.size == 1 else None
    text = item.decode("latin-1") if isinstance(item, bytes) else str(item)
    text = text.removeprefix("b'").removesuffix("'").strip().lower()
    gender = GENDERS.get(text, text)
    if gender not in GENDERS.values():
        raise FormatError(path, f"the gender {text!r:.40}", " or ".join(GENDERS.values()))
    return gender


def _rate(path: Path, numbers: Mapping[str, Array]) -> float:
    for key in _RATES:
        if key in numbers and numbers[key].size == 1 and numbers[key].item() > 0:
            return float(numbers[key].item())
    raise FormatError(
        path,
        "no frame rate",
        f"a number above 0 as {' or '.join(_RATES)}",
        action="Files of shapes alone (shape.npz) have none; a file of motion may be cut off",
    )


def resampled(path: Path, take: Take, rate: float) -> Motion:
    """Return the motion at another frame rate: rotations along great arcs, the rest along lines.

    Raises
    ------
    FormatError
        There would be more than `MOST_RESAMPLED` frames: the file's own frame rate is hardly true then.
    """
    motion = take.motion
    with np.errstate(over="ignore", divide="ignore"):
        step = np.float64(take.frame_rate) / rate
        frames = (len(motion) - 1) / step
    if not (np.isfinite(step) and frames <= MOST_RESAMPLED):
        raise FormatError(
            path,
            f"{len(motion)} frames at {take.frame_rate:g} a second, which are {frames:.3g} at --fps {rate:g}",
            f"a frame rate at which they are at most {MOST_RESAMPLED}",
        )
    times = sample_times(len(motion), take.frame_rate, rate)
    return Motion(
        resample_rotations(motion.pose, times),
        resample_linear(motion.translation, times),
        motion.betas,
        None if motion.dmpls is None else resample_linear(motion.dmpls, times),
    )
