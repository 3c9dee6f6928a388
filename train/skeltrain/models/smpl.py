"""Rotations and skinned bodies in torch, differentiable everywhere.

Rotations by 6 numbers: Y. Zhou et al., On the Continuity of Rotation Representations (CVPR 2019), section 4,
in the layout of SPIN and HMR, which MotionBERT has too. Skinning: M. Loper et al., SMPL (SIGGRAPH Asia 2015),
equations 2 to 10. Body model files are read by `skelformats.smpl.load_body_model`, which runs nothing of
them.

N bodies, V vertices, K joints, S shape coefficients; radians, and the unit of the body model (metres).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skelformats.skeleton import load_skeleton
from skelformats.smpl import BodyModel
from skeltrain.models.errors import ModelError

#: Below this the two vectors of a 6D rotation have no direction (MotionBERT, utils_mesh.py).
DIRECTION_EPS = 1e-6

#: Squared angle below which a series replaces sin(x) / x and the like: its next term is lost in float32.
_SMALL_SQUARE = 1e-4


class Body(nn.Module):
    """A body model as tensors that follow a module to its device and are in no checkpoint.

    Parameters
    ----------
    model
        Whole: with pose directions and skinning weights.
    which
        Numbers of the vertices to keep, such as those that a regressor uses; None keeps all. Joints are the
        same in any case.

    Raises
    ------
    ModelError
        The file has joints only.
    """

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    rest: Tensor
    rest_directions: Tensor
    weights: Tensor

    def __init__(
        self,
        model: BodyModel,
        dtype: torch.dtype = torch.float32,
        which: NDArray[np.intp] | None = None,
    ) -> None:
        super().__init__()
        if model.pose_directions is None or model.weights is None:
            raise ModelError(
                f"{model.path}: found a body model without 'posedirs' and 'weights', expected a whole one, "
                "to have vertices from it"
            )
        self.path = model.path
        self.parents = model.parents
        kept = slice(None) if which is None else which
        arrays = {
            "template": model.template[kept],
            "shape_directions": model.shape_directions[kept],
            "pose_directions": model.pose_directions[kept],
            "rest": model.joint_regressor @ model.template,
            "rest_directions": np.einsum("kv,vas->kas", model.joint_regressor, model.shape_directions),
            "weights": model.weights[kept],
        }
        for name, array in arrays.items():
            # the files are licensed to each user: they must not travel in a checkpoint
            self.register_buffer(name, torch.as_tensor(array, dtype=dtype), persistent=False)


def skin(body: Body, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Shape and pose a body.

    Parameters
    ----------
    betas
        (N, S); coefficients that the model has no directions for are an error, missing ones are 0.
    rotations
        (N, K, 3, 3) of each joint against its parent, such as `rodrigues` and `rot6d_to_matrix` return.

    Returns
    -------
    Vertices (N, V, 3) and joints (N, K, 3). Joint 0 stays where it rests.

    Raises
    ------
    ModelError
        The body has another number of joints or of shape coefficients.
    """
    count = betas.shape[-1]
    if rotations.shape[1:] != (len(body.parents), 3, 3) or count > body.shape_directions.shape[2]:
        raise ModelError(
            f"{body.path}: found rotations of shape {tuple(rotations.shape)} and {count} shape coefficients, "
            f"expected (bodies, {len(body.parents)}, 3, 3) and at most {body.shape_directions.shape[2]}"
        )
    shaped_NV3 = body.template + torch.einsum("vas,ns->nva", body.shape_directions[..., :count], betas)
    rest_NK3 = body.rest + torch.einsum("kas,ns->nka", body.rest_directions[..., :count], betas)
    bends = (rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)).flatten(1)
    posed_NV3 = shaped_NV3 + torch.einsum("vap,np->nva", body.pose_directions, bends)
    joints_NK3, turned_NK33 = _forward_kinematics(rest_NK3, body.parents, rotations)
    shift_NK3 = joints_NK3 - (turned_NK33 @ rest_NK3[..., None])[..., 0]
    turns_NV33 = torch.einsum("vk,nkab->nvab", body.weights, turned_NK33)
    shifts_NV3 = torch.einsum("vk,nka->nva", body.weights, shift_NK3)
    return (turns_NV33 @ posed_NV3[..., None])[..., 0] + shifts_NV3, joints_NK3


def rodrigues(vector: Tensor) -> Tensor:
    """Return the matrices (..., 3, 3) of axis-angle vectors (..., 3)."""
    square = (vector * vector).sum(dim=-1)[..., None, None]
    small = square < _SMALL_SQUARE
    safe = square.masked_fill(small, 1.0)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - square / 6 + square**2 / 120, angle.sin() / angle)
    # (1 - cos a) / a^2 as a sine, which does not cancel
    versine = torch.where(small, 0.5 - square / 24 + square**2 / 720, 2 * (angle / 2).sin() ** 2 / safe)
    x, y, z = vector.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vector.shape, 3)
    unit = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return unit + sine * cross + versine * (cross @ cross)


