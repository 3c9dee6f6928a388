"""Several stores of different layouts in one recipe: mixed in a batch, killed, resumed bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.images import Images
from skeltrain.data.mixture import Mixture
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.data.samples import open_samples
from skeltrain.distributed import World
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import ImageData
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.registry import Context
from tests.skeltrain.conftest import AUGMENT, make_dataset, write_tiny
from tests.skeltrain.test_engine import curve, cut_at, same

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen recordings of 20 joints, whose chain is NW-UCLA's."""
    path = tmp_path_factory.mktemp("other") / "other.zarr"
    return write_tiny(path, 13, make_dataset("ucla", "ucla20"))


@pytest.fixture
def data(tiny_store: Path, other_store: Path) -> ImageData:
    return ImageData(stores=[str(tiny_store), str(other_store)], protocol="half", image_size=32)


@pytest.fixture
def recipe(tiny_recipe: PretrainRecipe, data: ImageData) -> PretrainRecipe:
    return tiny_recipe.model_copy(update={"data": data})


def test_each_store_has_its_own_keys_and_those_of_the_section() -> None:
    data = ImageData.model_validate(
        {"protocol": "xsub", "stores": ["a.zarr", {"store": "b.zarr", "protocol": "xview", "clean": "ucla"}]}
    )
    assert [(one.store, one.protocol, one.clean) for one in data.each()] == [
        ("a.zarr", "xsub", "auto"),
        ("b.zarr", "xview", "ucla"),
    ]
    assert ImageData.model_validate(data.model_dump(mode="json")).each() == data.each()
    with pytest.raises(ValueError, match="both store and stores"):
        ImageData(store="a.zarr", stores=["b.zarr"])
    with pytest.raises(ValueError, match="statistics is 2"):
        ImageData(stores=["a.zarr", "b.zarr"], statistics=2)


def test_images_of_a_mixture_are_those_of_each_store(data: ImageData) -> None:
    sets = [open_samples(store, CPU) for store in data.each()]
    mixed = Images(sets, data)
    assert [one.skeleton.name for one in mixed.sets] == ["ntu25", "ucla20"]
    index = np.array([50, 3, 61, 3, 48, 49])
    expected = [
        mixed.sets[1].images(np.array([1]))[0],
        mixed.sets[0].images(np.array([3]))[0],
        mixed.sets[1].images(np.array([12]))[0],
        mixed.sets[0].images(np.array([3]))[0],
        mixed.sets[0].images(np.array([48]))[0],
        mixed.sets[1].images(np.array([0]))[0],
    ]
    torch.testing.assert_close(mixed.images(index), torch.stack(expected))
    assert len(Mixture(sets)) == 49 + 13


def test_augmentation_of_a_mixture_does_not_depend_on_how_a_step_is_divided(data: ImageData) -> None:
    mixed = Images([open_samples(store, CPU) for store in data.each()], data)
    alone: dict[int, torch.Tensor] = {}
    for micro in EpochSampler(np.arange(62), 16, seed=2).epoch(1):
        alone.update(zip(micro.own.tolist(), mixed.augmented(micro, AUGMENT), strict=True))
    seen = 0
    for rank in range(3):
        for micro in EpochSampler(np.arange(62), 16, 2, seed=2, rank=rank, size=3).epoch(1):
            for index, image in zip(micro.own.tolist(), mixed.augmented(micro, AUGMENT), strict=True):
                torch.testing.assert_close(image, alone[index])
                seen += 1
    assert seen >= 62


def test_noise_of_two_stores_is_not_the_same(data: ImageData, tiny_store: Path) -> None:
    twice = ImageData(stores=[str(tiny_store), str(tiny_store)], image_size=32)
    mixed = Images([open_samples(store, CPU) for store in twice.each()], twice)
    noisy = AUGMENT.model_copy(
        update={"flip": 0.0, "rotate": (0.0,) * 3, "scale": (1.0, 1.0), "translate": 0}
    )
    first, second = mixed.augmented(MicroBatch(np.array([0, 49]), slice(None)), noisy)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, second, atol=0.2, rtol=0)


def test_the_statistics_are_those_of_the_named_store(data: ImageData) -> None:
    """S2I paper, section A.5: one set normalises all."""
    for named in (0, 1):
        source = open_images(data.model_copy(update={"statistics": named}), Context(World(CPU)))
        train = source.images.mixture.sets[named].part("half", "train")
        assert source.statistics == source.images.sets[named].statistics(train)
    assert len(source.part("train")) == 32 + 8


def test_two_stores_are_trained_on_killed_and_resumed_bit_for_bit(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    run_recipe(recipe, out=tmp_path / "whole")
    out = tmp_path / "cut"
    for at in (2, 1, 4):
        assert run_recipe(recipe, cut_at(at), out, resume=True).interrupted
    assert not run_recipe(recipe, out=out, resume=True).interrupted
    whole, cut = (load_checkpoint(RunFolder(p).last) for p in (tmp_path / "whole", out))
    assert same(whole["model"], cut["model"])
    assert same(whole["optimizer"], cut["optimizer"])
    assert curve(tmp_path / "whole") == curve(out)
    assert [entry["skeleton"]["name"] for entry in whole["metadata"]["data"]] == ["ntu25", "ucla20"]


def test_another_store_in_one_place_is_refused(
    recipe: PretrainRecipe, tiny_store: Path, tmp_path: Path
) -> None:
    run_recipe(recipe, out=tmp_path)
    changed: dict[str, Any] = recipe.data.model_dump()
    changed["stores"][1]["store"] = str(tiny_store)
    other = recipe.model_copy(update={"data": ImageData.model_validate(changed)})
    with pytest.raises(RunError, match=r"run on other data \(dataset: 'ucla' there, 'tiny' here"):
        run_recipe(other, out=tmp_path, resume=True)
