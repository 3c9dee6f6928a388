"""Predicting 3D poses of a 2D store: tracks, gaps, windows, heights, and a store that every verb takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelconv.cli.command import run
from skelconv.store.info import StoreError
from skelconv.store.store import open_store
from skelconv.verify import verify
from skelformats.reader import Track
from skeltrain.cli import cli
from skeltrain.data.loader import DataError
from skeltrain.data.motion_sets import image_points
from skeltrain.run import predict_run, run_recipe
from skeltrain.run_folder import RunError
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData
from skeltrain.tasks.pose3d_predict import Lifter, fill_gaps, metres_a_unit, window_starts
from skeltrain.tasks.registry import PredictOptions
from tests.skeltrain import motion_stores
from tests.skeltrain.test_motion_tasks import OPTIM, QUIET, SMALL

MODULE = "skeltrain.tasks.pose3d_predict"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network after one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    store = motion_stores.write_3d(folder / "people.zarr", 2, 20)
    data = PoseData(store=str(store), protocol=None, length=9, stride=9)
    optim = OPTIM.model_copy(update={"epochs": 1})
    recipe = Pose3dRecipe(data=data, model=SMALL, optim=optim, device="cpu", log=QUIET, relative=False)
    run_recipe(recipe, out=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return motion_stores.write_2d(tmp_path_factory.mktemp("flat") / "flat.zarr", "openpose25", "f4")


class Same(nn.Module):
    """A network whose depths are x, from wherever its clip begins."""

    def forward(self, clips: Tensor) -> Tensor:
        depth = clips[..., :1] - clips[:, :1, :1, :1] + 7
        return torch.cat([clips[..., :2], depth], dim=-1)


def lifter(length: int, stride: int, relative: bool) -> Lifter:
    return Lifter(Same(), torch.device("cpu"), length, stride, relative, flip=False)  # type: ignore[arg-type]


# Windows


@pytest.mark.parametrize(
    ("frames", "length", "stride"), [(1, 1, 1), (9, 9, 4), (20, 9, 4), (23, 9, 9), (10, 9, 9)]
)
def test_windows_cover_every_frame(frames: int, length: int, stride: int) -> None:
    starts = window_starts(frames, length, stride)
    covered = {frame for start in starts for frame in range(start, start + length)}
    assert covered == set(range(frames))


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_windows_are_blended_to_one_motion(stride: int) -> None:
    """Where windows agree but for the depth at which each begins, no border can be seen."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (25, 17, 3)).astype(np.float32)
    motion = lifter(9, stride, relative=False).lift(points)
    np.testing.assert_allclose(motion[..., :2], points[..., :2], atol=1e-6)
    np.testing.assert_allclose(motion[..., 2], points[..., 0] - points[0, 0, 0], atol=1e-5)


def test_a_root_that_is_not_predicted_is_zero() -> None:
    points = np.random.default_rng(2).uniform(-1, 1, (5, 17, 3)).astype(np.float32)
    motion = lifter(9, 4, relative=True).lift(points)
    assert (motion[:, 0] == 0).all()
    np.testing.assert_allclose(motion[:, 1:, :2], points[:, 1:, :2], atol=1e-6)


# Gaps


