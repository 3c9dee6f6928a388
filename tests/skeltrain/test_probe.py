"""The linear probe: a frozen encoder, a trained head, and accuracies that say what they count."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.collate import ImageCollator
from skeltrain.data.features import FeatureBatch, FeatureCollator, compute_features
from skeltrain.data.images import Normalise
from skeltrain.data.loader import DataError, SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.distributed import DeviceError, World
from skeltrain.metrics.classification import group_mean, mean_class, nearest_neighbour, top1
from skeltrain.models.classifier import LinearProbe
from skeltrain.recipe import Optim
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import Augment
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.pretrain import PretrainRecipe, build_pretraining
from skeltrain.tasks.probe import (
    Head,
    ProbeData,
    ProbeRecipe,
    ProbeTask,
    load_encoder,
    random_encoder,
)
from skeltrain.tasks.probe_report import describe_probe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context

CPU = torch.device("cpu")
QUICK = ProbeRecipe(
    device="cpu", optim=Optim(name="sgd", blr=4.0, batch=8, weight_decay=0.0, epochs=30, warmup=2)
)


@pytest.fixture(scope="module")
def pretrained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short pretraining run."""
    from skeltrain.recipe import Log
    from skeltrain.sections import ImageData
    from skeltrain.tasks.pretrain import Model
    from tests.skeltrain.conftest import AUGMENT

    recipe = PretrainRecipe(
        data=ImageData(store=str(tiny_store), protocol="half", image_size=32),
        augment=AUGMENT,
        model=Model(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2, decoder_dim=16),
        optim=Optim(blr=5e-2, batch=8, epochs=6, warmup=1),
        device="cpu",
        log=Log(every=10, tensorboard=False),
    )
    out = tmp_path_factory.mktemp("runs") / "tiny"
    run_recipe(recipe, build_pretraining, out)
    return out


@pytest.fixture
def report(pretrained: Path, tmp_path: Path) -> dict[str, Any]:
    recipe = QUICK.model_copy(update={"seeds": (0, 1), "untrained": True})
    return run_probe(recipe, pretrained, tmp_path)


def test_a_report_says_what_was_measured(report: dict[str, Any], tmp_path: Path, pretrained: Path) -> None:
    assert orjson.loads((tmp_path / "probe.json").read_bytes()) == orjson.loads(orjson.dumps(report))
    data = report["data"]
    assert (data["train_samples"], data["test_samples"], data["leaked"], data["classes"]) == (32, 17, 1, 3)
    assert data["chance"] == pytest.approx(1 / 3)
    assert data["majority"] == pytest.approx(6 / 17)
    assert (data["protocol"], data["persons"], data["stream"]) == ("half", "interleave", "joint")
    assert report["checkpoint"] == str(RunFolder(pretrained).last)
    assert report["pretrained_epochs"] == 6
    assert report["recipe"]["optim"]["blr"] == 4.0
    assert set(report["machine"]) >= {"device", "cores", "processor"}
    assert report["seconds"] > 0
    assert set(report["versions"]) >= {"torch", "timm"}


