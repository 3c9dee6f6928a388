"""Alignment as a task: three stages that learn, freeze, resume and are evaluated; what is wrong is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelformats.errors import SkelconvError
from skelformats.skeleton import load_skeleton
from skeltrain import engine
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.data.crop_images import AheadLoader, CropImages
from skeltrain.data.loader import DataError
from skeltrain.data.pair_batches import PairCollator
from skeltrain.data.pose_pairs import open_pairs
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.distributed import DeviceError, World
from skeltrain.engine import Outcome
from skeltrain.features_store import write_features
from skeltrain.gallery import Gallery, PoseQuery, open_gallery, search
from skeltrain.recipe import Log, Optim
from skeltrain.recipe_file import RecipeError, load_recipe, read_recipe
from skeltrain.run import embed_run, evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.sections import Init, StoreData
from skeltrain.tasks.align import TASK, build_align
from skeltrain.tasks.align_recipe import AlignRecipe, Contrast, PairAugment, PairData, PairEvaluation, Towers
from skeltrain.tasks.registry import Context
from tests.skeltrain.pair_stores import CAMERA, SIZE, write_figures

CPU = torch.device("cpu")
SMALL = Towers(width=32, depth=1, heads=2, image="hrnet_w18_small", dropout=0.1, decoder="mlp", hidden=64)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 frames of four takes with pictures, two takes for training."""
    return write_figures(tmp_path_factory.mktemp("figures"), 4, 8)


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 frames of four takes, a sequence store without pictures."""
    return write_figures(tmp_path_factory.mktemp("poses"), 4, 16, pictures=False)


def recipe(store: Path, stage: str = "poses", **sections: Any) -> AlignRecipe:
    given: dict[str, Any] = {
        "data": PairData(store=str(store), picture=SIZE, image_size=(64, 64), workers=2),
        "model": SMALL,
        "optim": Optim(
            blr=2e-3,
            lr_scale_rule="none",
            batch=16,
            epochs=2,
            warmup=0,
            weight_decay=0.0,
            schedule="constant",
        ),
        "log": Log(every=1, evaluate_every=9, tensorboard=False),
        "device": "cpu",
        **sections,
    }
    return AlignRecipe(stage=stage, **given)  # type: ignore[arg-type]


def fit(made: AlignRecipe, out: Path, resume: bool = False) -> Outcome:
    return run_recipe(made, build_align, out, resume)


class TestData:
    def test_joints_are_seen_through_the_camera_that_took_the_picture(self, crops: Path) -> None:
        pairs = open_pairs(StoreData(store=str(crops)), CPU)
        pose2d, pose3d = pairs.poses(np.arange(len(pairs)))
        assert pose2d.shape == (32, 17, 2)
        assert pose3d[:, pairs.root].abs().max() == 0
        # the root's depth puts them back into the picture
        assert pairs.crops is not None
        camera = pairs.crops.poses("position3d", 0, 32) * (1, -1, -1)
        rebuilt = pose3d.numpy() * (1, -1, -1) + camera[:, [pairs.root]]
        pixel = rebuilt[..., :2] / rebuilt[..., 2:] * CAMERA.focal + CAMERA.principal
        expected = (pixel - np.array(SIZE) / 2) / (SIZE[0] / 2)
        np.testing.assert_allclose(pose2d, expected, atol=1e-4)

    def test_a_sequence_store_gives_the_poses_that_its_crops_have(self, tmp_path: Path) -> None:
        crops = write_figures(tmp_path, 2, 4)
        one = open_pairs(StoreData(store=str(crops)), CPU)
        other = open_pairs(StoreData(store=str(tmp_path / "store.zarr")), CPU, picture=SIZE)
        everything = np.arange(8)
        for a, b in zip(one.poses(everything), other.poses(everything), strict=True):
            assert torch.equal(a, b)
        assert one.samples.table["action"].tolist() == other.samples.table["action"].tolist()
        assert one.samples.part("half", "test").tolist() == [4, 5, 6, 7]

    def test_the_threads_that_decode_change_nothing(self, crops: Path) -> None:
        pairs = open_pairs(StoreData(store=str(crops)), CPU)
        assert pairs.crops is not None
        collate = PairCollator(pairs, CropImages(pairs.crops, (256, 192), CPU), flip=0.5, noise2d=0.01)
        sampler = EpochSampler(np.arange(32), 6, seed=4)
        for first in (0, 3):
            alone = [collate(micro) for micro in sampler.epoch(1, first)]
            together = list(AheadLoader(sampler, collate, 3).epoch(1, first))
            assert len(alone) == len(together) == sampler.steps - first
            for one, other in zip(alone, together, strict=True):
                assert torch.equal(one.image, other.image)  # type: ignore[arg-type]
                assert torch.equal(one.pose2d, other.pose2d)
        kept = CropImages(pairs.crops, (256, 192), CPU, keep=np.arange(10, 20))
        numbers = np.array([19, 10, 12])
        assert torch.equal(kept(numbers), CropImages(pairs.crops, (256, 192), CPU)(numbers))
        np.testing.assert_array_equal(kept(numbers)[0].permute(1, 2, 0), pairs.crops.image(19))

    def test_a_mirrored_frame_is_mirrored_in_all_modalities(self, crops: Path) -> None:
        pairs = open_pairs(StoreData(store=str(crops)), CPU)
        assert pairs.crops is not None
        images = CropImages(pairs.crops, (64, 64), CPU)
        micro = MicroBatch(np.arange(4), slice(None))
        plain, turned = PairCollator(pairs, images)(micro), PairCollator(pairs, images, flip=1.0)(micro)
        layout = load_skeleton("h36m17")
        left, right = layout.index("left_wrist"), layout.index("right_wrist")
        assert plain.image is not None
        assert turned.image is not None
        assert torch.equal(turned.image, plain.image.flip(3))
        for one, other in ((plain.pose2d, turned.pose2d), (plain.pose3d, turned.pose3d)):
            assert torch.equal(other[:, left, 0], -one[:, right, 0])
            assert torch.equal(other[:, left, 1:], one[:, right, 1:])

    def test_frames_without_a_joint_are_left_out_and_lost_joints_are_not_zeros(self, tmp_path: Path) -> None:
        store = write_figures(tmp_path, 2, 16, pictures=False, lose=slice(1, 2))
        pairs = open_pairs(StoreData(store=str(store)), CPU, picture=SIZE)
        assert (len(pairs), pairs.left_out) == (30, 2)
        outcome = fit(recipe(store, "all", model=SMALL.model_copy(update={"image": None})), tmp_path / "run")
        assert np.isfinite(outcome.metrics["loss"])


class TestStages:
    def test_three_stages_hand_on_their_towers(self, crops: Path, tmp_path: Path) -> None:
        """Frozen towers stay as they are to the bit, the others learn."""
        fit(recipe(crops), tmp_path / "poses")
        contrast = Contrast(tau=0.2, tau_low=0.1)
        second = recipe(crops, "image", loss=contrast, init=Init(weights=str(tmp_path / "poses")))
        fit(second, tmp_path / "image")
        contrast = Contrast(tau=0.2, tau_low=0.2, encoder_lr=0.5)
        third = recipe(crops, "all", loss=contrast, init=Init(weights=str(tmp_path / "image")))
        outcome = fit(third, tmp_path / "all")
        assert {"loss", "pairs", "triplet", "decode", "tau"} <= set(outcome.metrics)

        one, two, three = (
            load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["model"]
            for name in ("poses", "image", "all")
        )
        of_poses = [key for key in one if key.startswith("model.pose")]
        assert len(of_poses) > 20
        for key in of_poses:
            assert torch.equal(one[key], two[key]), key
        moved = sum(not torch.equal(two[key], three[key]) for key in of_poses)
        assert moved > 0.9 * len(of_poses)
        assert any(key.startswith("model.image.") for key in two)
        assert any(key.startswith("model.decoder3d.") for key in three)

        found = evaluate_run(tmp_path / "all")
        assert set(found) == {"alignment", "retrieval", "untrained", "pictures", "poses", "paths"}
        metrics = found["retrieval"].metrics
        directions = {key.split("/")[0] for key in metrics if "-" in key.split("/")[0]}
        assert len(directions) == 6
        assert metrics["chance/exact index at 1"] == 1 / 32
        assert metrics["pose2d-pose3d/apart/oracle mpjpe"] <= metrics["pose2d-pose3d/apart/mpjpe"]
        assert {"image/mpjpe", "pose2d of pixel/pa-mpjpe 14", "pose3d/mpjpe by action"} <= set(
            found["poses"].metrics
        )
        with np.load(RunFolder(tmp_path / "all").predictions("poses")) as kept:
            assert kept["image"].shape == kept["truth"].shape == (32, 17, 3)
            error = np.linalg.norm(kept["image"] - kept["truth"], axis=-1).mean()
        assert error == pytest.approx(found["poses"].metrics["image/mpjpe"], rel=1e-5)

    def test_the_slower_towers_take_their_part_of_the_rate(self, poses: Path) -> None:
        towers = SMALL.model_copy(update={"image": None})
        made = recipe(poses, "all", model=towers, loss=Contrast(encoder_lr=0.25))
        job = build_align(made, Context(World(CPU)))
        slow = {
            id(p)
            for name in ("pose2d", "pose3d")
            for p in job.module.get_submodule(f"model.{name}").parameters()
        }
        listed = [id(p) for group in job.optimizer.param_groups for p in group["params"]]
        assert len(listed) == len(set(listed)) == sum(1 for _ in job.module.parameters())
        for group in job.optimizer.param_groups:
            for parameter in group["params"]:
                assert group.get("lr_scale", 1.0) == (0.25 if id(parameter) in slow else 1.0)

    @pytest.mark.parametrize("rate", [0.02, 50.0])
    def test_the_temperature_never_leaves_its_bounds(self, poses: Path, tmp_path: Path, rate: float) -> None:
        """Steps as large as its whole range; after each the temperature is looked at."""
        made = recipe(
            poses,
            loss=Contrast(tau=0.2, tau_low=0.1, tau_high=0.3),
            optim=Optim(blr=rate, lr_scale_rule="none", batch=16, epochs=3, warmup=0, clip_grad=1.0),
        )
        job = build_align(made, Context(World(CPU)))
        seen: list[float] = []
        watched = engine.Job(
            **{
                **vars(job),
                "after_step": [
                    *job.after_step,
                    lambda: seen.append(job.module.get_parameter("tau.log_tau").exp().item()),
                ],
            }  # type: ignore[operator]
        )
        engine.fit(watched, World(CPU))
        assert len(seen) == 12
        assert all(tau == seen[0] for tau in seen) == (rate == 50.0)
        assert all(0.1 * (1 - 1e-6) <= tau <= 0.3 * (1 + 1e-6) for tau in seen)

    def test_killed_and_resumed_it_is_the_same_to_the_bit(
        self, crops: Path, poses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In every stage, with augmentation and dropout, counted in iterations and stopped within a pass."""
        fit(recipe(poses), tmp_path / "poses")
        optim = Optim(
            blr=2e-3, lr_scale_rule="none", batch=4, epochs=9, iterations=4, warmup=1, weight_decay=0.0
        )
        for stage, decoder in (("poses", "mlp"), ("image", "mlp"), ("all", "diffusion")):
            made = recipe(
                crops,
                stage,
                optim=optim,
                epoch_steps=2,
                augment=PairAugment(flip=0.5, noise2d=0.01),
                model=SMALL.model_copy(update={"decoder": decoder}),
                init=Init(weights=str(tmp_path / "poses")),
                evaluation=PairEvaluation(every=8),
            )
            fit(made, tmp_path / stage / "whole")
            stopped = tmp_path / stage / "stopped"
            steps = 0

            def stop(run: Any, flag: Any) -> bool:
                nonlocal steps
                steps += 1
                return steps == 2

            with monkeypatch.context() as patch:
                patch.setattr(engine._Run, "must_stop", stop)
                assert fit(made, stopped).interrupted
            assert not fit(made, stopped, resume=True).interrupted
            one, other = (
                load_checkpoint(p / "checkpoints" / "last.pt") for p in (tmp_path / stage / "whole", stopped)
            )
            for key, value in one["model"].items():
                assert torch.equal(value, other["model"][key]), (stage, key)


