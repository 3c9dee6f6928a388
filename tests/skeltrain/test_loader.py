"""Loaders made of loaders: one after the other, another from some epoch on, epochs of a number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from skeltrain.data.loader import (
    ByEpoch,
    DataError,
    Loader,
    OneAfterTheOther,
    Repeated,
    SampleLoader,
    renumbered,
)
from skeltrain.data.sampler import EpochSampler, MicroBatch, Purpose


@dataclass(frozen=True)
class Named:
    """A batch that remembers whose it is."""

    name: str
    micro: MicroBatch


def loader(name: str, count: int, accum: int = 1) -> SampleLoader[Named]:
    sampler = EpochSampler(np.arange(count), 4, accum, seed=3)
    return SampleLoader(sampler, lambda micro: Named(name, micro))


def seen(batches: Iterator[Named]) -> list[tuple[str, list[int]]]:
    return [(batch.name, batch.micro.own.tolist()) for batch in batches]


def entered_anywhere(made: Loader, epoch: int) -> None:
    """An epoch entered at a step goes on as the whole one does from there."""
    whole = seen(made.epoch(epoch))
    steps = made.steps(epoch)
    parts = len(whole) // steps
    for first in range(steps + 1):
        assert seen(made.epoch(epoch, first)) == whole[first * parts :]


@pytest.mark.parametrize("accum", [1, 2])
def test_one_after_the_other(accum: int) -> None:
    made = OneAfterTheOther([loader("a", 8, accum), loader("b", 12, accum)])
    assert made.steps(0) == 5
    names = [batch.name for batch in made.epoch(0) if batch.micro.last]
    assert names == ["a"] * 2 + ["b"] * 3
    entered_anywhere(made, 3)


def test_another_loader_from_some_epoch_on() -> None:
    made = ByEpoch([(0, loader("a", 8)), (2, OneAfterTheOther([loader("a", 8), loader("b", 12)]))])
    assert [made.steps(epoch) for epoch in range(4)] == [2, 2, 5, 5]
    assert {batch.name for batch in made.epoch(1)} == {"a"}
    assert {batch.name for batch in made.epoch(2)} == {"a", "b"}
    entered_anywhere(made, 2)
    for phases in ([], [(1, loader("a", 8))], [(0, loader("a", 8)), (0, loader("b", 8))]):
        with pytest.raises(DataError, match="start at epochs"):
            ByEpoch(phases)


@pytest.mark.parametrize("accum", [1, 2])
def test_epochs_of_a_number_of_steps_go_on_through_the_passes(accum: int) -> None:
    """Three steps make a pass; epochs of four steps run through one and a third."""
    inner = loader("a", 12, accum)
    made = Repeated(inner, 4)
    assert [made.steps(epoch) for epoch in range(3)] == [4, 4, 4]
    long = [item for epoch in range(3) for item in seen(made.epoch(epoch))]
    assert long == [item for epoch in range(4) for item in seen(inner.epoch(epoch))]
    entered_anywhere(made, 1)
    with pytest.raises(DataError, match=r"0 batches to repeat.*Lower optim\.batch"):
        Repeated(loader("a", 0), 4)


def test_a_micro_batch_renumbered_draws_what_it_drew() -> None:
    micro = MicroBatch(np.array([10, 12]), slice(1, 2), seed=1, epoch=2, step=3)
    moved = renumbered(micro, 10)
    assert moved.own.tolist() == [2]
    left, right = (torch.rand(3, generator=m.generator(Purpose.MASK)) for m in (micro, moved))
    assert torch.equal(left, right)
