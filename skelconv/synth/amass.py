"""Generated AMASS files: ``SUBSET/SUBJECT/NAME_poses.npz`` of SMPL+H, and a synthetic body model with them.

The procedural human steers the body (`skelconv.synth.smpl_motion`); the true positions follow from the
rotation matrices before they become the axis-angle vectors of the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from skelconv.human import ACTIONS, find_action, play, subject
from skelconv.synth.smpl_body import (
    STATURE_STEP,
    STATURES,
    model_files,
    npz_bytes,
    shaped_rest,
    smpl_files,
)
from skelconv.synth.smpl_motion import positions, steer
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
    pose, turned = steer(human, rest, _TO_RAW, rng)
    root = human.joints["spine_base"] @ _TO_RAW.T
    position = positions(rest, turned, root, load_skeleton("smplh52").parents)
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
    files = {**model_files(), **smpl_files()}
    return {f"{MODEL_FOLDER}/{path}": content for path, content in files.items()}


def _actions(settings: Settings) -> tuple[str, ...]:
    if unknown := [number for number in settings.actions if not 0 <= number < len(_ALONE)]:
        raise SynthError(
            f"found the actions {unknown}, expected numbers of 0 to {len(_ALONE) - 1}: AMASS has no classes, "
            "and they count the procedural human's actions"
        )
    return tuple(_ALONE[number] for number in dict.fromkeys(settings.actions)) or _ALONE


def _wobble(frames: int, rate: float, rng: np.random.Generator) -> Array:
    """Return soft-tissue coefficients (T, 8) that swing about zero a few times a second."""
    phase, speed = rng.uniform(0, 2 * np.pi, 8), rng.uniform(2.0, 6.0, 8)
    time = np.arange(frames)[:, None] / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * speed * time + phase))