def overfit(
    crops: Path, out: Path, steps: tuple[int, int], frames: int, side: tuple[int, int], depth: int = 1
) -> dict[str, float]:
    """Train the stages ``poses`` and ``all`` on a handful of frames, and look for each among them."""
    towers = Towers(
        width=64, depth=depth, heads=4, image="hrnet_w18_small", dropout=0.0, decoder="mlp", hidden=64
    )
    made = recipe(
        crops,
        data=PairData(store=str(crops), image_size=side, keep=True),
        model=towers,
        optim=counted(steps[0], frames),
        epoch_steps=steps[0],
    )
    fit(made, out / "poses")
    made = recipe(
        crops,
        "all",
        data=made.data,
        model=towers,
        optim=counted(steps[1], frames),
        epoch_steps=steps[1],
        init=Init(weights=str(out / "poses")),
    )
    return dict(fit(made, out / "all").metrics)


def counted(iterations: int, batch: int) -> Optim:
    return Optim(
        blr=1e-3, lr_scale_rule="none", batch=batch, epochs=1, iterations=iterations, warmup=0, weight_decay=0
    )


SIX = [
    f"{one}-{other} at 1"
    for one in ("image", "pose2d", "pose3d")
    for other in ("image", "pose2d", "pose3d")
    if one != other
]


