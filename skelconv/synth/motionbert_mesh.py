"""Generated mesh files in MotionBERT's form: ``mesh_det_pw3d.pkl``, of the sequences that
`skelconv.synth.pw3d` makes.

2D poses are those of the synthetic body with a detector's errors; the estimates of "another method" are
the true poses with small turns added.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.synth import pw3d
from skelconv.synth.smpl_body import h36m_regressor, smpl_arrays
from skelconv.synth.smpl_motion import vector
from skelconv.synth.truth import GroundTruth, Settings, TrueTrack
from skelformats.rotation import to_matrix
from skelformats.smpl import BodyModel, Motion, regress_joints

Array = NDArray[np.float64]

FILE = "mesh_det_pw3d.pkl"

_WORD = 42
"""First word of the random streams (see `skelconv.human.performance`)."""

_TREMBLE = 0.15
"""Standard deviation in radians of what an estimate turns each joint too much."""


def make_video(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the truth of video ``index``: its first person's; its frames stand in the file of `pickled`."""
    name, action, fields = _video(seed, index, settings)
    frames = len(fields["joint_2d"])
    track = TrueTrack(
        body="0",
        person=0,
        frame_index=np.arange(frames, dtype=np.int32),
        position=fields["joint_2d"].astype(np.float32),
        state=np.full((frames, 17), 2, np.uint8),
        noiseless=fields["noiseless"],
    )
    return GroundTruth(name, action, -1, frames, (track,)), {}


def pickled(seed: int, recordings: int, settings: Settings) -> Mapping[str, bytes]:
    """Make the file of videos 0 to ``recordings`` - 1, every fourth for testing, and the body models."""
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for index in range(recordings):
        _, _, fields = _video(seed, index, settings)
        parts["test" if index % 4 == 3 else "train"].append(fields)
    content = {
        part: {
            key: np.concatenate([fields[key] for fields in videos]) for key in videos[0] if key != "noiseless"
        }
        for part, videos in parts.items()
        if videos
    }
    return {FILE: pickle.dumps(content, protocol=4), **pw3d.body_files(seed, recordings, settings)}


def _video(seed: int, index: int, settings: Settings) -> tuple[str, str, dict[str, Any]]:
    truth, files = pw3d.make_sequence(seed, index, settings)
    content = pickle.loads(next(iter(files.values())))
    rng = np.random.default_rng((seed, _WORD, index))
    pose = content["poses"][0].reshape(-1, 24, 3)
    betas, cameras = content["betas"][0], content["cam_poses"]
    frames = len(pose)
    arrays = smpl_arrays("neutral")
    model = BodyModel(
        "synthetic", arrays["v_template"], arrays["shapedirs"], arrays["J_regressor"],
        (-1, *arrays["kintree_table"][0, 1:].astype(int).tolist()), arrays["posedirs"], arrays["weights"],
    )  # fmt: skip
    joints = regress_joints(model, Motion(pose, content["trans"][0], betas), h36m_regressor())
    seen = np.einsum("tij,tkj->tki", cameras[:, :3, :3], joints) + cameras[:, None, :3, 3]
    flat = seen @ content["cam_intrinsics"].T
    pixels = flat[..., :2] / flat[..., 2:]
    in_view = pose.copy()
    in_view[:, 0] = _vectors(cameras[:, :3, :3] @ to_matrix(pose[:, 0]))
    guess = _vectors(to_matrix(in_view) @ to_matrix(rng.normal(0.0, _TREMBLE, in_view.shape)))
    name = f"{truth.name}_0"
    return name, truth.action, {
        "joint_2d": (pixels + settings.noise * rng.normal(0.0, 2.5, pixels.shape)).astype(np.float32),
        "confidence": rng.beta(9.0, 1.5, (frames, 17, 1)).astype(np.float32),
        "source": np.array([name] * frames),
        "smpl_pose": in_view.reshape(frames, 72).astype(np.float32),
        "smpl_shape": np.tile(betas, (frames, 1)).astype(np.float32),
        "pred_smpl_pose": guess.reshape(frames, 72).astype(np.float32),
        "pred_smpl_shape": np.tile(betas + rng.normal(0.0, 0.1, 10), (frames, 1)).astype(np.float32),
        "noiseless": pixels,
    }  # fmt: skip


def _vectors(matrix: Array) -> Array:
    """Return the axis-angle vectors (..., 3) of rotations (..., 3, 3)."""
    return vector(matrix.reshape(-1, 3, 3)).reshape(*matrix.shape[:-2], 3)
