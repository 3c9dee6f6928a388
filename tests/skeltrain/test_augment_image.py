"""Augmentation in image space: what a turn, a shift and a flip do to an image, and that it is
reproducible.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from skeltrain.data.augment_image import ImageDraw, augment_images, draw_images
from skeltrain.data.collate import ImageCollator
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.distributed import World
from skeltrain.run import run_recipe
from skeltrain.sections import Augment
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.registry import Context
from tests.skeltrain.test_engine import curve, cut_at, train

USUAL = Augment(
    space="image", flip=0.5, rotate=math.radians(10), scale=(0.9, 1.1), translate=0.05, noise=0.02
)
CPU = torch.device("cpu")


def still(samples: int) -> ImageDraw:
    zero = torch.zeros(samples)
    return ImageDraw(zero.bool(), zero, zero + 1, torch.zeros(samples, 2), zero)


def picture(rows: int = 24, columns: int = 16) -> torch.Tensor:
    return torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(0))


def test_nothing_drawn_changes_no_bit() -> None:
    image = picture()
    assert torch.equal(augment_images(image, still(1), torch.ones(3)), image)


def test_a_flip_reverses_the_columns() -> None:
    drawn = replace(still(1), flip=torch.tensor([True]))
    assert torch.equal(augment_images(picture(), drawn, torch.ones(3)), picture().flip(3))


def test_a_shift_moves_right_and_down_and_brings_in_zeros() -> None:
    image, drawn = picture(), replace(still(1), shift=torch.tensor([[0.25, 0.5]]))
    moved = augment_images(image, drawn, torch.ones(3))
    torch.testing.assert_close(moved[:, :, 12:, 4:], image[:, :, :12, :-4])
    assert moved[:, :, :12].abs().max() < 1e-5
    assert moved[:, :, :, :4].abs().max() < 1e-5


@pytest.mark.parametrize(("angle", "scale"), [(math.pi / 2, 1.0), (0.17, 1.0), (0.0, 1.1), (-0.3, 0.9)])
def test_turning_and_scaling_are_about_the_centre_and_by_pixels(angle: float, scale: float) -> None:
    """Beside scipy's own resampling of the same map, on a rectangle; its border has another rule."""
    image = picture()
    drawn = replace(still(1), angle=torch.tensor([angle]), scale=torch.tensor([scale]))
    found = augment_images(image, drawn, torch.ones(3))[0].numpy()
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    inverse = np.array([[c, -s], [s, c]])  # rows first: y' = c y - s x
    centre = (np.array(image.shape[2:]) - 1) / 2
    for channel in range(3):
        expected = ndimage.affine_transform(
            image[0, channel].numpy(), inverse, centre - inverse @ centre, order=1, cval=np.nan
        )
        inside = np.isfinite(expected)
        assert inside.mean() > 0.4
        np.testing.assert_allclose(found[channel][inside], expected[inside], atol=1e-4)


def test_noise_is_a_part_of_each_channels_spread() -> None:
    image, std = torch.zeros(1, 3, 64, 64), torch.tensor([1.0, 2.0, 0.0])
    drawn = replace(still(1), noise=torch.tensor([0.02]))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    spread = augment_images(image, drawn, std, noise).std(dim=(0, 2, 3))
    torch.testing.assert_close(spread, 0.02 * std, rtol=0.05, atol=0)


def test_draws_stay_within_what_was_asked_for() -> None:
    drawn = draw_images(4000, USUAL, torch.Generator().manual_seed(0))
    assert abs(float(drawn.flip.float().mean()) - 0.5) < 0.03
    assert 0.17 < float(drawn.angle.abs().max()) <= math.radians(10)
    assert 0.9 <= float(drawn.scale.min()) < 0.91
    assert 1.09 < float(drawn.scale.max()) <= 1.1
    assert 0.049 < float(drawn.shift.abs().max()) <= 0.05


def test_a_sample_gets_the_same_however_a_step_is_divided(tiny_recipe: PretrainRecipe) -> None:
    source = open_images(tiny_recipe.data, Context(World(CPU)))
    collate = ImageCollator(source.images, source.statistics, USUAL)
    index = source.part("train")[:7]
    whole = collate(MicroBatch(index, slice(None), 3, 1, 2))
    parts = [collate(MicroBatch(index, part, 3, 1, 2)) for part in (slice(0, 3), slice(3, 7))]
    torch.testing.assert_close(torch.cat([part.image for part in parts]), whole.image, rtol=0, atol=1e-6)
    assert not torch.equal(whole.image, collate(MicroBatch(index, slice(None), 3, 1, 3)).image)
    plain = ImageCollator(source.images, source.statistics, Augment())(
        MicroBatch(index, slice(None), 3, 1, 2)
    )
    assert not torch.allclose(whole.image, plain.image, atol=0.1)


def test_going_on_within_an_epoch_gives_the_batches_that_were_left(tiny_recipe: PretrainRecipe) -> None:
    source = open_images(tiny_recipe.data, Context(World(CPU)))
    collate = ImageCollator(source.images, source.statistics, USUAL)
    sampler = EpochSampler(source.part("train"), 8, seed=5)
    unbroken = [collate(micro).image for micro in sampler.epoch(1)]
    resumed = [collate(micro).image for micro in sampler.epoch(1, 2)]
    assert all(map(torch.equal, unbroken[2:], resumed))


def test_an_interrupted_run_ends_with_the_same_bits(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe.model_copy(update={"augment": USUAL})
    train(recipe, tmp_path / "whole")
    assert run_recipe(recipe, cut_at(6), tmp_path / "broken").interrupted
    train(recipe, tmp_path / "broken", resume=True)
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")


def test_settings_of_joint_space_are_refused() -> None:
    for wrong in ({"crop": (0.5, 1.0)}, {"rotate": (0.1, 0.2, 0.1)}):
        with pytest.raises(ValidationError, match="these are of joint space"):
            Augment.model_validate({"space": "image", **wrong})