@pytest.mark.slow
def test_sixteen_frames_are_found_in_all_six_directions(tmp_path: Path) -> None:
    metrics = overfit(write_figures(tmp_path, 2, 8), tmp_path, (100, 60), 16, (64, 64))
    assert {name: metrics[name] for name in SIX} == dict.fromkeys(SIX, 1.0)


@pytest.mark.slow
def test_sixty_four_frames_are_found_in_all_six_directions(tmp_path: Path) -> None:
    metrics = overfit(write_figures(tmp_path, 4, 16), tmp_path, (200, 80), 64, (64, 64), depth=2)
    assert {name: metrics[name] for name in SIX} == dict.fromkeys(SIX, 1.0)


class TestBadInput:
    def test_a_batch_of_one(self) -> None:
        with pytest.raises(RecipeError, match="at least 2: one frame alone has no negatives"):
            read_recipe("task: align\noptim: {batch: 1}", "x.yaml", AlignRecipe)
        with pytest.raises(RecipeError, match=r"optim\.accum above 1, expected 1"):
            read_recipe("task: align\noptim: {accum: 2}", "x.yaml", AlignRecipe)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("loss: {tau: 0.01, tau_low: 0.1}", "temperature 0.01 outside of 0.1 to 10000"),
            ("data: {image_size: [64, 48]}", "expected multiples of 32"),
            ("stage: image\nmodel: {image: null}", "stage image without model.image"),
        ],
    )
    def test_settings_that_no_recipe_can_have(self, text: str, words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            read_recipe(f"task: align\n{text}", "x.yaml", AlignRecipe)

    def test_poses_in_the_axes_of_a_room(self, tmp_path: Path) -> None:
        store = write_figures(tmp_path, 2, 16, pictures=False, world=True)
        with pytest.raises(DataError, match="in the axes of the camera that took the picture"):
            open_pairs(StoreData(store=str(store)), CPU, picture=SIZE)

    def test_every_joint_missing(self, tmp_path: Path) -> None:
        store = write_figures(tmp_path, 2, 2, pictures=False, lose=slice(None))
        pairs = StoreData(store=str(store))
        with pytest.raises(DataError, match="none with a joint in pose2d and in pose3d"):
            open_pairs(pairs, CPU, picture=SIZE)

    def test_what_a_stage_lacks(self, poses: Path, crops: Path, tmp_path: Path) -> None:
        cases: list[tuple[AlignRecipe, str]] = [
            (recipe(crops, "image"), "stage image without the towers of poses"),
            (recipe(poses, "all"), "found a store without pictures, expected a crop store for stage all"),
            (recipe(poses, data=PairData(store=str(poses))), "expected their width and height in pixels"),
            (recipe(poses, data=PairData()), "found no store"),
        ]
        for made, words in cases:
            with pytest.raises(SkelconvError, match=words):
                build_align(made, Context(World(CPU)))
        with pytest.raises(DeviceError, match="found 9 processes for batches of 16"):
            build_align(recipe(poses), Context(World(CPU, 0, 9)))

    def test_towers_of_another_size_or_layout(self, poses: Path, tmp_path: Path) -> None:
        fit(recipe(poses, optim=Optim(batch=32, epochs=1, warmup=0)), tmp_path / "run")
        init = Init(weights=str(tmp_path / "run"))
        wide = recipe(poses, init=init, model=SMALL.model_copy(update={"width": 64}))
        with pytest.raises(SkelconvError, match="found a pose2d of another size"):
            build_align(wide, Context(World(CPU)))

    def test_a_damaged_crop(self, tmp_path: Path) -> None:
        crops = write_figures(tmp_path, 1, 2)
        pairs = open_pairs(StoreData(store=str(crops)), CPU)
        assert pairs.crops is not None
        images = CropImages(pairs.crops, (64, 64), CPU)
        pairs.crops.jpeg = lambda number: b"no picture"  # type: ignore[method-assign]
        with pytest.raises(DataError, match="found crop 1 that cannot be decoded"):
            images(np.array([1]))


def test_embeddings_of_a_store_are_those_of_the_run(poses: Path, tmp_path: Path) -> None:
    fit(recipe(poses), tmp_path / "run")
    features, trained = embed_run(tmp_path / "run", str(poses), "cpu")
    assert features.feature.shape == (64, 32)
    assert features.attributes["modality"] == "pose3d"
    assert features.table["sequence"].nunique() == 4
    assert trained.metadata["task"] == TASK.name


@pytest.fixture(scope="module")
def gallery(poses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gallery")
    fit(recipe(poses), root / "run")
    features, trained = embed_run(root / "run", str(poses), "cpu")
    write_features(root / "gallery.zarr", features, trained, "embed")
    return root / "gallery.zarr"


class TestSearch:
    def test_a_pose_of_the_gallery_is_its_own_nearest(
        self, gallery: Path, poses: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [
            "search",
            str(gallery),
            "--pose",
            str(poses),
            "--row",
            "take2_b0",
            "--frame",
            "5",
            "--k",
            "3",
        ]
        with pytest.raises(SystemExit) as done:
            cli.main(words, standalone_mode=True)
        assert done.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4
        assert lines[0].split() == ["rank", "cosine", "sequence", "frame"]
        assert lines[1].split() == ["1", "1.0000", "take2_b0", "5"]

    def test_a_2d_pose_is_looked_for_among_3d_ones(self, gallery: Path, poses: Path) -> None:
        found = search(
            open_gallery(gallery), PoseQuery(str(poses), "take1_b0", None, "pose2d", SIZE), 64
        ).table
        assert len(found) == 64
        assert found["cosine"].is_monotonic_decreasing
        assert found["cosine"].iloc[0] < 1 - 1e-4
        assert set(map(tuple, found[["sequence", "frame_index"]].to_numpy())) == {
            (f"take{take}_b0", frame) for take in range(4) for frame in range(16)
        }

    def test_what_cannot_be_looked_for(self, gallery: Path, poses: Path, tmp_path: Path) -> None:
        opened = open_gallery(gallery)
        narrow = replace(opened, given={"feature": opened.feature[:, :16]})
        cases: list[tuple[Gallery, dict[str, Any], str]] = [
            (opened, {"row": "nobody"}, "no sequence with a pose named 'nobody'"),
            (
                opened,
                {"row": "take1_b0", "frame": 99},
                "found no pose in frame 99 of take1_b0, expected one of",
            ),
            (opened, {"row": "take1_b0", "k": 65}, "found k = 65 and a gallery of 64 rows"),
            (opened, {"row": "take1_b0", "by": "smell"}, "no way to embed a pose named 'smell'"),
            (narrow, {"row": "take1_b0"}, "of one width. Both must come from one model"),
            (replace(opened, model={"family": "align"}), {"row": "take1_b0"}, "with other settings than the"),
        ]
        for one, words, message in cases:
            k = words.pop("k", 10)
            with pytest.raises(SkelconvError, match=message):
                search(one, PoseQuery(str(poses), **words), k)
        with pytest.raises(SkelconvError, match="found no embeddings of poses"):
            open_gallery(poses)


def test_another_store_is_refused_by_a_run_that_goes_on(poses: Path, tmp_path: Path) -> None:
    fit(recipe(poses), tmp_path / "run")
    other = write_figures(tmp_path, 4, 8, pictures=False)
    with pytest.raises(SkelconvError, match="found a run on other data"):
        fit(recipe(other), tmp_path / "run", resume=True)


def test_the_papers_settings() -> None:
    """UniHPR, section IV-B: batches, rates, first temperature and its lower bound."""
    found = []
    for step in (1, 2, 3):
        made = load_recipe(f"unihpr_step{step}", AlignRecipe)
        loss = made.loss
        found.append((made.stage, made.optim.batch, made.optim.peak_lr, 1 / loss.tau, 1 / loss.tau_low))
        assert (loss.tau_high, loss.alpha, made.optim.weight_decay) == (1e4, 1.0, 0.0)
    expected = [
        ("poses", 2048, 1e-4, 14, 100),
        ("image", 180, 1e-4, 5, 10),
        ("all", 180, 1e-4, 5, 5),
    ]
    for one, other in zip(found, expected, strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:])
