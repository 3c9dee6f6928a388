"""The tasks on motion: what is read of a store, curriculum, exact runs, errors in millimetres, bad input."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skelconv.store.store import open_store
from skelformats.errors import SkelconvError
from skelformats.h36m_cameras import builtin_cameras
from skelformats.reader import Track
from skelformats.skeleton import SkeletonError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.loader import DataError
from skeltrain.data.motion_batches import MotionAugment, MotionBatch, MotionCollator, numbers
from skeltrain.data.motion_cameras import factor_25d, image_pose
from skeltrain.data.motion_sets import Clips, join, open_motion
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.distributed import World
from skeltrain.engine import Job
from skeltrain.metrics.pose import root_relative
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.registry import load_backbone
from skeltrain.recipe import Log, Optim
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import Init
from skeltrain.tasks.motion_common import LossWeights, MotionTask, Network, pose_losses
from skeltrain.tasks.motion_pretrain import (
    MotionData,
    MotionEntry,
    MotionPretrainRecipe,
    build_motion_pretraining,
    open_sets,
)
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData, PoseErrors, build_pose3d
from skeltrain.tasks.registry import Context
from tests.skeltrain import motion_stores
from tests.skeltrain.test_engine import curve, same

CPU = torch.device("cpu")
WORLD = World(CPU)
SHORT = Clips(length=9, stride=9)
SMALL = Network(dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=9)
OPTIM = Optim(
    blr=2e-3, lr_scale_rule="none", batch=4, epochs=3, warmup=0, schedule="exponential", schedule_by="epoch",
    betas=(0.9, 0.999), weight_decay=0.01,
)  # fmt: skip
QUIET = Log(every=1, tensorboard=False)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("motion")
    return {
        "people": motion_stores.write_3d(folder / "people.zarr"),
        "h36m": motion_stores.write_h36m(folder / "h36m.zarr"),
        "annotated": motion_stores.write_2d(folder / "annotated.zarr", "posetrack17", "u1"),
        "detected": motion_stores.write_2d(folder / "detected.zarr", "openpose25", "f4"),
    }


@pytest.fixture
def pretraining(stores: dict[str, Path]) -> MotionPretrainRecipe:
    data = MotionData(
        stores=tuple(MotionEntry(store=str(path)) for path in stores.values()),
        depth=SHORT,
        annotated=Clips(length=9, stride=9, first=True, stretch=False, seen=0.6, root="all"),
        detected=Clips(length=7, stride=7, stretch=False, root="first"),
        only_depth=1,
    )
    return MotionPretrainRecipe(data=data, model=SMALL, optim=OPTIM, device="cpu", log=QUIET)


@pytest.fixture
def posing(stores: dict[str, Path]) -> Pose3dRecipe:
    data = PoseData(store=str(stores["people"]), protocol="half", length=9, stride=9)
    return Pose3dRecipe(data=data, model=SMALL, optim=OPTIM, device="cpu", log=QUIET)


# What is read of a store


def test_poses_before_a_camera_are_those_that_it_sees(stores: dict[str, Path]) -> None:
    """MotionBERT's 2.5D poses: x and y by the camera, depth in the same unit, and millimetres a unit."""
    data = open_motion(open_store(stores["h36m"]), SHORT, CPU, detections=True)
    camera = builtin_cameras()[1, 54138969]
    points = (motion_stores.person(0, 40) * (-1, -1, 1) + (0, 1, 5)) * 1000
    pixel = image_pose(points, camera)
    expected = np.concatenate(
        [pixel[..., :2] / 500 - (1, camera.height / 1000), pixel[..., 2:] / 500], axis=-1
    )
    np.testing.assert_allclose(data.pose[:40], expected, atol=1e-5)
    np.testing.assert_allclose(data.millimetres[:40], factor_25d(points, camera) * 500, rtol=1e-5)
    apart = root_relative(data.pose[:40].double().numpy()) * data.millimetres[:40, None, None]
    assert np.linalg.norm(apart - root_relative(points), axis=-1).mean() < 60, "not the pose, but near it"
    assert data.detection is not None
    # three pixels of 500 half a picture, and the lens's distortion
    off = (data.detection[:40, :, :2] - data.pose[:40, :, :2]).mean(dim=(0, 1))
    np.testing.assert_allclose(off, 3 / 500, atol=4e-3)
    assert (data.detection[..., 2] == 1).all()


