"""The resident data path: a store's poses lie on the device, and batches of images are made there.

    rows of the samples -> augmentation -> scaling -> stream -> S2I encoding -> normalisation

No step has a loop over samples, and only sample numbers travel to the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.clean.samples import Samples
from skelconv.s2i import make_plan
from skelformats.errors import SkelconvError
from skeltrain.data.augment import JointAugment, draw
from skeltrain.data.batch import Batch, Deal, Deck, Purpose
from skeltrain.data.encode import S2IEncoder, stream_rows_torch
from skeltrain.recipe import Augment, Data


class DataError(SkelconvError, ValueError):
    """A store cannot give what a recipe asks of it."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each image channel (S2I paper, section A.5).

    Computed once on the pretraining samples without augmentation, kept in the checkpoint, and used by
    everything that follows. They hold for one stream only: motion is far smaller than position.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    stream: str
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint; inverse of `from_dict`."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "stream": self.stream,
            "samples": self.samples,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Statistics:
        """Read what `to_dict` gave."""
        return cls(tuple(data["mean"]), tuple(data["std"]), str(data["stream"]), int(data["samples"]))


@dataclass(frozen=True)
class Ragged:
    """Rows of N samples, one after another, on the device.

    Attributes
    ----------
    position
        (R, J, A) float32.
    offsets
        (N + 1,) int64.
    next_row
        (R,) int64: row of the same person's next frame; a row's own number for the last.
    sample
        (R,) int64: which of the N samples a row belongs to.
    """

    position: Tensor
    offsets: Tensor
    next_row: Tensor
    sample: Tensor


