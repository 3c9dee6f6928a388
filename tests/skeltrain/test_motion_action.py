"""Action recognition: what the network is given, exact runs, partial training, results, bad input."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skelconv.store.store import open_store
from skelformats.errors import SkelconvError
from skelformats.reader import Track
from skelformats.skeleton import SkeletonError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.action_batches import ActionAugment, ActionCollator, even_clips
from skeltrain.data.action_sets import open_actions
from skeltrain.data.loader import DataError
from skeltrain.data.motion import action_motion, crop_scale, resample
from skeltrain.data.pair_sampler import PairSampler
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import World
from skeltrain.engine import Job
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.motion_heads import ActionNet
from skeltrain.models.shared_norm import SharedBatchNorm
from skeltrain.recipe import Log, Optim
from skeltrain.run import embed_run, evaluate_run, predict_run, run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import Init
from skeltrain.tasks.action_common import Head, Tuning
from skeltrain.tasks.motion_action import ActionData, ActionRecipe, build_action
from skeltrain.tasks.motion_common import Network
from skeltrain.tasks.motion_oneshot import OneShotData, OneShotRecipe, build_oneshot, split_recordings
from skeltrain.tasks.registry import Context
from tests.skeltrain import action_stores, motion_stores
from tests.skeltrain.test_engine import curve, same
from tests.skeltrain.test_motion_tasks import Cut

CPU = torch.device("cpu")
WORLD = World(CPU)
SMALL = Network(dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=9)
HEAD = Head(dropout=0.1, hidden=32)
OPTIM = Optim(
    blr=5e-3, lr_scale_rule="none", batch=16, epochs=2, warmup=0, schedule="exponential", schedule_by="epoch",
    betas=(0.9, 0.999), weight_decay=0.01,
)  # fmt: skip
QUIET = Log(every=1, tensorboard=False)
SPARSE = Log(every=100, tensorboard=False, evaluate_every=10)


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return action_stores.make_annotations()


@pytest.fixture(scope="module")
def store(made: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return action_stores.write_hrnet(tmp_path_factory.mktemp("action"), made)


@pytest.fixture
def acting(store: Path) -> ActionRecipe:
    data = ActionData(store=str(store), length=9)
    tuning = Tuning(backbone_lr=1)
    return ActionRecipe(
        data=data, model=SMALL, head=HEAD, optim=OPTIM, device="cpu", log=QUIET, tuning=tuning
    )


@pytest.fixture
def oneshot(store: Path) -> OneShotRecipe:
    data = OneShotData(store=str(store), novel=(0, 50), exemplars="first", length=9)
    optim = OPTIM.model_copy(update={"batch": 6, "epochs": 1})
    return OneShotRecipe(data=data, model=SMALL, head=HEAD, optim=optim, device="cpu", log=QUIET)


def batch_of(count: int, seed: int = 0, epoch: int = 0) -> MicroBatch:
    return MicroBatch(np.arange(count, dtype=np.int64), slice(None), seed=seed, epoch=epoch)


# What the network is given


def official_input(one: dict[str, Any], parity: bool, frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """dataset_action.py: camera coordinates, tracking, conversion, resampling, crop to twice the extent."""
    motion = action_motion(one["keypoint"], one["keypoint_score"], one["img_shape"], parity)
    return crop_scale(motion[:, frames], (2, 2))


def test_an_official_pickle_gives_what_the_released_code_makes_of_it(
    store: Path, made: list[dict[str, Any]]
) -> None:
    """Also in the third recording of two people, whom the detector swaps half-way."""
    found = open_actions(open_store(store), CPU)
    assert len(found) == len(made) == 60
    assert found.classes[0] == "drink water"
    assert "2D poses of pyskl" in found.account
    every = np.arange(len(found), dtype=np.int64)
    clips = torch.cat(list(even_clips(found, every, 9, 7))).numpy()
    for number, one in enumerate(made):
        expected = official_input(one, True, resample(one["total_frames"], 9))
        np.testing.assert_allclose(clips[number], expected, atol=2e-5)


@pytest.mark.parametrize("parity", [True, False])
def test_two_people_whom_a_detector_swaps_keep_their_tracks(tmp_path: Path, parity: bool) -> None:
    one = action_stores.annotation(50, 1, 1)
    one["keypoint"][1, -4:], one["keypoint_score"][1, -4:] = one["keypoint"][1, -5], 0.7
    swapped = {**one, "keypoint": one["keypoint"].copy(), "keypoint_score": one["keypoint_score"].copy()}
    for name in ("keypoint", "keypoint_score"):
        swapped[name][:, 6:] = one[name][::-1, 6:]
    stores = [action_stores.write_hrnet(tmp_path / n, [x]) for n, x in (("a", one), ("b", swapped))]
    plain, other = (open_actions(open_store(path), CPU, parity) for path in stores)
    frames = np.arange(one["total_frames"])
    assert torch.equal(plain.motion(0, frames)[..., :2], other.motion(0, frames)[..., :2])
    assert torch.equal(plain.motion(0, frames)[..., 2], other.motion(0, frames)[..., 2]) is not parity


def test_without_parity_confidences_go_with_their_joints_and_the_lost_are_zero(
    store: Path, made: list[dict[str, Any]]
) -> None:
    found = open_actions(open_store(store), CPU, parity=False)
    clip = next(iter(even_clips(found, np.array([0]), made[0]["total_frames"] - 1, 1)))[0]
    score = made[0]["keypoint_score"][0].astype(np.float32)
    frames = resample(made[0]["total_frames"], clip.shape[1])
    # the wrists are 9 and 10 in coco17, 13 and 16 in h36m17
    np.testing.assert_allclose(clip[0, :, [13, 16], 2], score[frames][:, [9, 10]], atol=1e-6)
    assert (clip[1] == 0).all(), "nobody is there"
    assert (clip[0, 0, 9] == 0).all(), "the nose was not found in the first frame"


def test_3d_poses_are_projected_and_it_is_said(tmp_path: Path) -> None:
    store = open_store(motion_stores.write_3d(tmp_path / "people.zarr"))
    found = open_actions(store, CPU)
    assert "3D poses of people, projected to 2D from +z, without perspective" in found.account
    np.testing.assert_allclose(
        found.motion(0, np.arange(40))[0, ..., :2],
        motion_stores.person(0, 40)[..., :2] * (0.298, -0.298),
        atol=1e-6,
    )
    kinect = motion_stores.write_3d(tmp_path / "kinect.zarr", 2, 12, "ntu25")
    assert "through the Kinect's colour camera" in open_actions(open_store(kinect), CPU).account


def test_poses_without_scores_or_picture_sizes_are_used_all_the_same(tmp_path: Path) -> None:
    """Annotated poses: a joint counts where it is placed. Their extent stands for the picture."""
    store = open_store(motion_stores.write_2d(tmp_path / "coco.zarr", "coco17", "u1"))
    found = open_actions(store, CPU)
    assert not found.parity
    assert "of 5 sequences the picture's size is not known" in found.account
    clip = next(iter(even_clips(found, np.array([2]), 9, 1)))[0]
    # the belly is a mean, as all others are placed
    assert (clip[0, ..., 2] == 1).all()
    assert clip[0, ..., :2].abs().max() == pytest.approx(0.5, abs=1e-5), "a margin of half the square"
    # recording 0 has a gap, in which nobody is there
    gap = found.motion(0, np.arange(8, 17))
    assert (gap[0, 2:7] == 0).all()
    assert (gap[0, 7:, :, 2] == 1).all()


def test_what_is_drawn_for_a_sample_depends_on_the_step_alone(store: Path) -> None:
    found = open_actions(open_store(store), CPU)
    collate = ActionCollator(found, 9, ActionAugment(flip=0.5))
    whole = collate(batch_of(6))
    part = collate(replace(batch_of(6), part=slice(2, 4)))
    assert torch.equal(whole.motion[2:4], part.motion)
    assert not torch.equal(whole.motion, collate(batch_of(6, epoch=1)).motion)
    assert whole.motion.shape == (6, 2, 9, 17, 3)
    assert whole.label.tolist() == [0] * 6
    # frames that are chosen once, and nothing else is drawn
    still = ActionAugment(resample="once", angle=0, scale=0, shift=0, crop=(2, 2))
    collate = ActionCollator(found, 9, still)
    assert torch.equal(collate(batch_of(6)).motion, collate(batch_of(6, epoch=1)).motion)
    assert not torch.equal(collate(batch_of(6)).motion, collate(batch_of(6, seed=1)).motion)


# Runs


def test_from_an_official_pickle_to_labels(acting: ActionRecipe, store: Path, tmp_path: Path) -> None:
    """Trained on some subjects it knows what others do; every answer is kept; new recordings get labels."""
    optim = OPTIM.model_copy(update={"epochs": 10, "batch": 8})
    still = ActionAugment(angle=2, scale=0.02, shift=0.02, crop=(1.8, 2.2))
    longer = acting.model_copy(update={"optim": optim, "augment": still, "log": SPARSE})
    told: list[str] = []
    run_recipe(longer, out=tmp_path / "run", log=told.append)
    assert any(
        "40 recordings to train on, 20 to test, 0 of these leaked; 60 classes" in line for line in told
    )
    found = evaluate_run(tmp_path / "run")["test"]
    assert found.metrics["top1"] > 0.5, "chance is 0.2 among the five classes, 0.017 among the 60"
    assert found.metrics["top5"] >= found.metrics["top1"]
    with np.load(RunFolder(tmp_path / "run").predictions("test"), allow_pickle=False) as kept:
        assert kept["logits"].shape == (20, 60)
        assert (kept["logits"].argmax(axis=1) == kept["label"]).mean() == found.metrics["top1"]
        np.testing.assert_allclose(kept["score"].sum(axis=1), 1, rtol=1e-5)
        expected = dict(zip(kept["recording"], kept["logits"].argmax(axis=1), strict=True))
    predict_run(tmp_path / "run", str(store), tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert set(rows[0]) == {"recording", "label", "class", "probability"}
    assert all(int(row["label"]) == expected.get(row["recording"], int(row["label"])) for row in rows)
    features, _ = embed_run(tmp_path / "run", str(store), None)
    assert features.feature.shape == (60, 17 * 16)
    assert np.isfinite(features.feature).all()


@pytest.mark.parametrize("task", ["acting", "oneshot"])
def test_killed_and_resumed_it_is_the_same_bit_for_bit(
    task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = request.getfixturevalue(task)
    build: Callable[..., Job] = build_action if task == "acting" else build_oneshot
    run_recipe(recipe, out=tmp_path / "whole")
    for at in (1, 2):

        def cut(*given: Any, at: int = at) -> Job:
            job = build(*given)
            return replace(job, loader=Cut(job.loader, at))

        assert run_recipe(recipe, cut, tmp_path / "cut", resume=True).interrupted
    assert not run_recipe(recipe, out=tmp_path / "cut", resume=True).interrupted
    whole, again = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    assert same(whole["model"], again["model"])
    assert same(whole["optimizer"], again["optimizer"])
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["acting", "oneshot"])
def test_two_processes_train_as_one_does(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Statistics of the head and contrasts are those of the whole step."""
    from skeltrain.recipe_file import to_yaml
    from tests.skeltrain.test_distributed import curve as losses
    from tests.skeltrain.test_distributed import torchrun

    recipe = request.getfixturevalue(task)
    recipe = recipe.model_copy(update={"head": HEAD.model_copy(update={"dropout": 0.0})})
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe, "two"))
    run_recipe(recipe, out=tmp_path / "one")
    done = torchrun(2, path, tmp_path / "two", verb="train")
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    states = [load_checkpoint(RunFolder(tmp_path / name).last)["model"] for name in ("one", "two")]
    for name, value in states[0].items():
        # a bias of the keys has no gradient but rounding, and neither has one before a normalisation
        moot = ("qkv.bias", "head.fc1.bias", "bn.running_mean")
        if not name.endswith(moot):
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=2e-3)


