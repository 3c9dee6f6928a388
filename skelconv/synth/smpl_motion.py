"""A body model steered by the procedural human: rotations of SMPL+H's joints, and where the joints are then.

The human's joints steer the body: the pelvis and the chest take its frames, every limb aims where its limb
points. So the motion is a person's and the lengths are the body model's. T frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelconv.human import SIDES, Motion
from skelconv.human.kinematics import unit
from skelformats.skeleton import load_skeleton

Array = NDArray[np.float64]

_AIMS = {
    "hip": ("knee", "hip"),
    "knee": ("ankle", "knee"),
    "ankle": ("foot", "ankle"),
    "shoulder": ("elbow", "shoulder"),
    "elbow": ("wrist", "elbow"),
    "wrist": ("hand", "wrist"),
}
"""For each joint of a limb, which of the human's joints it points to, and from which."""


def steer(human: Motion, rest: Array, axes: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Turn every joint of SMPL+H so that the body moves as a human does.

    Parameters
    ----------
    rest
        (52, 3) joints of the shaped body in the rest pose.
    axes
        (3, 3) from the scene's axes (+y up) to those of the result.

    Returns
    -------
    The pose (T, 52, 3), axis-angle, and each joint's rotation in space (T, 52, 3, 3).
    """
    skeleton = load_skeleton("smplh52")
    joints = human.joints
    pelvis = _frame(joints["left_hip"] - joints["right_hip"], joints["spine_mid"] - joints["spine_base"])
    shoulders = joints["left_shoulder"] - joints["right_shoulder"]
    chest = _frame(shoulders, joints["spine_shoulder"] - joints["spine_mid"])
    aims = {"neck": joints["neck"] - joints["spine_shoulder"], "head": joints["head"] - joints["neck"]}
    for side in SIDES:
        for joint, (stop, start) in _AIMS.items():
            aims[f"{side}_{joint}"] = joints[f"{side}_{stop}"] - joints[f"{side}_{start}"]
    curl = 0.2 + 0.2 * rng.random()
    turned = np.empty((len(human), len(skeleton), 3, 3))
    pose = np.empty((len(human), len(skeleton), 3))
    for index, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        if name in ("pelvis", "spine2"):
            frame = axes @ (pelvis if name == "pelvis" else chest)
            before = np.eye(3) if parent < 0 else turned[:, parent]
            pose[:, index] = vector(np.swapaxes(before, -1, -2) @ frame)
            turned[:, index] = frame
            continue
        if name in aims:
            want = (np.swapaxes(turned[:, parent], -1, -2) @ (aims[name] @ axes.T)[..., None])[..., 0]
            pose[:, index] = _aim(_rest_direction(rest, skeleton.names, name), want)
        else:
            # fingers curl towards the palm, which looks down in the rest pose
            sign = 1.0 if name.startswith("left") else -1.0
            finger = "_" in name and name[-1].isdigit() and "thumb" not in name
            pose[:, index] = (0.0, 0.0, -sign * curl if finger else 0.0)
        turned[:, index] = turned[:, parent] @ _matrix(pose[:, index])
    return pose, turned


def _rest_direction(rest: Array, names: tuple[str, ...], name: str) -> Array:
    """Return the unit vector (3,) along which a joint's limb rests."""
    side, _, joint = name.partition("_")
    if joint in ("shoulder", "elbow", "wrist"):
        return np.array([SIDES[side], 0.0, 0.0])
    if not joint:
        return np.array([0.0, 1.0, 0.0])
    return np.asarray(unit(rest[names.index(f"{side}_{_AIMS[joint][0]}")] - rest[names.index(name)]))


def positions(rest: Array, turned: Array, root: Array, parents: tuple[int, ...]) -> Array:
    """Add up the offsets (T, K, 3) of a body (K, 3) whose pelvis is at ``root`` (T, 3)."""
    position = np.empty(turned.shape[:3])
    for index, parent in enumerate(parents):
        if parent < 0:
            position[:, index] = root
        else:
            position[:, index] = position[:, parent] + turned[:, parent] @ (rest[index] - rest[parent])
    return position


def _frame(left: Array, up: Array) -> Array:
    """Return rotations (T, 3, 3) that turn +x to the left and +y as far up as that leaves it."""
    x = unit(left)
    z = unit(np.cross(x, up))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _aim(start: Array, stop: Array) -> Array:
    """Return the axis-angle vectors (T, 3) of the shortest turn from a unit vector to the way of (T, 3)."""
    stop = unit(stop)
    axis = np.cross(start, stop)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    return axis / np.maximum(sine, 1e-12) * np.arctan2(sine, stop @ start[:, None])


def _matrix(vector: Array) -> Array:
    """Return the rotation matrices (T, 3, 3) of axis-angle vectors, by their axes."""
    angle = np.linalg.norm(vector, axis=-1)[:, None, None]
    x, y, z = (vector / np.maximum(angle[:, 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def vector(matrix: Array) -> Array:
    """Return the axis-angle vectors (T, 3) of rotation matrices.

    The quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix, which is sound at every
    angle (I. Bar-Itzhack, New Method for Extracting the Quaternion from a Rotation Matrix, 2000).
    """
    m = np.moveaxis(matrix, 0, -1)
    rows = [
        [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
        [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
        [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
    ]
    quaternion = np.linalg.eigh(np.moveaxis(np.array(rows), -1, 0))[1][..., -1]
    quaternion = quaternion * np.where(quaternion[:, 3:] < 0, -1.0, 1.0)
    axis, cosine = quaternion[:, :3], quaternion[:, 3:]
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    return np.asarray(axis / np.maximum(sine, 1e-12) * 2.0 * np.arctan2(sine, cosine))