class Resident:
    """Packed samples on a device, and what makes images of them.

    Parameters
    ----------
    samples
        From `skelconv.clean.samples.pack_samples` with ``final_scaling=False``.
    data
        Stream, image size and alignment.
    device
        Where the poses lie and the images are made.
    """

    def __init__(self, samples: Samples, data: Data, device: torch.device) -> None:
        self.skeleton = samples.skeleton
        self.table = samples.table
        self.classes = samples.classes
        self.stream = data.stream
        self.device = device
        self.plan = make_plan(samples.skeleton, data.image_size, data.align_corners)
        self._rescale = samples.scaling == "minmax"
        self._offsets = samples.offsets
        self._position = torch.from_numpy(samples.position).to(device)
        rows = np.arange(len(samples.next_row))
        # relative to the row itself, so that it holds wherever a sample's rows come to stand
        self._step = torch.from_numpy(samples.next_row - rows).to(device)
        self._label = torch.from_numpy(samples.table["label"].to_numpy(np.int64, copy=True)).to(device)
        self._bones = torch.from_numpy(samples.skeleton.bone_matrix()).to(device)
        self._encode = S2IEncoder(self.plan).to(device)
        self._augment = JointAugment(samples.skeleton, device)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def labels(self, index: NDArray[np.int64]) -> Tensor:
        """(N,) int64 classes of samples, on the device."""
        return self._label[torch.from_numpy(index).to(self.device)]

    def part(self, protocol: str | None, part: str) -> NDArray[np.int64]:
        """Return the numbers of the samples in a part of a protocol; all of them when there is no protocol.

        Raises
        ------
        DataError
            The data has no such protocol, or the part is empty.
        """
        if protocol is None:
            return np.arange(len(self), dtype=np.int64)
        column = f"split_{protocol}"
        if column not in self.table:
            known = [str(c).removeprefix("split_") for c in self.table if str(c).startswith("split_")]
            raise DataError(
                f"found no protocol {protocol!r} in the store, expected one of {', '.join(known) or 'none'}. "
                "Set data.protocol"
            )
        chosen = np.flatnonzero((self.table[column] == part).to_numpy(bool)).astype(np.int64)
        if not len(chosen):
            parts = sorted({str(value) for value in self.table[column]} - {""})
            raise DataError(
                f"found no sample in part {part!r} of protocol {protocol!r}, expected one of "
                f"{', '.join(parts) or 'none'}. Set data.train and data.test, or choose another protocol"
            )
        return chosen

    def gather(self, index: NDArray[np.int64]) -> Ragged:
        """Bring the rows of samples together, (N,) numbers in any order."""
        starts = self._offsets[index]
        lengths = self._offsets[index + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        total = int(offsets[-1])
        numbers = torch.from_numpy(np.stack([starts - offsets[:-1], lengths, offsets[1:]])).to(self.device)
        shift, length, stop = numbers
        row = torch.arange(total, device=self.device)
        sample = torch.arange(len(index), device=self.device)
        sample = sample.repeat_interleave(length, output_size=total)
        source = row + shift[sample]
        return Ragged(
            self._position[source],
            torch.cat([stop.new_zeros(1), stop]),
            row + self._step[source],
            sample,
        )

    def images(self, index: NDArray[np.int64]) -> Tensor:
        """Encode samples as they are: (N, 3, rows, columns) float32, not normalised."""
        return self._finish(self.gather(index))

    def augmented(self, deal: Deal, settings: Augment) -> Tensor:
        """Augment and encode the samples of a deal: (N, 3, rows, columns) float32, not normalised."""
        rows = self.gather(deal.own)
        drawn = draw(len(deal.index), settings, deal.generator(Purpose.AUGMENT))
        noise = self._noise(deal, rows) if settings.noise > 0 and settings.noise_probability > 0 else None
        position = self._augment(rows.position, rows.sample, drawn.take(deal.part, self.device), noise)
        return self._finish(Ragged(position, rows.offsets, rows.next_row, rows.sample))

    def statistics(self, index: NDArray[np.int64], batch: int = 256) -> Statistics:
        """Mean and standard deviation of each channel over samples, summed in float64."""
        total = torch.zeros(3, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(total)
        for chunk in chunks(index, batch):
            image = self.images(chunk).double()
            total += image.sum(dim=(0, 2, 3))
            squares += image.square().sum(dim=(0, 2, 3))
        count = len(index) * self.plan.size[0] * self.plan.size[1]
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return Statistics(tuple(mean.tolist()), tuple(std.tolist()), self.stream, len(index))

    def _noise(self, deal: Deal, rows: Ragged) -> Tensor:
        """Draw for every row of the step and keep our own: see `Deal.generator`."""
        lengths = self._offsets[deal.index + 1] - self._offsets[deal.index]
        first, _, _ = deal.part.indices(len(lengths))
        before = int(lengths[:first].sum())
        shape = (int(lengths.sum()), *rows.position.shape[1:])
        generator = deal.generator(Purpose.NOISE, self.device)
        drawn = torch.randn(shape, generator=generator, device=self.device)
        return drawn[before : before + len(rows.position)]

    def _finish(self, rows: Ragged) -> Tensor:
        position = unit_range(rows) if self._rescale else rows.position
        values = stream_rows_torch(position, rows.next_row, self._bones, self.stream)
        return self._encode(values, rows.offsets)


def unit_range(rows: Ragged) -> Tensor:
    """Stretch each axis of each sample to [-1, 1] over its rows and joints; a constant axis becomes 0.

    The same as `skelconv.clean.ucla.to_unit_range`, after augmentation, as the NW-UCLA feeders have it.
    """
    samples, axes = len(rows.offsets) - 1, rows.position.shape[-1]
    owner = rows.sample[:, None].expand(-1, axes)
    empty = rows.position.new_empty(samples, axes)
    low = empty.scatter_reduce(0, owner, rows.position.amin(dim=1), "amin", include_self=False)
    high = empty.scatter_reduce(0, owner, rows.position.amax(dim=1), "amax", include_self=False)
    span = high - low
    factor = torch.where(span > 0, 2 / span, 0)
    scaled = (rows.position - low[rows.sample][:, None]) * factor[rows.sample][:, None]
    return scaled - (span > 0)[rows.sample][:, None].to(scaled.dtype)


class Normalise:
    """Subtracts the mean of each channel and divides by its standard deviation."""

    def __init__(self, statistics: Statistics, device: torch.device) -> None:
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (statistics.mean, statistics.std))
        self._mean = mean
        # A channel without any variation, such as depth in flat data, has nothing to be divided.
        self._factor = torch.where(std > 0, 1 / std, 1.0)

    def __call__(self, image: Tensor) -> Tensor:
        """Normalise (N, 3, rows, columns) float32, in place."""
        return image.sub_(self._mean).mul_(self._factor)


class ResidentBatches:
    """Batches of a deck's samples from resident data; augmented where the settings say so."""

    def __init__(self, data: Resident, deck: Deck, statistics: Statistics, augment: Augment) -> None:
        self._data = data
        self._deck = deck
        self._normalise = Normalise(statistics, data.device)
        self._settings = augment

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return self._deck.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield this process's batches of an epoch, from optimiser step ``first`` on."""
        for deal in self._deck.epoch(epoch, first):
            own = deal.own
            active = self._settings.active
            image = self._data.augmented(deal, self._settings) if active else self._data.images(own)
            index = torch.from_numpy(own).to(self._data.device)
            yield Batch(self._normalise(image), self._data.labels(own), index, deal)


def chunks(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut sample numbers into pieces of at most ``size``."""
    for start in range(0, len(index), size):
        yield index[start : start + size]