def test_a_frozen_backbone_stays_the_same_to_the_bit(acting: ActionRecipe, tmp_path: Path) -> None:
    """From the weights of another run, whose head stays behind."""
    one = OPTIM.model_copy(update={"epochs": 1})
    run_recipe(acting.model_copy(update={"optim": one}), out=tmp_path / "first")
    init = Init(weights=str(tmp_path / "first"))
    frozen = acting.model_copy(update={"init": init, "tuning": Tuning(trainable=()), "optim": one})
    run_recipe(frozen, out=tmp_path / "frozen")
    first, then = (load_checkpoint(RunFolder(tmp_path / n).last)["model"] for n in ("first", "frozen"))
    backbone = [name for name in first if name.startswith("model.backbone.")]
    assert same({k: first[k] for k in backbone}, {k: then[k] for k in backbone})
    assert not torch.equal(first["model.head.fc1.weight"], then["model.head.fc1.weight"])
    some = frozen.model_copy(update={"tuning": Tuning(trainable=("blocks_ts",))})
    job = build_action(some, Context(WORLD))
    names = [n for n, p in job.module.named_parameters() if p.requires_grad and ".backbone." in n]
    assert names
    assert all(".blocks_ts." in name for name in names)
    wrong = frozen.model_copy(update={"tuning": Tuning(trainable=("blocks_xy",))})
    with pytest.raises(RunError, match=r"tuning\.trainable with 'blocks_xy'"):
        build_action(wrong, Context(WORLD))


