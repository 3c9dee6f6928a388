"""How long a run is, and what the learning rate is at each of its optimiser steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch.optim import Optimizer

from skeltrain.data.loader import Loader
from skeltrain.recipe import Optim
from skeltrain.schedule import ScheduleError, make_scheduler


@dataclass(frozen=True)
class Timeline:
    """The epochs of a run, which need not be equally long.

    Attributes
    ----------
    first
        Optimiser steps before each epoch, and, last, those of the whole run.
    """

    first: tuple[int, ...]

    @classmethod
    def of(cls, loader: Loader, optim: Optim) -> Timeline:
        """Lay out the run of a recipe: its epochs, or as many as its iterations need.

        Raises
        ------
        ScheduleError
            An epoch has no step, or the epochs end before the iterations do.
        """
        first = [0]
        for epoch in range(optim.epochs):
            steps = loader.steps(epoch)
            if steps < 1:
                raise ScheduleError(
                    f"found fewer training samples than one batch of {optim.batch} in epoch {epoch}, "
                    "expected at least one batch. Lower optim.batch, or set optim.drop_last to false"
                )
            first.append(first[-1] + steps)
            if optim.iterations is not None and first[-1] >= optim.iterations:
                return cls((*first[:-1], optim.iterations))
        if optim.iterations is not None:
            raise ScheduleError(
                f"found {first[-1]} optimiser steps in {optim.epochs} epochs, expected the "
                f"{optim.iterations} of optim.iterations. Raise optim.epochs"
            )
        return cls(tuple(first))

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.first) - 1

    @property
    def total(self) -> int:
        """Optimiser steps of the run."""
        return self.first[-1]

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch; the last may be cut short by the number of iterations."""
        return self.first[epoch + 1] - self.first[epoch]

    def number(self, epoch: int, step: int) -> int:
        """Optimiser steps before a step of an epoch."""
        return self.first[epoch] + step

    def place(self, number: int) -> tuple[int, int]:
        """Return epoch and step of an optimiser step, counted from 0 through the run."""
        epoch = bisect_right(self.first, number, hi=self.epochs) - 1
        return epoch, number - self.first[epoch]

    def epoch_at(self, number: float) -> float:
        """Return how many epochs have passed after a number of optimiser steps."""
        if number >= self.total:
            return float(self.epochs)
        epoch, step = self.place(int(number))
        return epoch + (step + number - int(number)) / self.steps(epoch)

    def number_at(self, epochs: float) -> float:
        """Return how many optimiser steps make a number of epochs; inverse of `epoch_at`."""
        whole = int(epochs)
        if whole >= self.epochs:
            return float(self.total)
        return self.first[whole] + (epochs - whole) * self.steps(whole)


class Schedule(Protocol):
    """Sets the learning rate of an optimiser; what it sets depends on the number of the step alone."""

    def step_update(self, number: int) -> None:
        """Set the rate for an optimiser step, counted from 0, before it is taken."""


def build_schedule(optimizer: Optimizer, optim: Optim, timeline: Timeline) -> Schedule:
    """Return the schedule of a recipe; the optimiser's rates are those of the peak.

    ``cosine`` is MAE's (`skeltrain.schedule.make_scheduler`). ``exponential`` multiplies by
    ``optim.decay`` for every epoch since the warm-up.

    Raises
    ------
    ScheduleError
        The warm-up is longer than the run.
    """
    if optim.warmup > timeline.epochs:
        raise ScheduleError(
            f"found {optim.warmup:g} warm-up epochs in a run of {timeline.epochs}, expected from 0 to "
            f"{timeline.epochs}. Set optim.warmup"
        )
    warmup = timeline.number_at(optim.warmup)
    if optim.schedule == "cosine":
        schedule: Schedule = make_scheduler(optimizer, timeline.total, 1, warmup, optim.min_lr)
    else:
        decay = optim.decay if optim.schedule == "exponential" else 1.0

        def rate(peak: float, number: int) -> float:
            if number < warmup:
                return peak * number / warmup
            return max(peak * decay ** (timeline.epoch_at(number) - optim.warmup), optim.min_lr)

        schedule = _Formula(optimizer, rate)
    return schedule if optim.schedule_by == "step" else _ByEpoch(schedule, timeline)


class _Formula:
    """A rate for each step, by a formula of the peak rate and the number of the step."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[float, int], float]) -> None:
        self._optimizer = optimizer
        self._rate = rate
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def step_update(self, number: int) -> None:
        for group in self._optimizer.param_groups:
            # timm's schedulers, too, scale what a group asks for (layer-wise decay)
            group["lr"] = self._rate(group["initial_lr"], number) * group.get("lr_scale", 1.0)


@dataclass(frozen=True)
class _ByEpoch:
    """What another schedule sets at the first step of an epoch, for all of it."""

    inner: Schedule
    timeline: Timeline

    def step_update(self, number: int) -> None:
        epoch, _ = self.timeline.place(number)
        self.inner.step_update(self.timeline.first[epoch])
