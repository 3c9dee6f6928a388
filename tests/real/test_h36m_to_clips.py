"""Real frames of Human3.6M: from a file, through a store and clips, to an evaluation in millimetres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelconv.cli.command import run
from skelconv.cli.main import cli
from skelconv.store.store import open_store
from skelformats.h36m_cameras import builtin_cameras, project_linear
from skelformats.skeleton import load_skeleton, match_joints
from skeltrain.data.motion_cameras import factor_25d
from skeltrain.data.motion_sets import Clips, MotionSet, open_motion
from skeltrain.distributed import World
from skeltrain.engine import Evaluation
from skeltrain.models.dstformer import DSTformer
from skeltrain.tasks.motion_common import LossWeights, MotionTask, Network
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseErrors
from skeltrain.tasks.registry import Context

pytestmark = pytest.mark.real

CPU = torch.device("cpu")
LENGTH = 27
SMALL = Network(dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=LENGTH)
RECIPE = Pose3dRecipe.model_validate({"data": {"protocol": None, "length": LENGTH}, "test": {"flip": False}})


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, Any]:
    """Mmpose's four frames: camera-space joints and pixels of S1, S5, S7 and S8, by take and camera."""
    frames = np.load(shared_data / "h36m" / "test_h36m_body3d.npz", allow_pickle=False)
    found = {}
    for name, points, pixels in zip(frames["imgname"], frames["S"], frames["part"], strict=True):
        found[str(name).split("/")[1]] = (1000 * points[:, :3], pixels[:, :2])
    return found


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames, as the world's joints of mmpose's annotations give them, in VideoPose3D's file."""
    folder = tmp_path_factory.mktemp("h36m")
    content = json.loads((shared_data / "h36m" / "h36m_coco.json").read_text())
    kept = match_joints(load_skeleton("h36m32"), load_skeleton("h36m17"))
    takes: dict[str, dict[str, Any]] = {}
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        subject, take = image["file_name"].split(".")[0].split("_", 1)
        world = np.zeros((1, 32, 3), np.float32)
        world[:, kept] = np.reshape(annotation["keypoints_3d"], (1, 17, 4))[..., :3]
        takes.setdefault(subject, {})[take.replace("_", " ")] = world
    raw = folder / "raw"
    raw.mkdir()
    # the file is one pickled dictionary in an array of no axes
    np.savez(raw / "data_3d_h36m.npz", positions_3d=np.array(takes, dtype=object))
    out = folder / "h36m.zarr"
    with pytest.raises(SystemExit) as stop:
        run(cli, ["ingest", "h36m", str(raw), str(out), "--joints", "17", "-j", "0", "-q"])
    assert stop.value.code == 0
    return out


@pytest.fixture(scope="module")
def clips(store: Path) -> MotionSet:
    return open_motion(open_store(store), Clips(length=LENGTH, stride=LENGTH), CPU)


def place_of(data: MotionSet, recording: str) -> int:
    return data.table["recording"].tolist().index(recording)


def test_clips_hold_the_real_poses_as_the_network_knows_them(
    clips: MotionSet, published: dict[str, Any]
) -> None:
    """X and y where the pinhole has them, in half pictures; depth in the same unit, by the root's scale."""
    assert len(clips) == 16, "four takes in four cameras"
    for recording, (points, pixels) in published.items():
        at = place_of(clips, recording)
        subject, camera = int(recording[1]), int(recording.split(".")[1])
        lens = builtin_cameras()[subject, camera]
        (rows,) = clips.clips[clips.sequence[clips.clips[:, 0]] == at]
        assert len(set(rows.tolist())) == 1, "a take of one frame stands still"
        pose = clips.pose[rows[0]].double().numpy()
        flat = (pose[:, :2] + (1, lens.height / 1000)) * 500
        np.testing.assert_allclose(flat, project_linear(points, lens), atol=0.05)
        assert np.abs(flat - pixels).max() < 3, "the picture's lens distorts"
        factor = factor_25d(points[None], lens)[0]
        np.testing.assert_allclose(clips.millimetres[rows[0]], factor * 500, rtol=1e-4)
        depth = (pose[:, 2] - pose[0, 2]) * clips.millimetres[rows[0]]
        np.testing.assert_allclose(depth, points[:, 2] - points[0, 2], atol=0.5)


class Oracle(nn.Module):
    """Answers with the true poses, joint 3 ``offset`` beside them, in the order in which clips are asked
    for.
    """

    def __init__(self, clips: MotionSet, offset: float = 0.0) -> None:
        super().__init__()
        truth = clips.pose[torch.from_numpy(clips.clips)]
        self._truth = truth - truth[:, :, :1]
        self._offset = offset

    def forward(self, x: Tensor) -> Tensor:
        answer = self._truth.clone()
        answer[:, :, 3] += self._offset
        return answer


def evaluate(clips: MotionSet, model: nn.Module) -> Evaluation:
    task = MotionTask(DSTformer(**SMALL.model_dump()), LossWeights())
    task.model = model  # type: ignore[assignment]
    return PoseErrors(RECIPE, clips, Context(World(CPU)))(task.eval())


def test_the_truth_has_no_error_and_a_joint_aside_its_distance(clips: MotionSet) -> None:
    # the released protocol leaves frames of no error at all out of the mean
    found = evaluate(clips, Oracle(clips, 1e-6))
    assert found.metrics["mpjpe"] == pytest.approx(0, abs=1e-3)
    assert found.metrics["p_mpjpe"] == pytest.approx(0, abs=1e-3)
    # one joint of 17 is off by 0.01 half pictures along each of three axes
    aside = evaluate(clips, Oracle(clips, 0.01))
    expected = 0.01 * np.sqrt(3) / 17 * clips.millimetres
    np.testing.assert_allclose(aside.predictions["mpjpe"], expected, rtol=1e-3)


def test_an_untrained_network_is_far_off_and_every_figure_is_finite(clips: MotionSet) -> None:
    torch.manual_seed(0)
    found = evaluate(clips, DSTformer(**SMALL.model_dump()).eval())
    assert 100 < found.metrics["mpjpe"] < 2000
    assert 50 < found.metrics["p_mpjpe"] < found.metrics["mpjpe"]
    assert {"mpjpe/Directions", "mpjpe/SittingDown", "mpjpe/Greeting", "mpjpe/WalkDog"} <= set(found.metrics)
    assert np.isfinite(list(found.metrics.values())).all()