def test_poses_without_a_camera_are_seen_as_amass_is(stores: dict[str, Path]) -> None:
    """convert_amass.py: x, -z, y of the raw axes with +z up, which are x, -y, -z with +y up; times 0.298."""
    data = open_motion(open_store(stores["people"]), SHORT, CPU)
    np.testing.assert_allclose(
        data.pose[:40], motion_stores.person(0, 40) * (0.298, -0.298, -0.298), atol=1e-6
    )
    np.testing.assert_allclose(data.millimetres * 0.298, 1000)


def test_a_clip_never_reaches_over_a_gap(stores: dict[str, Path]) -> None:
    store = open_store(stores["annotated"])
    data = open_motion(store, Clips(length=9, stride=9, stretch=False), CPU)
    assert (np.diff(data.frame[data.clips], axis=1) == 1).all()
    first = data.clips[data.sequence[data.clips[:, 0]] == 0]
    assert data.frame[first[:, 0]].tolist() == [0, 15, 24]
    stretched = open_motion(store, Clips(length=12, stride=12), CPU)
    assert data.frame[stretched.clips[0]].max() == 9, "ten frames before the gap, stretched"
    once = open_motion(store, Clips(length=9, stride=9, first=True), CPU)
    assert len(once) == len(store) == 5


def test_2d_poses_are_cropped_to_their_square_and_lost_joints_stay_lost(stores: dict[str, Path]) -> None:
    """OpenPose has neither belly nor head."""
    data = open_motion(open_store(stores["detected"]), SHORT, CPU)
    batch = MotionCollator(data, MotionAugment(flip=0, crop=(1, 1)), relative=False)(all_of(data))
    assert not batch.depth
    assert (batch.weight[:, :, [7, 10]] == 0).all()
    assert (batch.input[:, :, [7, 10]] == 0).all()
    seen = [j for j in range(17) if j not in (7, 10)]
    np.testing.assert_allclose(batch.weight[:, :, seen], 0.8, rtol=1e-6)
    extent = batch.input[:, :, seen, :2].amax(dim=(1, 2)) - batch.input[:, :, seen, :2].amin(dim=(1, 2))
    np.testing.assert_allclose(extent.amax(dim=1), 2.0, atol=1e-5)


def test_sets_of_a_kind_are_one(stores: dict[str, Path]) -> None:
    one, other = (open_motion(open_store(stores[name]), SHORT, CPU) for name in ("people", "h36m"))
    both = join([one, other])
    assert len(both) == len(one) + len(other)
    last = torch.from_numpy(other.clips[-1])
    assert torch.equal(both.pose[both.clips[-1]], other.pose[last])
    np.testing.assert_array_equal(both.millimetres[both.clips[-1]], other.millimetres[other.clips[-1]])
    assert both.table["recording"].iloc[both.sequence[both.clips[-1]]].iloc[0] == "r3"
    with pytest.raises(DataError, match="several kinds"):
        join([one, open_motion(open_store(stores["detected"]), SHORT, CPU)])


# Batches


def all_of(data: Any) -> MicroBatch:
    return MicroBatch(numbers(data), slice(None))


def test_targets_are_relative_to_the_root(stores: dict[str, Path]) -> None:
    data = open_motion(open_store(stores["people"]), SHORT, CPU)
    plain = MotionAugment(flip=0)
    pose = data.pose[torch.from_numpy(data.clips)]
    relative = MotionCollator(data, plain)(all_of(data))
    assert torch.equal(relative.target, pose - pose[:, :, :1])
    assert torch.equal(relative.input[..., :2], pose[..., :2]), "the input is never moved"
    placed = MotionCollator(data, plain, relative=False)(all_of(data))
    assert torch.equal(placed.target[..., :2], pose[..., :2])
    assert torch.equal(placed.target[..., 2], pose[..., 2] - pose[:, :1, :1, 2])


