"""The depth camera: where it stands, what it sees of a scene, and how it errs.

Camera frames are the Kinect v2's: metres, right-handed, +y up along the sensor, +z away from it, +x to its
left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from skelconv.human.body import Motion
from skelconv.human.kinematics import Array, unit
from skelformats.skeleton import Skeleton

TRACKED, INFERRED, LOST = 2, 1, 0

DEPTH_SIZE = (512, 424)
"""Columns and rows of the depth image."""

_NOISE_MM = {
    "spine_base": 0.8,
    "spine_mid": 0.7,
    "spine_shoulder": 0.8,
    "neck": 0.9,
    "head": 1.2,
    "shoulder": 1.8,
    "elbow": 4.0,
    "wrist": 7.0,
    "hand": 10.0,
    "hand_tip": 14.0,
    "thumb": 14.0,
    "hip": 1.0,
    "knee": 3.0,
    "ankle": 5.0,
    "foot": 14.0,
}
"""Deviation of a tracked joint from frame to frame at 3 m, in millimetres.

Of the order that second differences of genuine NTU RGB+D recordings show.
"""

_GUESSED = {"hand_tip": 0.10, "thumb": 0.12, "hand": 0.05, "foot": 0.15, "ankle": 0.06, "wrist": 0.03}
"""Share of frames in which a joint in plain sight is inferred all the same."""

_TORSO_RADIUS, _BODY_RADIUS = 0.13, 0.17
"""Metres: how far a trunk hides what is behind it, on oneself and on others."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A place to look from: the world point of the sensor, and the rotation from world to camera axes."""

    position: Array
    rotation: Array

    @classmethod
    def looking_at(cls, place: Array, position: Array) -> Camera:
        """Return an upright camera at ``position`` that has ``place`` in the middle of its picture."""
        ahead = unit(place - position)
        left = unit(np.cross((0.0, 1.0, 0.0), ahead))
        return cls(position, np.stack([left, np.cross(ahead, left), ahead]))

    def view(self, motion: Motion) -> Motion:
        """Return a motion of the world in the camera's frame."""
        return motion.moved(self.rotation, -self.rotation @ self.position)


def depth_pixels(position: Array) -> Array:
    """(..., 2) pixels of the depth image: the pinhole model that genuine recordings follow within 0.35 px."""
    return _project(position, (366.5, -366.5), (256.0, 208.5))


def color_pixels(position: Array) -> Array:
    """(..., 2) pixels of the 1920 x 1080 colour image, as `depth_pixels`."""
    return _project(position, (1053.0, -1056.0), (976.0, 567.0))


def _project(position: Array, focal: tuple[float, float], centre: tuple[float, float]) -> Array:
    # a lost joint at the origin has no pixel; it gets 0, as its position
    depth = position[..., 2:]
    seen = depth != 0
    return np.where(seen, position[..., :2] / np.where(seen, depth, 1.0) * focal + centre, 0.0)


def hidden(people: Sequence[Motion], skeleton: Skeleton) -> list[NDArray[np.bool_]]:
    """Tell for each of some people, seen by a camera, which joints a trunk hides: (T, J) each."""
    found = []
    for person in people:
        position = person.layout(skeleton)
        behind = _behind_trunk(position, person, _TORSO_RADIUS, (0.0, 1.0), 0.08)
        for other in people:
            if other is not person:
                behind |= _behind_trunk(position, other, _BODY_RADIUS, (-1.4, 1.5), 0.2)
        found.append(behind)
    return found


def _behind_trunk(
    position: Array, owner: Motion, radius: float, reach: tuple[float, float], margin: float
) -> NDArray[np.bool_]:
    """(T, J) joints behind somebody's trunk: an upright cylinder, ``reach`` its ends in trunk lengths."""
    low, high = owner.joints["spine_base"][:, None], owner.joints["neck"][:, None]
    way = high - low
    # along the picture's vertical, in which people mostly stand
    part = (position[..., 1] - low[..., 1]) / np.maximum(way[..., 1], 0.2)
    within = (part > reach[0]) & (part < reach[1])
    trunk = low + np.clip(part, *reach)[..., None] * way
    beside = np.abs(position[..., 0] / position[..., 2] * trunk[..., 2] - trunk[..., 0])
    return within & (beside < radius) & (position[..., 2] > trunk[..., 2] + margin)


