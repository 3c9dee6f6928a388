"""Generated AMASS files: ``SUBSET/SUBJECT/NAME_poses.npz`` of SMPL+H, and a synthetic body model with them.

The procedural human's joints steer the body: the pelvis and the chest take its frames, every limb aims where
its limb points. So the motion is a person's, the lengths are the body model's, and the true positions follow
from the rotation matrices before they become the axis-angle vectors of the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from skelconv.human import ACTIONS, SIDES, Motion, find_action, play, subject
from skelconv.human.kinematics import unit
from skelconv.synth.smpl_body import STATURE_STEP, STATURES, model_files, npz_bytes, shaped_rest
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.skeleton import load_skeleton

Array = NDArray[np.float64]

MODEL_FOLDER = "body_models"
"""Where the synthetic body models are written: the reader looks there of its own accord."""

SUBSETS = (
    "ACCAD",
    "CMU",
    "HumanEva",
    "KIT",
    "Transitions_mocap",
    "EKUT",
    "SSM_synced",
    "BioMotionLab_NTroje",
)
RATES = (120.0, 100.0, 60.0, 120.00004577636719, 150.0)
"""Frame rates that the real files have."""

SUBJECTS = 24
_TAKE, _BETAS = range(30, 32)
"""First words of the random streams (see `skelconv.human.performance`)."""

_MOST = 100_000
_TO_RAW = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From the scene (+y up) to AMASS (+z up)."""

_ALONE = tuple(name for name, action in ACTIONS.items() if action.persons == 1)
_AIMS = {
    "hip": ("knee", "hip"),
    "knee": ("ankle", "knee"),
    "ankle": ("foot", "ankle"),
    "shoulder": ("elbow", "shoulder"),
    "elbow": ("wrist", "elbow"),
    "wrist": ("hand", "wrist"),
}
"""For each joint of a limb, which of the human's joints it points to, and from which."""


def make_take(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, Mapping[str, bytes]]:
    """Make take ``index`` of ``seed``: its truth in the layout smpl22 and the raw axes, and its file.

    Raises
    ------
    SynthError
        The settings name an action that is not there, or ``index`` is beyond `capacity`.
    """
    if not 0 <= index < capacity(settings):
        raise SynthError(f"found take number {index}, expected one of 0 to {capacity(settings) - 1}")
    actions = _actions(settings)
    action = actions[index % len(actions)]
    rng = np.random.default_rng((seed, _TAKE, index))
    number = int(rng.integers(SUBJECTS))
    subset, rate = SUBSETS[number % len(SUBSETS)], RATES[int(rng.integers(len(RATES)))]
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    person = subject(seed, number)
    gender = tuple(STATURES)[number % len(STATURES)]
    human = play(find_action(action), [person], frames, rate, rng, heading=rng.normal(0.0, 0.8))[0]
    betas = np.random.default_rng((seed, _BETAS, number)).normal(0.0, 0.7, 16)
    betas[0] = (person.body.stature / STATURES[gender] - 1.0) / STATURE_STEP
    rest = shaped_rest(gender, betas)
    pose, turned = _pose(human, rest, rng)
    root = human.joints["spine_base"] @ _TO_RAW.T
    position = _positions(rest, turned, root)
    # bytes are what some of the real files have
    stored = np.array(gender.encode()) if number % 2 else np.array(gender)
    arrays = {
        "trans": root - rest[0],
        "gender": stored,
        "mocap_framerate": np.array(rate),
        "betas": betas,
        "dmpls": _wobble(frames, rate, rng),
        "poses": pose.reshape(frames, -1),
    }
    path = f"{subset}/s{number:03d}/{action}_{index:05d}_poses.npz"
    label = path.removesuffix(".npz").replace("/", "__")
    track = TrueTrack(
        body="0",
        person=0,
        frame_index=np.arange(frames, dtype=np.int32),
        position=position[:, :22].astype(np.float32),
        state=np.full((frames, 22), 2, np.uint8),
        noiseless=position[:, :22],
    )
    shape = npz_bytes({"gender": stored, "betas": betas})
    files = {path: npz_bytes(arrays), f"{subset}/s{number:03d}/shape.npz": shape}
    return GroundTruth(label, action, -1, frames, (track,)), files


def capacity(settings: Settings) -> int:
    """Return how many takes there are; raises `SynthError` as `make_take`."""
    return _MOST if _actions(settings) else 0


def shared_files(seed: int, recordings: int, settings: Settings) -> Mapping[str, bytes]:
    """Return the synthetic body models, by path in the folder."""
    return {f"{MODEL_FOLDER}/{path}": content for path, content in model_files().items()}


def _actions(settings: Settings) -> tuple[str, ...]:
    if unknown := [number for number in settings.actions if not 0 <= number < len(_ALONE)]:
        raise SynthError(
            f"found the actions {unknown}, expected numbers of 0 to {len(_ALONE) - 1}: AMASS has no classes, "
            "and they count the procedural human's actions"
        )
    return tuple(_ALONE[number] for number in dict.fromkeys(settings.actions)) or _ALONE


def _pose(human: Motion, rest: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the pose (T, 52, 3) of the file, and what each joint's rotation in space (T, 52, 3, 3) is."""
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
            frame = _TO_RAW @ (pelvis if name == "pelvis" else chest)
            before = np.eye(3) if parent < 0 else turned[:, parent]
            pose[:, index] = _vector(np.swapaxes(before, -1, -2) @ frame)
            turned[:, index] = frame
            continue
        if name in aims:
            want = (np.swapaxes(turned[:, parent], -1, -2) @ (aims[name] @ _TO_RAW.T)[..., None])[..., 0]
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


def _positions(rest: Array, turned: Array, root: Array) -> Array:
    """Add up the offsets (T, 52, 3) of a body whose pelvis is at ``root``."""
    position = np.empty(turned.shape[:3])
    for index, parent in enumerate(load_skeleton("smplh52").parents):
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


def _vector(matrix: Array) -> Array:
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


def _wobble(frames: int, rate: float, rng: np.random.Generator) -> Array:
    """Return soft-tissue coefficients (T, 8) that swing about zero a few times a second."""
    phase, speed = rng.uniform(0, 2 * np.pi, 8), rng.uniform(2.0, 6.0, 8)
    time = np.arange(frames)[:, None] / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * speed * time + phase))
