"""Generated 3DPW sequences: ``sequenceFiles/<subset>/<sequence>.pkl``, people and a moving camera.

Joints, pose, shape, translation, camera and 2D detections agree with each other: the procedural human steers
the synthetic SMPL body (`skelconv.synth.smpl_body`), which is written beside the files, with a regressor.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skelconv.human import Array, Camera, Motion, find_action, play, subject, with_landmarks
from skelconv.synth.smpl_body import STATURE_STEP, STATURES, shaped_rest, smpl_files, smpl_rest
from skelconv.synth.smpl_motion import positions, steer
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelconv.synth.video import CAPACITY, FOCAL, FRAME_RATE, HEIGHT, SUBJECTS, WIDTH, chosen_actions
from skelformats.pw3d import BETAS, GENDERS, KEYPOINT_NAMES
from skelformats.skeleton import load_skeleton
from skelformats.smpl import SMPL_FROM_SMPLH

SUBSETS = ("train", "train", "validation", "test")
"""Folders in turn."""

MODEL_FOLDER = "body_models"
"""Where the synthetic body models are written."""

_TAKE = 41
"""First word of the random streams (see `skelconv.human.performance`)."""

_TO_PICTURE = np.diag([-1.0, -1.0, 1.0])
"""From the scene's cameras (+x left, +y up) to computer vision's (+x right, +y down)."""


def make_sequence(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make sequence ``index``.

    Raises
    ------
    SynthError
        The settings name a class that is not there, or ``index`` is beyond the names.
    """
    if not 0 <= index < CAPACITY:
        raise SynthError(f"found sequence number {index}, expected one of 0 to {CAPACITY - 1}")
    rng = np.random.default_rng((seed, _TAKE, index))
    names = chosen_actions(settings)
    action = find_action(names[index % len(names)])
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    cast = [subject(seed, int(n)) for n in rng.choice(SUBJECTS, action.persons, replace=False)]
    people = play(action, cast, frames, FRAME_RATE, rng, heading=rng.normal(0.0, 0.6))
    genders = [tuple(GENDERS)[person.number % 2] for person in cast]
    bodies = [
        _body(motion, GENDERS[gender], person.body.stature, rng)
        for motion, gender, person in zip(people, genders, cast, strict=True)
    ]
    cameras = _cameras(frames, rng)
    intrinsics = np.array([[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]])
    valid = [(rng.random(frames) > 0.05 * settings.faults).astype(int) for _ in people]
    name = f"{action.name}_{index:05d}"
    content = {
        "sequence": name,
        "jointPositions": [body.position.reshape(frames, -1) for body in bodies],
        "poses": [body.pose.reshape(frames, -1) for body in bodies],
        "trans": [body.translation for body in bodies],
        "betas": [body.betas for body in bodies],
        "genders": genders,
        "poses2d": [_detections(body.position, cameras, intrinsics, settings, rng) for body in bodies],
        "cam_poses": cameras,
        "cam_intrinsics": intrinsics,
        "campose_valid": valid,
        "img_frame_ids": 2 * np.arange(frames),
    }
    tracks = tuple(
        TrueTrack(
            body=str(number),
            person=number,
            frame_index=np.arange(frames, dtype=np.int32),
            position=body.position.astype(np.float32),
            state=np.repeat(valid[number][:, None], 24, axis=1).astype(np.uint8),
            noiseless=body.position,
        )
        for number, body in enumerate(bodies)
    )
    path = f"sequenceFiles/{SUBSETS[index % len(SUBSETS)]}/{name}.pkl"
    # protocol 2 is the highest that Python 2 writes
    return GroundTruth(name, action.name, -1, frames, tracks), {path: pickle.dumps(content, protocol=2)}


def body_files(seed: int, recordings: int, settings: Settings) -> Mapping[str, bytes]:
    """Return the synthetic SMPL models and the regressor to h36m17, by path in the folder."""
    return {f"{MODEL_FOLDER}/{path}": content for path, content in smpl_files().items()}


@dataclass(frozen=True)
class _Body:
    """SMPL over T frames: pose (T, 24, 3), translation (T, 3), betas (10,), joints (T, 24, 3)."""

    pose: Array
    translation: Array
    betas: Array
    position: Array


def _body(motion: Motion, gender: str, stature: float, rng: np.random.Generator) -> _Body:
    betas = rng.normal(0.0, 0.7, BETAS)
    betas[0] = (stature / STATURES[gender] - 1.0) / STATURE_STEP
    fingers = shaped_rest(gender, np.concatenate([betas, np.zeros(6)]))
    pose, turned = steer(motion, fingers, np.eye(3), rng)
    rest, rows = smpl_rest(gender, betas), list(SMPL_FROM_SMPLH)
    root = motion.joints["spine_base"]
    position = positions(rest, turned[:, rows], root, load_skeleton("smpl24").parents)
    return _Body(pose[:, rows], root - rest[0], betas, position)


def _cameras(frames: int, rng: np.random.Generator) -> Array:
    """(T, 4, 4) matrices from world to camera of somebody who films while walking past."""
    azimuth = rng.uniform(-0.8, 0.8) + np.linspace(0.0, rng.uniform(-0.5, 0.5), frames)
    distance = rng.uniform(3.5, 5.0)
    matrices = np.tile(np.eye(4), (frames, 1, 1))
    for frame, angle in enumerate(azimuth):
        eye = np.array([distance * np.sin(angle), 1.5, distance * np.cos(angle)])
        camera = Camera.looking_at(np.array([0.0, 0.95, 0.0]), eye)
        matrices[frame, :3, :3] = _TO_PICTURE @ camera.rotation
        matrices[frame, :3, 3] = -matrices[frame, :3, :3] @ eye
    return matrices


def _detections(
    joints: Array, cameras: Array, intrinsics: Array, settings: Settings, rng: np.random.Generator
) -> Array:
    """(T, 3, 18) detections: rows x, y, score; some frames without any are zeros."""
    body = dict(zip(load_skeleton("smpl24").names, joints.transpose(1, 0, 2), strict=True))
    marked = with_landmarks(Motion(body)).joints
    position = np.stack([marked[name] for name in KEYPOINT_NAMES], axis=1)
    seen = np.einsum("tij,tkj->tki", cameras[:, :3, :3], position) + cameras[:, None, :3, 3]
    pixels = (seen @ intrinsics.T)[..., :2] / seen[..., 2:]
    pixels = pixels + settings.noise * rng.normal(0.0, 2.5, pixels.shape)
    score = rng.beta(9.0, 1.5, pixels.shape[:2])
    rows = np.concatenate([pixels, score[..., None]], axis=-1)
    rows[rng.random(len(rows)) < 0.05 * settings.faults] = 0.0
    return rows.transpose(0, 2, 1)
