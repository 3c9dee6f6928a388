"""Turning a skeleton upright, which the pyskl and MS-G3D chains share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelformats.skeleton import Skeleton


def upright_joints(skeleton: Skeleton) -> tuple[int, int, int, int]:
    """Return the joints (hips' centre, middle of the spine, left shoulder, right shoulder), found by name.

    In Kinect v2 these are the joints 0, 1, 4 and 8. Raises `UnknownNameError` where the layout has none.
    """
    names = ("spine_base", "spine_mid", "left_shoulder", "right_shoulder")
    base, middle, left, right = (skeleton.index(name) for name in names)
    return base, middle, left, right


def rotation_onto(vector: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the (3, 3) rotation about ``vector`` x ``e`` that turns ``vector`` onto ``e``, the unit axis.

    A vector along the axis, against it, or of length 0 gives the identity: the turn has no axis then.
    """
    target = np.eye(3)[axis]
    normal = np.cross(vector, target)
    length = np.linalg.norm(vector)
    sine = np.linalg.norm(normal)
    if length == 0 or sine < 1e-9 * length:
        return np.eye(3)
    x, y, z = normal / sine
    # Rodrigues: R = I + sin(a) K + (1 - cos(a)) K^2
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.arctan2(sine, vector @ target)
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def turn_upright(
    position: NDArray[np.float64], reference: NDArray[np.float64], skeleton: Skeleton
) -> NDArray[np.float64]:
    """Turn (..., J, 3) so that the reference's spine points along +z, then its shoulders along +x.

    ``reference`` is (J, 3). The second turn is about (shoulders x e_x), so it can tilt the spine off z again,
    as it does in the published arrays.
    """
    base, middle, left, right = upright_joints(skeleton)
    spine = rotation_onto(reference[middle] - reference[base], axis=2)
    turned = reference @ spine.T
    shoulders = rotation_onto(turned[right] - turned[left], axis=0)
    return position @ (shoulders @ spine).T
