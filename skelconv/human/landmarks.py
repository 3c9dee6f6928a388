"""Places of the procedural human beyond its joints: face, top of the head, toes and heels.

They hang on the joints by fixed proportions, so that layouts of 2D detectors can be filled by name.
"""

from __future__ import annotations

import numpy as np

from skelconv.human.body import SIDES, Motion
from skelconv.human.kinematics import Array, unit
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton


def with_landmarks(motion: Motion) -> Motion:
    """Return the motion with landmarks beside its joints, under the names that layouts share.

    Sizes of the face in parts of the way from neck to the middle of the head, about 0.11 m: nose 0.9 ahead;
    eyes 0.75 ahead, 0.3 up and 0.3 aside, their corners 0.12 to both sides; ears 0.65 aside; corners of the
    mouth 0.2 aside; top of the head 1.0 up. Knuckles by the way from wrist to the tip of the hand.
    """
    joints = dict(motion.joints)
    head, neck = joints["head"], joints["neck"]
    up = unit(head - neck)
    left = unit(joints["left_shoulder"] - joints["right_shoulder"])
    ahead = unit(np.cross(left, up))
    left = np.cross(up, ahead)
    size = np.linalg.norm(head - neck, axis=-1, keepdims=True)
    places = {
        "nose": 0.9 * ahead,
        "head_top": 1.0 * up,
        **{
            f"{side}_{name}": aside * sign * left + forward * ahead + above * up
            for side, sign in SIDES.items()
            for name, aside, forward, above in (
                ("eye", 0.3, 0.75, 0.3),
                ("eye_inner", 0.18, 0.78, 0.3),
                ("eye_outer", 0.42, 0.7, 0.3),
                ("ear", 0.65, 0.0, 0.1),
                ("mouth", 0.2, 0.8, -0.35),
            )
        },
    }
    joints |= {name: head + size * place for name, place in places.items()}
    joints["head_bottom"] = neck
    for side, sign in SIDES.items():
        ankle = joints[f"{side}_ankle"]
        foot = joints[f"{side}_foot"] - ankle
        aside = unit(np.cross(unit(joints[f"{side}_knee"] - ankle), unit(foot))) * sign
        joints[f"{side}_big_toe"] = ankle + 1.6 * foot - 0.03 * aside
        joints[f"{side}_small_toe"] = ankle + 1.4 * foot + 0.05 * aside
        joints[f"{side}_foot_index"] = ankle + 1.6 * foot
        joints[f"{side}_heel"] = ankle - 0.5 * foot + 0.08 * unit(ankle - joints[f"{side}_knee"])
        if f"{side}_thumb" in joints:  # a body without hands has no knuckles
            joints |= _knuckles(joints, side)
    return Motion(joints)


def _knuckles(joints: dict[str, Array], side: str) -> dict[str, Array]:
    wrist = joints[f"{side}_wrist"]
    hand, thumb = joints[f"{side}_hand_tip"] - wrist, joints[f"{side}_thumb"] - wrist
    return {
        f"{side}_index1": wrist + 0.5 * hand + 0.2 * thumb,
        f"{side}_pinky1": wrist + 0.5 * hand - 0.3 * thumb,
        f"{side}_thumb2": wrist + 0.6 * thumb,
    }


def place(motion: Motion, skeleton: Skeleton) -> Array:
    """Return (T, J, 3) places of a layout, found by name among joints and landmarks.

    Raises
    ------
    UnknownNameError
        The layout has a joint that is neither.
    """
    found = []
    for joint in skeleton.joints:
        hits = [name for name in (joint.name, *joint.same_as) if name in motion.joints]
        if not hits:
            raise UnknownNameError("place of the procedural human", joint.name, tuple(motion.joints))
        found.append(motion.joints[hits[0]])
    return np.stack(found, axis=1)