def test_what_a_clip_gets_does_not_depend_on_how_a_step_is_divided(
    pretraining: MotionPretrainRecipe,
) -> None:
    """So two processes, and parts, see what one sees: mirror, crop, noise and masks."""
    for stream, data in enumerate(open_sets(pretraining, Context(WORLD)).values()):
        collate = MotionCollator(data, pretraining.augment, stream=stream)

        def deal(rank: int, size: int, accum: int) -> Iterator[MotionBatch]:
            sampler = EpochSampler(numbers(data), 4, accum, 5, rank, size)  # noqa: B023
            return map(collate, sampler.epoch(1))  # noqa: B023

        alone = {(b.micro.step, k): row for b in deal(0, 1, 1) for k, row in enumerate(b.input)}
        assert any(not bool(x.any()) for row in alone.values() for x in row), "a frame is hidden"
        met = 0
        for rank in range(2):
            for batch in deal(rank, 2, 2):
                for k, row in zip(range(*batch.micro.part.indices(99)), batch.input, strict=True):
                    assert torch.equal(row, alone[batch.micro.step, k])
                    met += 1
        assert met >= len(data)


def test_two_processes_take_the_step_of_one(pretraining: MotionPretrainRecipe) -> None:
    """The mean of their gradients is that of a process alone, for every kind of store."""
    jobs = [build_motion_pretraining(pretraining, Context(World(CPU, rank, 2))) for rank in range(2)]
    alone = build_motion_pretraining(pretraining, Context(WORLD))
    for job in jobs:
        job.module.load_state_dict(alone.module.state_dict())
    ours, theirs = alone.loader.epoch(2), [job.loader.epoch(2) for job in jobs]
    for _ in range(alone.loader.steps(2)):
        batch, parts = next(ours), [next(one) for one in theirs]
        gradient = gradients(alone.module, batch)
        shared = [sum(g) / 2 for g in zip(*(gradients(alone.module, p) for p in parts), strict=True)]
        for a, b in zip(gradient, shared, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def gradients(module: nn.Module, batch: MotionBatch) -> list[Any]:
    module.zero_grad()
    (module(batch)["loss"] * batch.micro.weight).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


# Losses


def test_joints_that_are_not_known_have_neither_loss_nor_gradient(stores: dict[str, Path]) -> None:
    data = open_motion(open_store(stores["people"]), SHORT, CPU)
    pose = data.pose.clone()
    pose[:, 10] = torch.nan
    pose[3, 5] = torch.nan
    pose[12, 0] = torch.nan
    damaged = replace(data, pose=pose)
    batch = MotionCollator(damaged, MotionAugment(flip=0, noise=True, mask_joints=0.05))(all_of(data))
    assert batch.input.isfinite().all()
    guess = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    values = pose_losses(guess, batch, LossWeights())
    torch.autograd.backward(values["loss"])
    assert all(value.isfinite() for value in values.values())
    assert guess.grad is not None
    assert guess.grad.isfinite().all()
    assert (guess.grad[(batch.weight == 0).expand_as(guess)] == 0).all()
    assert (batch.weight[1, 3] == 0).all(), "relative to a root that is not known, nothing is"
    assert (batch.weight[0, 3, 5] == 0).all()


def test_with_all_joints_known_it_is_the_published_loss(stores: dict[str, Path]) -> None:
    """train.py: mpjpe + 0.5 n_mpjpe + 20 velocity."""
    from skeltrain.losses import motion

    data = open_motion(open_store(stores["people"]), SHORT, CPU)
    batch = MotionCollator(data, MotionAugment())(all_of(data))
    guess = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(2))
    expected = (
        motion.mpjpe(guess, batch.target)
        + 0.5 * motion.n_mpjpe(guess, batch.target)
        + 20 * motion.velocity(guess, batch.target)
    )
    torch.testing.assert_close(pose_losses(guess, batch, LossWeights())["loss"], expected)