def test_the_backbone_learns_at_a_tenth_of_the_heads_rate(acting: ActionRecipe) -> None:
    job = build_action(acting.model_copy(update={"tuning": Tuning()}), Context(WORLD))
    backbone, head = job.optimizer.param_groups
    assert (backbone["lr_scale"], head["lr_scale"]) == (pytest.approx(0.1), 1.0)
    assert {group["weight_decay"] for group in (backbone, head)} == {0.01}
    model = job.module.get_submodule("model")
    assert isinstance(model, ActionNet)
    assert sum(p.numel() for p in head["params"]) == sum(p.numel() for p in model.head.parameters())
    assert not model.backbone.head.weight.requires_grad, "nothing asks for motion"


def test_official_checkpoints_are_where_it_starts(acting: ActionRecipe, tmp_path: Path) -> None:
    """A pretraining's network under a fresh head; or backbone and head of an action model."""
    torch.manual_seed(3)
    network = DSTformer(**SMALL.model_dump())
    whole = ActionNet(DSTformer(**SMALL.model_dump()), num_classes=60, hidden_dim=32)
    for name, key, module in (("pre.bin", "model_pos", network), ("action.bin", "model", whole)):
        named = {f"module.{key}": value for key, value in module.state_dict().items()}
        torch.save({"epoch": 3, key: named}, tmp_path / name)
    begun = [
        build_action(acting.model_copy(update={"init": Init(weights=str(tmp_path / name))}), Context(WORLD))
        for name in ("pre.bin", "action.bin")
    ]
    assert same(begun[0].module.get_submodule("model.backbone").state_dict(), network.state_dict())
    assert same(begun[1].module.get_submodule("model").state_dict(), whole.state_dict())
    larger = acting.model_copy(update={
        "init": Init(weights=str(tmp_path / "pre.bin")), "model": SMALL.model_copy(update={"dim_feat": 32})
    })  # fmt: skip
    with pytest.raises(SkelconvError, match="dim_feat=16"):
        build_action(larger, Context(WORLD))


