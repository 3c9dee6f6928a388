"""What motion models are trained with: distances of poses, velocities, limbs and angles, each one number.

W. Zhu et al., MotionBERT (ICCV 2023), sections 3.3 and 4; the means are those of the released code (its
lib/model/loss.py), where the paper writes sums. All on (N, T, 17, 3) tensors in the order of h36m17, in any
unit; the result has the unit of the input unless said otherwise. Everything is computed in float32 at least.
Gradients are finite everywhere: a limb or pose of no extent, and a perfect answer, have gradient 0.

N clips, T frames, J joints, L limbs, A angles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skeltrain.models.errors import ModelError

#: The 16 limbs of h36m17 as pairs of joints (MotionBERT, loss.py get_limb_lens).
LIMBS = (
    (0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8),
    (8, 9), (9, 10), (8, 11), (11, 12), (12, 13), (8, 14), (14, 15), (15, 16),
)  # fmt: skip

#: The 18 angles, as pairs of indices into `LIMBS` (MotionBERT, loss.py get_angles).
ANGLES = (
    (0, 3), (0, 6), (3, 6), (0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 10),
    (7, 13), (8, 13), (10, 13), (7, 8), (8, 9), (10, 11), (11, 12), (13, 14), (14, 15),
)  # fmt: skip

#: How far a cosine stays from 1 and -1, where the angle's gradient has no bound (MotionBERT, loss.py).
COSINE_MARGIN = 1e-7

#: A shorter limb has no direction.
LENGTH_EPS = 1e-8

#: Temperatures of the one-shot recipe (MotionBERT, train_action_1shot.py; P. Khosla et al., 2020).
TEMPERATURE, BASE_TEMPERATURE = 0.1, 0.07


def mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance of joints.

    Parameters
    ----------
    pred, target
        (N, T, J, 3), or any shape whose last axis is space.

    Raises
    ------
    ModelError
        The two differ in shape; so in every function here.
    """
    _check(pred, target)
    return _wide(pred - target).norm(dim=-1).mean()


