"""Several stores as one: `Mixture` counts the samples of each after those of the one before.

The stores may differ in layout: a batch holds samples of all of them, and each is encoded in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skeltrain.data.samples import SampleSet


@dataclass(frozen=True)
class Mixture:
    """Sample sets one after another; sample numbers count through all of them.

    Attributes
    ----------
    sets
        At least one. Labels stay those of each set: classes of two sets have nothing to do with each other.
    """

    sets: Sequence[SampleSet]

    def __len__(self) -> int:
        return int(self.first[-1])

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """(S + 1,) number of the first sample of each set, and of all samples."""
        return np.concatenate([[0], np.cumsum([len(data) for data in self.sets])]).astype(np.int64)

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.sets[0].device

    def labels(self, index: NDArray[np.int64]) -> Tensor:
        """(N,) int64 classes of samples, each counted along the classes of its own set."""
        return self.by_set(index, lambda k, local, _: self.sets[k].labels(local))

    def split(self, index: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield, for each set that has any of the samples: its number, their numbers in it, their places."""
        owner = np.searchsorted(self.first, index, side="right") - 1
        for k in np.unique(owner).tolist():
            places = np.flatnonzero(owner == k)
            yield k, index[places] - self.first[k], places

    def by_set(
        self,
        index: NDArray[np.int64],
        make: Callable[[int, NDArray[np.int64], NDArray[np.intp]], Tensor],
    ) -> Tensor:
        """Return what ``make(set, numbers, places)`` gives for the samples of each set, in the order of
        ``index``.

        Each gives a tensor (n, ...) for its n samples; all of one shape but for n.
        """
        parts = list(self.split(index))
        if len(parts) == 1:
            k, local, places = parts[0]
            return make(k, local, places)
        made = [(make(k, local, places), places) for k, local, places in parts]
        first = made[0][0]
        whole = first.new_empty(len(index), *first.shape[1:])
        for values, places in made:
            whole[torch.from_numpy(places).to(whole.device)] = values
        return whole
