"""How far predicted poses are from the true ones, frame by frame.

Every function takes poses (N, J, 3) as torch tensors or numpy arrays and returns what it was given: errors
(N,) float64 in the unit of the poses, millimetres by custom. Nothing is made relative to the root unless the
function says so: protocols differ in that, and `root_relative` does it. Alignments are computed in float64.

A joint that is missing (NaN) is named by ``visible`` and takes no part, neither in the mean nor in the
alignment; a frame without a visible joint has error NaN. Degenerate poses: one of no extent cannot be scaled
or turned, so its `p_mpjpe` is the distance of the true joints from their mean, and of `degenerate` frames
there is a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skeltrain.models.errors import ModelError

Array = TypeVar("Array", Tensor, NDArray[Any])

#: The joints of MPI-INF-3DHP's measures in the order of h36m17: limbs, neck and head; neither root, belly nor
#: nose (D. Mehta et al. 2017, mpii_compute_3d_pck.m). MotionBERT's mesh evaluation has the same 14.
JOINTS_14 = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16)

#: A joint is right if it is nearer than this, mm; the area under the curve is over these distances (the
#: same).
PCK_THRESHOLD = 150.0
AUC_THRESHOLDS = tuple(5.0 * step for step in range(31))

#: Below this part of the true pose's size a predicted pose has no extent.
EXTENT_EPS = 1e-12


def root_relative(pose: Array, root: int = 0) -> Array:
    """Return poses (..., J, 3) with joint ``root`` at the origin."""
    return pose[..., :, :] - pose[..., root : root + 1, :]


def mpjpe(pred: Array, target: Array, visible: Array | None = None) -> Array:
    """Mean distance of the joints, without any alignment.

    Parameters
    ----------
    pred, target
        (N, J, 3).
    visible
        (N, J) bool: joints that count; None for all.

    Raises
    ------
    ModelError
        Shapes differ, or a joint that counts is not finite; so in every function here.
    """
    p, t, seen = _poses(pred, target, visible)
    return _like(pred, _mean((p - t).norm(dim=-1), seen))


def p_mpjpe(pred: Array, target: Array, reflection: bool = False, visible: Array | None = None) -> Array:
    """Mean distance after the similarity (scale, rotation, shift) that fits best: protocol 2, PA-MPJPE.

    W. Kabsch (1976), S. Umeyama (1991). It may exceed `mpjpe`: what is made least is the squared distance.

    Parameters
    ----------
    reflection
        Whether a mirrored pose may be mirrored back. Protocol 2 does not: a left arm in the place of the
        right one is an error.
    """
    p, t, seen = _poses(pred, target, visible)
    p0, t0 = _centred(p, seen), _centred(t, seen)
    size_p, size_t = (p0 * p0).sum(dim=(1, 2)), (t0 * t0).sum(dim=(1, 2))
    left, stretch, right = torch.linalg.svd(p0.transpose(1, 2) @ t0)
    keep = torch.ones_like(stretch)
    if not reflection:
        keep[:, 2] = torch.linalg.det(left @ right).sign()
    turned = p0 @ ((left * keep[:, None]) @ right)
    flat = _no_extent(size_p, size_t)
    scale = ((stretch * keep).sum(dim=1) / size_p.masked_fill(flat, 1.0)).masked_fill(flat, 0.0)
    return _like(pred, _mean((scale[:, None, None] * turned - t0).norm(dim=-1), seen))


def n_mpjpe(pred: Array, target: Array, visible: Array | None = None) -> Array:
    """Mean distance after the scale that fits best: protocol 3 (H. Rhodin et al., CVPR 2018).

    The published scale may be negative, so that the pose -x has error 0; `n_mpjpe_pos` does not allow that.
    """
    return _scaled(pred, target, visible, least=-torch.inf)


def n_mpjpe_pos(pred: Array, target: Array, visible: Array | None = None) -> Array:
    """Mean distance after the scale of 0 or more that fits best."""
    return _scaled(pred, target, visible, least=0.0)


def mpjve(pred: Array, target: Array, visible: Array | None = None) -> Array:
    """Mean distance of the joints' steps from frame to frame of one video: (N - 1,), unit a frame.

    D. Pavllo et al., VideoPose3D (CVPR 2019); the mean of the result is the published number. A step counts
    where its joint is visible in both frames.
    """
    p, t, seen = _poses(pred, target, visible)
    steps = (p.diff(dim=0) - t.diff(dim=0)).norm(dim=-1)
    return _like(pred, _mean(steps, seen[1:] & seen[:-1]))


def pck(
    pred: Array,
    target: Array,
    threshold: float = PCK_THRESHOLD,
    joints: Sequence[int] | None = JOINTS_14,
    visible: Array | None = None,
) -> Array:
    """Percentage of joints nearer than ``threshold`` to the true ones (strictly).

    Parameters
    ----------
    joints
        Those that count; the default is for poses in the order of h36m17. None for all.
    """
    distance, seen = _chosen(pred, target, joints, visible)
    return _like(pred, _mean(100.0 * (distance < threshold).double(), seen))


def auc(
    pred: Array,
    target: Array,
    thresholds: Sequence[float] = AUC_THRESHOLDS,
    joints: Sequence[int] | None = JOINTS_14,
    visible: Array | None = None,
) -> Array:
    """Mean of `pck` over thresholds, percent; 96.774 is perfect: no distance is less than the first, 0."""
    distance, seen = _chosen(pred, target, joints, visible)
    below = distance[..., None] < torch.tensor(thresholds, dtype=distance.dtype, device=distance.device)
    return _like(pred, _mean(100.0 * below.double().mean(dim=-1), seen))


def degenerate(pred: Array, target: Array, visible: Array | None = None) -> Array:
    """Tell (N,) bool which predicted poses are one point, measured against the true pose's size."""
    p, t, seen = _poses(pred, target, visible)
    p0, t0 = _centred(p, seen), _centred(t, seen)
    return _like(pred, _no_extent((p0 * p0).sum(dim=(1, 2)), (t0 * t0).sum(dim=(1, 2))))