# Runs


def test_depth_first_then_every_kind_in_each_epoch(pretraining: MotionPretrainRecipe) -> None:
    job = build_motion_pretraining(pretraining, Context(WORLD))
    kinds = [[(b.depth, b.input.shape[1]) for b in job.loader.epoch(epoch)] for epoch in (0, 1)]
    sets = open_sets(pretraining, Context(WORLD))
    steps = {kind: EpochSampler(numbers(data), 4).steps for kind, data in sets.items()}
    assert kinds[0] == [(True, 9)] * steps["3d"]
    flat = [(False, 9)] * steps["annotated"] + [(False, 7)] * steps["detected"]
    assert kinds[1] == flat + [(True, 9)] * steps["3d"]


class Cut:
    """A loader that interrupts this process while batch ``at`` of the run is being worked on."""

    def __init__(self, inner: Any, at: int) -> None:
        self._inner, self._left = inner, at

    def steps(self, epoch: int) -> int:
        return int(self._inner.steps(epoch))

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for batch in self._inner.epoch(epoch, first):
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            self._left -= 1
            yield batch


@pytest.mark.parametrize("task", ["pretraining", "posing"])
def test_killed_and_resumed_it_is_the_same_bit_for_bit(
    task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = request.getfixturevalue(task)
    build: Callable[..., Job] = build_motion_pretraining if task == "pretraining" else build_pose3d
    run_recipe(recipe, out=tmp_path / "whole")
    for at in (2, 4):

        def cut(*given: Any, at: int = at) -> Job:
            job = build(*given)
            return replace(job, loader=Cut(job.loader, at))

        assert run_recipe(recipe, cut, tmp_path / "cut", resume=True).interrupted
    assert not run_recipe(recipe, out=tmp_path / "cut", resume=True).interrupted
    whole, again = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    assert same(whole["model"], again["model"])
    assert same(whole["optimizer"], again["optimizer"])
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")


def test_pretraining_recovers_depth_and_fine_tuning_goes_on_from_it(
    pretraining: MotionPretrainRecipe, posing: Pose3dRecipe, tmp_path: Path
) -> None:
    longer = OPTIM.model_copy(update={"epochs": 10, "blr": 5e-3})
    some = pretraining.data.model_copy(update={"stores": pretraining.data.stores[:3]})
    run_recipe(pretraining.model_copy(update={"optim": longer, "data": some}), out=tmp_path / "pre")
    found = [value for value in positions(tmp_path / "pre") if value is not None]
    assert np.mean(found[-3:]) < 0.7 * np.mean(found[:3])
    tuned = posing.model_copy(update={"init": Init(weights=str(tmp_path / "pre")), "optim": longer})
    run_recipe(tuned, out=tmp_path / "tuned")
    errors = evaluate_run(tmp_path / "tuned")["test"].metrics
    fresh = posing.model_copy(update={"optim": longer.model_copy(update={"epochs": 1})})
    run_recipe(fresh, out=tmp_path / "fresh")
    assert errors["mpjpe"] < 0.7 * evaluate_run(tmp_path / "fresh")["test"].metrics["mpjpe"]
    assert errors["p_mpjpe"] < errors["mpjpe"]
    assert {"mpjpe/wave", "mpjpe_frames", "mpjve"} <= set(errors)
    with np.load(RunFolder(tmp_path / "tuned").predictions("test"), allow_pickle=False) as kept:
        assert len(kept["mpjpe"]) == 3 * 40
        assert np.isfinite(kept["mpjpe"]).sum() == 3 * 36, "four windows of nine a recording"
        assert np.nanmean(kept["mpjpe"]) == pytest.approx(errors["mpjpe_frames"])


def positions(out: Path) -> list[float | None]:
    from tests.skeltrain.test_engine import rows

    return [float(row["position"]) if row["position"] else None for row in rows(out)]


def test_official_weights_are_where_it_starts(posing: Pose3dRecipe, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = DSTformer(**SMALL.model_dump())
    named = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "model_pos": named}, tmp_path / "best_epoch.bin")
    told: list[str] = []
    begun = posing.model_copy(update={"init": Init(weights=str(tmp_path / "best_epoch.bin"))})
    job = build_pose3d(begun, Context(WORLD, log=told.append))
    assert same(job.module.get_submodule("model").state_dict(), network.state_dict())
    assert "every key of the source was used" in "\n".join(told)
    larger = begun.model_copy(update={"model": SMALL.model_copy(update={"dim_feat": 32})})
    with pytest.raises(SkelconvError, match="dim_feat=16"):
        build_pose3d(larger, Context(WORLD))


