"""Fine-tuning: everything is trained, under few labels, on other layouts, from scratch, resumed and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from skelconv.cli.command import run
from skelformats.skeleton import SkeletonError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.data.collate import ImageBatch
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import World
from skeltrain.models.classifier import Classifier, build_classifier
from skeltrain.models.encoder import build_encoder, set_drop_path
from skeltrain.models.errors import ModelError
from skeltrain.models.registry import load_model
from skeltrain.recipe import Log, Optim
from skeltrain.recipe_file import Override, to_yaml
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import Augment, ImageData
from skeltrain.tasks.finetune import (
    FinetuneData,
    FinetuneRecipe,
    FinetuneTask,
    Labels,
    Network,
    StartingEncoder,
    Tuning,
    build_finetuning,
    pick_labels,
)
from skeltrain.tasks.finetune_seeds import run_finetuning
from skeltrain.tasks.labelled import load_encoder
from skeltrain.tasks.pretrain import Model, PretrainRecipe
from skeltrain.tasks.probe import ProbeData, ProbeRecipe
from skeltrain.tasks.probe_report import describe_finetuning
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context
from tests.skeltrain.conftest import AUGMENT, make_dataset, write_tiny
from tests.skeltrain.test_engine import Cut, curve, same
from tests.skeltrain.test_use import launch

WORLD = World(torch.device("cpu"))
NETWORK = Network(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2)
OPTIM = Optim(blr=0.1, batch=8, betas=(0.9, 0.999), epochs=25, warmup=1)


@pytest.fixture(scope="module")
def pretrained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = PretrainRecipe(
        data=ImageData(store=str(tiny_store), protocol="half", image_size=32),
        augment=AUGMENT,
        model=Model(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2, decoder_dim=16),
        optim=Optim(blr=5e-2, batch=8, epochs=2, warmup=1),
        device="cpu",
        log=Log(every=10, tensorboard=False),
    )
    out = tmp_path_factory.mktemp("finetune") / "pretrained"
    run_recipe(recipe, out=out)
    return out


@pytest.fixture
def recipe(pretrained: Path) -> FinetuneRecipe:
    return FinetuneRecipe(
        encoder=StartingEncoder(run=str(pretrained)),
        augment=Augment(flip=0.5, crop=(0.7, 1.0)),
        optim=OPTIM,
        device="cpu",
        log=Log(every=10, tensorboard=False),
    )


def scratch(store: Path, **data: Any) -> FinetuneRecipe:
    return FinetuneRecipe(
        model=NETWORK,
        data=FinetuneData(store=str(store), protocol="half", image_size=32, **data),
        optim=OPTIM,
        device="cpu",
        log=Log(every=10, tensorboard=False),
    )


def skeltrain(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_fine_tuned_run_is_trained_evaluated_predicted_with_and_embedded(
    recipe: FinetuneRecipe, tiny_store: Path, tmp_path: Path, pretrained: Path
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(to_yaml(recipe, "finetune"))
    assert skeltrain("train", path, "--out", out) == 0
    found = json.loads((out / "evaluation.json").read_text())["test"]
    assert found["top1"] > 0.6
    assert {"mean_class", "top1_without_leaked"} <= set(found)
    before = (out / "evaluation.json").read_bytes()
    assert skeltrain("evaluate", out, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "evaluation.json").read_bytes() == before
    with np.load(RunFolder(out).predictions("test"), allow_pickle=False) as kept:
        assert kept["leaked"].sum() == 1
        assert (kept["logits"].argmax(axis=1) == kept["label"]).mean() == pytest.approx(found["top1"])
    new = write_tiny(tmp_path / "new.zarr", 12, make_dataset("new"))
    assert skeltrain("predict", out, new, tmp_path / "labels.csv", "--device", "cpu") == 0
    assert (pd.read_csv(tmp_path / "labels.csv")["label"] == [n % 3 for n in range(11)] + [0]).mean() > 0.6
    assert skeltrain("embed", out, tiny_store, tmp_path / "features.zarr", "--device", "cpu") == 0
    assert xr.open_zarr(tmp_path / "features.zarr")["feature"].shape == (49, 32)
    content = load_checkpoint(RunFolder(out).last)
    start = load_checkpoint(RunFolder(pretrained).last)
    moved = [
        not torch.equal(value, content["model"][name])
        for name, value in start["model"].items()
        if name.startswith("model.encoder.")
    ]
    assert all(moved), "every tensor of the encoder is trained, positions too"
    assert content["metadata"]["statistics"] == start["metadata"]["statistics"]
    assert content["metadata"]["labelled"] == {"used": 32, "of": 32}


def test_it_starts_from_the_encoder_and_learns_by_layers(recipe: FinetuneRecipe, pretrained: Path) -> None:
    job = build_finetuning(recipe, Context(WORLD))
    classifier = job.module.model
    assert isinstance(classifier, Classifier)
    start = load_encoder(load_checkpoint(RunFolder(pretrained).last))
    assert same(start.state_dict(), classifier.encoder.state_dict())
    rates = {name: group["lr_scale"] for group in job.optimizer.param_groups for name in group["names"]}
    assert rates["head.weight"] == rates["encoder.norm.weight"] == 1
    assert rates["encoder.blocks.0.attn.qkv.weight"] == pytest.approx(0.75**2)
    assert rates["encoder.pos_embed"] == pytest.approx(0.75**3)
    assert all(group["betas"] == (0.9, 0.999) for group in job.optimizer.param_groups)
    drops = [block.drop_path1 for block in classifier.encoder.blocks]
    assert drops[1].drop_prob == pytest.approx(0.1)
    dropping = recipe.model_copy(update={"tuning": Tuning(patch_drop=0.3)})
    assert build_finetuning(dropping, Context(WORLD)).module.model.patch_drop == 0.3
    random = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"random": True})})
    fresh = build_finetuning(random, Context(WORLD)).module.model.encoder
    assert not torch.equal(fresh.blocks[0].attn.qkv.weight, start.blocks[0].attn.qkv.weight)


def test_drop_path_is_that_of_the_encoders_own_option() -> None:
    settings: dict[str, Any] = {"image_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 3, "num_heads": 2}
    built, changed = build_encoder(**settings, drop_path=0.3), build_encoder(**settings)
    set_drop_path(changed, 0.3)
    assert repr(built) == repr(changed)
    set_drop_path(changed, 0.0)
    assert repr(changed) == repr(build_encoder(**settings))
    with pytest.raises(ModelError, match="drop path"):
        set_drop_path(changed, 1.0)


@pytest.mark.parametrize("at", [3, 9])
def test_killed_and_resumed_it_is_the_same_bit_for_bit(
    recipe: FinetuneRecipe, tmp_path: Path, at: int
) -> None:
    """Drop path and dropped patches draw from the process's own random numbers, mixup from the step's."""
    tuning = Tuning(pooling="avg", drop_path=0.3, patch_drop=0.3, label_smoothing=0.1, mixup=0.4)
    short = recipe.model_copy(
        update={"tuning": tuning, "optim": OPTIM.model_copy(update={"epochs": 3}), "log": Log(every=1)}
    )

    def cut(*given: Any) -> Any:
        job = build_finetuning(*given)
        return replace(job, loader=Cut(job.loader, at))

    run_recipe(short, out=tmp_path / "whole")
    assert run_recipe(short, cut, tmp_path / "cut").interrupted
    assert not run_recipe(short, out=tmp_path / "cut", resume=True).interrupted
    whole, again = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    assert same(whole["model"], again["model"])
    assert same(whole["optimizer"], again["optimizer"])
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")
    model = load_model(again)
    assert isinstance(model, Classifier)
    assert model.pool == "avg"


def test_label_smoothing_and_mixup_are_what_their_papers_say() -> None:
    config = {"preset": "vit_micro", "image_size": 16, "patch_size": 8, "depth": 1}
    model = build_classifier({"family": "vit", "config": config}, 3).eval()
    torch.nn.init.normal_(model.head.weight)
    image, label = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    batch = ImageBatch(image, label, label, MicroBatch(np.arange(4), slice(None), 5))
    target = torch.nn.functional.one_hot(label, 3).float()

    def cross(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return -(wanted * model(made).log_softmax(dim=1)).sum(dim=1).mean()

    plain = FinetuneTask(model, Tuning())(batch)
    torch.testing.assert_close(plain["loss"], cross(image, target))
    smooth = FinetuneTask(model, Tuning(label_smoothing=0.3))(batch)
    torch.testing.assert_close(smooth["loss"], cross(image, target * 0.7 + 0.1))
    mixing = FinetuneTask(model, Tuning(mixup=0.8))
    kept = mixing._share(batch)
    assert 0 < kept < 1
    mixed = cross(image * kept + image.flip(0) * (1 - kept), target * kept + target.flip(0) * (1 - kept))
    torch.testing.assert_close(mixing(batch)["loss"], mixed)
    assert set(mixing(batch)) == {"loss"}


@pytest.mark.slow
def test_two_processes_train_as_one_does(recipe: FinetuneRecipe, tmp_path: Path) -> None:
    """Drop path apart, which each process draws itself."""
    short = recipe.model_copy(
        update={
            "tuning": Tuning(drop_path=0.0),
            "optim": OPTIM.model_copy(update={"epochs": 2, "batch": 7}),
            "log": Log(every=1, tensorboard=False),
        }
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(short, "two"))
    run_recipe(short, out=tmp_path / "one")
    process = launch(path, tmp_path / "two", tmp_path)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)


# From scratch


def test_from_scratch_no_run_is_needed(tiny_store: Path, tmp_path: Path) -> None:
    recipe = scratch(tiny_store, stream=("joint", "motion"))
    outcome = run_recipe(recipe, out=tmp_path)
    assert outcome.evaluations["test"].metrics["top1"] > 0.6
    metadata = load_checkpoint(RunFolder(tmp_path).last)["metadata"]
    assert metadata["model"]["config"]["encoder"]["family"] == "vit"
    assert metadata["model"]["config"]["encoder"]["config"]["channels"] == 6
    assert metadata["statistics"]["samples"] == 32
    assert evaluate_run(tmp_path)["test"].metrics == outcome.evaluations["test"].metrics
    assert run_recipe(recipe, out=tmp_path, resume=True).progress.epoch == 25
    with pytest.raises(RunError, match=r"data\.image_size 16, expected 32"):
        evaluate_run(tmp_path, [Override(("data", "image_size"), 16)])
    other = write_tiny(tmp_path / "other.zarr", 30, make_dataset("other"))
    found = evaluate_run(tmp_path, [Override(("data", "store"), str(other))], tmp_path / "found")
    assert len(found["test"].predictions["label"]) == 10
    longer = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": str(other)})})
    with pytest.raises(RunError, match="run on other data"):
        run_recipe(longer, out=tmp_path, resume=True)


def test_weights_of_a_file_are_a_start_too(pretrained: Path, tiny_store: Path) -> None:
    checkpoint = RunFolder(pretrained).last
    named = scratch(tiny_store).model_copy(update={"encoder": StartingEncoder(weights=str(checkpoint))})
    lines: list[str] = []
    job = build_finetuning(named, Context(WORLD, log=lines.append))
    start = load_encoder(load_checkpoint(checkpoint))
    assert same(start.state_dict(), job.module.model.encoder.state_dict())
    assert any("tensors loaded" in line for line in lines)


def test_what_cannot_be_trained_is_said_before_anything_is(recipe: FinetuneRecipe, tiny_store: Path) -> None:
    for changed, message in (
        ({"encoder": StartingEncoder()}, "found no encoder to train"),
        ({"model": NETWORK}, "beside a section model"),
        ({"data": FinetuneData(image_size=16)}, r"data\.image_size 16, expected 32"),
        ({"data": FinetuneData(stream="bone")}, r"data\.stream 'bone', expected 'joint'"),
    ):
        with pytest.raises(RunError, match=message):
            build_finetuning(recipe.model_copy(update=changed), Context(WORLD))
    bare = FinetuneData(store=str(tiny_store))
    with pytest.raises(RunError, match=r"--set data\.protocol=NAME"):
        build_finetuning(scratch(tiny_store).model_copy(update={"data": bare}), Context(WORLD))
    absent = FinetuneData(store="absent.zarr", protocol="half", image_size=30)
    with pytest.raises(ModelError, match="tile the image"):
        build_finetuning(scratch(tiny_store).model_copy(update={"data": absent}), Context(WORLD))


# Few labels


def test_labels_are_picked_from_every_class() -> None:
    label = np.repeat([0, 1, 2, 5], [100, 50, 4, 1])
    picked = pick_labels(label, Labels(share=0.1), seed=0)
    assert np.bincount(label[picked]).tolist() == [10, 5, 1, 0, 0, 1], "at least one of each class"
    assert (np.diff(picked) > 0).all()
    assert np.array_equal(picked, pick_labels(label, Labels(share=0.1), seed=0))
    assert not np.array_equal(picked, pick_labels(label, Labels(share=0.1), seed=1))
    assert np.array_equal(picked, pick_labels(label, Labels(share=0.1, seed=0), seed=1))
    assert len(pick_labels(label, Labels(share=0.1, pick="uniform"), seed=0)) == 15
    assert len(pick_labels(label, Labels(), seed=0)) == len(label)


def test_only_the_picked_samples_are_trained_on(recipe: FinetuneRecipe) -> None:
    job = build_finetuning(recipe.model_copy(update={"labels": Labels(share=0.1)}), Context(WORLD))
    seen = {int(n) for epoch in range(2) for batch in job.loader.epoch(epoch) for n in batch.index}
    assert len(seen) == 3, "one of each class"
    assert job.metadata["labelled"] == {"used": 3, "of": 32}


# Other layouts


def test_an_encoder_of_25_joints_classifies_recordings_of_20(
    recipe: FinetuneRecipe, pretrained: Path, tmp_path: Path
) -> None:
    """S2I paper, Table 8: only the order of joints changes; every joint of the other layout is seen."""
    store = write_tiny(tmp_path / "other.zarr", 30, make_dataset("other", "ucla20"))
    moved = recipe.model_copy(update={"data": FinetuneData(store=str(store))})
    outcome = run_recipe(moved, out=tmp_path / "run")
    assert outcome.evaluations["test"].metrics["top1"] > 0.6
    metadata = load_checkpoint(RunFolder(tmp_path / "run").last)["metadata"]
    assert metadata["data"][0]["skeleton"]["name"] == "ucla20"
    assert len(metadata["data"][0]["plan"]["columns"]) == 20
    assert evaluate_run(tmp_path / "run")["test"].metrics == outcome.evaluations["test"].metrics
    assert skeltrain("predict", tmp_path / "run", store, tmp_path / "labels.csv") == 0
    probe = ProbeRecipe(
        device="cpu",
        data=ProbeData(store=str(store)),
        optim=Optim(name="sgd", blr=4.0, batch=8, weight_decay=0, epochs=30, warmup=2),
    )
    report = run_probe(probe, pretrained, tmp_path / "probe")
    assert report["data"]["format"] == "own"
    assert report["encoders"]["trained"]["mean"]["top1"] > 0.4
    forced = FinetuneData(store=str(store), format="model")
    with pytest.raises(SkeletonError, match="ucla20 cannot be remapped to ntu25"):
        build_finetuning(recipe.model_copy(update={"data": forced}), Context(WORLD))


# Several seeds


def test_several_seeds_beside_training_from_scratch(
    recipe: FinetuneRecipe, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "few.yaml", tmp_path / "many"
    short = recipe.model_copy(
        update={"encoder": StartingEncoder(), "optim": OPTIM.model_copy(update={"epochs": 2})}
    )
    path.write_text(to_yaml(short, "finetune"))
    words = ("finetune", pretrained, "--recipe", path, "--untrained", "--seeds", "0,1", "--out", out)
    assert skeltrain(*words) == 0
    shown = capsys.readouterr().out
    report = json.loads((out / "finetune.json").read_text())
    for arm in ("trained", "untrained"):
        encoder = report["encoders"][arm]
        scores = [seed["top1"] for seed in encoder["seeds"]]
        assert encoder["mean"]["top1"] == pytest.approx(np.mean(scores))
        assert encoder["std"]["top1"] == pytest.approx(np.std(scores, ddof=1))
        for seed, found in zip((0, 1), encoder["seeds"], strict=True):
            kept = json.loads((out / f"{arm}_seed{seed}" / "evaluation.json").read_text())["test"]
            assert (found["seed"], found["top1"]) == (seed, kept["top1"])
            assert found["top1_best"] >= found["top1"]
        mean, spread = 100 * encoder["mean"]["top1"], 100 * encoder["std"]["top1"]
        assert f"{mean:.2f} ± {spread:.2f}" in shown
    data = report["data"]
    assert (data["test_samples"], data["leaked"], data["classes"], data["protocol"]) == (17, 1, 3, "half")
    assert "fine-tuning, protocol half: 32 training and 17 test samples (1 leaked)" in shown
    assert skeltrain(*words) == 2, "the folders are taken"
    assert "Add --resume" in capsys.readouterr().err
    made = (out / "trained_seed0" / "checkpoints" / "last.pt").stat().st_mtime_ns
    again = run_finetuning(
        short.model_copy(update={"seeds": (0, 1), "untrained": True}), pretrained, out, resume=True
    )
    assert again is not None
    assert again["encoders"] == report["encoders"]
    assert (out / "trained_seed0" / "checkpoints" / "last.pt").stat().st_mtime_ns == made
    assert describe_finetuning(again) in shown
