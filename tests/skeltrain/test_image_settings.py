"""Rectangles and several streams, from the recipe to the images, the model and what comes after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton
from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.crop import Crop, Stretches, draw_crop
from skeltrain.data.encode import stream_rows_torch
from skeltrain.data.images import Images
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.data.samples import open_samples
from skeltrain.distributed import World
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.registry import load_model
from skeltrain.recipe import Optim
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.sections import STREAMS, Augment, ImageData
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context
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
    assert evaluate_run(tmp_path)["reconstruction"].metrics["test_loss"] > 0
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


# Streams


def test_bone_motion_is_the_motion_of_bones_and_spine_is_relative_in_each_frame() -> None:
    layout = load_skeleton("ucla20")
    position = torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(0))
    bones, origin = torch.from_numpy(layout.bone_matrix()), torch.tensor(layout.origin)
    next_row = torch.tensor([2, 3, 2, 3])

    def made(stream: str, rows: torch.Tensor = position) -> torch.Tensor:
        return stream_rows_torch(rows, next_row, bones, stream, origin)

    bone = made("bone")
    torch.testing.assert_close(made("bone_motion"), bone[next_row] - bone)
    assert (made("bone_motion")[2:] == 0).all(), "a person's last frame"
    spine = layout.index("spine")
    torch.testing.assert_close(made("spine"), position - position[:, [spine]])
    walking = position + torch.arange(4)[:, None, None]
    torch.testing.assert_close(made("spine", walking), made("spine"), atol=1e-5, rtol=0)
    with pytest.raises(UnknownNameError, match="bone_motion"):
        made("bones")


def test_streams_are_channels_of_one_image_with_statistics_of_their_own(tiny_store: Path) -> None:
    alone = ImageData(store=str(tiny_store), protocol="half", image_size=16)
    context = Context(World(CPU))
    together = open_images(alone.model_copy(update={"stream": STREAMS}), context)
    index = np.array([0, 3, 11])
    image = together.images.images(index)
    assert image.shape == (3, 15, 16, 16)
    for k, stream in enumerate(STREAMS):
        single = open_images(alone.model_copy(update={"stream": stream}), context)
        own = slice(3 * k, 3 * k + 3)
        assert torch.equal(image[:, own], single.images.images(index)), stream
        assert together.statistics.mean[own] == single.statistics.mean
        assert together.statistics.std[own] == single.statistics.std
    assert together.statistics.stream == "joint+bone+motion+bone_motion+spine"


def test_several_streams_are_pretrained_on_and_probed(rectangle: PretrainRecipe, tmp_path: Path) -> None:
    recipe = change(rectangle, data={"stream": ("spine", "bone", "motion", "bone_motion")})
    run_recipe(recipe, out=tmp_path)
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    assert checkpoint["metadata"]["model"]["config"]["channels"] == 12
    assert len(checkpoint["metadata"]["statistics"]["mean"]) == 12
    report = run_probe(PROBE, tmp_path)
    assert report["data"]["stream"] == "spine+bone+motion+bone_motion"
    assert evaluate_run(tmp_path)["reconstruction"].metrics["test_loss"] > 0


# Time crop


def test_a_crop_is_a_stretch_of_the_clip_and_persons_are_cut_together(tiny_store: Path) -> None:
    """Sample 3 shows two people whose frames alternate, or stand behind each other."""
    for persons, people in (("interleave", 1), ("concat", 2)):
        data = ImageData(store=str(tiny_store), persons=persons)
        samples = open_samples(data, CPU)
        stretches = samples.stretches or Stretches.whole(samples.start, samples.length)
        index = np.array([3, 0])
        cut = stretches.cut(index, Crop(np.array([0.5, 0.25]), np.array([0.999, 0.0])))
        assert len(cut.start) == people + 1
        rows, whole = cut.gather(samples.frames), samples.gather(index)
        assert rows.offsets.tolist() == [0, *np.cumsum(cut.lengths).tolist()]
        for k in range(2):
            mine = rows.position[rows.offsets[k] : rows.offsets[k + 1]]
            every = whole.position[whole.offsets[k] : whole.offsets[k + 1]]
            stretch = cut.owner == k
            begin = samples.start[index[k]]
            taken = [
                np.arange(s, s + n) - begin
                for s, n in zip(cut.start[stretch], cut.length[stretch], strict=True)
            ]
            assert torch.equal(mine, every[torch.from_numpy(np.concatenate(taken))])
        assert int(cut.start[people - 1] + cut.length[people - 1]) == samples.start[3] + samples.length[3]
        assert cut.start[-1] == samples.start[0], "from the first row on"
        assert cut.lengths[1] == round(samples.length[0] / 4)
        assert (rows.next_row < rows.offsets[1:][rows.sample]).all()
        step = rows.next_row - torch.arange(len(rows.next_row))
        assert set(step.tolist()) <= {0, 1, 2}
        assert (step == 0).sum() == 3, "each person's last frame, and no other"


def test_how_much_is_left_lies_between_the_bounds() -> None:
    crop = draw_crop(4000, (0.7, 0.9), torch.Generator().manual_seed(0))
    assert 0.7 <= crop.share.min() < 0.701
    assert 0.899 < crop.share.max() <= 0.9
    assert crop.place.min() < 0.01 < 0.99 < crop.place.max() < 1
    one = Stretches.whole(np.array([5]), np.array([1])).cut(
        np.array([0]), Crop(np.array([0.1]), np.array([0.9]))
    )
    assert (one.start.tolist(), one.length.tolist()) == ([5], [1])


@pytest.mark.parametrize("persons", ["interleave", "concat"])
def test_a_crop_does_not_depend_on_how_a_step_is_divided(tiny_store: Path, persons: str) -> None:
    data = ImageData(store=str(tiny_store), image_size=16, persons=persons, stream=("joint", "motion"))
    images = Images([open_samples(data, CPU)], data)
    settings = Augment(crop=(0.5, 1.0), noise=0.01, flip=0.5)
    alone: dict[int, torch.Tensor] = {}
    for micro in EpochSampler(np.arange(20), 20, seed=2).epoch(1):
        alone.update(zip(micro.own.tolist(), images.augmented(micro, settings), strict=True))
    for rank in range(2):
        for micro in EpochSampler(np.arange(20), 20, 2, seed=2, rank=rank, size=2).epoch(1):
            for index, image in zip(micro.own.tolist(), images.augmented(micro, settings), strict=True):
                torch.testing.assert_close(image, alone[index])


def test_a_crop_changes_no_other_draw(tiny_store: Path) -> None:
    """What leaves all of a clip gives the same image: the crop has random numbers of its own."""
    data = ImageData(store=str(tiny_store), image_size=16)
    images = Images([open_samples(data, CPU)], data)
    micro = MicroBatch(np.arange(9), slice(2, 7), seed=3)
    without = Augment(flip=0.5, rotate=(0.3, 0.3, 0.3), noise=0.1)
    whole = without.model_copy(update={"crop": (1 - 1e-9, 1.0)})
    assert whole.active
    assert torch.equal(images.augmented(micro, without), images.augmented(micro, whole))