def weighted_mpjpe(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``weight`` times the distance; ``weight`` broadcasts to (N, T, J)."""
    _check(pred, target)
    return (weight * _wide(pred - target).norm(dim=-1)).mean()


def n_mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """`mpjpe` after each frame of ``pred`` is given the scale that fits ``target`` best.

    H. Rhodin et al. (CVPR 2018), protocol 3. The scale may be negative; a frame of ``pred`` of no extent
    keeps its own.
    """
    _check(pred, target)
    pred, target = _wide(pred), _wide(target)
    size = (pred * pred).sum(dim=(-2, -1), keepdim=True)
    nothing = size <= torch.finfo(size.dtype).eps ** 2
    scale = (target * pred).sum(dim=(-2, -1), keepdim=True) / size.masked_fill(nothing, 1.0)
    scale = torch.where(nothing, 1.0, scale)
    return (scale * pred - target).norm(dim=-1).mean()


def velocity(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the joints' steps from frame to frame; 0 for clips of one frame."""
    _check(pred, target)
    return mpjpe(pred.diff(dim=1), target.diff(dim=1)) if pred.shape[1] > 1 else _nothing(pred)


def weighted_2d(pred: Tensor, target: Tensor, confidence: Tensor) -> Tensor:
    """Mean distance in the picture, each offset first multiplied by the joint's confidence.

    Parameters
    ----------
    pred, target
        (N, T, J, 2 or more); only x and y count.
    confidence
        (N, T, J, 1); a joint of confidence 0 has neither loss nor gradient, and may be NaN in ``target``. The
        mean is over all joints.
    """
    _check(pred[..., :2], target[..., :2])
    offset = _wide(pred[..., :2] - target[..., :2]).masked_fill(confidence == 0, 0.0)
    return (offset * confidence).norm(dim=-1).mean()


def limb_lengths(pose: Tensor) -> Tensor:
    """Return the length (N, T, L) of every limb of `LIMBS`."""
    return _limbs(pose).norm(dim=-1)


def limb_variance(pred: Tensor) -> Tensor:
    """Mean of the limbs' unbiased variances over time, in squared units; 0 for one frame."""
    if pred.shape[1] <= 1:
        return _nothing(pred)
    return limb_lengths(pred).var(dim=1).mean()


def limb_length(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of limb lengths."""
    _check(pred, target)
    return (limb_lengths(pred) - limb_lengths(target)).abs().mean()


def limb_angles(pose: Tensor) -> Tensor:
    """Return the angles (N, T, A) between the limbs of `ANGLES`, radians.

    A limb of no extent is at a right angle to every other.
    """
    limbs_NTL3 = _limbs(pose)
    length = limbs_NTL3.norm(dim=-1, keepdim=True)
    nothing = length <= LENGTH_EPS
    unit = (limbs_NTL3 / length.masked_fill(nothing, 1.0)).masked_fill(nothing, 0.0)
    one, other = (unit[..., [pair[side] for pair in ANGLES], :] for side in (0, 1))
    cosine = (one * other).sum(dim=-1)
    return cosine.clamp(-1 + COSINE_MARGIN, 1 - COSINE_MARGIN).acos()


def angle(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the `limb_angles`, radians."""
    _check(pred, target)
    return (limb_angles(pred) - limb_angles(target)).abs().mean()


def angle_velocity(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the angles' steps from frame to frame, radians; 0 for one frame."""
    _check(pred, target)
    if pred.shape[1] <= 1:
        return _nothing(pred)
    return (limb_angles(pred).diff(dim=1) - limb_angles(target).diff(dim=1)).abs().mean()


def supervised_contrastive(
    features: Tensor,
    labels: Tensor,
    temperature: float = TEMPERATURE,
    base_temperature: float = BASE_TEMPERATURE,
) -> Tensor:
    """Contrast samples of a class with all others.

    P. Khosla et al., Supervised Contrastive Learning (NeurIPS 2020), equation 2, times ``temperature /
    base_temperature`` as its released code has it. A sample alone in its class has nothing to be compared
    with and is left out of the mean (there it made the loss NaN); without any pair the loss is 0.

    Parameters
    ----------
    features
        (N, D), or (N, V, D) for V views of each sample. Normalise them first.
    labels
        (N,) classes.
    """
    if features.ndim == 2:
        features = features[:, None]
    if features.ndim != 3 or labels.shape != features.shape[:1]:
        raise ModelError(
            f"supervised_contrastive: found features {tuple(features.shape)} and labels "
            f"{tuple(labels.shape)}, expected (N, D) or (N, views, D) and (N,)"
        )
    views = features.shape[1]
    features_ND = _wide(features).transpose(0, 1).flatten(0, 1)
    labels_N = labels.repeat(views)
    logits = features_ND @ features_ND.T / temperature
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    log_share = logits.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0.0)
    positive = (labels_N[:, None] == labels_N).masked_fill(itself, False)
    count = positive.sum(dim=1)
    if not bool(count.any()):
        return _nothing(features_ND)
    mean = (log_share * positive).sum(dim=1)[count > 0] / count[count > 0]
    return -(temperature / base_temperature) * mean.mean()


def _limbs(pose: Tensor) -> Tensor:
    if pose.ndim != 4 or pose.shape[2] != 17:
        raise ModelError(
            f"found poses of shape {tuple(pose.shape)}, expected (N, T, 17, 3): limbs are those of h36m17"
        )
    start, end = ([limb[side] for limb in LIMBS] for side in (0, 1))
    wide = _wide(pose)
    return wide[:, :, start] - wide[:, :, end]


def _wide(value: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, in which the angles' margin is not lost."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _nothing(pred: Tensor) -> Tensor:
    """0 that still belongs to the graph, so that a step with no other loss can be taken."""
    return _wide(pred).sum() * 0.0


def _check(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape:
        raise ModelError(
            f"found a prediction of shape {tuple(pred.shape)} for a target of {tuple(target.shape)}, "
            "expected the same shape: broadcasting would compare joints with others"
        )
