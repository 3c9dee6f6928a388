from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError
from skeltrain.models.masking import STRATEGIES, find_strategy, masked_count, random_noise, split

CPU = torch.device("cpu")


@pytest.mark.parametrize(("ratio", "masked"), [(0.75, 147), (0.6, 117), (0.8, 156), (0.9, 176), (0.5, 98)])
def test_the_masked_patches_are_counted_as_the_paper_counts_them(ratio: float, masked: int) -> None:
    assert masked_count(196, ratio) == masked


def test_a_binary_fraction_does_not_lose_a_patch() -> None:
    assert 0.29 * 100 < 29
    assert masked_count(100, 0.29) == 29


@pytest.mark.parametrize("ratio", [0.0, 0.005, 1.0, 1.5, -0.5])
def test_a_ratio_that_masks_nothing_or_everything_is_refused(ratio: float) -> None:
    with pytest.raises(ModelError, match="at least one masked and one visible"):
        masked_count(196, ratio)


@pytest.mark.parametrize("name", STRATEGIES)
@given(
    rows=st.integers(1, 9), columns=st.integers(2, 9), ratio=st.floats(0.3, 0.95), seed=st.integers(0, 999)
)
def test_every_sample_hides_the_same_number_of_patches(
    name: str, rows: int, columns: int, ratio: float, seed: int
) -> None:
    patches = rows * columns
    if int(ratio * patches) == 0:
        return
    masked = masked_count(patches, ratio)
    noise = find_strategy(name)(5, (rows, columns), CPU, torch.Generator().manual_seed(seed))
    mask = split(noise, masked)
    assert mask.mask.sum(1).tolist() == [masked] * 5
    assert mask.keep.shape == (5, patches - masked)
    assert mask.mask.gather(1, mask.keep).count_nonzero() == 0


def test_restore_undoes_the_shuffle() -> None:
    noise = random_noise(3, (4, 5), CPU, None)
    mask = split(noise, 15)
    order = noise.argsort(dim=1)
    assert torch.equal(mask.keep, order[:, :5])
    assert torch.equal(order.gather(1, mask.restore), torch.arange(20).expand(3, -1))


def test_the_smallest_noise_stays_visible_and_ties_go_by_position() -> None:
    mask = split(torch.tensor([[0.5, 0.1, 0.5, 0.1]]), 1)
    assert mask.mask.tolist() == [[0, 0, 1, 0]]
    assert mask.keep.tolist() == [[1, 3, 0]]


def test_random_masking_hides_every_patch_equally_often() -> None:
    noise = random_noise(4000, (4, 4), CPU, torch.Generator().manual_seed(0))
    often = split(noise, 12).mask.mean(0)
    # 5 standard deviations of a frequency of .75 in 4,000 draws
    assert (often - 0.75).abs().max() < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_a_generator_makes_the_noise_reproducible() -> None:
    first, again = (random_noise(2, (4, 4), CPU, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)


def test_without_generator_torchs_seed_rules() -> None:
    torch.manual_seed(3)
    first = random_noise(2, (4, 4), CPU, None)
    torch.manual_seed(3)
    assert torch.equal(first, random_noise(2, (4, 4), CPU, None))


def test_an_unknown_strategy_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'random'\? Known: random"):
        find_strategy("randm")
