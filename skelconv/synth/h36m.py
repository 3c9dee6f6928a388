"""Generated Human3.6M takes: the official CDF files of the world, of each camera, and of its pixels.

Four recordings in a row are one take seen by the four cameras of the dataset, which stand where they stood.
A marker-based system loses nothing: of what goes wrong there is a little noise only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.human import SIDES, Array, Motion, find_action, place, play, subject, with_landmarks
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.h36m_cameras import CAMERAS, builtin_cameras, project, to_camera
from skelformats.human36m import FRAME_RATE, WORLD_AXES
from skelformats.human36m_files import JOINTS, Take
from skelformats.protocols import load_facts
from skelformats.skeleton import load_skeleton

H36M_ACTIONS: Mapping[int, str] = MappingProxyType(
    {
        2: "point",
        3: "clap",
        4: "cross_hands",
        5: "wave",
        6: "salute",
        7: "hands_up",
        8: "pick_up",
        9: "sit_down",
        10: "squat",
        11: "stretch",
        12: "cheer",
        13: "shake_head",
        14: "walk_about",
        15: "carry",
        16: "fold_arms",
    }
)
"""What the human does for each official action number; often only something of that kind."""

FIRST_ACTION = 2
"""Official number of the first class; the others follow in turn."""

_SUBJECTS = (1, 9, 5, 11, 6, 7, 8)
"""Those whose poses are released; in an order that brings training and test subjects from the start."""

_RENAMED_FOR_S1 = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
_NOISE_MM = 0.3
_SPINE_START_MM = 0.1
_CDF_FLOAT = 44

WRITER = "cdflib"
"""The package that writes the files; an extra, since nothing else needs it."""

_TAKE, _NOISE = 50, 51
"""First words of the random streams (see `skelconv.human.performance`)."""


def make_take(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make recording ``index`` of ``seed``: what is in it, and its files by path.

    Positions are as the files hold them: millimetres in the camera's frame, +x right, +y down, +z ahead. The
    first of a take's four recordings also brings the file of the world.

    Raises
    ------
    SynthError
        The settings name a class that the dataset lacks, or ``index`` is beyond `capacity`.
    """
    number, which = divmod(index, len(CAMERAS))
    take, name = take_of(number, settings)
    camera = CAMERAS[which]
    exact, world = world_of(seed, number, settings)
    standing = builtin_cameras()[take.subject, camera]
    position = to_camera(world, standing)
    folder = f"S{take.subject}/MyPoseFeatures"
    files = {
        f"{folder}/D3_Positions_mono/{name}.{camera}.cdf": _cdf(position),
        f"{folder}/D2_Positions/{name}.{camera}.cdf": _cdf(project(position, standing)),
    }
    if which == 0:
        files[f"{folder}/D3_Positions/{name}.cdf"] = _cdf(world)
    track = TrueTrack(
        body="0",
        person=0,
        frame_index=np.arange(len(world), dtype=np.int32),
        position=position.astype(np.float32),
        state=np.full(world.shape[:2], 2, np.uint8),
        noiseless=to_camera(exact, standing),
    )
    action = H36M_ACTIONS[take.label + FIRST_ACTION]
    return GroundTruth(take.seen_by(camera).recording, action, take.label, len(world), (track,)), files


def capacity(settings: Settings) -> int:
    """Return how many recordings with different names there are; raises `SynthError` as `make_take`."""
    return len(CAMERAS) * _takes_of(len(_actions(settings)))


def _takes_of(actions: int) -> int:
    return 2 * actions * len(_SUBJECTS)


def _actions(settings: Settings) -> tuple[int, ...]:
    if unknown := [action for action in settings.actions if action not in H36M_ACTIONS]:
        raise SynthError(
            f"found the classes {unknown}, expected some of the dataset's: "
            + ", ".join(map(str, H36M_ACTIONS))
        )
    return tuple(dict.fromkeys(settings.actions)) or tuple(H36M_ACTIONS)


def take_of(number: int, settings: Settings) -> tuple[Take, str]:
    """Return take ``number``, and what its files are called: classes and subjects take turns."""
    actions = _actions(settings)
    if not 0 <= number < _takes_of(len(actions)):
        raise SynthError(
            f"found recording {number * len(CAMERAS)}, expected one of 0 to {capacity(settings) - 1}: h36m "
            "has no more names for these classes. Ask for fewer recordings or more classes"
        )
    facts = load_facts("h36m")
    turn, which = divmod(number, len(actions))
    subaction, person = divmod(turn, len(_SUBJECTS))
    who = _SUBJECTS[(person + which) % len(_SUBJECTS)]
    action = facts.classes[actions[which] - FIRST_ACTION]
    take = Take(who, action, facts.others["takes"][action][who - 1][subaction])
    official = _RENAMED_FOR_S1.get(action, action) if who == 1 else action
    return take, f"{official} {take.number}" if take.number else official


@lru_cache(maxsize=2)
def world_of(seed: int, number: int, settings: Settings) -> tuple[Array, NDArray[np.float32]]:
    """Play a take, once for its four cameras: (T, 32, 3) world millimetres, without and with noise."""
    take, _ = take_of(number, settings)
    key = (take.subject, take.label, take.number)
    rng = np.random.default_rng((seed, _TAKE, *key))
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    action = find_action(H36M_ACTIONS[take.label + FIRST_ACTION])
    cast = [subject(seed, take.subject)]
    motion = play(action, cast, frames, FRAME_RATE, rng, heading=rng.uniform(-np.pi, np.pi))[0]
    scene = place(_markers(motion), load_skeleton("h36m32")) * 1000.0
    exact = np.empty_like(scene)
    exact[..., list(WORLD_AXES.order)] = scene * WORLD_AXES.sign
    noise = np.random.default_rng((seed, _NOISE, *key)).normal(0.0, _NOISE_MM, exact.shape)
    # joints that are one place in the dataset's skeleton stay one
    same = np.array([exact[0, j] == exact[0] for j in range(JOINTS)]).all(axis=-1).argmax(axis=1)
    return exact, (exact + settings.noise * noise[:, same]).astype(np.float32)


def _markers(motion: Motion) -> Motion:
    """Add the places that only Human3.6M's skeleton has; several of them coincide with others."""
    joints = dict(with_landmarks(motion).joints)
    joints["spine_start"] = joints["spine_base"] + (0.0, _SPINE_START_MM / 1000.0, 0.0)
    for side in SIDES:
        joints[f"{side}_toe"] = joints[f"{side}_big_toe"]
        joints[f"{side}_clavicle"] = joints["spine_shoulder"]
        joints[f"{side}_thumb_base"] = joints[f"{side}_wrist"]
        joints[f"{side}_hand_end"] = joints[f"{side}_hand"]
    return Motion(joints)


def _cdf(values: NDArray[np.floating]) -> bytes:
    """Return a CDF file with (T, 32, A) as its variable ``Pose``: float32 of shape (1, T, 32 A).

    Raises
    ------
    MissingExtraError
        cdflib is not installed.
    """
    need(WRITER, "synth")
    from cdflib.cdfwrite import CDF

    flat = values.reshape(1, len(values), -1).astype(np.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pose.cdf"
        file = CDF(path, cdf_spec={"Majority": "row_major", "Compressed": False})
        variable = {
            "Variable": "Pose",
            "Data_Type": _CDF_FLOAT,
            "Num_Elements": 1,
            "Rec_Vary": True,
            "Dim_Sizes": list(flat.shape[1:]),
            "Compress": 0,
        }
        file.write_var(variable, var_data=flat)
        file.close()
        return path.read_bytes()
