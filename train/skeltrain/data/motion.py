"""What MotionBERT does to poses before the network: scaling, mirroring, masking, moving, cutting into clips.

W. Zhu et al., MotionBERT (ICCV 2023), and its released code (lib/utils/utils_data.py, lib/data/). Functions
take numpy arrays or torch tensors and give the same kind back, and their randomness from a generator that is
passed in. With ``parity`` they repeat the released code to the draw, with its oddities, from
`numpy.random.RandomState` or `torch.Generator`, whichever that code used: numpy's for everything but noise
and masks.

M persons, T frames, J joints in the order of h36m17; x to the right, y down, and the confidence last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelformats.conversions import to_h36m17
from skelformats.skeleton import load_skeleton
from skeltrain.data.motion_cameras import (
    denormalise_h36m,
    factor_25d,
    image_pose,
    make_cam,
    normalise_h36m,
)
from skeltrain.data.motion_clips import resample, split_clips
from skeltrain.data.motion_noise import NoiseParameters, add_noise, published_noise
from skeltrain.data.motion_random import Array, Randomness, as_tensor, like, uniform
from skeltrain.models.errors import ModelError

__all__ = [
    "NoiseParameters",
    "action_motion",
    "add_mask",
    "add_noise",
    "crop_scale",
    "denormalise_h36m",
    "exchanged",
    "factor_25d",
    "flip",
    "human_tracking",
    "image_pose",
    "make_cam",
    "normalise_h36m",
    "published_noise",
    "random_move",
    "resample",
    "root_target",
    "split_clips",
]

#: Part of the joints, and of the frames, that pretraining hides (MotionBERT, section 4.2: 15 % together).
MASK_JOINTS, MASK_FRAMES = 0.05, 0.10

#: How far `random_move` goes either way: degrees, scale, and shift (MotionBERT, dataset_action.py).
MOVE_ANGLE, MOVE_SCALE, MOVE_SHIFT = 10.0, 0.1, 0.1

_FEWEST_POINTS = 4

ACTION_PERSONS = 2


def flip(motion: Array) -> Array:
    """Mirror poses (..., J, C) of h36m17: x to -x, left to right; confidences go with their joints."""
    x = as_tensor(motion)
    mirror = load_skeleton("h36m17").mirror
    if x.shape[-2] != len(mirror):
        raise ModelError(f"flip: found motion of shape {tuple(x.shape)}, expected (..., {len(mirror)}, C)")
    flipped = x[..., list(mirror), :].clone()
    flipped[..., 0].neg_()
    return like(motion, flipped)


def crop_scale(
    motion: Array, scale_range: tuple[float, float] = (1.0, 1.0), generator: Randomness | None = None
) -> Array:
    """Map a whole clip to [-1, 1] by one square about all its joints.

    Parameters
    ----------
    motion
        (..., J, 3): x, y, confidence; all leading axes are one clip. Joints of confidence 0 do not count for
        the square, but are moved with the others. Joints that are not finite become 0 with confidence 0.
    scale_range
        The square's side in units of the joints' larger extent, drawn once a clip. Below 1 it crops: joints
        outside are moved onto its edge. Above 1 it leaves a margin.

    Returns
    -------
    The same shape, everything clipped to [-1, 1], confidences too. All zero where there are fewer than 4
    points, or no extent.

    Raises
    ------
    ModelError
        A range without a generator, or another shape.
    """
    x = as_tensor(motion)
    low, high = scale_range
    if x.shape[-1] != 3:
        raise ModelError(
            f"crop_scale: found motion of shape {tuple(x.shape)}, expected (..., J, 3): x, y, confidence"
        )
    if generator is None and low != high:
        raise ModelError(f"crop_scale: found scale_range={scale_range} without a generator, expected one")
    missing = ~x.isfinite().all(dim=-1, keepdim=True)
    x = x.masked_fill(missing, 0.0)
    points = x[x[..., 2] != 0][:, :2]
    if len(points) < _FEWEST_POINTS:
        return like(motion, torch.zeros_like(x))
    least, most = points.amin(dim=0), points.amax(dim=0)
    ratio = low if generator is None else low + (high - low) * float(uniform(generator, (1,), x.double()))
    side = (most - least).max() * ratio
    if side == 0:
        return like(motion, torch.zeros_like(x))
    corner = (least + most - side) / 2
    placed = ((x[..., :2] - corner) / side - 0.5) * 2
    scaled = torch.cat([placed, x[..., 2:]], dim=-1).clamp(-1, 1)
    return like(motion, scaled.masked_fill(missing, 0.0))


def root_target(pose: Array, relative: bool) -> Array:
    """Return what the network is to predict of 3D poses (N, T, J, 3).

    Parameters
    ----------
    relative
        Every frame without its root, or only the depth without that of the first frame's root: the input is
        never moved, so that the global position in the picture can be learned.
    """
    x = as_tensor(pose)
    if relative:
        return like(pose, x - x[:, :, :1])
    shift = torch.zeros_like(x[:, :1, :1])
    shift[..., 2] = x[:, :1, :1, 2]
    return like(pose, x - shift)


def add_mask(
    motion: Array,
    generator: Randomness,
    joints: float = MASK_JOINTS,
    frames: float = MASK_FRAMES,
    parity: bool = False,
) -> Array:
    """Hide joints and whole frames of clips (N, T, J, C): all their numbers become 0.

    Parameters
    ----------
    joints, frames
        Probabilities.
    parity
        Hide the same frames in all clips of the batch, as the released code does.
    """
    x = as_tensor(motion)
    if x.ndim != 4:
        raise ModelError(f"add_mask: found motion of shape {tuple(x.shape)}, expected (clips, T, J, C)")
    clips, length, count = x.shape[:3]
    kept = uniform(generator, (clips, length, count, 1), x) > joints
    kept_frames = uniform(generator, (1 if parity else clips, length, 1, 1), x) > frames
    return like(motion, x * kept * kept_frames)


def random_move(
    motion: Array,
    generator: Randomness,
    angle: float = MOVE_ANGLE,
    scale: float = MOVE_SCALE,
    shift: float = MOVE_SHIFT,
) -> Array:
    """Turn, scale and shift a sample (M, T, J, C) in the picture, ever more or less from first to last frame.

    Of each of the four a value is drawn for the first frame and one for the last, and between them it changes
    evenly. All persons move together; only x and y change.

    Parameters
    ----------
    angle
        Largest turn either way, degrees.
    scale, shift
        Largest change of the scale from 1, and of the position, either way.
    """
    x = as_tensor(motion)
    if x.ndim != 4 or x.shape[-1] < 2:
        raise ModelError(
            f"random_move: found motion of shape {tuple(x.shape)}, expected (M, T, J, 2 or more)"
        )

    def course(middle: float, reach: float) -> Tensor:
        low, high = middle - reach, middle + reach
        first, last = (low + (high - low) * uniform(generator, (2,), x.double())).tolist()
        return torch.linspace(first, last, x.shape[1], dtype=torch.float64, device=x.device)

    turn, size, right, down = (
        course(*range_) for range_ in ((0.0, angle), (1.0, scale), (0, shift), (0, shift))
    )
    cosine, sine = (turn.deg2rad().cos() * size)[:, None], (turn.deg2rad().sin() * size)[:, None]
    xs, ys = x[..., 0].double(), x[..., 1].double()
    moved = torch.stack(
        [cosine * xs - sine * ys + right[:, None], sine * xs + cosine * ys + down[:, None]], dim=-1
    )
    return like(motion, torch.cat([moved.to(x), x[..., 2:]], dim=-1))


def human_tracking(motion: Array) -> Array:
    """Give two persons (2, T, J, C) their own tracks, where a detector has swapped them.

    From each frame to the next, person 0 is whoever is nearer to where person 0 was listed; by x and y. What
    else there is, such as confidences, goes with its person (the released code leaves confidences behind).
    One person stays as is.

    Raises
    ------
    ModelError
        There are more than two persons.
    """
    x = as_tensor(motion)
    if x.ndim != 4 or x.shape[0] > 2:
        raise ModelError(
            f"human_tracking: found motion of shape {tuple(x.shape)}, expected (1 or 2 persons, T, J, C). "
            "Keep the two persons that matter"
        )
    if len(x) < 2:
        return like(motion, x.clone())
    return like(motion, torch.where(exchanged(x)[:, None, None], x.flip(0), x))


def exchanged(persons: Tensor) -> Tensor:
    """Tell in which frames (T,) a detector has swapped two persons (2, T, J, 2 or more), by x and y."""
    xy = persons[..., :2]
    stay, leave = ((xy[0, 1:] - xy[person, :-1]).norm(dim=-1).sum(dim=-1) for person in (0, 1))
    swapped = torch.zeros(xy.shape[1], dtype=torch.bool, device=xy.device)
    swapped[1:] = (stay > leave).cumsum(dim=0) % 2 == 1
    return swapped


def action_motion(
    position: NDArray[Any], confidence: NDArray[Any], img_shape: tuple[float, float], parity: bool = True
) -> NDArray[np.float32]:
    """Return what action recognition is given of the 2D poses of a recording, before any crop.

    Parameters
    ----------
    position
        (1 or 2 persons, T, 17, 2) pixels in the order of coco17, as the files of PYSKL have them.
    confidence
        (persons, T, 17).
    img_shape
        Height and width of the picture.
    parity
        As the released action models were trained: confidences stay in the order of coco17 and with the
        listed person, beside joints in the order of h36m17. When off, they go with their joints and persons.

    Returns
    -------
    (2, T, 17, 3) x, y and confidence; a person who is not there is zero.

    Raises
    ------
    ModelError
        There are more than two persons, or arrays of another shape.
    """
    if position.ndim != 4 or position.shape[2:] != (17, 2) or confidence.shape != position.shape[:3]:
        raise ModelError(
            f"action_motion: found positions of shape {position.shape} and confidences of "
            f"{confidence.shape}, expected (persons, T, 17, 2) and (persons, T, 17) of coco17"
        )
    placed = make_cam(position.astype(np.float32), img_shape)
    scores = confidence.astype(np.float32)
    if parity:
        joints, _ = to_h36m17("coco17", human_tracking(placed))
        result = np.concatenate([joints, scores[..., None]], axis=-1)
    else:
        tracked = human_tracking(np.concatenate([placed, scores[..., None]], axis=-1))
        joints, converted = to_h36m17("coco17", tracked[..., :2], tracked[..., 2])
        assert converted is not None
        result = np.concatenate([joints, converted[..., None]], axis=-1)
    absent = ((0, ACTION_PERSONS - len(result)), (0, 0), (0, 0), (0, 0))
    return np.pad(result, absent)
