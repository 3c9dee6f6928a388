"""Every objective of pretraining: masked pixels, denoising, features; resumed, divided, and used alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import World
from skeltrain.models.diffmae import DiffusionMAE
from skeltrain.models.feature_prediction import FeaturePredictor
from skeltrain.models.registry import load_backbone, load_model
from skeltrain.recipe import Optim
from skeltrain.recipe_file import RecipeError, read_recipe, to_yaml
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.finetune import FinetuneRecipe, StartingEncoder, build_finetuning
from skeltrain.tasks.pretrain import PretrainRecipe, build_pretraining
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context
from tests.skeltrain.test_distributed import torchrun
from tests.skeltrain.test_engine import change, curve, cut_at, same

WORLD = World(torch.device("cpu"))
DIFFMAE = {"objective": "diffmae", "decoder": "cross", "rho": 0.8, "steps": 50}
FEATURES = {"objective": "features", "masking": "tube", "momentum": 0.9, "decoder_depth": None}
OBJECTIVES = {
    "diffmae": (DIFFMAE, DiffusionMAE),
    "features": (FEATURES, FeaturePredictor),
    "predictor": ({**FEATURES, "predictor_depth": 1}, FeaturePredictor),
}


def of(recipe: PretrainRecipe, name: str) -> PretrainRecipe:
    return change(recipe, model=OBJECTIVES[name][0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_killed_and_resumed_it_is_the_same_bit_for_bit(
    tiny_recipe: PretrainRecipe, tmp_path: Path, name: str
) -> None:
    """In the middle of an epoch and at its end; then the model is evaluated, probed and loaded."""
    recipe = of(tiny_recipe, name)
    run_recipe(recipe, out=tmp_path / "whole")
    for at in (2, 1):
        assert run_recipe(recipe, cut_at(at), tmp_path / "cut", resume=True).interrupted
    assert not run_recipe(recipe, out=tmp_path / "cut", resume=True).interrupted
    whole, cut = (load_checkpoint(RunFolder(tmp_path / one).last) for one in ("whole", "cut"))
    assert same(whole["model"], cut["model"])
    assert same(whole["optimizer"], cut["optimizer"])
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")
    assert isinstance(load_model(cut), OBJECTIVES[name][1])
    assert same(load_backbone(cut).state_dict(), load_model(cut).encoder.state_dict())
    assert math.isfinite(evaluate_run(tmp_path / "cut")["reconstruction"].metrics["test_loss"])
    optim = Optim(name="sgd", blr=1.0, batch=8, weight_decay=0, epochs=2, warmup=0)
    report = run_probe(ProbeRecipe(device="cpu", optim=optim), tmp_path / "cut")
    assert 0 < report["encoders"]["trained"]["mean"]["top1"] <= 1
    tuned = FinetuneRecipe(encoder=StartingEncoder(run=str(tmp_path / "cut")))
    started = build_finetuning(tuned, Context(WORLD)).module.model.encoder
    assert same(started.state_dict(), load_backbone(cut).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffmae", "features"])
def test_two_processes_train_as_one_does(tiny_recipe: PretrainRecipe, tmp_path: Path, name: str) -> None:
    """Masks, noise, diffusion steps and the teacher's average are those of the whole step."""
    optim = tiny_recipe.optim.model_copy(update={"batch": 7, "accum": 2, "epochs": 2})
    recipe = change(of(tiny_recipe, name), optim=optim)
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe, "two"))
    run_recipe(recipe, out=tmp_path / "one")
    done = torchrun(2, path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert len(curve(tmp_path / "two")) == 10
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    one, two = (load_checkpoint(RunFolder(tmp_path / which).last)["model"] for which in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-3)


def test_the_teacher_follows_ever_more_slowly(tiny_recipe: PretrainRecipe) -> None:
    """Along half a cosine over the steps of the run (BYOL), whatever step a run went on from."""
    job = build_pretraining(of(tiny_recipe, "features"), Context(WORLD))
    (hook,) = job.after_step
    model = job.module.model
    assert isinstance(model, FeaturePredictor)
    with torch.no_grad():
        for value in model.encoder.parameters():
            value.fill_(1.0)
    for epoch, step, done in ((0, 0, 0), (1, 1, 5), (2, 3, 11)):
        with torch.no_grad():
            for value in model.teacher.parameters():
                value.zero_()
        job.module.place = (epoch, step)
        hook()
        moved = 0.1 * (math.cos(math.pi * done / 12) + 1) / 2
        assert model.teacher.norm.weight[0].item() == pytest.approx(moved, abs=1e-6)


def test_a_batch_leaves_its_place_for_the_teacher(tiny_recipe: PretrainRecipe) -> None:
    job = build_pretraining(of(tiny_recipe, "features"), Context(WORLD))
    batch = list(job.loader.epoch(1))[2]
    values = job.module(batch)
    assert job.module.place == (1, 2)
    assert set(values) == {"loss", "spread"}


def test_noise_of_a_sample_does_not_depend_on_its_part(tiny_recipe: PretrainRecipe) -> None:
    job = build_pretraining(of(tiny_recipe, "diffmae"), Context(WORLD))
    batch = next(job.loader.epoch(0))
    whole = job.module.eval()(batch)["loss"]
    parts = []
    for part in (slice(0, 4), slice(4, 8)):
        micro = MicroBatch(batch.micro.index, part)
        own = type(batch)(batch.image[part], batch.label[part], batch.index[part], micro)
        parts.append(job.module(own)["loss"])
    torch.testing.assert_close(whole, torch.stack(parts).mean())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{rho: 0.8}", r"model: found rho with the objective mae, expected it with diffmae"),
        ("{objective: diffmae, momentum: 0.9}", r"found momentum with the objective diffmae"),
        (
            "{objective: features, norm_pix_loss: true}",
            r"neither pixels nor a decoder; set model.predictor_depth",
        ),
        ("{objective: gan}", r"model\.objective: found 'gan', expected 'mae', 'diffmae' or 'features'"),
    ],
)
def test_settings_of_another_objective_are_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(f"model: {text}", "my.yaml", PretrainRecipe)


def test_a_recipe_starts_from_the_weights_of_another_objective(
    tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    """DiffMAE from MAE, as the paper starts; features from MAE, student and teacher alike."""
    short: dict[str, Any] = {"optim": tiny_recipe.optim.model_copy(update={"epochs": 1})}
    run_recipe(change(tiny_recipe, **short), out=tmp_path)
    mae = load_checkpoint(RunFolder(tmp_path).last)
    for name in ("diffmae", "features"):
        recipe = change(of(tiny_recipe, name), init={"weights": str(RunFolder(tmp_path).last)})
        lines: list[str] = []
        model = build_pretraining(recipe, Context(WORLD, log=lines.append)).module.model
        assert same(model.encoder.state_dict(), load_backbone(mae).state_dict())
        assert any("encoder: " in line and "tensors loaded" in line for line in lines)
        if isinstance(model, FeaturePredictor):
            assert same(model.teacher.state_dict(), model.encoder.state_dict())
