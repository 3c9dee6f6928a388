"""Batches for mesh recovery: clips of 2D poses, and the bodies that they are of.

n clips of a step, N of a batch, T frames, J = 17 joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from skeltrain.data.mesh_sets import MeshSet
from skeltrain.data.motion import crop_scale, flip
from skeltrain.data.sampler import MicroBatch, Purpose
from skeltrain.models.smpl import flip_pose, rodrigues

Scale = Literal["picture", "person"]
"""What the 2D poses of a clip are scaled to: the picture, or the square about the person."""


@dataclass(frozen=True)
class MeshAugment:
    """What is done to the clips of one set.

    Attributes
    ----------
    flip
        Probability of mirroring a clip.
    scale
        What 2D poses are scaled to.
    crop
        Range of the side of the square in units of the person's extent, where they are scaled to that.
    """

    flip: float = 0.0
    scale: Scale = "picture"
    crop: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class MeshBatch:
    """Clips with their bodies.

    Attributes
    ----------
    input
        (N, T, J, 3) float32: x, y and confidence.
    pose
        (N, T, 24, 3) axis-angle vectors, the root's in the network's axes.
    shape
        (N, T, 10).
    estimate
        Rotations (N, T, 24, 3, 3) and shapes (N, T, 10) that another method found, or None.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    input: Tensor
    pose: Tensor
    shape: Tensor
    estimate: tuple[Tensor, Tensor] | None
    micro: MicroBatch


class MeshCollator:
    """Makes the batches of a set.

    Parameters
    ----------
    stream
        Tells the random numbers of this set apart from those of others in the same epoch.
    """

    def __init__(self, data: MeshSet, augment: MeshAugment, stream: int = 0) -> None:
        self._data = data
        self._augment = augment
        self._stream = stream

    def __call__(self, micro: MicroBatch) -> MeshBatch:
        """Collate the micro batch's own clips."""
        data, augment, own = self._data, self._augment, micro.part
        draws = torch.rand(
            (len(micro.index), 2), generator=micro.generator(Purpose.AUGMENT, stream=self._stream)
        )
        draws = draws[own]
        rows = torch.from_numpy(data.clips[micro.own]).to(data.given.device)
        mirrored = (draws[:, 0] < augment.flip).to(rows.device)[:, None, None, None]
        given = data.given[rows]
        if augment.scale == "person":
            low, high = augment.crop
            sides = (low + (high - low) * draws[:, 1].double()).tolist()
            cropped = [crop_scale(clip, (side, side)) for clip, side in zip(given, sides, strict=True)]
            given = torch.stack(cropped)
            given = given.masked_fill(given[..., 2:] <= 0, 0.0)
        given = torch.where(mirrored, flip(given), given)
        pose = data.pose[rows]
        estimate = None
        if data.estimate is not None:
            guess = data.estimate[0][rows]
            guess = torch.where(mirrored, flip_pose(guess), guess)
            estimate = (rodrigues(guess), data.estimate[1][rows])
        pose = torch.where(mirrored, flip_pose(pose), pose)
        return MeshBatch(given, pose, data.shape[rows], estimate, micro)
