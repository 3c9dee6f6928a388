"""The procedural human: proportions, constant bones, joint limits, feet on the floor, and what actions do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from skelconv.human import observe
from skelconv.human.body import RATIOS, Body, Controls, Motion, joint_sources, solve
from skelconv.human.kinematics import LIMITS, unit
from skelconv.human.legwork import GRAVITY
from skelconv.human.performance import ACTIONS, Subject, find_action, play, subject
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Joint, load_skeleton

FRAME_RATE = 30.0


def bend_angle(first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(T,) angle by which two bones deviate from a straight line at their middle joint, radians."""
    cosine = (unit(middle - first) * unit(last - middle)).sum(-1)
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def perform(name: str, take: int = 0, frames: int = 80) -> tuple[tuple[Motion, ...], list[Subject]]:
    action = find_action(name)
    cast = [subject(5, take + k) for k in range(action.persons)]
    return play(action, cast, frames, FRAME_RATE, np.random.default_rng((7, take)), 0.4), cast


def by_side(motion: Motion, joint: str) -> list[np.ndarray]:
    return [motion.joints[f"{side}_{joint}"] for side in ("left", "right")]


def active_side(motion: Motion, joint: str) -> np.ndarray:
    """The side that moves more: people may be left-handed."""
    return max(by_side(motion, joint), key=lambda path: float(np.var(path, axis=0).sum()))


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_every_action_is_anatomically_possible(name: str) -> None:
    skeleton = load_skeleton("ntu25")
    for take in range(3):
        for motion, person in zip(*perform(name, take), strict=True):
            position = motion.layout(skeleton)
            assert position.shape == (80, 25, 3)
            assert np.isfinite(position).all()
            for child, parent in skeleton.edges:
                length = np.linalg.norm(position[:, child] - position[:, parent], axis=-1)
                np.testing.assert_allclose(length, length[0], rtol=1e-9, err_msg=skeleton.names[child])
            for first, middle, last in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
                low, high = LIMITS[middle]
                for a, b, c in zip(*(by_side(motion, joint) for joint in (first, middle, last)), strict=True):
                    angle = bend_angle(a, b, c)
                    assert angle.min() > low - 1e-6
                    assert angle.max() < high + 1e-6
            ankle = np.stack(by_side(motion, "ankle"))
            assert ankle[..., 1].min() > person.body["ankle_height"] - 1e-6
            speed = np.linalg.norm(np.diff(position, axis=0), axis=-1) * FRAME_RATE
            assert speed.max() < 25.0


def test_knees_bend_forward_and_feet_that_bear_weight_stay_on_the_floor() -> None:
    for name in ("squat", "pick_up", "sit_down", "run_on_the_spot"):
        (motion,), (person,) = perform(name)
        for hip, knee, ankle, foot in zip(
            *(by_side(motion, joint) for joint in ("hip", "knee", "ankle", "foot")), strict=True
        ):
            ahead = unit((foot - ankle) * (1.0, 0.0, 1.0))
            assert (((knee - (hip + ankle) / 2) * ahead).sum(-1) > 0).all()
        if name in ("squat", "pick_up", "sit_down"):
            height = np.stack(by_side(motion, "ankle"))[..., 1]
            np.testing.assert_allclose(height, person.body["ankle_height"], atol=1e-6)


def test_the_average_body_has_the_proportions_of_the_table() -> None:
    body = Body.of_stature(1.75)
    motion = solve(body, Controls.standing(body, 1))
    joints = {name: path[0] for name, path in motion.joints.items()}

    def length(a: str, b: str) -> float:
        return float(np.linalg.norm(joints[a] - joints[b])) / 1.75

    for side in ("left", "right"):
        assert length(f"{side}_hip", f"{side}_knee") == pytest.approx(RATIOS["thigh"])
        assert length(f"{side}_knee", f"{side}_ankle") == pytest.approx(RATIOS["shank"])
        assert length(f"{side}_shoulder", f"{side}_elbow") == pytest.approx(RATIOS["upper_arm"])
        assert length(f"{side}_elbow", f"{side}_wrist") == pytest.approx(RATIOS["forearm"])
    # heights of Drillis and Contini: hip .530, shoulder .818 of stature; fingertips hang to .377
    assert joints["left_hip"][1] / 1.75 == pytest.approx(0.530, abs=0.01)
    assert joints["left_shoulder"][1] / 1.75 == pytest.approx(0.818, abs=0.02)
    assert joints["left_hand_tip"][1] / 1.75 == pytest.approx(0.377, abs=0.04)
    assert 0.9 < joints["head"][1] / 1.75 < 0.97