def rot6d_to_matrix(six: Tensor) -> Tensor:
    """Return the rotations (..., 3, 3) of 6 numbers (..., 6).

    The 6 are the first two columns of the matrix, row by row: numbers 0, 2, 4 point along the first column,
    1, 3, 5 into the plane of the second. `matrix_to_rot6d` inverts it.
    """
    first, second = six.reshape(*six.shape[:-1], 3, 2).unbind(dim=-1)
    one = _direction(first)
    two = _direction(second - (one * second).sum(dim=-1, keepdim=True) * one)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def matrix_to_rot6d(matrix: Tensor) -> Tensor:
    """Return the 6 numbers (..., 6) of rotations (..., 3, 3) in the layout of `rot6d_to_matrix`."""
    return matrix[..., :2].flatten(-2)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Return the axis-angle vectors (..., 3), of angles up to pi, of rotations (..., 3, 3).

    Through the quaternion, whose largest component is found without cancelling: exact and differentiable for
    angles 0 and pi too.
    """
    r = matrix.flatten(-2).unbind(dim=-1)
    xx, yy, zz = r[0], r[4], r[8]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], dim=-1)
    w_products = torch.stack([squares[..., 0], r[7] - r[5], r[2] - r[6], r[3] - r[1]], dim=-1)
    x_products = torch.stack([r[7] - r[5], squares[..., 1], r[3] + r[1], r[2] + r[6]], dim=-1)
    y_products = torch.stack([r[2] - r[6], r[3] + r[1], squares[..., 2], r[7] + r[5]], dim=-1)
    z_products = torch.stack([r[3] - r[1], r[2] + r[6], r[7] + r[5], squares[..., 3]], dim=-1)
    products = torch.stack([w_products, x_products, y_products, z_products], dim=-2)
    largest = squares.detach().argmax(dim=-1)[..., None]
    # 4 q_i q_j over 2 |q_i|: only the largest is under a root
    row = products.gather(-2, largest[..., None].expand(*largest.shape, 4))[..., 0, :]
    quaternion = row / (2 * squares.gather(-1, largest).clamp_min(DIRECTION_EPS).sqrt())
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    square = (axis * axis).sum(dim=-1, keepdim=True)
    small = square < _SMALL_SQUARE
    sine = square.masked_fill(small, 1.0).sqrt()
    near = 2 / w.masked_fill(~small, 1.0)
    ratio = square / w.masked_fill(~small, 1.0) ** 2
    factor = torch.where(
        small, near * (1 - ratio / 3 + ratio**2 / 5), 2 * torch.atan2(sine, w.masked_fill(small, 1.0)) / sine
    )
    return factor * axis


def flip_pose(pose: Tensor) -> Tensor:
    """Mirror axis-angle poses of SMPL left to right: swap the sides, turn y and z round.

    Parameters
    ----------
    pose
        (..., 24, 3), or flat (..., 72).

    Raises
    ------
    ModelError
        It has another number of joints.
    """
    flat = pose.shape[-1] == 72
    joints = pose.reshape(*pose.shape[:-1], 24, 3) if flat else pose
    if joints.shape[-2:] != (24, 3):
        raise ModelError(
            f"flip_pose: found a pose of shape {tuple(pose.shape)}, expected (..., 24, 3) or (..., 72)"
        )
    mirror = list(load_skeleton("smpl24").mirror)
    flipped = joints[..., mirror, :] * joints.new_tensor([1.0, -1.0, -1.0])
    return flipped.flatten(-2) if flat else flipped


def flip_rotations(rotations: Tensor) -> Tensor:
    """Mirror poses as `flip_pose` does, as matrices (..., 24, 3, 3)."""
    mirror = list(load_skeleton("smpl24").mirror)
    sign = rotations.new_tensor([-1.0, 1.0, 1.0])
    return rotations[..., mirror, :, :] * sign[:, None] * sign


def mean_rotation(rotations: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the rotations (..., 3, 3) whose first two columns point to the means of those of (M, ..., 3, 3).

    Parameters
    ----------
    weights
        (M, ...) what each counts; None for alike.
    """
    six = matrix_to_rot6d(rotations)
    return rot6d_to_matrix((six if weights is None else six * weights[..., None]).sum(dim=0))


def _direction(vector: Tensor) -> Tensor:
    """Return the unit vector; one shorter than `DIRECTION_EPS` is divided by that instead."""
    square = (vector * vector).sum(dim=-1, keepdim=True)
    return vector / square.clamp_min(DIRECTION_EPS**2).sqrt()


def _forward_kinematics(
    rest_NK3: Tensor, parents: tuple[int, ...], rotations: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the joints and their rotations against the body, as lists joint by joint put together."""
    joints, turned = [rest_NK3[:, 0]], [rotations[:, 0]]
    for joint in range(1, len(parents)):
        parent = parents[joint]
        offset = rest_NK3[:, joint] - rest_NK3[:, parent]
        joints.append(joints[parent] + (turned[parent] @ offset[..., None])[..., 0])
        turned.append(turned[parent] @ rotations[:, joint])
    return torch.stack(joints, dim=1), torch.stack(turned, dim=1)
