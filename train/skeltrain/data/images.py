"""S2I images of stores that lie on the device, made there batch by batch.

    rows of the samples -> augmentation -> scaling -> stream -> S2I encoding -> normalisation

No step has a loop over samples, and only sample numbers travel to the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.s2i import make_plan
from skeltrain.data.augment import Draw, JointAugment, draw
from skeltrain.data.crop import Stretches, draw_crop
from skeltrain.data.encode import S2IEncoder, stream_rows_torch
from skeltrain.data.frames import Ragged
from skeltrain.data.mixture import Mixture
from skeltrain.data.sampler import MicroBatch, Purpose
from skeltrain.data.samples import SampleSet
from skeltrain.sections import AXES, Augment, ImageData


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each image channel (S2I paper, section A.5).

    Computed once on the pretraining samples without augmentation, kept in the checkpoint, and used by
    everything that follows. They hold for these streams only: motion is far smaller than position.

    Attributes
    ----------
    mean, std
        Of each channel, so three for each stream.
    stream
        The stream, or ``joint+bone`` for several.
    samples
        On how many samples they were measured.
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
        """Read what `to_dict` gave; raises KeyError, TypeError or ValueError for anything else."""
        mean, std = (tuple(float(value) for value in data[name]) for name in ("mean", "std"))
        return cls(mean, std, str(data["stream"]), int(data["samples"]))


class ImageSet:
    """The samples of one store as images.

    Parameters
    ----------
    samples
        Cleaned and packed, with their final scaling still to be done (`skeltrain.data.samples.open_samples`).
    data
        Streams, image size and alignment.
    stream
        Which of several streams of random numbers the noise, and what is left of a clip, are drawn from.
    """

    def __init__(self, samples: SampleSet, data: ImageData, stream: int = 0) -> None:
        self.samples = samples
        self.skeleton = samples.skeleton
        self.streams = data.streams
        self.plan = make_plan(samples.skeleton, data.image_size, data.align_corners)
        self._noise_stream = stream
        whole = Stretches.whole(samples.start, samples.length)
        self._stretches = samples.stretches or whole
        self._rescale = samples.scaling == "minmax"
        self._bones = torch.from_numpy(samples.skeleton.bone_matrix()).to(samples.device)
        self._origin = torch.tensor(samples.skeleton.origin, device=samples.device)
        self._encode = S2IEncoder(self.plan).to(samples.device)
        self._augment = JointAugment(samples.skeleton, samples.device)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def device(self) -> torch.device:
        """Where the poses lie and the images are made."""
        return self.samples.device

    @property
    def stream(self) -> str:
        """The stream, or ``joint+bone`` for several."""
        return "+".join(self.streams)

    @property
    def channels(self) -> int:
        """Channels of an image: three for each stream."""
        return AXES * len(self.streams)

    def images(self, index: NDArray[np.int64]) -> Tensor:
        """Encode samples as they are: (N, C, rows, columns) float32, not normalised."""
        return self._finish(self.samples.gather(index))

    def augmented(self, micro: MicroBatch, settings: Augment, drawn: Draw | None = None) -> Tensor:
        """Augment and encode the samples of a micro batch: (N, C, rows, columns) float32, not normalised.

        Parameters
        ----------
        micro
            Its ``index`` counts the samples of this set; those of other sets are not in it.
        drawn
            The transformations of its own samples; drawn here unless the step has samples of other sets too.
        """
        lengths = self.samples.length[micro.index]
        if settings.crops:
            generator = micro.generator(Purpose.CROP, stream=self._noise_stream)
            crop = draw_crop(len(micro.index), settings.crop, generator)
            lengths = self._stretches.cut(micro.index, crop).lengths
            rows = self._stretches.cut(micro.own, crop.take(micro.part)).gather(self.samples.frames)
        else:
            rows = self.samples.gather(micro.own)
        if drawn is None:
            whole = draw(len(micro.index), settings, micro.generator(Purpose.AUGMENT))
            drawn = whole.take(micro.part, self.device)
        noisy = settings.noise > 0 and settings.noise_probability > 0
        noise = self._noise(micro, rows, lengths) if noisy else None
        position = self._augment(rows.position, rows.sample, drawn, noise)
        return self._finish(replace(rows, position=position))

    def statistics(self, index: NDArray[np.int64], batch: int = 256) -> Statistics:
        """Mean and standard deviation of each channel over samples, summed in float64."""
        total = torch.zeros(self.channels, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(total)
        for chunk in chunks(index, batch):
            image = self.images(chunk).double()
            total += image.sum(dim=(0, 2, 3))
            squares += image.square().sum(dim=(0, 2, 3))
        count = len(index) * self.plan.size[0] * self.plan.size[1]
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return Statistics(tuple(mean.tolist()), tuple(std.tolist()), self.stream, len(index))

    def _noise(self, micro: MicroBatch, rows: Ragged, lengths: NDArray[np.int64]) -> Tensor:
        """Draw for every row of the step, whose samples have ``lengths``, and keep our own: see
        `MicroBatch.generator`.
        """
        first, _, _ = micro.part.indices(len(lengths))
        before = int(lengths[:first].sum())
        shape = (int(lengths.sum()), *rows.position.shape[1:])
        generator = micro.generator(Purpose.NOISE, self.device, self._noise_stream)
        drawn = torch.randn(shape, generator=generator, device=self.device)
        return drawn[before : before + len(rows.position)]

    def _finish(self, rows: Ragged) -> Tensor:
        position = unit_range(rows) if self._rescale else rows.position
        images = []
        for stream in self.streams:
            values = stream_rows_torch(position, rows.next_row, self._bones, stream, self._origin)
            images.append(self._encode(values, rows.offsets))
        return images[0] if len(images) == 1 else torch.cat(images, dim=1)


class Images:
    """Images of one or several stores: what training takes in, and what is kept of it in a checkpoint.

    Sample numbers count through all stores (`skeltrain.data.mixture.Mixture`).
    """

    def __init__(self, sets: list[SampleSet], data: ImageData) -> None:
        self.mixture = Mixture(sets)
        self.sets = [ImageSet(samples, data, k) for k, samples in enumerate(sets)]

    def __len__(self) -> int:
        return len(self.mixture)

    @property
    def device(self) -> torch.device:
        """Where the poses lie and the images are made."""
        return self.mixture.device

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of every image."""
        return self.sets[0].plan.size

    def labels(self, index: NDArray[np.int64]) -> Tensor:
        """(N,) int64 classes of samples, on the device."""
        return self.mixture.labels(index)

    def images(self, index: NDArray[np.int64]) -> Tensor:
        """Encode samples as they are: (N, C, rows, columns) float32, not normalised."""
        return self.mixture.by_set(index, lambda k, local, _: self.sets[k].images(local))

    def augmented(self, micro: MicroBatch, settings: Augment) -> Tensor:
        """Augment and encode the samples of a micro batch: (N, C, rows, columns) float32, not normalised."""
        if len(self.sets) == 1:
            return self.sets[0].augmented(micro, settings)
        drawn = draw(len(micro.index), settings, micro.generator(Purpose.AUGMENT))
        of_step = {k: (local, places) for k, local, places in self.mixture.split(micro.index)}
        first, stop, _ = micro.part.indices(len(micro.index))

        def make(k: int, own: NDArray[np.int64], _: NDArray[np.intp]) -> Tensor:
            local, places = of_step[k]
            begin, end = np.searchsorted(places, (first, stop))
            part = slice(int(begin), int(end))
            taken = drawn.take(places[part], self.device)
            return self.sets[k].augmented(replace(micro, index=local, part=part), settings, taken)

        return self.mixture.by_set(micro.own, make)


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
        """Normalise (N, C, rows, columns) float32, in place."""
        return image.sub_(self._mean).mul_(self._factor)

    def undo(self, image: Tensor) -> Tensor:
        """Return what normalised images (N, C, rows, columns) were before."""
        return image / self._factor + self._mean


def chunks(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut sample numbers into pieces of at most ``size``."""
    for start in range(0, len(index), size):
        yield index[start : start + size]
