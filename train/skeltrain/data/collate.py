"""From the samples of a micro batch to a task's batch: `ImageCollator`, `ClipCollator`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skeltrain.data.augment_image import augment_images, draw_images
from skeltrain.data.images import Images, Normalise, Statistics
from skeltrain.data.loader import DataError
from skeltrain.data.sampler import MicroBatch, Purpose
from skeltrain.data.samples import SampleSet
from skeltrain.sections import Augment


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """S2I images and their labels.

    Attributes
    ----------
    image
        (N, C, rows, columns) float32, normalised; three channels for each stream.
    label
        (N,) int64 class, -1 for none.
    index
        (N,) int64 number of each sample among all samples.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    image: Tensor
    label: Tensor
    index: Tensor
    micro: MicroBatch


class ImageCollator:
    """Makes the normalised images of a micro batch; augmented where the settings say so."""

    def __init__(self, images: Images, statistics: Statistics, augment: Augment) -> None:
        self._images = images
        self._normalise = Normalise(statistics, images.device)
        self._augment = augment
        self._std = torch.tensor(statistics.std, device=images.device)

    def __call__(self, micro: MicroBatch) -> ImageBatch:
        """Collate the micro batch's own samples."""
        own = micro.own
        images = self._images
        if not self._augment.active:
            image = images.images(own)
        elif self._augment.space == "joint":
            image = images.augmented(micro, self._augment)
        else:
            image = self._augmented_after(micro)
        index = torch.from_numpy(own).to(images.device)
        return ImageBatch(self._normalise(image), images.labels(own), index, micro)

    def _augmented_after(self, micro: MicroBatch) -> Tensor:
        """Encode the samples as they are and augment their images; drawn for the whole step, as ever."""
        settings, device, step = self._augment, self._images.device, len(micro.index)
        image = self._images.images(micro.own)
        drawn = draw_images(step, settings, micro.generator(Purpose.AUGMENT)).take(micro.part, device)
        noise = None
        if settings.noise > 0 and settings.noise_probability > 0:
            generator = micro.generator(Purpose.NOISE, device)
            shape = (step, *image.shape[1:])
            noise = torch.randn(shape, generator=generator, device=device)[micro.part]
        return augment_images(image, drawn, self._std, noise)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Windows of poses of one length.

    Attributes
    ----------
    position
        (N, T, J, A) float32, in the store's unit; a missing joint is NaN.
    confidence
        (N, T, J) float32; 0 where a joint is missing.
    label
        (N,) int64 class, -1 for none.
    index
        (N,) int64 number of each sample among all samples.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    position: Tensor
    confidence: Tensor
    label: Tensor
    index: Tensor
    micro: MicroBatch


class ClipCollator:
    """Stacks the windows of a micro batch (`skeltrain.data.samples.open_windows`)."""

    def __init__(self, samples: SampleSet) -> None:
        if len(set(samples.length.tolist())) != 1:
            raise DataError(
                f"found windows of {samples.length.min()} to {samples.length.max()} frames, expected one "
                "length for all that are stacked. Leave out the short ones"
            )
        self._samples = samples

    def __call__(self, micro: MicroBatch) -> ClipBatch:
        """Collate the micro batch's own samples."""
        own, samples = micro.own, self._samples
        rows = samples.gather(own)
        confidence = rows.confidence
        if confidence is None:
            confidence = rows.position.isfinite().all(dim=-1).float()
        index = torch.from_numpy(own).to(samples.device)
        position_NTJA = rows.position.reshape(len(own), -1, *rows.position.shape[1:])
        confidence_NTJ = confidence.float().reshape(len(own), -1, *confidence.shape[1:])
        return ClipBatch(position_NTJA, confidence_NTJ, samples.labels(own), index, micro)