def test_a_single_sample_is_normalised_to_the_bias() -> None:
    """As the last part of a step may be; torch's own normalisation takes no single sample."""
    norm = SharedBatchNorm(3, one_sample=True)
    torch.nn.init.constant_(norm.bias, 2.0)
    assert norm(torch.randn(1, 3)).tolist() == [[2.0] * 3]
    plain = torch.nn.BatchNorm1d(3)
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(norm(x), plain(x))
    assert same(norm.state_dict(), plain.state_dict())


# One-shot


def test_every_sample_of_a_batch_has_a_partner_and_no_class_comes_twice() -> None:
    label = np.repeat(np.arange(7), 5)
    sampler = PairSampler(np.arange(35) + 100, label, batch=8)
    assert sampler.steps == 4
    seen = set()
    for step, micro in enumerate(sampler.epoch(3)):
        own = label[micro.own - 100]
        assert (own[::2] == own[1::2]).all()
        assert len(set(own.tolist())) == 4
        assert len(set(micro.own.tolist())) == 8
        parts = [
            list(PairSampler(np.arange(35) + 100, label, 8, rank=rank, size=2).epoch(3))[step]
            for rank in range(2)
        ]
        assert np.array_equal(np.concatenate([part.own for part in parts]), micro.own)
        seen.add(tuple(own.tolist()))
    assert len(seen) > 1
    assert [m.own.tolist() for m in sampler.epoch(3, first=2)] == [
        m.own.tolist() for m in list(sampler.epoch(3))[2:]
    ]
    with pytest.raises(DataError, match="found 7 classes among the training recordings, expected the 8"):
        PairSampler(np.arange(35), label, batch=16)
    with pytest.raises(DataError, match="a batch of 7 for 2 samples a class"):
        PairSampler(np.arange(35), label, batch=7)


