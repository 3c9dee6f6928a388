"""The procedural human: a body of given stature, steered by `Controls`, solved into joint positions.

Animators' controls (where the pelvis, the hands and the feet are, how the trunk and the head bend) become
joints by forward kinematics of the trunk and analytic two-bone inverse kinematics of the limbs. So bones keep
their length to rounding, planted feet stay planted, and elbows and knees never bend the wrong way or beyond
the limits of people, whatever the controls ask for.

Axes of a scene: +y up from the floor at y = 0, metres; a person at turn 0 faces +z and has the left hand
at +x. Radians, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from skelconv.human.kinematics import (
    LIMITS,
    Array,
    apply,
    rotation_x,
    rotation_y,
    rotation_z,
    two_bone,
    two_bone_range,
    unit,
)
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton

SIDES = {"left": 1.0, "right": -1.0}
"""Sides of the body, and the sign of x on which they lie."""

RATIOS: Mapping[str, float] = {
    "ankle_height": 0.039,
    "shank": 0.246,
    "thigh": 0.245,
    "trunk": 0.288,
    "neck": 0.052,
    "head": 0.066,
    "shoulder": 0.105,
    "hip": 0.045,
    "upper_arm": 0.186,
    "forearm": 0.146,
    "hand": 0.108,
    "foot": 0.152,
}
"""Lengths as fractions of stature.

Segment ratios of R. Drillis and R. Contini, Body Segment Parameters, New York University report 1166.03
(1966), as reproduced in D. Winter, Biomechanics and Motor Control of Human Movement, figure 4.1: heights
above the floor of ankle .039, knee .285, hip .530, shoulder .818, chin .870; upper arm .186, forearm .146,
hand .108, foot .152. Hip and shoulder are half the distances of the joint centres, which lie inside the
breadths that the table gives; head is the middle of the head, as depth sensors report it.
"""

JOINTS = (
    "spine_base",
    "spine_mid",
    "spine_shoulder",
    "neck",
    "head",
    *(
        f"{side}_{joint}"
        for side in SIDES
        for joint in (
            "shoulder",
            "elbow",
            "wrist",
            "hand",
            "hand_tip",
            "thumb",
            "hip",
            "knee",
            "ankle",
            "foot",
        )
    ),
)
"""Joints that the human has, under the names that the layouts of `skelformats.skeleton` share."""


_ARM_AHEAD = np.array([6.0, -2.0, 19.0]) / np.sqrt(401.0)
_ELBOW_DOWN = np.array([6.0, -20.0, -4.0]) / np.sqrt(452.0)
"""An arm that is held ahead, and its elbow: unit vectors at right angles, (outward, up, forward)."""


@dataclass(frozen=True)
class Body:
    """Lengths of one person's segments in metres, symmetric, by the names of `RATIOS`; and the stature."""

    stature: float
    segments: Mapping[str, float]

    @classmethod
    def of_stature(cls, stature: float, proportions: Mapping[str, float] | None = None) -> Body:
        """Return the average body of that stature, each segment scaled by its entry in ``proportions``."""
        scale = proportions or {}
        return cls(stature, {name: ratio * stature * scale.get(name, 1.0) for name, ratio in RATIOS.items()})

    def __getitem__(self, segment: str) -> float:
        return self.segments[segment]

    @property
    def arm(self) -> float:
        """Shoulder to wrist, metres."""
        return self["upper_arm"] + self["forearm"]

    @property
    def leg(self) -> float:
        """Hip to ankle, metres."""
        return self["thigh"] + self["shank"]

    @property
    def standing(self) -> float:
        """Height of the spine base when standing at ease, metres."""
        return self["ankle_height"] + 0.99 * self.leg + 0.01 * self.stature

    @property
    def shoulder_height(self) -> float:
        """Height of the shoulders when standing at ease, metres."""
        return self.standing + self["trunk"]


def _zeros(frames: int, *tail: int) -> dict[str, Array]:
    return {side: np.zeros((frames, *tail)) for side in SIDES}


