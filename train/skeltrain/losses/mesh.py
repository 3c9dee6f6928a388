"""Losses of a body model's pose and shape against the true ones (MotionBERT, loss_mesh.py).

Joints have their losses in `skeltrain.losses.motion`; here is what concerns the body model's own numbers.
Poses are axis-angle vectors (..., 24, 3) in radians, shapes (..., 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from skeltrain.losses import motion
from skeltrain.models.errors import ModelError
from skeltrain.models.smpl import rodrigues

#: Weight of each term (MotionBERT, MB_ft_h36m_mesh.yaml); joints in millimetres, relative to the root.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"joints": 0.5, "velocity": 10.0, "pose": 1000.0, "shape": 1.0, "norm": 20.0}
)


def pose(pred: Tensor, target: Tensor, squared: bool = False) -> Tensor:
    """Mean absolute, or squared, difference of the rotation matrices of poses (..., 24, 3).

    The paper's equation 10 compares axis-angle vectors, which differ for one and the same rotation.
    """
    return shape(rodrigues(pred), rodrigues(target), squared)


def shape(pred: Tensor, target: Tensor, squared: bool = False) -> Tensor:
    """Mean absolute, or squared, difference of shape coefficients."""
    _check(pred, target)
    difference = pred - target
    return (difference**2 if squared else difference.abs()).mean()


def norm(pred_pose: Tensor, pred_shape: Tensor) -> Tensor:
    """Mean length of the vector of all pose and shape numbers of a body: 72 + 10."""
    square = (pred_pose**2).sum(dim=(-2, -1)) + (pred_shape**2).sum(dim=-1)
    nothing = square == 0
    return square.masked_fill(nothing, 1.0).sqrt().masked_fill(nothing, 0.0).mean()


def mesh_losses(
    pred_joints: Tensor,
    target_joints: Tensor,
    pred_theta: Tensor,
    target_theta: Tensor,
    weights: Mapping[str, float] = WEIGHTS,
) -> dict[str, Tensor]:
    """Return every term of `WEIGHTS`, and their weighted sum as ``loss``.

    Parameters
    ----------
    pred_joints, target_joints
        (N, T, 17, 3) millimetres; made relative to joint 0 here.
    pred_theta, target_theta
        (N, T, 82): 24 axis-angle vectors, then 10 shape coefficients.
    weights
        What each term counts.
    """
    pred_local, target_local = (joints - joints[:, :, :1] for joints in (pred_joints, target_joints))
    pred_pose, target_pose = (
        theta[..., :72].reshape(*theta.shape[:-1], 24, 3) for theta in (pred_theta, target_theta)
    )
    terms = {
        "joints": motion.mpjpe(pred_local, target_local),
        "velocity": motion.velocity(pred_local, target_local),
        "pose": pose(pred_pose, target_pose),
        "shape": shape(pred_theta[..., 72:], target_theta[..., 72:]),
        "norm": norm(pred_pose, pred_theta[..., 72:]),
    }
    total = sum((weights[name] * value for name, value in terms.items()), start=pred_theta.new_zeros(()))
    return {**terms, "loss": total}


def _check(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape:
        raise ModelError(
            f"found a prediction of shape {tuple(pred.shape)} for a target of {tuple(target.shape)}, "
            "expected the same shape"
        )