def test_novel_classes_are_told_by_the_nearest_exemplar(
    oneshot: OneShotRecipe, store: Path, tmp_path: Path
) -> None:
    longer = oneshot.model_copy(update={
        "optim": oneshot.optim.model_copy(update={"epochs": 3}), "log": SPARSE
    })  # fmt: skip
    run_recipe(longer, out=tmp_path / "run")
    found = evaluate_run(tmp_path / "run")["test"]
    assert found.metrics["chance"] == 0.5
    assert found.metrics["top1"] > 0.7
    with np.load(RunFolder(tmp_path / "run").predictions("test"), allow_pickle=False) as kept:
        assert kept["novel"].tolist() == [0, 50]
        assert kept["exemplar"].tolist() == ["S001C001P001R001A001", "S001C001P001R001A051"]
        assert len(kept["recording"]) == 22
        nearest = kept["novel"][kept["similarity"].argmax(axis=1)]
        assert nearest.tolist() == kept["prediction"].tolist()
        assert np.abs(kept["similarity"]).max() <= 1 + 1e-5
        expected = dict(zip(kept["recording"], nearest, strict=True))
    predict_run(tmp_path / "run", str(store), tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        rows = {row["recording"]: row for row in csv.DictReader(file)}
    assert all(int(rows[name]["label"]) == label for name, label in expected.items())
    features, _ = embed_run(tmp_path / "run", str(store), None)
    np.testing.assert_allclose(np.linalg.norm(features.feature, axis=1), 1, rtol=1e-5)


def test_the_official_exemplars_are_found_by_name_and_named_where_missing(
    store: Path, tmp_path: Path
) -> None:
    found = open_actions(open_store(store), CPU)
    with pytest.raises(DataError) as caught:
        split_recordings(found, OneShotData(store=str(store)))
    assert "S001C003P008R001A001, S001C003P008R001A007" in str(caught.value)
    assert "expected these 20 of the 20 exemplars" in str(caught.value)
    some = [action_stores.annotation(0, 8, 3), *action_stores.make_annotations()]
    path = action_stores.write_hrnet(tmp_path, some, "ntu120")
    names = OneShotData(novel=(0, 6), exemplars=("S001C003P008R001A001", "S001C002P003R001A007"))
    chosen = split_recordings(open_actions(open_store(path), CPU), names)
    assert (len(chosen.train), len(chosen.exemplars), len(chosen.test)) == (36, 2, 23)
    twice = names.model_copy(update={"exemplars": ("S001C003P008R001A001", "S001C001P001R001A001")})
    with pytest.raises(DataError, match=r"exemplars of the classes \[0, 0\]"):
        split_recordings(open_actions(open_store(path), CPU), twice)
    everything = OneShotData(novel=tuple(range(60)), exemplars="first")
    with pytest.raises(DataError, match="to train on: labelled, and of no novel class"):
        split_recordings(open_actions(open_store(path), CPU), everything)


def test_the_20_novel_classes_are_every_sixth_with_an_exemplar_each() -> None:
    """Liu et al. (TPAMI 2020): A1, A7, ..., A115; setup 1 up to A55, setup 18 beyond."""
    from skelformats.protocols import load_facts

    facts = load_facts("ntu120").others["one_shot"]
    assert facts["novel"] == list(range(1, 116, 6))
    expected = [f"S{1 if n < 61 else 18:03d}C003P008R001A{n:03d}" for n in facts["novel"]]
    assert facts["exemplars"] == expected
    assert not set(expected) & load_facts("ntu120").left_out


# Bad input


def write_clips(folder: Path, keypoint: NDArray[Any], count: int = 4) -> Path:
    """Recordings of two classes with the same poses (M, T, 17, 2)."""
    score = np.where(np.isfinite(keypoint).all(axis=-1) & (keypoint != 0).any(axis=-1), 0.9, 0)
    given = {"keypoint": keypoint, "keypoint_score": score, "total_frames": keypoint.shape[1]}
    subjects = (*action_stores.TRAIN[:2], *action_stores.TEST)[:count]
    made = [{**action_stores.annotation(k % 2 * 6, s, 1), **given} for k, s in enumerate(subjects)]
    made += [{**action_stores.annotation(6 - k % 2 * 6, s, 1), **given} for k, s in enumerate(subjects)]
    return action_stores.write_hrnet(folder, made)


@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize("damage", ["one frame", "NaN", "one leaves", "a joint"])
def test_damaged_clips_have_a_finite_loss(tmp_path: Path, damage: str, parity: bool) -> None:
    keypoint = np.stack([motion_stores.pixels(n, 12, "coco17") for n in range(2)]).astype(np.float32)
    if damage == "one frame":
        keypoint = keypoint[:, :1]
    elif damage == "NaN":
        keypoint[:, 3:5] = np.nan
        keypoint[0, :, 7] = np.nan
    elif damage == "one leaves":
        keypoint[1, 4:] = 0
    else:
        keypoint[:, :, 1:] = 0
        keypoint = keypoint[:1]
    store = write_clips(tmp_path, keypoint)
    data = ActionData(store=str(store), length=9, parity=parity)
    recipe = ActionRecipe(data=data, model=SMALL, head=HEAD, optim=OPTIM, device="cpu", log=QUIET)
    job = build_action(recipe, Context(WORLD))
    for batch in job.loader.epoch(0):
        assert batch.motion.isfinite().all()
        loss = job.module(batch)["loss"]
        loss.backward()
        assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in job.module.parameters())
    job.module.eval()
    assert np.isfinite(job.evaluators[0].run(job.module).predictions["logits"]).all()


