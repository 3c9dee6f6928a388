"""Where the engine takes its batches from: `Loader`, and the few ways to make one of others.

The engine reads nothing of a batch but its ``micro``, the `MicroBatch` that says where it stands in its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from skelformats.errors import SkelconvError
from skeltrain.data.sampler import MicroBatch


class DataError(SkelconvError, ValueError):
    """A store cannot give what a recipe asks of it."""


class Batch(Protocol):
    """What a task's ``forward`` takes: anything that knows its place in the step."""

    @property
    def micro(self) -> MicroBatch:
        """Which samples these are, and the step's random numbers."""


class Loader(Protocol):
    """Gives this process its batches of any epoch, from any optimiser step on."""

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch; epochs need not be equally long."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield this process's batches (`Batch`) of an epoch, from optimiser step ``first`` on."""


B = TypeVar("B")


class Sampler(Protocol):
    """Deals samples out to the steps of epochs, and of each step this process's parts."""

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[MicroBatch]:
        """Yield this process's parts of each step of an epoch, from step ``first`` on."""


@dataclass(frozen=True)
class SampleLoader(Generic[B]):
    """The samples of a sampler, collated to batches."""

    sampler: Sampler
    collate: Callable[[MicroBatch], B]

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch, the same for every one."""
        return self.sampler.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[B]:
        """Yield this process's batches of an epoch, from optimiser step ``first`` on."""
        for micro in self.sampler.epoch(epoch, first):
            yield self.collate(micro)


@dataclass(frozen=True)
class OneAfterTheOther:
    """An epoch runs through each loader in turn; the batches of one step come from one of them."""

    loaders: Sequence[Loader]

    def steps(self, epoch: int) -> int:
        """Optimiser steps of all loaders together."""
        return sum(loader.steps(epoch) for loader in self.loaders)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield the batches of each loader, from optimiser step ``first`` of the epoch on."""
        for loader in self.loaders:
            steps = loader.steps(epoch)
            if first < steps:
                yield from loader.epoch(epoch, first)
            first = max(first - steps, 0)


@dataclass(frozen=True)
class ByEpoch:
    """Another loader from some epoch on: ``phases`` are (first epoch, loader), the first of them from 0."""

    phases: Sequence[tuple[int, Loader]]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.phases]
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts:
            raise DataError(f"found phases that start at epochs {starts}, expected 0 and then rising numbers")

    def at(self, epoch: int) -> Loader:
        """Return the loader of an epoch."""
        return [loader for start, loader in self.phases if start <= epoch][-1]

    def steps(self, epoch: int) -> int:
        """Optimiser steps of the loader of an epoch."""
        return self.at(epoch).steps(epoch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield the batches of the loader of an epoch."""
        return self.at(epoch).epoch(epoch, first)


@dataclass(frozen=True)
class Repeated:
    """Epochs of ``length`` optimiser steps, through passes over a loader one after the other.

    For runs that are counted in iterations: what such a run calls an epoch is only the time between two
    evaluations, and the passes over the data go on beneath it.
    """

    loader: Loader
    length: int

    def __post_init__(self) -> None:
        if self.loader.steps(0) < 1 or self.length < 1:
            raise DataError(
                f"found {self.loader.steps(0)} batches to repeat in epochs of {self.length}, expected at "
                "least one of each. Lower optim.batch"
            )

    def steps(self, epoch: int) -> int:
        """The length that was asked for."""
        return self.length

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield batches of the passes that fall into an epoch, from optimiser step ``first`` on."""
        steps = self.loader.steps(0)
        at, end = epoch * self.length + first, (epoch + 1) * self.length
        while at < end:
            passed, start = divmod(at, steps)
            for batch in self.loader.epoch(passed, start):
                yield batch
                at += batch.micro.last
                if at == end:
                    return


def renumbered(micro: MicroBatch, first: int) -> MicroBatch:
    """Return a micro batch whose sample numbers are counted from ``first``."""
    return replace(micro, index=micro.index - first)
