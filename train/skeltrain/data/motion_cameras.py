"""Human3.6M in the picture: the 2.5D pose that MotionBERT predicts, its scale, and its units.

A 2.5D pose has x and y in pixels, of a lens without distortion, and z in the same unit: the depth behind the
root times pixels per millimetre at the root (LCN, tools/gendb.py; MotionBERT, datareader_h36m.py). Cameras
are `skelformats.h36m_cameras.Camera`, also as rows of a store's table ``calibration``.

T frames, J joints; joint 0 is the root. numpy arrays and torch tensors both give their own kind back.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelformats.h36m_cameras import Camera, project_linear
from skeltrain.data.motion_random import Array, as_tensor, like
from skeltrain.models.errors import ModelError

#: Side of the square at the root's depth whose width in pixels is the scale, mm (LCN, gendb.py).
BOX = 2000.0


def image_pose(points: NDArray[Any], camera: Camera) -> NDArray[np.float64]:
    """Return the 2.5D pose (T, J, 3), pixels, of points in the camera's frame: MotionBERT's joint3d_image.

    Parameters
    ----------
    points
        (T, J, 3) millimetres, in front of the camera.

    Raises
    ------
    ModelError
        The root of a frame is not in front of the camera.
    """
    depth = np.asarray(points, np.float64)[..., 2]
    z = (depth - depth[:, :1]) / _box_factor(depth[:, 0], camera)[:, None]
    return np.concatenate([project_linear(points, camera), z[..., None]], axis=-1)


def factor_25d(
    points: NDArray[Any], camera: Camera, method: Literal["box", "least_squares"] = "box"
) -> NDArray[np.float64]:
    """Return millimetres a pixel (T,) of 2.5D poses: what makes them comparable with poses in millimetres.

    Parameters
    ----------
    points
        (T, J, 3) millimetres in the camera's frame.
    method
        ``box`` is the scale that the depth was divided by: 2000 mm over the width of the root's box plus one
        pixel. ``least_squares`` fits each pose. MotionBERT's own factors are not public; the two differ by a
        few percent from one another, and either from a true camera-space pose by 14 to 35 mm.
    """
    place = np.asarray(points, np.float64)
    if method == "box":
        return _box_factor(place[:, 0, 2], camera)
    if method != "least_squares":
        raise ModelError(f"factor_25d: found method={method!r}, expected 'box' or 'least_squares'")
    image = image_pose(place, camera)
    image, place = image - image[:, :1], place - place[:, :1]
    return np.asarray((image * place).sum(axis=(1, 2)) / (image**2).sum(axis=(1, 2)))


def normalise_h36m(pose: Array, size: Any) -> Array:
    """Return pixels as parts of half the picture's width: x from -1 to 1, y from -h/w to h/w, z divided
    alike.

    Parameters
    ----------
    pose
        (..., J, 2) pixels, or (..., J, 3) a 2.5D pose.
    size
        Width and height of the picture: a pair for all, or (..., 2) for each frame. Human3.6M has 1000 x 1000
        and 1000 x 1002, which `skelformats.h36m_cameras.Camera` and a store's table tell.
    """
    x = as_tensor(pose)
    half, shift = _half_and_shift(x, size)
    return like(pose, x / half - shift)


def denormalise_h36m(pose: Array, size: Any) -> Array:
    """Invert `normalise_h36m`."""
    x = as_tensor(pose)
    half, shift = _half_and_shift(x, size)
    return like(pose, (x + shift) * half)


def make_cam(motion: Array, img_shape: tuple[float, float], centred: bool = False) -> Array:
    """Return pixels as parts of half the picture's longer side, as MotionBERT's action recognition has them.

    Parameters
    ----------
    motion
        (..., 2) pixels.
    img_shape
        Height and width.
    centred
        Whether 0 is the middle of the picture in both axes. The released code takes 1 off both, so that the
        middle of the shorter axis is elsewhere.
    """
    height, width = img_shape
    x = as_tensor(motion)
    longer = max(height, width)
    shift = x.new_tensor([width / longer, height / longer] if centred else [1.0, 1.0])
    return like(motion, x / longer * 2 - shift)


def _box_factor(root_depth: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    if not (root_depth > 0).all():
        raise ModelError(
            f"found a root at depth {float(root_depth[~(root_depth > 0)][0])} mm in frame "
            f"{int(np.argmin(root_depth > 0))}, expected points in front of camera {camera.camera}, in its "
            "frame"
        )
    return np.asarray(BOX / (BOX * camera.focal[0] / root_depth + 1))


def _half_and_shift(x: Tensor, size: Any) -> tuple[Tensor, Tensor]:
    """Return half the width, and the middle of the picture in units of it, to broadcast with (..., J, A)."""
    axes = x.shape[-1]
    extent = torch.as_tensor(size, dtype=x.dtype, device=x.device)
    if axes not in (2, 3) or extent.shape[-1:] != (2,):
        raise ModelError(
            f"found a pose of shape {tuple(x.shape)} and sizes of shape {tuple(extent.shape)}, expected "
            "(..., J, 2 or 3) and width and height, once or for each frame"
        )
    width, height = (extent[..., axis, None, None] for axis in (0, 1))
    parts = [torch.ones_like(width), height / width, torch.zeros_like(width)]
    return width / 2, torch.cat(parts[:axes], dim=-1)