def _scaled(pred: Array, target: Array, visible: Array | None, least: float) -> Array:
    p, t, seen = _poses(pred, target, visible)
    size_p, size_t = (p * p).sum(dim=(1, 2)), (t * t).sum(dim=(1, 2))
    flat = _no_extent(size_p, size_t)
    scale = ((p * t).sum(dim=(1, 2)) / size_p.masked_fill(flat, 1.0)).masked_fill(flat, 0.0)
    scale = scale.clamp_min(least)
    return _like(pred, _mean((scale[:, None, None] * p - t).norm(dim=-1), seen))


def _chosen(
    pred: Array, target: Array, joints: Sequence[int] | None, visible: Array | None
) -> tuple[Tensor, Tensor]:
    """Return distances (N, J') and which of them count."""
    p, t, seen = _poses(pred, target, visible)
    distance = (p - t).norm(dim=-1)
    if joints is None:
        return distance, seen
    if max(joints, default=0) >= distance.shape[1]:
        raise ModelError(
            f"found poses of {distance.shape[1]} joints, expected the 17 of h36m17, of which joints "
            f"{tuple(joints)} count. Give joints=None to count all"
        )
    return distance[:, list(joints)], seen[:, list(joints)]


def _poses(pred: Array, target: Array, visible: Array | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return float64 poses, zero where nothing is visible, and what is visible."""
    p, t = (_tensor(pose).double() for pose in (pred, target))
    if p.ndim != 3 or p.shape[-1] != 3 or p.shape != t.shape:
        raise ModelError(
            f"found poses of shape {tuple(p.shape)} and {tuple(t.shape)}, expected (N, J, 3) twice"
        )
    everything = torch.ones_like(p[..., 0], dtype=torch.bool)
    seen = everything if visible is None else _tensor(visible).bool()
    if seen.shape != p.shape[:2]:
        raise ModelError(f"found visible of shape {tuple(seen.shape)}, expected {tuple(p.shape[:2])}")
    bad = ~(p.isfinite() & t.isfinite()).all(dim=-1) & seen
    if bool(bad.any()):
        raise ModelError(
            f"found {int(bad.any(dim=1).sum())} of {len(p)} frames with joints that are not finite, the "
            f"first frame {int(bad.any(dim=1).nonzero()[0])}, expected numbers. Name the joints that count "
            "with visible"
        )
    # NaN times 0 is NaN: what does not count is taken away
    return p.masked_fill(~seen[..., None], 0.0), t.masked_fill(~seen[..., None], 0.0), seen


def _tensor(values: Array) -> Tensor:
    """Return values as a tensor: a copy of an array that must not be written to, of which torch warns."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()
    return torch.as_tensor(values)


def _centred(pose: Tensor, seen: Tensor) -> Tensor:
    count = seen.sum(dim=1).clamp_min(1)[:, None, None]
    return (pose - pose.sum(dim=1, keepdim=True) / count).masked_fill(~seen[..., None], 0.0)


def _no_extent(size_p: Tensor, size_t: Tensor) -> Tensor:
    return size_p <= EXTENT_EPS * size_t.clamp_min(1.0)


def _mean(value: Tensor, seen: Tensor) -> Tensor:
    """Mean (N,) over the joints that are seen; NaN where there are none."""
    total = value.masked_fill(~seen, 0.0).sum(dim=1)
    return total / seen.sum(dim=1)


def _like(example: Any, value: Tensor) -> Any:
    return value.numpy() if isinstance(example, np.ndarray) else value
