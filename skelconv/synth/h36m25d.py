"""A generated pickle of MotionBERT's Human3.6M: 2.5D poses of generated takes before the dataset's cameras.

Recordings are those of `skelconv.synth.h36m`, in the same order. What a detector would find is the true place
and an error of some pixels, with a score that falls with it.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.synth.h36m import FIRST_ACTION, H36M_ACTIONS, capacity, take_of, world_of
from skelconv.synth.truth import GroundTruth, Settings, TrueTrack
from skelformats.h36m_cameras import CAMERAS, Camera, builtin_cameras, project, project_linear, to_camera
from skelformats.skeleton import load_skeleton, match_joints

__all__ = ["capacity", "make_video", "pickled"]

FILE = "h36m_sh_conf_cam_source_final.pkl"

BOX = 2000.0
"""Side of the square at the root's depth that sets the scale, millimetres (LCN, tools/gendb.py)."""

_TEST_SUBJECTS = (9, 11)
_ERROR_PX = 3.0
_DETECT = 52
"""First word of the random stream of the detector."""


def make_video(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the truth of recording ``index``; its frames stand in the file of `pickled`.

    Positions are as the file holds them: pixels, +x right, +y down, the depth behind the root.
    """
    take, camera, exact, points = _seen(seed, index, settings)
    track = TrueTrack(
        body="0",
        person=0,
        frame_index=np.arange(len(points), dtype=np.int32),
        position=_image_pose(points, camera)[0].astype(np.float32),
        state=np.full(points.shape[:2], 2, np.uint8),
        noiseless=_image_pose(exact, camera)[0],
    )
    action = H36M_ACTIONS[take.label + FIRST_ACTION]
    return GroundTruth(_name(index, settings), action, take.label, len(points), (track,)), {}


def pickled(seed: int, recordings: int, settings: Settings) -> dict[str, bytes]:
    """Make the file of recordings 0 to ``recordings`` - 1: S9 and S11 are the test part."""
    parts: dict[str, dict[str, list[Any]]] = {"train": {}, "test": {}}
    for index in range(recordings):
        take, camera, _, points = _seen(seed, index, settings)
        image, factor = _image_pose(points, camera)
        error = np.random.default_rng((seed, _DETECT, index)).normal(0, _ERROR_PX, (*points.shape[:2], 2))
        count = len(points)
        rows: dict[str, Any] = {
            "joint_2d": (project(points, camera) + settings.noise * error).astype(np.float32),
            "confidence": np.exp(-np.linalg.norm(error, axis=-1) / 20).astype(np.float32)[..., None],
            "joint3d_image": image.astype(np.float32),
            "camera_name": np.full(count, str(camera.camera)),
            "source": np.full(count, _name(index, settings)),
        }
        part = "test" if take.subject in _TEST_SUBJECTS else "train"
        if part == "test":
            rows["action"] = np.full(count, take.action)
            rows["2.5d_factor"] = factor
            rows["joints_2.5d_image"] = image * factor[:, None, None]
        for key, values in rows.items():
            parts[part].setdefault(key, []).append(values)
    content = {
        part: {key: np.concatenate(values) for key, values in found.items()} if found else _nothing()
        for part, found in parts.items()
    }
    return {FILE: pickle.dumps(content, protocol=4)}


def _seen(
    seed: int, index: int, settings: Settings
) -> tuple[Any, Camera, NDArray[np.float64], NDArray[np.float64]]:
    """Return take, camera, and the joints (T, 17, 3) in its frame, millimetres: without and with noise."""
    number, which = divmod(index, len(CAMERAS))
    take, _ = take_of(number, settings)
    exact, world = world_of(seed, number, settings)
    camera = builtin_cameras()[take.subject, CAMERAS[which]]
    kept = match_joints(load_skeleton("h36m32"), load_skeleton("h36m17"))
    return take, camera, to_camera(exact[:, kept], camera), to_camera(world[:, kept], camera)


def _name(index: int, settings: Settings) -> str:
    number, which = divmod(index, len(CAMERAS))
    take, _ = take_of(number, settings)
    # of each class and subject there are two takes, the first of them first
    same = [take_of(earlier, settings)[0] for earlier in range(number)]
    second = any((one.subject, one.label) == (take.subject, take.label) for one in same)
    action = take.label + FIRST_ACTION
    return f"s_{take.subject:02d}_act_{action:02d}_subact_{1 + second:02d}_ca_{which + 1:02d}"


def _image_pose(
    points: NDArray[np.float64], camera: Camera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5D pose (T, 17, 3) in pixels, and millimetres a pixel (T,)."""
    depth = points[..., 2]
    factor = BOX / (BOX * camera.focal[0] / depth[:, 0] + 1)
    z = (depth - depth[:, :1]) / factor[:, None]
    return np.concatenate([project_linear(points, camera), z[..., None]], axis=-1), factor


def _nothing() -> dict[str, Any]:
    """Return the arrays of a part without a video."""
    text = np.zeros(0, "<U1")
    return {
        "joint_2d": np.zeros((0, 17, 2), np.float32),
        "confidence": np.zeros((0, 17, 1), np.float32),
        "joint3d_image": np.zeros((0, 17, 3), np.float32),
        "camera_name": text,
        "source": text,
    }
