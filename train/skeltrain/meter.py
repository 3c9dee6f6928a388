"""Means of what a task reports, over steps and processes, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from skeltrain.distributed import World
from skeltrain.run_folder import RunError

NEVER = 2**62
"""Number of a step that does not come."""


class Meter:
    """Adds up on the device, and reads the sums only when a row of metrics is due.

    A loss that is no number is noticed then too, with the step in which it first came up.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._names: list[str] = []
        self._row = torch.zeros(0, dtype=torch.float64)
        self._epoch: dict[str, float] = {}
        self._steps = self._epoch_steps = self._samples = 0
        self._since = 0.0
        self._bad = torch.tensor(NEVER, device=world.device)

    def add(self, values: Mapping[str, Tensor], weight: float, number: int) -> None:
        """Take what the task reported for a batch of optimiser step ``number``; see `Deal.weight`."""
        if not self._names:
            self._names = list(values)
            self._row = torch.zeros(len(values), dtype=torch.float64, device=self._world.device)
        detached = torch.stack([values[name].detach().double() for name in self._names])
        # a batch that is lent and counts nothing must not turn a sum into NaN: 0 times infinity is
        if weight:
            self._row += detached * weight
        bad = torch.where(values["loss"].detach().isfinite(), NEVER, number)
        self._bad = torch.minimum(self._bad, bad)

    def finish_step(self, samples: int) -> None:
        """Count an optimiser step over ``samples`` samples in all processes."""
        self._steps += 1
        self._samples += samples

    def finish_row(self, seconds: float) -> dict[str, float]:
        """Return the means since the last row; ``seconds`` is the time of the run so far.

        Raises
        ------
        RunError
            A loss was no number.
        """
        self.check()
        means = (self._world.mean(self._row) / max(self._steps, 1)).tolist()
        row = dict(zip(self._names, means, strict=True))
        for name, mean in row.items():
            self._epoch[name] = self._epoch.get(name, 0.0) + mean * self._steps
        self._epoch_steps += self._steps
        rate = self._samples / max(seconds - self._since, 1e-9)
        self._row.zero_()
        self._steps = self._samples = 0
        self._since = seconds
        return {**row, "samples_per_second": rate}

    def finish_epoch(self) -> dict[str, float]:
        """Return the means of the epoch, whose last row is finished."""
        means = {name: total / max(self._epoch_steps, 1) for name, total in self._epoch.items()}
        self._epoch, self._epoch_steps = {}, 0
        return means

    def check(self) -> None:
        """Raise `RunError` if a loss was no number, in any process."""
        bad = min(self._world.gather(int(self._bad)))
        if bad < NEVER:
            raise RunError(
                f"the loss is not a finite number in step {bad} of the run (counted from 0). The checkpoints "
                "on disk are from before. Start again with a lower optim.blr, a longer optim.warmup, "
                "optim.clip_grad=1.0, or precision=fp32"
            )

    def state(self) -> dict[str, Any]:
        """Return the sums of this process as plain data."""
        return {
            "names": list(self._names),
            "row": self._row.tolist(),
            "epoch": dict(self._epoch),
            "counts": [self._steps, self._epoch_steps, self._samples],
            "since": self._since,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._names = list(state["names"])
        self._row = torch.tensor(state["row"], dtype=torch.float64, device=self._world.device)
        self._epoch = dict(state["epoch"])
        self._steps, self._epoch_steps, self._samples = state["counts"]
        self._since = float(state["since"])
