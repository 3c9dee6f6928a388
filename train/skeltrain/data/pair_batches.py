"""From the frames of a micro batch to what the towers read: `AlignBatch` and `PairCollator`.

Legend: n frames of a batch, J joints, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skeltrain.data.crop_images import CropImages
from skeltrain.data.pose_pairs import Pairs
from skeltrain.data.sampler import MicroBatch, Purpose


@dataclass(frozen=True, eq=False)
class AlignBatch:
    """Frames in up to three modalities; row i of all is one frame.

    Attributes
    ----------
    image
        (n, 3, H, W) uint8, or None where no picture is read.
    pose2d
        (n, J, 2) float32 half widths of the picture from its middle; a missing joint is NaN.
    pose3d
        (n, J, 3) float32 metres relative to the root, in camera axes; a missing joint is NaN.
    motion
        (n, T, J, 2) windows of 2D poses about the frames, as ``pose2d``; None where none are read.
    sequence, frame
        (n,) int64: number of the sequence, and of the frame in it.
    index
        (n,) int64 number of each frame among all samples.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    image: Tensor | None
    pose2d: Tensor
    pose3d: Tensor
    motion: Tensor | None
    sequence: Tensor
    frame: Tensor
    index: Tensor
    micro: MicroBatch


class PairCollator:
    """Makes the batch of a micro batch.

    Parameters
    ----------
    images
        Where pictures come from; None reads none.
    flip
        Probability of mirroring a frame in all modalities.
    noise2d
        Standard deviation of the noise of 2D joints; motion gets none.
    length
        Frames of the windows of motion; None reads none.
    """

    def __init__(
        self,
        pairs: Pairs,
        images: CropImages | None,
        flip: float = 0.0,
        noise2d: float = 0.0,
        length: int | None = None,
    ) -> None:
        self._pairs = pairs
        self._images = images
        self._flip = flip
        self._noise2d = noise2d
        self._length = length
        self._mirror = torch.tensor(pairs.samples.skeleton.mirror, device=pairs.samples.device)

    def __call__(self, micro: MicroBatch) -> AlignBatch:
        """Collate the micro batch's own frames."""
        own, pairs = micro.own, self._pairs
        device = pairs.samples.device
        pose2d, pose3d = pairs.poses(own)
        motion = None if self._length is None else pairs.motion(own, self._length)
        image = None if self._images is None else self._images(pairs.crop[own])
        if self._flip:
            drawn = torch.rand(len(micro.index), generator=micro.generator(Purpose.AUGMENT))
            turned = (drawn < self._flip)[micro.part].to(device)
            pose2d, pose3d = (self._mirrored(pose, turned) for pose in (pose2d, pose3d))
            if motion is not None:
                motion = self._mirrored(motion, turned)
            if image is not None:
                image = torch.where(turned[:, None, None, None], image.flip(3), image)
        if self._noise2d:
            shape = (len(micro.index), *pose2d.shape[1:])
            noise = torch.randn(shape, generator=micro.generator(Purpose.NOISE))[micro.part]
            pose2d = pose2d + self._noise2d * noise.to(device)
        numbers = np.stack([pairs.sequence[own], pairs.frame[own], own])
        sequence, frame, index = torch.from_numpy(numbers).to(device)
        return AlignBatch(image, pose2d, pose3d, motion, sequence, frame, index, micro)

    def _mirrored(self, pose: Tensor, turned: Tensor) -> Tensor:
        other = pose[..., self._mirror, :].clone()
        other[..., 0] *= -1
        return torch.where(turned.view(-1, *[1] * (pose.ndim - 1)), other, pose)