@dataclass(eq=False)
class Controls:
    """What one person does over T frames; actions write into these arrays.

    Attributes
    ----------
    pelvis
        (T, 3) spine base in the scene. Lowered by `solve` where the feet could not be reached.
    turn, lean, roll
        (T,) heading of the pelvis about +y (positive turns to the left), its tilt forward and to the right.
    bend, side, twist
        (T,) of the whole spine: forward, to the right, to the left about its axis.
    nod, look, tilt
        (T,) of the head: down, to the left, to the right.
    hand
        By side (T, 3): wrist from the shoulder in the chest's frame (outward, up, forward), in arm lengths.
    reach, hold
        By side (T, 3) wrist in the scene and (T,) its weight, 0 to 1, against ``hand``.
    swivel
        By side (T,): turns the elbow outward and up about the line from shoulder to wrist.
    flex
        By side (T,): bend of the wrist towards the palm.
    ankle
        By side (T, 3) ankle in the scene.
    toe, splay
        By side (T,): pitch of the foot, positive toes down, and its turn outward from the pelvis's heading.
    """

    pelvis: Array
    turn: Array
    lean: Array
    roll: Array
    bend: Array
    side: Array
    twist: Array
    nod: Array
    look: Array
    tilt: Array
    hand: dict[str, Array]
    reach: dict[str, Array]
    hold: dict[str, Array]
    swivel: dict[str, Array]
    flex: dict[str, Array]
    ankle: dict[str, Array]
    toe: dict[str, Array]
    splay: dict[str, Array]

    @classmethod
    def standing(cls, body: Body, frames: int) -> Controls:
        """Return controls of somebody who stands still with hanging arms at the origin, facing +z."""
        channels = {
            name: np.zeros(frames)
            for name in ("turn", "lean", "roll", "bend", "side", "twist", "nod", "look", "tilt")
        }
        pelvis = np.zeros((frames, 3))
        pelvis[:, 1] = body.standing
        hand = _zeros(frames, 3)
        ankle = _zeros(frames, 3)
        for side, sign in SIDES.items():
            hand[side][:] = (0.14, -0.95, 0.08)
            ankle[side][:] = (sign * 1.3 * body["hip"], body["ankle_height"], 0.0)
        return cls(
            pelvis=pelvis,
            **channels,
            hand=hand,
            reach=_zeros(frames, 3),
            hold=_zeros(frames),
            swivel=_zeros(frames),
            flex=_zeros(frames),
            ankle=ankle,
            toe=_zeros(frames),
            splay={side: np.full(frames, 0.15) for side in SIDES},
        )


@dataclass(frozen=True, eq=False)
class Motion:
    """Joint positions of one person: by name, each (T, 3) float64 metres in the scene's axes."""

    joints: Mapping[str, Array] = field(repr=False)

    def __len__(self) -> int:
        return len(self.joints["spine_base"])

    def layout(self, skeleton: Skeleton) -> Array:
        """Return (T, J, 3) positions in the order of a layout, joints found by name.

        Raises
        ------
        UnknownNameError
            The layout has a joint that the human lacks.
        """
        return np.stack([self.joints[name] for name in joint_sources(skeleton)], axis=1)

    def mirrored(self) -> Motion:
        """Return the motion in a mirror: x negated, left and right exchanged."""
        flip = np.array([-1.0, 1.0, 1.0])
        return Motion({_other_side(name): value * flip for name, value in self.joints.items()})

    def moved(self, rotation: Array, shift: Array) -> Motion:
        """Return the motion rotated by (3, 3) and then shifted by (3,)."""
        return Motion({name: value @ rotation.T + shift for name, value in self.joints.items()})


def joint_sources(skeleton: Skeleton) -> tuple[str, ...]:
    """For each joint of a layout, the human's joint at that place; raises `UnknownNameError` if none is."""
    found = []
    for joint in skeleton.joints:
        hits = [name for name in (joint.name, *joint.same_as) if name in JOINTS]
        if not hits:
            raise UnknownNameError(f"joint of the procedural human (for {skeleton.name})", joint.name, JOINTS)
        found.append(hits[0])
    return tuple(found)


def solve(body: Body, controls: Controls) -> Motion:
    """Turn controls into joint positions; every bone keeps the length that ``body`` gives it."""
    c = _within_limits(controls)
    joints: dict[str, Array] = {}
    pelvis_turn = rotation_y(c.turn) @ rotation_x(c.lean) @ rotation_z(c.roll)
    pelvis = _lowered(body, c, pelvis_turn)
    half = rotation_x(c.bend / 2) @ rotation_z(c.side / 2) @ rotation_y(c.twist / 2)
    loin_turn = pelvis_turn @ half
    chest_turn = loin_turn @ half
    head_turn = chest_turn @ rotation_y(c.look) @ rotation_x(c.nod) @ rotation_z(c.tilt)
    joints["spine_base"] = pelvis
    joints["spine_mid"] = pelvis + loin_turn @ (0.0, 0.57 * body["trunk"], 0.0)
    chest = joints["spine_mid"] + chest_turn @ (0.0, 0.43 * body["trunk"], 0.0)
    joints["spine_shoulder"] = chest
    joints["neck"] = chest + chest_turn @ (0.0, body["neck"], 0.0)
    joints["head"] = joints["neck"] + head_turn @ (0.0, body["head"], 0.2 * body["head"])
    for side, sign in SIDES.items():
        _solve_arm(joints, body, c, side, sign, chest, chest_turn)
        _solve_leg(joints, body, c, side, sign, pelvis, pelvis_turn)
    return Motion(joints)


def _within_limits(controls: Controls) -> Controls:
    changed = {
        name: np.clip(getattr(controls, name), *LIMITS[name])
        for name in ("lean", "bend", "side", "twist", "nod", "look", "tilt")
    }
    return replace(controls, **changed)