def test_a_checkpoint_lends_its_network_to_other_tasks(posing: Pose3dRecipe, tmp_path: Path) -> None:
    short = posing.model_copy(update={"optim": OPTIM.model_copy(update={"epochs": 1})})
    run_recipe(short, out=tmp_path)
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    backbone = load_backbone(checkpoint)
    assert isinstance(backbone, DSTformer)
    assert same({f"model.{k}": v for k, v in backbone.state_dict().items()}, checkpoint["model"])


# Evaluation


class Nothing(nn.Module):
    """A network that predicts every joint at the root."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(clips)


def test_errors_are_millimetres_by_action(stores: dict[str, Path]) -> None:
    data = PoseData(store=str(stores["h36m"]), protocol=None, length=9, stride=9)
    recipe = Pose3dRecipe(data=data, model=SMALL)
    opened = open_motion(open_store(stores["h36m"]), SHORT, CPU)
    task = MotionTask(DSTformer(**SMALL.model_dump()), LossWeights())
    task.model = Nothing()  # type: ignore[assignment]
    found = PoseErrors(recipe, opened, Context(WORLD))(task)
    camera = builtin_cameras()[1, 54138969]
    expected = []
    for n in range(4):
        points = (motion_stores.person(n, 40) * (-1, -1, 1) + (0, 1, 5)) * 1000
        flat = root_relative(image_pose(points, camera)) * factor_25d(points, camera)[:, None, None]
        expected.append(np.linalg.norm(flat, axis=-1).mean(axis=-1)[:36])
    walk, wave = (np.mean(expected[k::2]) for k in (0, 1))
    assert found.metrics["mpjpe/walk"] == pytest.approx(walk, rel=1e-4)
    assert found.metrics["mpjpe/wave"] == pytest.approx(wave, rel=1e-4)
    assert found.metrics["mpjpe"] == pytest.approx((walk + wave) / 2, rel=1e-4)
    np.testing.assert_allclose(found.predictions["mpjpe"][40:76], expected[1], rtol=1e-4)


def test_recordings_whose_poses_drift_are_left_out(tmp_path: Path) -> None:
    store = motion_stores.write_h36m(tmp_path / "h36m.zarr", drift=1)
    recipe = Pose3dRecipe(data=PoseData(store=str(store), protocol=None, length=9), model=SMALL)
    task = MotionTask(DSTformer(**SMALL.model_dump()), LossWeights())
    found = PoseErrors(recipe, open_motion(open_store(store), SHORT, CPU), Context(WORLD))(task)
    missing = np.isnan(found.predictions["mpjpe"])
    assert missing[found.predictions["recording"] == "r1"].all()
    assert not missing[:36].any()


def test_true_and_detected_poses_are_never_mixed(stores: dict[str, Path], tmp_path: Path) -> None:
    data = PoseData(store=str(stores["h36m"]), protocol=None, input="detection", length=9, stride=9)
    optim = OPTIM.model_copy(update={"epochs": 1})
    recipe = Pose3dRecipe(data=data, model=SMALL, optim=optim, device="cpu", log=QUIET)
    run_recipe(recipe, out=tmp_path)
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    assert checkpoint["metadata"]["input"] == "detection"
    truth = recipe.model_copy(update={"data": data.model_copy(update={"input": "truth"})})
    with pytest.raises(RunError, match=r"data\.input=truth for a network that was trained on detection"):
        build_pose3d(truth, Context(WORLD, checkpoint, same_data=False))
    without = recipe.model_copy(update={"data": data.model_copy(update={"store": str(stores["people"])})})
    with pytest.raises(DataError, match="no array 'detection'"):
        build_pose3d(without, Context(WORLD))


# Bad input


def test_a_layout_of_13_joints_is_told_what_it_lacks(tmp_path: Path) -> None:
    store = motion_stores.write_3d(tmp_path / "toyota.zarr", 2, 12, "toyota13")
    with pytest.raises(SkeletonError, match="no counterpart of pelvis, spine, thorax, nose, head_top"):
        open_motion(open_store(store), SHORT, CPU)


def test_a_recording_of_one_frame_is_a_clip_that_stands_still(tmp_path: Path) -> None:
    store = motion_stores.write_3d(tmp_path / "one.zarr", 2, 1)
    data = open_motion(open_store(store), SHORT, CPU)
    assert data.clips.tolist() == [[0] * 9, [1] * 9]
    batch = MotionCollator(data, MotionAugment(noise=True, mask_joints=0.1, mask_frames=0.5))(all_of(data))
    values = MotionTask(DSTformer(**SMALL.model_dump()), LossWeights())(batch)
    assert all(value.isfinite() for value in values.values())
    with pytest.raises(DataError, match="found no clip of 9 frames"):
        open_motion(open_store(store), Clips(length=9, stretch=False), CPU)


def test_clips_of_zeros_have_a_loss_and_unseen_ones_a_sentence(tmp_path: Path) -> None:
    nothing = np.zeros((12, 17, 3), np.float32)
    clips = [("0", motion_stores.clip(0, 12, Track("0", motion_stores.index(12), nothing), flaw=""))]
    store = motion_stores.write(tmp_path / "zero.zarr", motion_stores.described("zero", "h36m17"), clips)
    batch = MotionCollator(open_motion(open_store(store), SHORT, CPU), MotionAugment())(
        MicroBatch(np.zeros(1, np.int64), slice(None))
    )
    task = MotionTask(DSTformer(**SMALL.model_dump()), LossWeights())
    task(batch)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)
    clips = [("0", motion_stores.clip(0, 12, Track("0", motion_stores.index(12), nothing * np.nan), flaw=""))]
    store = motion_stores.write(tmp_path / "nan.zarr", motion_stores.described("nan", "h36m17"), clips)
    with pytest.raises(DataError, match="with enough joints seen"):
        open_motion(open_store(store), SHORT, CPU)


def test_clips_longer_than_the_network_takes_are_refused(posing: Pose3dRecipe) -> None:
    long = posing.model_copy(update={"data": posing.data.model_copy(update={"length": 10})})
    with pytest.raises(DataError, match=r"clips of 10 frames, expected at most the 9"):
        build_pose3d(long, Context(WORLD))


def test_another_store_in_one_place_is_refused(
    posing: Pose3dRecipe, stores: dict[str, Path], tmp_path: Path
) -> None:
    short = posing.model_copy(update={"optim": OPTIM.model_copy(update={"epochs": 1})})
    run_recipe(short, out=tmp_path)
    other = posing.data.model_copy(update={"store": str(stores["h36m"])})
    with pytest.raises(RunError, match="run on other data"):
        run_recipe(short.model_copy(update={"data": other}), out=tmp_path, resume=True)


def test_2d_poses_teach_no_3d(posing: Pose3dRecipe, stores: dict[str, Path]) -> None:
    flat = posing.data.model_copy(update={"store": str(stores["detected"])})
    with pytest.raises(DataError, match="found 2D poses, expected 3D ones"):
        build_pose3d(posing.model_copy(update={"data": flat}), Context(WORLD))
    with pytest.raises(DataError, match="found no store"):
        build_motion_pretraining(MotionPretrainRecipe(model=SMALL), Context(WORLD))