def test_left_is_left_for_somebody_who_faces_plus_z() -> None:
    body = Body.of_stature(1.7)
    joints = solve(body, Controls.standing(body, 1)).joints
    for joint in ("shoulder", "hip", "hand", "foot"):
        assert joints[f"left_{joint}"][0, 0] > joints[f"right_{joint}"][0, 0]
    assert joints["left_foot"][0, 2] > joints["left_ankle"][0, 2]


def test_the_mirror_exchanges_sides_and_mirrors_back() -> None:
    (motion,), _ = perform("wave")
    mirrored = motion.mirrored()
    np.testing.assert_array_equal(mirrored.joints["left_wrist"] * (-1, 1, 1), motion.joints["right_wrist"])
    for name, path in mirrored.mirrored().joints.items():
        np.testing.assert_array_equal(path, motion.joints[name])


@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "toyota13"])
def test_layouts_get_their_joints_by_name(layout: str) -> None:
    skeleton = load_skeleton(layout)
    (motion,), _ = perform("clap")
    position = motion.layout(skeleton)
    assert position.shape == (80, len(skeleton), 3)
    for name in ("left_wrist", "right_ankle", "head"):
        np.testing.assert_array_equal(position[:, skeleton.index(name)], motion.joints[name])


def test_a_layout_with_a_joint_that_the_human_lacks_is_refused_by_its_name() -> None:
    skeleton = load_skeleton("toyota13")
    tailed = type(skeleton)(**{**vars(skeleton), "joints": (*skeleton.joints[:-1], Joint("tail", "tail"))})
    with pytest.raises(UnknownNameError, match="tail"):
        joint_sources(tailed)


def test_limits_hold_whatever_the_controls_ask_for() -> None:
    body = Body.of_stature(1.7)
    controls = Controls.standing(body, 50)
    rng = np.random.default_rng(0)
    for name in ("bend", "lean", "side", "twist", "nod", "look"):
        getattr(controls, name)[:] = rng.normal(0, 5, 50)
    for side in ("left", "right"):
        controls.hand[side][:] = rng.normal(0, 2, (50, 3))
        controls.ankle[side][:] += rng.normal(0, 1, (50, 3))
    joints = solve(body, controls).joints
    for side in ("left", "right"):
        elbow = bend_angle(*(joints[f"{side}_{j}"] for j in ("shoulder", "elbow", "wrist")))
        knee = bend_angle(*(joints[f"{side}_{j}"] for j in ("hip", "knee", "ankle")))
        assert LIMITS["elbow"][0] - 1e-6 < elbow.min() <= elbow.max() < LIMITS["elbow"][1] + 1e-6
        assert LIMITS["knee"][0] - 1e-6 < knee.min() <= knee.max() < LIMITS["knee"][1] + 1e-6


def test_a_jump_leaves_the_floor_and_falls_with_gravity() -> None:
    (motion,), _ = perform("jump", frames=110)
    feet = np.min(by_side(motion, "ankle"), axis=0)[:, 1]
    height = feet - feet.min()
    aloft = height > 0.02
    assert height.max() > 0.05
    # the feet are carried along a parabola: their second difference is g
    inside = aloft[2:] & aloft[1:-1] & aloft[:-2]
    np.testing.assert_allclose(np.diff(feet, 2)[inside] * FRAME_RATE**2, -GRAVITY, rtol=1e-6)


def test_walking_feet_stay_where_they_are_put() -> None:
    motions, _ = perform("walk_towards", frames=90)
    for motion in motions:
        ankles = np.stack(by_side(motion, "ankle"))
        speed = np.linalg.norm(np.diff(ankles[..., [0, 2]], axis=1), axis=-1) * FRAME_RATE
        pelvis = np.linalg.norm(np.diff(motion.joints["spine_base"], axis=0), axis=-1) * FRAME_RATE
        walking = pelvis > 0.5 * pelvis.max()
        assert np.quantile(speed.min(axis=0)[walking], 0.8) < 0.05
        assert speed.max() > 1.5 * pelvis.max()


