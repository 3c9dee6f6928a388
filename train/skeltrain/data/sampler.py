"""How an epoch is dealt out: `EpochSampler` gives each process its `MicroBatch` of every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What random numbers are for; each purpose has its own stream of them."""

    ORDER = 0
    AUGMENT = 1
    NOISE = 2
    MASK = 3
    PAIR = 4
    DIFFUSION = 5
    CROP = 6
    MIXUP = 7


def random_seed(seed: int, epoch: int, step: int, purpose: Purpose, stream: int = 0) -> int:
    """Return the seed of one stream of random numbers.

    Streams are derived, not continued: a run that is resumed at some step draws what the uninterrupted run
    drew there, and so does a run on another number of processes. ``stream`` tells apart several of one
    purpose in one step, such as the stores of a mixture.
    """
    words = (seed, epoch, step, purpose, stream) if stream else (seed, epoch, step, purpose)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Which samples one process works on at once, and their place among those of the whole step.

    Attributes
    ----------
    index
        (n,) int64 numbers of the samples of the whole step, over all processes and accumulated parts.
    part
        Which of them belong to this batch.
    seed, epoch, step
        Name the step; with a `Purpose`, they name its random numbers.
    weight
        What the batch's mean loss counts in the step: over all parts and processes the weights add up to the
        number of processes, so that averaging gradients over processes gives the mean over samples.
    last
        Whether the batch completes its optimiser step.
    """

    index: NDArray[np.int64]
    part: slice
    seed: int = 0
    epoch: int = 0
    step: int = 0
    weight: float = 1.0
    last: bool = True

    @property
    def own(self) -> NDArray[np.int64]:
        """(N,) numbers of the samples of this batch."""
        return self.index[self.part]

    def generator(
        self, purpose: Purpose, device: torch.device | str = "cpu", stream: int = 0
    ) -> torch.Generator:
        """Return random numbers for the samples of the whole step.

        Draw for all ``len(index)`` samples and keep ``part``: then what a sample gets does not depend on how
        the step is divided among processes.
        """
        made = torch.Generator(device)
        made.manual_seed(random_seed(self.seed, self.epoch, self.step, purpose, stream))
        return made


@dataclass(frozen=True, eq=False)
class EpochSampler:
    """Deals samples out to steps, processes and accumulated parts.

    Every sample comes once an epoch, in an order that follows from (seed, epoch) alone; none is dropped
    (unless ``drop_last``) and none is repeated, except that a process which would go without a sample in
    the last step of an epoch is lent one that counts nothing. The last step takes the rest of the samples; a
    rest of one joins the step before, because a normalisation over the batch needs two.

    Parameters
    ----------
    samples
        (N,) int64 numbers of the samples to deal.
    batch
        Samples of one step, over all processes and parts.
    accum
        Parts of a process's share.
    rank, size
        This process and the number of them.
    """

    samples: NDArray[np.int64]
    batch: int
    accum: int = 1
    seed: int = 0
    rank: int = 0
    size: int = 1
    shuffle: bool = True
    drop_last: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        whole, rest = divmod(len(self.samples), self.batch)
        joins = self.drop_last or rest == 0 or (rest == 1 and whole > 0)
        return whole if joins else whole + 1

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the samples in the order of an epoch."""
        if not self.shuffle:
            return self.samples
        source = np.random.default_rng(random_seed(self.seed, epoch, 0, Purpose.ORDER))
        return source.permutation(self.samples)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[MicroBatch]:
        """Yield this process's parts of each step of an epoch, from step ``first`` on."""
        order = self.order(epoch)
        for step in range(first, self.steps):
            to_the_end = step == self.steps - 1 and not self.drop_last
            stop = None if to_the_end else (step + 1) * self.batch
            yield from self._step(order[step * self.batch : stop], epoch, step)

    def _step(self, index: NDArray[np.int64], epoch: int, step: int) -> Iterator[MicroBatch]:
        parts = self.accum * self.size
        edges = np.linspace(0, len(index), parts + 1).round().astype(int)
        for k in range(self.accum):
            at = k * self.size + self.rank
            start, stop = int(edges[at]), int(edges[at + 1])
            weight = (stop - start) * self.size / len(index)
            if start == stop:
                start, stop = 0, 1
            yield MicroBatch(
                index, slice(start, stop), self.seed, epoch, step, weight, last=k == self.accum - 1
            )