def tracking_states(
    unseen: NDArray[np.bool_], skeleton: Skeleton, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(T, J) tracking states: joints out of sight are inferred, some in sight are, too."""
    normal = NormalDist()
    least = np.array([normal.inv_cdf(1 - _by_kind(_GUESSED, name, 0.005)) for name in skeleton.names])
    guessed = _waves(len(unseen), (len(skeleton),), rng, (0.2, 1.5)) > least
    return np.where(unseen | guessed, INFERRED, TRACKED).astype(np.uint8)


def sensed(
    position: Array,
    state: NDArray[np.uint8],
    skeleton: Skeleton,
    noise: float,
    rng: np.random.Generator,
) -> Array:
    """Return (T, J, 3) positions as the sensor reports them.

    Errors grow with distance; each joint trembles and wanders, and an inferred one is off by centimetres.
    """
    scale = np.array([_by_kind(_NOISE_MM, name, 1.0) for name in skeleton.names]) * 1e-3 * noise
    shape = position.shape
    # heavier tails than the normal distribution's, as with real trackers
    tremble = rng.standard_t(5, shape) / np.sqrt(5 / 3)
    wander = _waves(shape[0], shape[1:], rng, (0.3, 2.0))
    far = np.maximum(position[..., 2:], 0.5) / 3.0
    tracked = scale[:, None] * (0.8 * tremble + 1.2 * wander)
    unsure = (state == INFERRED)[..., None]
    guess = noise * (0.02 * _waves(shape[0], shape[1:], rng, (0.1, 0.8)) + 0.006 * tremble)
    return position + far * (tracked + unsure * guess)


def _by_kind(table: dict[str, float], joint: str, default: float) -> float:
    return table.get(joint.removeprefix("left_").removeprefix("right_"), default)


def _waves(frames: int, tail: tuple[int, ...], rng: np.random.Generator, hertz: tuple[float, float]) -> Array:
    """(T, *tail) slow random waves of deviation 1, each the sum of three at 30 frames a second."""
    time = np.arange(frames).reshape(-1, *[1] * (len(tail) + 1)) / 30.0
    rate = rng.uniform(*hertz, (3, *tail))
    phase = rng.uniform(0, 2 * np.pi, (3, *tail))
    return np.sin(2 * np.pi * rate * time + phase).sum(axis=1) * np.sqrt(2 / 3)


def clipped_edges(position: Array) -> NDArray[np.int64]:
    """(R,) edges of the depth image that bodies (R, J, 3) cross: sum of 1 right, 2 left, 4 top, 8 bottom."""
    with np.errstate(invalid="ignore"):
        pixels = depth_pixels(position)
        x, y = pixels[..., 0], pixels[..., 1]
        columns, rows = DEPTH_SIZE
        crossed = np.stack([x >= columns, x < 0, y < 0, y >= rows], axis=-1)
    return crossed.any(axis=1) @ np.array([1, 2, 4, 8])


def bone_orientations(position: Array, skeleton: Skeleton) -> Array:
    """(R, J, 4) quaternions W X Y Z of the joints: y along the bone, z as the body faces; 0 for leaves."""
    parents = np.array(skeleton.parents)
    leaf = ~np.isin(np.arange(len(skeleton)), parents)
    start = np.where(parents >= 0, parents, 0)
    along = position - position[:, start]
    upward = position[:, skeleton.index("spine_shoulder")] - position[:, skeleton.index("spine_base")]
    along[:, parents < 0] = upward[:, None]
    leftward = position[:, skeleton.index("left_shoulder")] - position[:, skeleton.index("right_shoulder")]
    facing = unit(np.cross(leftward, upward))[:, None] + 1e-3
    y = unit(along)
    x = unit(np.cross(y, facing))
    z = np.cross(x, y)
    diagonal = np.stack([x[..., 0], y[..., 1], z[..., 2]], axis=-1)
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    size = np.sqrt(np.maximum(1 + diagonal @ signs.T, 0.0)) / 2
    turn = np.stack([y[..., 2] - z[..., 1], z[..., 0] - x[..., 2], x[..., 1] - y[..., 0]], axis=-1)
    quaternion = size.copy()
    quaternion[..., 1:] = np.copysign(size[..., 1:], turn)
    quaternion[:, leaf] = 0.0
    return quaternion