def test_actions_do_what_their_names_say() -> None:
    for take in range(4):
        (sit,), (person,) = perform("sit_down", take, 100)
        pelvis = sit.joints["spine_base"][:, 1] / person.body.stature
        assert pelvis[0] > 0.5
        assert pelvis[-1] < 0.3
        (rise,), (person,) = perform("stand_up", take, 100)
        assert rise.joints["spine_base"][-1, 1] > 0.5 * person.body.stature
        (wave,), _ = perform("wave", take)
        assert active_side(wave, "wrist")[:, 1].max() > wave.joints["spine_shoulder"][:, 1].max() - 0.1
        (clap,), _ = perform("clap", take)
        left, right = by_side(clap, "hand")
        assert np.linalg.norm(left - right, axis=-1).min() < 0.12
        (pick,), (person,) = perform("pick_up", take)
        assert active_side(pick, "hand")[:, 1].min() < 0.25 * person.body.stature
        (kick,), (person,) = perform("kick", take)
        assert active_side(kick, "ankle")[:, 1].max() > 0.2
        pair, _ = perform("walk_towards", take)
        gap = np.linalg.norm(pair[0].joints["spine_base"] - pair[1].joints["spine_base"], axis=-1)
        assert gap[0] > gap[-1] + 0.8
        pair, _ = perform("walk_apart", take)
        gap = np.linalg.norm(pair[0].joints["spine_base"] - pair[1].joints["spine_base"], axis=-1)
        assert gap[-1] > gap[0] + 0.8
        pair, _ = perform("shake_hands", take)
        wrists = [min(by_side(m, "wrist"), key=lambda w, o=o: _nearest(w, o)) for m, o in (pair, pair[::-1])]
        assert _nearest(wrists[0], pair[1]) < 0.3


def _nearest(path: np.ndarray, other: Motion) -> float:
    """Least distance of a path to a wrist of somebody else."""
    return min(float(np.linalg.norm(path - wrist, axis=-1).min()) for wrist in by_side(other, "wrist"))


def test_a_subject_is_the_same_person_every_time_and_subjects_differ() -> None:
    assert subject(3, 12) == subject(3, 12)
    cast = [subject(3, number) for number in range(1, 107)]
    stature = np.array([person.body.stature for person in cast])
    assert 1.45 <= stature.min() < 1.6 < 1.8 < stature.max() <= 1.98
    assert np.std([person.rate for person in cast]) > 0.1
    assert 0 < sum(person.left_handed for person in cast) < 50
    assert subject(4, 12) != subject(3, 12)


def test_two_takes_of_one_action_by_one_person_differ() -> None:
    action, cast = find_action("throw"), [subject(0, 1)]
    takes = [play(action, cast, 60, FRAME_RATE, np.random.default_rng(k))[0] for k in range(2)]
    paths = [take.layout(load_skeleton("ntu25")) for take in takes]
    assert np.abs(paths[0] - paths[1]).max() > 0.1


def test_an_unknown_action_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="'wave'"):
        find_action("waive")


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_very_short_recordings_work(name: str, frames: int) -> None:
    motions, _ = perform(name, frames=frames)
    for motion in motions:
        assert len(motion) == frames
        assert np.isfinite(motion.layout(load_skeleton("ntu25"))).all()


def test_the_human_knows_no_file_format() -> None:
    """Importing it, and using it, imports no writer of files."""
    script = (
        "import sys, skelconv.human; sys.exit(any(name.startswith('skelconv.synth') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_faults_and_noise_a_sensor_reports_the_motion_itself() -> None:
    skeleton = load_skeleton("ntu25")
    (motion,), _ = perform("wave")
    seen = motion.moved(np.eye(3), np.array([0.0, -1.0, 3.0]))
    (figure,) = observe([seen], skeleton, noise=0.0, faults=0.0, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(figure.position, seen.layout(skeleton))
    assert (figure.identity == figure.identity[0]).all()
    faulty = observe([seen], skeleton, noise=0.0, faults=30.0, rng=np.random.default_rng(1))
    assert (faulty[0].identity != figure.identity).any(), "every fault has a rate of 1 or nearly so"