def test_scores_of_every_seed_their_mean_and_spread(report: dict[str, Any], tmp_path: Path) -> None:
    for arm in ("trained", "untrained"):
        encoder = report["encoders"][arm]
        assert [seed["seed"] for seed in encoder["seeds"]] == [0, 1]
        for name in ("top1", "top1_best", "mean_class", "top1_without_leaked", "knn_top1"):
            scores = [seed[name] for seed in encoder["seeds"]]
            assert all(0 <= score <= 1 for score in scores)
            assert encoder["mean"][name] == pytest.approx(np.mean(scores))
            assert encoder["std"][name] == pytest.approx(np.std(scores, ddof=1))
        for seed in encoder["seeds"]:
            assert seed["top1_best"] >= seed["top1"]
            with (tmp_path / "probe" / f"{arm}_seed{seed['seed']}.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == 30
            assert float(rows[-1]["top1"]) == pytest.approx(seed["top1"])
            assert max(float(row["top1"]) for row in rows) == pytest.approx(seed["top1_best"])
    left, right = (seed["loss"] for seed in report["encoders"]["untrained"]["seeds"])
    assert left != right, "every seed has its own random encoder"


def test_the_probe_learns(report: dict[str, Any]) -> None:
    assert report["encoders"]["trained"]["mean"]["top1"] > 0.6


def test_the_table_shows_every_accuracy(report: dict[str, Any]) -> None:
    text = describe_probe(report)
    trained = report["encoders"]["trained"]
    assert f"{100 * trained['mean']['top1']:.2f} ± {100 * trained['std']['top1']:.2f}" in text
    for line in (
        "top-1 without leaked",
        "mean per class",
        "nearest neighbour",
        "chance",
        "untrained",
        "2 seeds",
    ):
        assert line in text
    assert "33.33" in text


def test_one_seed_has_no_spread(pretrained: Path, tmp_path: Path) -> None:
    report = run_probe(QUICK, pretrained, tmp_path)
    assert set(report["encoders"]) == {"trained"}
    assert report["encoders"]["trained"]["std"]["top1"] is None
    assert "±" not in describe_probe(report)


def test_the_report_lies_in_the_run_folder_by_default(pretrained: Path) -> None:
    run_probe(QUICK, RunFolder(pretrained).checkpoints / "best.pt")
    assert (pretrained / "probe.json").exists()


# Features at hand


def test_features_at_hand_train_the_same_head_as_images(pretrained: Path, tiny_store: Path) -> None:
    """Without augmentation a frozen encoder in evaluation mode gives the same features in every epoch."""
    checkpoint = load_checkpoint(RunFolder(pretrained).last)
    parent = PretrainRecipe.model_validate(checkpoint["metadata"]["recipe"])
    source = open_images(parent.data, Context(World(CPU), checkpoint))
    images, index = source.images, source.part("train")
    task = ProbeTask(LinearProbe(load_encoder(checkpoint), 3)).train()
    normalise = Normalise(source.statistics, CPU)
    features = compute_features(task.model.encoder, "token", images, normalise, index, "fp32")
    at_hand = SampleLoader(
        EpochSampler(np.arange(len(index)), 8, seed=4), FeatureCollator(features, images.labels(index))
    )
    encoded = SampleLoader(
        EpochSampler(index, 8, seed=4), ImageCollator(images, source.statistics, Augment())
    )
    for epoch in range(2):
        for left, right in zip(at_hand.epoch(epoch), encoded.epoch(epoch), strict=True):
            assert isinstance(left, FeatureBatch)
            assert left.label.tolist() == right.label.tolist()
            torch.testing.assert_close(task(left)["loss"], task(right)["loss"])


def test_an_augmented_probe_encodes_anew(pretrained: Path, tmp_path: Path) -> None:
    turning = QUICK.model_copy(update={"augment": Augment(rotate=(1.0, 1.0, 1.0))})
    still, turned = (
        run_probe(recipe, pretrained, tmp_path / n) for n, recipe in (("a", QUICK), ("b", turning))
    )
    losses = [report["encoders"]["trained"]["mean"]["loss"] for report in (still, turned)]
    assert losses[1] > losses[0]


def test_the_encoder_stays_as_it_was(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skeltrain.tasks import probe_seeds as module

    seen = []

    def remember(*given: Any) -> Any:
        seen.append(load_encoder(*given))
        return seen[-1]

    monkeypatch.setattr(module, "load_encoder", remember)
    run_probe(QUICK.model_copy(update={"augment": Augment(noise=0.1)}), pretrained, tmp_path)
    checkpoint = load_checkpoint(RunFolder(pretrained).last)
    for name, value in seen[0].state_dict().items():
        assert torch.equal(value, checkpoint["model"][f"model.encoder.{name}"]), name


def test_random_encoders_follow_their_seed(pretrained: Path) -> None:
    parent = load_checkpoint(RunFolder(pretrained).last)
    first, again, other = (random_encoder(parent, seed).blocks[0].attn.qkv.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Data


def test_persons_apart_are_answered_for_together(pretrained: Path, tmp_path: Path) -> None:
    """A recording's label is decided once, from the mean over its people."""
    recipe = QUICK.model_copy(update={"data": ProbeData(persons="separate")})
    report = run_probe(recipe, pretrained, tmp_path)
    assert report["data"]["train_samples"] == 32 + 8
    assert report["data"]["test_samples"] == 17


@pytest.mark.parametrize("head", [Head(pooling="avg"), Head(bn=False)])
def test_other_heads(pretrained: Path, tmp_path: Path, head: Head) -> None:
    report = run_probe(QUICK.model_copy(update={"head": head}), pretrained, tmp_path)
    assert report["encoders"]["trained"]["mean"]["top1"] > 1 / 3


def test_a_store_of_another_layout_can_be_remapped(pretrained: Path, tmp_path: Path) -> None:
    """NTU's joints cannot be made of UCLA's: the message names those that lack."""
    from skelformats.skeleton import SkeletonError
    from tests.skeltrain.conftest import make_dataset, write_tiny

    store = write_tiny(tmp_path / "other.zarr", 12, make_dataset("other", "ucla20"))
    recipe = QUICK.model_copy(update={"data": ProbeData(store=str(store), format="model")})
    with pytest.raises(SkeletonError, match=r"ucla20 cannot be remapped to ntu25.*left_thumb"):
        run_probe(recipe, pretrained, tmp_path)


def test_without_labels_there_is_no_probe(pretrained: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from skelconv.store.info import Provenance
    from skelconv.store.writer import write_store
    from tests.skeltrain.conftest import make_clips, make_dataset

    clips = [(source, replace(clip, label=-1)) for source, clip in make_clips(6)]
    write_store(tmp_path / "bare.zarr", make_dataset(), clips, Provenance(tool="", command=""))
    recipe = QUICK.model_copy(update={"data": ProbeData(store=str(tmp_path / "bare.zarr"))})
    with pytest.raises(DataError, match=r"no labels in part 'train'"):
        run_probe(recipe, pretrained, tmp_path)


def test_without_a_protocol_there_is_no_probe(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    whole = tiny_recipe.model_copy(
        update={
            "data": tiny_recipe.data.model_copy(update={"protocol": None}),
            "optim": tiny_recipe.optim.model_copy(update={"epochs": 1}),
        }
    )
    run_recipe(whole, build_pretraining, tmp_path)
    with pytest.raises(RunError, match=r"--set data\.protocol=NAME"):
        run_probe(QUICK, tmp_path)


def test_a_probe_runs_in_one_process(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="without torchrun"):
        run_probe(QUICK, pretrained)


# Metrics


def test_accuracies() -> None:
    label = torch.tensor([0, 0, 0, 2])
    prediction = torch.tensor([0, 0, 1, 2])
    assert top1(prediction, label) == 0.75
    assert mean_class(prediction, label) == pytest.approx((2 / 3 + 1) / 2), "class 1 does not occur"


def test_the_nearest_neighbour_is_that_of_smallest_angle() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 10.0], [-1.0, -1.0]])
    test = torch.tensor([[9.0, 1.0], [0.1, 0.2], [-5.0, -4.0], [-1.0, 3.0]])
    found = nearest_neighbour(train, torch.tensor([7, 8, 9]), test, chunk=3)
    assert found.tolist() == [7, 8, 9, 8]


def test_means_over_groups() -> None:
    values = torch.tensor([[1.0], [3.0], [5.0]])
    assert group_mean(values, torch.tensor([1, 0, 1]), 2).tolist() == [[3.0], [3.0]]
