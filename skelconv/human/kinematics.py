"""Rotations, two-bone chains and the limits of joints: the geometry that `skelconv.human.body` is made of.

Everything works on T frames at once; angles are radians. Axes: +y up, +z forward, +x to the left.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LIMITS: Mapping[str, tuple[float, float]] = {
    "knee": (0.06, 2.5),
    "elbow": (0.10, 2.5),
    "lean": (-0.5, 1.4),
    "bend": (-0.5, 1.3),
    "side": (-0.6, 0.6),
    "twist": (-0.8, 0.8),
    "nod": (-0.8, 0.8),
    "look": (-1.3, 1.3),
    "tilt": (-0.6, 0.6),
}
"""Least and greatest angle of each joint or control, radians; 0 is the upright, stretched body.

Rounded from the normal ranges of motion of the American Academy of Orthopaedic Surgeons (1965). Elbow and
knee stop short of stretched, as they do in people.
"""


def two_bone_range(first: float, second: float, joint: str) -> tuple[float, float]:
    """Shortest and longest distance that two bones span within the limits of the joint between them."""
    least, most = LIMITS[joint]
    return tuple(  # type: ignore[return-value]
        float(np.sqrt(first**2 + second**2 + 2 * first * second * np.cos(angle))) for angle in (most, least)
    )


def two_bone(
    start: Array, wanted: Array, pole: Array, first: float, second: float, joint: str
) -> tuple[Array, Array]:
    """Place a chain of two bones from ``start`` as near to ``wanted`` as its limits allow.

    Parameters
    ----------
    start, wanted, pole
        (T, 3): where the chain begins, where its end should be, and the way its middle joint points.
    first, second
        Lengths of the bones.
    joint
        The middle joint, ``elbow`` or ``knee``, for its limits.

    Returns
    -------
    Middle and end of the chain, (T, 3) each.
    """
    low, high = two_bone_range(first, second, joint)
    way = wanted - start
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    # a target in the shoulder itself has no direction: any will do, as long as it is one
    direction = np.where(distance > 1e-6, way / np.maximum(distance, 1e-6), (0.0, -1.0, 0.0))
    span = np.clip(distance, low, high)
    cosine = (first**2 + span**2 - second**2) / (2 * first * span)
    sine = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    beside = unit(pole - (pole * direction).sum(-1, keepdims=True) * direction)
    return start + first * (cosine * direction + sine * beside), start + span * direction


def unit(vectors: Array) -> Array:
    """Return vectors of length 1 along the last axis; (almost) zero vectors stay as short as they are."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def rotation_x(angle: Array) -> Array:
    """(T, 3, 3) rotations about x: positive tips +y over to +z (forward)."""
    return _rotation(angle, 1, 2)


def rotation_y(angle: Array) -> Array:
    """(T, 3, 3) rotations about y: positive swings +z over to +x (to the left)."""
    return _rotation(angle, 2, 0)


def rotation_z(angle: Array) -> Array:
    """(T, 3, 3) rotations about z, such that positive tips +y over to -x (to the right)."""
    return _rotation(angle, 0, 1)


def _rotation(angle: Array, a: int, b: int) -> Array:
    """Rotations that carry axis ``a`` towards axis ``b``."""
    turned = np.zeros((*np.shape(angle), 3, 3))
    turned[..., 3 - a - b, 3 - a - b] = 1.0
    turned[..., a, a] = turned[..., b, b] = np.cos(angle)
    turned[..., b, a] = np.sin(angle)
    turned[..., a, b] = -turned[..., b, a]
    return turned


def apply(rotations: Array, vectors: Array) -> Array:
    """Rotate each frame's vector: (T, 3, 3) on (T, 3)."""
    return (rotations @ vectors[..., None])[..., 0]