def test_gaps_are_interpolated_with_confidence_0() -> None:
    points = np.ones((4, 17, 3), np.float32)
    points[:, :, 0] = np.array([0, 1, 5, 6])[:, None]
    points[1, 3] = 0
    points[:, 4] = 0
    filled, frame = fill_gaps(points, np.array([10, 11, 15, 16]))
    assert frame.tolist() == [10, 11, 12, 13, 14, 15, 16]
    np.testing.assert_allclose(filled[:, 0, 0], [0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(filled[:, 3, 0], [0, 1, 2, 3, 4, 5, 6], err_msg="a joint that was lost once")
    assert filled[:, 0, 2].tolist() == [1, 1, 0, 0, 0, 1, 1]
    assert filled[:, 3, 2].tolist() == [1, 0, 0, 0, 0, 1, 1]
    assert not filled[:, 4].any(), "never seen"


# Height


def test_a_height_scales_a_person_to_metres() -> None:
    pose = motion_stores.person(1, 30) * 0.31
    scaled = pose * metres_a_unit(pose, 1.80)
    bones = [np.linalg.norm(scaled[:, a] - scaled[:, b], axis=-1) for a, b in ((1, 2), (2, 3))]
    upper = [
        np.linalg.norm(scaled[:, a] - scaled[:, b], axis=-1) for a, b in ((0, 7), (7, 8), (8, 9), (9, 10))
    ]
    tall = sum(float(np.median(bone)) for bone in (*bones, *upper)) / (1 - 0.039)
    assert tall == pytest.approx(1.80, rel=0.01)
    with pytest.raises(DataError, match="no extent"):
        metres_a_unit(pose * 0, 1.80)


# Stores


def test_every_track_of_a_2d_store_becomes_one_in_3d(trained: Path, flat: Path, tmp_path: Path) -> None:
    out = tmp_path / "poses.zarr"
    told = predict_run(trained, str(flat), out, options=PredictOptions(command="skeltrain predict ..."))
    assert told == f"{out}: 5 tracks of 4 recordings, 200 frames in 3D"
    assert verify(out).ok
    store = open_store(out)
    assert store.skeleton.name == "h36m17"
    assert (store.info.unit, store.info.axes.names, store.info.frame_rate) == ("1", ("x", "y", "z"), 50.0)
    assert store.to_frame()["recording"].tolist() == ["r0", "r1", "r1", "r2", "r3"]
    assert store.to_frame()["body"].tolist() == ["0", "0", "1", "0", "0"]
    first = store[0]
    assert first.frame_index.tolist() == list(range(40)), "the frames that nobody was seen in are there"
    assert first.confidence is not None
    assert (first.confidence[10:15] == 0).all()
    assert first.confidence[9, 0] == pytest.approx(0.8)
    assert np.isfinite(first.position).all()
    source = open_store(flat)[0]
    seen = image_points(open_store(flat), source.position, source.confidence)
    there = np.isin(first.frame_index, source.frame_index)
    shown = seen[..., 2] > 0
    np.testing.assert_array_equal(first.extras["pixel"][there][shown], seen[..., :2][shown])
    filled = np.isfinite(first.extras["pixel"]).all(axis=-1)
    np.testing.assert_array_equal(filled, np.tile(shown.any(axis=0), (40, 1)), "gaps are, unseen joints not")
    made = store.info.provenance
    assert made.options["input"] == "truth"
    assert made.options["checkpoint"].startswith(str(trained))
    assert made.derived_from is not None
    with pytest.raises(StoreError, match=r"poses\.zarr"):
        predict_run(trained, str(flat), out)
    predict_run(trained, str(flat), out, options=PredictOptions(overwrite=True))


def test_axes_are_those_of_3d_stores(
    trained: Path, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """+y is up: of a network that keeps what it is given, heads are above feet."""
    monkeypatch.setattr(
        "skeltrain.tasks.pose3d_predict.build_lifter", lambda *_: lifter(9, 4, relative=False)
    )
    predict_run(trained, str(flat), tmp_path / "poses.zarr", options=PredictOptions(height=1.7))
    body = open_store(tmp_path / "poses.zarr")[0].position
    names = list(motion_stores.H36M17.names)
    tall = body[:, names.index("nose"), 1] - body[:, names.index("left_ankle"), 1]
    assert (tall > 0).all()
    assert open_store(tmp_path / "poses.zarr").info.unit == "m"


def test_the_command_says_what_it_wrote(
    trained: Path, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(trained), str(flat), str(tmp_path / "poses.zarr"), "--height", "1.75"]
    with pytest.raises(SystemExit) as end:
        run(cli, [*words, "--stride", "3"])
    assert end.value.code == 0
    assert "5 tracks of 4 recordings" in capsys.readouterr().out
    store = open_store(tmp_path / "poses.zarr")
    assert (store.info.provenance.options["stride"], store.info.unit) == (3, "m")


# Bad input


def test_what_cannot_be_lifted_is_said(trained: Path, flat: Path, tmp_path: Path) -> None:
    people = motion_stores.write_3d(tmp_path / "people.zarr", 1, 12)
    out = tmp_path / "out.zarr"
    with pytest.raises(DataError, match="expected 2D poses in pixels"):
        predict_run(trained, str(people), out)
    with pytest.raises(RunError, match="a stride of 10 frames, expected from 1 to the 9"):
        predict_run(trained, str(flat), out, options=PredictOptions(stride=10))
    with pytest.raises(RunError, match="a height of -1"):
        predict_run(trained, str(flat), out, options=PredictOptions(height=-1.0))
    assert not out.exists()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_track_of_zeros_is_left_out_and_a_store_of_them_a_sentence(
    value: float, trained: Path, tmp_path: Path
) -> None:
    dataset = motion_stores.described("flat", "coco17", flat=True, dtype="f4")
    nothing = np.full((5, 17, 2), value, np.float32)
    empty = Track("0", motion_stores.index(5), nothing, np.ones((5, 17), np.float32))
    some = Track(
        "1", motion_stores.index(1), motion_stores.pixels(0, 1, "coco17"), np.ones((1, 17), np.float32)
    )
    both = [("0", motion_stores.clip(0, 5, empty, some))]
    store = motion_stores.write(tmp_path / "both.zarr", dataset, both)
    told = predict_run(trained, str(store), tmp_path / "out.zarr")
    assert "1 tracks of 1 recordings, 1 frames" in told, "one frame is enough"
    assert np.isfinite(open_store(tmp_path / "out.zarr")[0].position).all()
    alone = motion_stores.write(tmp_path / "alone.zarr", dataset, [("0", motion_stores.clip(0, 5, empty))])
    with pytest.raises(DataError, match="found no track that can be placed in 1 recordings"):
        predict_run(trained, str(alone), tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()