def _lowered(body: Body, c: Controls, pelvis_turn: Array) -> Array:
    """Return the pelvis, lowered where a stretched leg would not reach its foot."""
    longest = two_bone_range(body["thigh"], body["shank"], "knee")[1]
    pelvis = c.pelvis.copy()
    for side, sign in SIDES.items():
        hip = pelvis_turn @ _hip(body, sign)
        gap = c.ankle[side] - pelvis - hip
        across = np.hypot(gap[:, 0], gap[:, 2])
        highest = c.ankle[side][:, 1] + np.sqrt(np.maximum(longest**2 - across**2, 0.0)) - hip[:, 1]
        pelvis[:, 1] = np.minimum(pelvis[:, 1], highest)
    return pelvis


def _hip(body: Body, sign: float) -> tuple[float, float, float]:
    return (sign * body["hip"], -0.01 * body.stature, 0.0)


def _solve_arm(
    joints: dict[str, Array],
    body: Body,
    c: Controls,
    side: str,
    sign: float,
    chest: Array,
    chest_turn: Array,
) -> None:
    shoulder = chest + chest_turn @ (sign * body["shoulder"], -0.015 * body.stature, 0.0)
    side_sign = np.array([sign, 1.0, 1.0])
    there = apply(np.swapaxes(chest_turn, -1, -2), c.reach[side] - shoulder) * side_sign / body.arm
    weight = c.hold[side][:, None]
    arm = _around_shoulder((1 - weight) * c.hand[side] + weight * there)
    pole = apply(chest_turn, _elbow_pole(unit(arm), c.swivel[side]) * side_sign)
    wanted = shoulder + apply(chest_turn, arm * side_sign) * body.arm
    elbow, wrist = two_bone(shoulder, wanted, pole, body["upper_arm"], body["forearm"], "elbow")
    along = unit(wrist - elbow)
    palm = _palm_normal(along, unit(elbow - shoulder), chest_turn, sign)
    bend = c.flex[side][:, None]
    pointing = np.cos(bend) * along + np.sin(bend) * palm
    across = unit(np.cross(pointing, palm)) * sign
    joints[f"{side}_shoulder"] = shoulder
    joints[f"{side}_elbow"] = elbow
    joints[f"{side}_wrist"] = wrist
    joints[f"{side}_hand"] = wrist + 0.42 * body["hand"] * pointing
    joints[f"{side}_hand_tip"] = wrist + 0.92 * body["hand"] * pointing
    joints[f"{side}_thumb"] = joints[f"{side}_hand"] + body["hand"] * (0.15 * pointing + 0.3 * across)


def _around_shoulder(hand: Array) -> Array:
    """Lead a hand on its way past the shoulder in an arc before it, not through it; (T, 3) arm lengths."""
    near = np.exp(-((hand / 0.35) ** 2).sum(axis=-1, keepdims=True))
    return hand + 0.6 * near * (0.5, -0.1, 0.86)


def _elbow_pole(arm: Array, swivel: Array) -> Array:
    """(T, 3) way in which the elbow points, for the unit way in which the arm does; (outward, up, forward).

    With the arm ahead the elbow points down and a little outward; any other arm gets what the shortest turn
    from there makes of that: behind a hanging arm, in front of a raised one. A direction on a sphere cannot
    be continuous everywhere; this choice jumps only for an arm held straight back, where no arm goes.
    """
    ahead, down = _ARM_AHEAD, _ELBOW_DOWN
    turn = (arm @ down) / np.maximum(1 + arm @ ahead, 0.02)
    pole = down - turn[:, None] * (ahead + arm)
    angle = swivel[:, None]
    return np.cos(angle) * pole + np.sin(angle) * np.cross(arm, pole)


def _palm_normal(along: Array, upper: Array, chest_turn: Array, sign: float) -> Array:
    """Direction in which the palm looks: inward, at right angles to the forearm; (T, 3) unit vectors."""
    inward = chest_turn @ (-sign, 0.0, 0.0)
    # with the forearm across the body, inward is along it: the inner side of the elbow's bend takes over
    guide = inward + 0.3 * (along - upper)
    return unit(guide - (guide * along).sum(-1, keepdims=True) * along)


def _solve_leg(
    joints: dict[str, Array],
    body: Body,
    c: Controls,
    side: str,
    sign: float,
    pelvis: Array,
    pelvis_turn: Array,
) -> None:
    hip = pelvis + pelvis_turn @ _hip(body, sign)
    foot_turn = rotation_y(c.turn + sign * c.splay[side])
    # knees point where the feet point, and a little up, which counts once a thigh is level
    pole = foot_turn @ (0.0, 0.25, 1.0)
    knee, ankle = two_bone(hip, c.ankle[side], pole, body["thigh"], body["shank"], "knee")
    down = rotation_x(c.toe[side])
    length = body["foot"]
    joints[f"{side}_hip"] = hip
    joints[f"{side}_knee"] = knee
    joints[f"{side}_ankle"] = ankle
    joints[f"{side}_foot"] = ankle + (foot_turn @ down) @ (0.0, -0.6 * body["ankle_height"], 0.5 * length)


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name
