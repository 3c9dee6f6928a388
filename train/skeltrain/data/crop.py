"""Cutting clips in time: which rows of a sample are left.

Persons are cut together. Where their frames alternate, a stretch of a sample's rows is a stretch of time.
Where one person's rows stand behind the other's (``persons: concat``), the rows of each are cut alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from skeltrain.data.frames import Frames, Ragged


@dataclass(frozen=True, eq=False)
class Stretches:
    """The stretches of rows that are each cut as one: S of them, of N samples.

    Attributes
    ----------
    start, length
        (S,) int64 rows of each.
    first
        (N + 1,) int64: the first stretch of each sample, and S.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def whole(cls, start: NDArray[np.int64], length: NDArray[np.int64]) -> Stretches:
        """Return a stretch a sample, whose rows are ``length`` (N,) from ``start`` (N,) on."""
        return cls(start, length, np.arange(len(start) + 1))

    @classmethod
    def by_person(cls, offsets: NDArray[np.int64], next_row: NDArray[np.int64]) -> Stretches:
        """Return a stretch a person, of persons that stand behind each other.

        Parameters
        ----------
        offsets
            (N + 1,) first row of each sample, and their number.
        next_row
            (R,) row of the same person's next frame, a row's own number for the last.
        """
        stop = np.flatnonzero(next_row == np.arange(len(next_row))) + 1
        start = np.concatenate([[0], stop[:-1]])
        return cls(start, stop - start, np.searchsorted(start, offsets))

    def cut(self, index: NDArray[np.int64], crop: Crop) -> Cut:
        """Cut samples, (N,) numbers, each as ``crop`` says."""
        count = self.first[index + 1] - self.first[index]
        owner = np.repeat(np.arange(len(index)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        stretch = self.first[index][owner] + within
        length = self.length[stretch]
        kept = np.maximum(np.rint(length * crop.share[owner]), 1).astype(np.int64)
        skipped = np.floor(crop.place[owner] * (length - kept + 1)).astype(np.int64)
        return Cut(self.start[stretch] + skipped, kept, owner, len(index))


@dataclass(frozen=True, eq=False)
class Crop:
    """What is left of each of N samples.

    Attributes
    ----------
    share
        (N,) float64: which part of the rows.
    place
        (N,) float64 in [0, 1): where it begins, among all places where it may.
    """

    share: NDArray[np.float64]
    place: NDArray[np.float64]

    def take(self, part: slice) -> Crop:
        """Keep some samples."""
        return Crop(self.share[part], self.place[part])


def draw_crop(samples: int, between: tuple[float, float], generator: torch.Generator) -> Crop:
    """Draw what is left of each sample: a part ``between`` two bounds, at any place."""
    low, high = between
    share, place = torch.rand(2, samples, generator=generator, dtype=torch.float64).numpy()
    return Crop(low + (high - low) * share, place)


@dataclass(frozen=True, eq=False)
class Cut:
    """The rows that are left.

    Attributes
    ----------
    start, length
        (S,) int64 rows of each stretch.
    owner
        (S,) int64: which sample it is of.
    samples
        Their number.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    owner: NDArray[np.int64]
    samples: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) rows that are left of each sample."""
        left = np.zeros(self.samples, np.int64)
        np.add.at(left, self.owner, self.length)
        return left

    def gather(self, frames: Frames) -> Ragged:
        """Bring the rows together; a person's last row that is left has no next one."""
        rows = frames.gather(self.start, self.length)
        stop = rows.offsets[1:][rows.sample]
        own = torch.arange(len(stop), device=stop.device)
        offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        return replace(
            rows,
            offsets=torch.from_numpy(offsets).to(stop.device),
            next_row=torch.where(rows.next_row < stop, rows.next_row, own),
            sample=torch.from_numpy(self.owner).to(stop.device)[rows.sample],
        )
