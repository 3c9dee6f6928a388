"""How long a run is, and what its learning rate is: epochs of unequal length, iterations, three schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.optim import SGD

from skeltrain.recipe import Optim
from skeltrain.schedule import ScheduleError, make_scheduler
from skeltrain.timeline import Timeline, build_schedule


class Steps:
    """A loader of nothing but lengths; the last is that of every later epoch."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def steps(self, epoch: int) -> int:
        return self.lengths[min(epoch, len(self.lengths) - 1)]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        raise AssertionError("a timeline reads no batch")


def rates(optim: Optim, *lengths: int) -> list[float]:
    timeline = Timeline.of(Steps(*lengths), optim)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=optim.peak_lr)
    schedule = build_schedule(optimizer, optim, timeline)
    found = []
    for number in range(timeline.total):
        schedule.step_update(number)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def optim(**settings: Any) -> Optim:
    return Optim(blr=1.0, lr_scale_rule="none", name="sgd", **{"warmup": 0, **settings})


def test_epochs_of_unequal_length() -> None:
    timeline = Timeline.of(Steps(2, 2, 5), optim(epochs=4))
    assert (timeline.first, timeline.epochs, timeline.total) == ((0, 2, 4, 9, 14), 4, 14)
    assert [timeline.place(n) for n in (0, 3, 4, 8, 13)] == [(0, 0), (1, 1), (2, 0), (2, 4), (3, 4)]
    for number in range(14):
        assert timeline.number(*timeline.place(number)) == number
        assert timeline.number_at(timeline.epoch_at(number)) == pytest.approx(number)
    assert timeline.epoch_at(14) == 4
    assert timeline.epoch_at(6) == pytest.approx(2.4)


def test_a_run_of_iterations_ends_within_an_epoch() -> None:
    timeline = Timeline.of(Steps(4), optim(epochs=100, iterations=10))
    assert (timeline.epochs, timeline.total, timeline.steps(2)) == (3, 10, 2)
    with pytest.raises(ScheduleError, match=r"8 optimiser steps in 2 epochs.*Raise optim\.epochs"):
        Timeline.of(Steps(4), optim(epochs=2, iterations=10))


def test_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(ScheduleError, match=r"fewer training samples than one batch of 512 in epoch 1"):
        Timeline.of(Steps(3, 0), optim(epochs=2))


@pytest.mark.parametrize("warmup", [0, 1, 1.5])
def test_the_cosine_is_maes(warmup: float) -> None:
    given = optim(epochs=3, warmup=warmup, min_lr=0.1)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, 3, 4, warmup, 0.1)
    expected = []
    for number in range(12):
        scheduler.step_update(number)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(given, 4) == expected


def test_an_exponential_decay_by_epoch() -> None:
    """MotionBERT's: the rate times 0.99 after every epoch, however long the epochs are."""
    found = rates(optim(epochs=3, schedule="exponential", schedule_by="epoch", decay=0.99), 2, 3)
    assert found == pytest.approx([1, 1, 0.99, 0.99, 0.99, 0.99**2, 0.99**2, 0.99**2])


def test_an_exponential_decay_by_step_after_a_warm_up() -> None:
    given = optim(epochs=3, warmup=1, schedule="exponential", decay=0.25, min_lr=0.3)
    assert rates(given, 2) == pytest.approx([0, 0.5, 1, 0.5, 0.3, 0.3])


def test_a_constant_rate_and_a_cosine_by_epoch() -> None:
    assert rates(optim(epochs=2, schedule="constant"), 3) == [1.0] * 6
    stepped = rates(optim(epochs=2, schedule_by="epoch"), 2)
    assert stepped == pytest.approx([1, 1, 0.5, 0.5])


def test_layers_keep_their_share_of_the_rate() -> None:
    given = optim(epochs=1, schedule="exponential", decay=0.5)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 0.1)]
    optimizer = SGD(groups, lr=1.0)
    schedule = build_schedule(optimizer, given, Timeline.of(Steps(2), given))
    schedule.step_update(1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5**0.5, 0.1 * 0.5**0.5])


def test_a_warm_up_longer_than_the_run_names_the_setting() -> None:
    with pytest.raises(ScheduleError, match=r"3 warm-up epochs in a run of 2.*Set optim\.warmup"):
        rates(optim(epochs=2, warmup=3), 2)
