from __future__ import annotations

import math
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError
from skeltrain.models.mae import build_mae
from skeltrain.models.masking import (
    STRATEGIES,
    find_strategy,
    masked_count,
    random_noise,
    split,
    strategy_names,
)

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


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_generator_makes_the_noise_reproducible(name: str) -> None:
    strategy = find_strategy(name)
    first, again = (strategy(2, (4, 4), CPU, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2, 16)
    assert first.dtype == torch.float32
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_hidden_patches_are_those_that_are_not_kept(name: str) -> None:
    mask = split(find_strategy(name)(3, (5, 4), CPU, torch.Generator().manual_seed(1)), 15)
    assert torch.cat([mask.keep, mask.hidden], dim=1).sort(dim=1).values.tolist() == [list(range(20))] * 3
    assert mask.mask.gather(1, mask.hidden).tolist() == [[1.0] * 15] * 3


def masks(name: str, draws: int = 6000) -> torch.Tensor:
    """Masks (draws, 14, 14) that hide three quarters: rows are time, columns joints."""
    noise = find_strategy(name)(draws, (14, 14), CPU, torch.Generator().manual_seed(0))
    mask = split(noise, 147).mask.reshape(draws, 14, 14)
    assert (mask.sum((1, 2)) == 147).all()
    return mask


class TestShapes:
    """What is hidden of 14 x 14 patches at the paper's ratio, where 147 are 10.5 rows or columns."""

    @pytest.mark.parametrize(("name", "axis"), [("joint", 1), ("temporal", 2)])
    def test_whole_columns_or_rows_are_hidden_and_part_of_one(self, name: str, axis: int) -> None:
        per_line = masks(name, 200).sum(axis).sort(dim=1, descending=True).values
        assert per_line.tolist() == [[14.0] * 10 + [7.0] + [0.0] * 3] * 200

    def test_a_tube_is_a_column_through_half_of_the_time(self) -> None:
        tubes = masks("tube", 200).reshape(200, 2, 7, 14).sum(2).flatten(1)
        assert tubes.sort(dim=1, descending=True).values.tolist() == [[7.0] * 21 + [0.0] * 7] * 200

    def test_blocks_hang_together(self) -> None:
        """Of the neighbours of a hidden patch more are hidden than chance would have it, by far."""
        alike = {}
        for name in ("random", "block"):
            mask = masks(name, 500)
            alike[name] = (mask[:, 1:] == mask[:, :-1]).float().mean()
        assert alike["random"] == pytest.approx(0.75**2 + 0.25**2, abs=0.01)
        assert alike["block"] > 0.8

    @pytest.mark.parametrize("name", ["random", "joint", "temporal", "tube"])
    def test_no_patch_is_hidden_more_often_than_another(self, name: str) -> None:
        often = masks(name).mean(0)
        # 5 standard deviations of a frequency of .75 in 6,000 draws
        assert (often - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 6000)

    def test_a_block_hides_the_edges_less_often_but_not_rarely(self) -> None:
        """With seeds inside the grid alone, the corners would fall to .41."""
        often = masks("block").mean(0)
        assert 0.49 < often.min() < 0.56
        assert 0.84 < often.max() < 0.90
        for turned in (often.flip(0), often.flip(1), often.T):
            assert (often - turned).abs().max() < 0.04


class TestOtherPackages:
    """A strategy that another package offers through the entry-point group `skeltrain.masks`."""

    @pytest.fixture
    def offer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "chess_mask.py").write_text(
            textwrap.dedent(
                """
                import torch

                def chess_noise(samples, grid, device, generator):
                    row, column = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
                    return ((row + column) % 2).flatten().float().expand(samples, -1).to(device)

                number = 3
                """
            )
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    def install(self, folder: Path, name: str, target: str) -> None:
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[skeltrain.masks]\n{name} = {target}\n")

    def test_is_found_by_its_name_and_masks(self, offer: Path) -> None:
        self.install(offer, "chess", "chess_mask:chess_noise")
        assert "chess" in strategy_names()
        model = build_mae("vit_micro", image_size=16, patch_size=4, mask_ratio=0.5, masking="chess")
        mask = model(torch.zeros(2, 3, 16, 16)).mask.reshape(2, 4, 4)
        assert mask[1].tolist() == [[0, 1, 0, 1], [1, 0, 1, 0]] * 2

    def test_is_listed_where_a_name_is_unknown(self, offer: Path) -> None:
        self.install(offer, "chess", "chess_mask:chess_noise")
        with pytest.raises(UnknownNameError, match=r"Did you mean 'chess'\? Known: random, .*tube, chess"):
            find_strategy("ches")

    @pytest.mark.parametrize(
        ("name", "target", "message"),
        [
            ("chess", "chess_mask:absent", r"'chess' at chess_mask:absent, where it cannot be loaded"),
            ("chess", "absent_module:noise", r"cannot be loaded \(No module named 'absent_module'\)"),
            ("chess", "chess_mask:number", "found an object of type int as the masking strategy 'chess'"),
            ("random", "chess_mask:chess_noise", "'random' offered more than once .*masking:random_noise, "),
        ],
    )
    def test_is_refused_if_it_is_none(self, offer: Path, name: str, target: str, message: str) -> None:
        self.install(offer, name, target)
        with pytest.raises(ModelError, match=message):
            find_strategy(name)

    def test_must_give_a_number_for_each_patch(self, offer: Path) -> None:
        (offer / "short_mask.py").write_text(
            "import torch\ndef noise(n, grid, device, g): return torch.rand(n, 3)"
        )
        self.install(offer, "short", "short_mask:noise")
        model = build_mae("vit_micro", image_size=16, patch_size=4, masking="short")
        with pytest.raises(ModelError, match=r"found noise of shape \(2, 3\), expected \(2, 16\)"):
            model(torch.zeros(2, 3, 16, 16))


def test_without_generator_torchs_seed_rules() -> None:
    torch.manual_seed(3)
    first = random_noise(2, (4, 4), CPU, None)
    torch.manual_seed(3)
    assert torch.equal(first, random_noise(2, (4, 4), CPU, None))


def test_an_unknown_strategy_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'random'\? Known: random"):
        find_strategy("randm")
