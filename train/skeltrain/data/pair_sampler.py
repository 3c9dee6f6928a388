"""Batches in which every sample has partners of its own class, for losses that contrast classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skeltrain.data.loader import DataError
from skeltrain.data.sampler import MicroBatch, Purpose, random_seed


@dataclass(frozen=True, eq=False)
class PairSampler:
    """Deals out steps of different classes with ``each`` samples of every one (MotionBERT, section A.1).

    Classes and samples follow from (seed, epoch, step) alone. An epoch has as many samples as there are, but
    some may come twice and others not at all. A class with fewer samples than ``each`` gives some twice.

    Parameters
    ----------
    samples, label
        (N,) int64 numbers of the samples to deal, and their classes.
    batch
        Samples of one step, over all processes: a multiple of ``each``.
    rank, size
        This process and the number of them; partners stay together.

    Raises
    ------
    DataError
        The batch is no multiple, has fewer classes than processes or than two, or there are too few classes.
    """

    samples: NDArray[np.int64]
    label: NDArray[np.int64]
    batch: int
    each: int = 2
    seed: int = 0
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        classes = self.batch // self.each
        if self.batch % self.each or classes < max(self.size, 2):
            raise DataError(
                f"found a batch of {self.batch} for {self.each} samples a class and {self.size} processes, "
                "expected a multiple of the samples a class, with at least two classes and one for each "
                "process. Set optim.batch"
            )
        if classes > len(self._classes):
            raise DataError(
                f"found {len(self._classes)} classes among the training recordings, expected the {classes} "
                f"of a batch. Set optim.batch to {self.each * len(self._classes)} or less"
            )

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return max(len(self.samples) // self.batch, 1)

    @cached_property
    def _classes(self) -> dict[int, NDArray[np.int64]]:
        """The samples of each class."""
        return {int(one): self.samples[self.label == one] for one in np.unique(self.label)}

    def epoch(self, epoch: int, first: int = 0) -> Iterator[MicroBatch]:
        """Yield this process's part of each step of an epoch, from step ``first`` on."""
        for step in range(first, self.steps):
            index = self._draw(epoch, step)
            edges = np.linspace(0, len(index) // self.each, self.size + 1).round().astype(int) * self.each
            start, stop = int(edges[self.rank]), int(edges[self.rank + 1])
            weight = (stop - start) * self.size / len(index)
            yield MicroBatch(index, slice(start, stop), self.seed, epoch, step, weight)

    def _draw(self, epoch: int, step: int) -> NDArray[np.int64]:
        source = np.random.default_rng(random_seed(self.seed, epoch, step, Purpose.PAIR))
        chosen = source.permutation(list(self._classes))[: self.batch // self.each]
        return np.concatenate([self._members(source, self._classes[int(one)]) for one in chosen])

    def _members(self, source: np.random.Generator, members: NDArray[np.int64]) -> NDArray[np.int64]:
        return source.choice(members, self.each, replace=len(members) < self.each)
