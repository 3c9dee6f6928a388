"""Means of what a task reports, over steps and processes, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skelformats.errors import SkelconvError
from skeltrain.distributed import World

NEVER = 2**62
"""Number of a step that does not come."""


@dataclass
class NotFiniteError(SkelconvError):
    """A loss was not a finite number in optimiser step ``number`` of the run, counted from 0."""

    number: int

    def __str__(self) -> str:
        return f"the loss is not a finite number in step {self.number} of the run (counted from 0)"


class Meter:
    """Adds up on the device, and reads the sums only when a row of metrics is due.

    A task may report other metrics for one batch than for another; each is averaged over the batches that
    have it. A loss that is not a finite number is noticed when a row is due, with the step in which it first
    came up.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sum: dict[str, Tensor] = {}
        self._weight: dict[str, float] = {}
        self._epoch: dict[str, list[float]] = {}
        self._samples = 0
        self._since = 0.0
        self._waited = 0.0
        self._bad = torch.tensor(NEVER, device=world.device)

    def add(self, values: Mapping[str, Tensor], weight: float, number: int) -> None:
        """Take what the task reported for a batch of optimiser step ``number``; see `MicroBatch.weight`."""
        # a batch that is lent and counts nothing must not turn a sum into NaN: 0 times infinity is
        for name, value in values.items() if weight else ():
            if name not in self._sum:
                self._sum[name] = torch.zeros((), dtype=torch.float64, device=self._world.device)
                self._weight[name] = 0.0
            self._sum[name] += value.detach().double() * weight
            self._weight[name] += weight
        bad = torch.where(values["loss"].detach().isfinite(), NEVER, number)
        self._bad = torch.minimum(self._bad, bad)

    def wait(self, seconds: float) -> None:
        """Count time in which the loop waited for a batch, by the clock: nothing waits for the device
        here.
        """
        self._waited += seconds

    def finish_step(self, samples: int) -> None:
        """Count an optimiser step over ``samples`` samples in all processes."""
        self._samples += samples

    def finish_row(self, seconds: float) -> dict[str, float]:
        """Return the means since the last row; ``seconds`` is the time of the run so far.

        With them come ``samples_per_second``, ``data_seconds``, in which this process waited for batches, and
        ``step_seconds``, all the rest since the last row.

        Raises
        ------
        NotFiniteError
            A loss was not a finite number.
        """
        weights = self._gather()
        row = {}
        if weights:
            zero = torch.zeros((), dtype=torch.float64, device=self._world.device)
            sums = self._world.mean(torch.stack([self._sum.get(name, zero) for name in weights])).tolist()
            for (name, weight), total in zip(weights.items(), sums, strict=True):
                mean = row[name] = total / weight
                of_epoch = self._epoch.setdefault(name, [0.0, 0.0])
                of_epoch[0] += mean * weight
                of_epoch[1] += weight
        passed = seconds - self._since
        times = {
            "samples_per_second": self._samples / max(passed, 1e-9),
            "data_seconds": self._waited,
            "step_seconds": max(passed - self._waited, 0.0),
        }
        self._waited = 0.0
        self._sum, self._weight = {}, {}
        self._samples = 0
        self._since = seconds
        return {**row, **times}

    def finish_epoch(self) -> dict[str, float]:
        """Return the means of the epoch, whose last row is finished."""
        means = {name: total / weight for name, (total, weight) in self._epoch.items()}
        self._epoch = {}
        return means

    def check(self) -> None:
        """Raise `NotFiniteError` if a loss was not a finite number, in any process."""
        self._gather()

    def state(self) -> dict[str, Any]:
        """Return the sums of this process as plain data."""
        return {
            "sum": {name: float(value) for name, value in self._sum.items()},
            "weight": dict(self._weight),
            "epoch": {name: list(pair) for name, pair in self._epoch.items()},
            "samples": self._samples,
            "since": self._since,
            "waited": self._waited,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        device = self._world.device
        self._sum = {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in state["sum"].items()
        }
        self._weight = dict(state["weight"])
        self._epoch = {name: list(pair) for name, pair in state["epoch"].items()}
        self._samples = state["samples"]
        self._since = float(state["since"])
        # states of versions that did not tell the two apart have none
        self._waited = float(state.get("waited", 0.0))

    def _gather(self) -> dict[str, float]:
        """Return, by name, the mean over processes of the weight that each metric has come with.

        The weights of a step add up to the number of processes: rounded, they are whole steps again.
        """
        told = self._world.gather((int(self._bad), self._weight))
        bad = min(first for first, _ in told)
        if bad < NEVER:
            raise NotFiniteError(bad)
        total: dict[str, float] = {}
        for _, weights in told:
            for name, weight in weights.items():
                total[name] = total.get(name, 0.0) + weight
        return {name: round(weight / self._world.size, 9) for name, weight in total.items()}
