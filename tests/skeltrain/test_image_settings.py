"""Rectangles and several streams, from the recipe to the images, the model and what comes after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.images import Images
from skeltrain.data.samples import open_samples
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.registry import load_model
from skeltrain.recipe import Optim
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.sections import ImageData
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from tests.skeltrain.test_engine import change

CPU = torch.device("cpu")
PROBE = ProbeRecipe(
    device="cpu", optim=Optim(name="sgd", blr=1.0, batch=8, weight_decay=0, epochs=2, warmup=0)
)


@pytest.fixture
def rectangle(tiny_recipe: PretrainRecipe) -> PretrainRecipe:
    """A patch column a body part."""
    return change(
        tiny_recipe,
        data={"image_size": (40, 20)},
        model={"patch_size": (8, 4), "attention": "auto"},
        optim=tiny_recipe.optim.model_copy(update={"epochs": 1, "warmup": 0}),
    )


def test_rectangles_are_pretrained_on_probed_and_loaded(rectangle: PretrainRecipe, tmp_path: Path) -> None:
    run_recipe(rectangle, out=tmp_path)
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    model = load_model(checkpoint)
    assert isinstance(model, MaskedAutoencoder)
    assert model.grid == (5, 5)
    assert type(model.encoder.blocks[0].attn).__name__ == "RuledAttention"
    assert checkpoint["metadata"]["data"][0]["plan"]["size"] == [40, 20]
    assert 0 < evaluate_run(tmp_path)["reconstruction"].metrics["test_loss"]
    assert run_probe(PROBE, tmp_path)["encoders"]["trained"]["mean"]["top1"] > 0


def test_a_rectangle_is_interpolated_along_each_axis(tiny_store: Path) -> None:
    """Against the plan's weights in double precision."""
    samples = open_samples(ImageData(store=str(tiny_store)), CPU)
    made = Images([samples], ImageData(image_size=(8, 50)))
    index = np.array([4])
    position = samples.gather(index).position.double().numpy()
    plan = made.sets[0].plan
    (low, high, weight), (left, right, share) = plan.weights_time(len(position)), plan.weights_joint()
    rows = position[low] * (1 - weight)[:, None, None] + position[high] * weight[:, None, None]
    ordered = rows[:, list(plan.order)]
    expected = ordered[:, left] * (1 - share)[:, None] + ordered[:, right] * share[:, None]
    np.testing.assert_allclose(made.images(index)[0].permute(1, 2, 0), expected, atol=1e-5)