def test_poses_that_nobody_found_are_a_sentence(tmp_path: Path) -> None:
    nothing = np.zeros((12, 17, 2), np.float32)
    clips = []
    for n, value in enumerate((nothing, nothing * np.nan)):
        track = Track("0", motion_stores.index(12), value, np.zeros((12, 17), np.float32))
        clips.append((f"{n}.json", motion_stores.clip(n, 12, track)))
    store = motion_stores.write(
        tmp_path / "nobody.zarr", motion_stores.described("nobody", "coco17", True, "f4"), clips
    )
    recipe = ActionRecipe(data=ActionData(store=str(store), protocol="half", length=9), model=SMALL)
    with pytest.raises(DataError, match="found no joint with a confidence above 0 in the 1 training record"):
        build_action(recipe, Context(WORLD))


def test_13_joints_are_told_which_are_missing(tmp_path: Path) -> None:
    store = motion_stores.write_3d(tmp_path / "toyota.zarr", 2, 12, "toyota13")
    with pytest.raises(SkeletonError, match="no counterpart of pelvis, spine, thorax, nose, head_top"):
        open_actions(open_store(store), CPU)


def test_what_cannot_be_trained_is_said_before_it_is_tried(acting: ActionRecipe, store: Path) -> None:
    def change(**data: Any) -> ActionRecipe:
        return acting.model_copy(update={"data": acting.data.model_copy(update=data)})

    with pytest.raises(DataError, match="found no store"):
        build_action(change(store=None), Context(WORLD))
    with pytest.raises(DataError, match="no protocol 'cs' in the store, expected one of split, split1"):
        build_action(change(protocol="cs"), Context(WORLD))
    with pytest.raises(DataError, match="found no recording in part 'val' of protocol 'xsub'"):
        build_action(change(test="val"), Context(WORLD))
    with pytest.raises(DataError, match="clips of 10 frames, expected at most the 9"):
        build_action(change(length=10), Context(WORLD))
    accumulated = OneShotRecipe(
        data=OneShotData(store=str(store)), optim=OPTIM.model_copy(update={"accum": 2}), model=SMALL
    )
    with pytest.raises(RunError, match=r"found optim\.accum=2, expected 1"):
        build_oneshot(accumulated, Context(WORLD))
