"""Batches of motion: clips as the network is given them, and what it is to predict.

All random numbers are drawn for the clips of the whole optimiser step, from generators that its `MicroBatch`
names: what a clip gets depends neither on how the step is divided nor on where a run was resumed.

n clips of a step, N of a batch, T frames, J = 17 joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skeltrain.data.loader import DataError
from skeltrain.data.motion import add_mask, add_noise, crop_scale, flip, root_target
from skeltrain.data.motion_sets import MotionSet
from skeltrain.data.sampler import MicroBatch, Purpose
from skeltrain.recipe import Fraction, Section

Source = Literal["truth", "detection"]
"""Whose 2D poses the network is given of a 3D store: the true ones, or a detector's."""

#: How much of a 2D clip is cropped away, as a range of the side of the square that is kept (MotionBERT,
#: dataset_motion_2d.py).
CROP = (0.25, 1.0)


class MotionAugment(Section):
    """What is done to clips in training (MotionBERT, section 3.3).

    Attributes
    ----------
    flip
        Probability of mirroring a clip.
    noise
        Whether true 2D poses get the errors and scores of a detector; detections have their own.
    mask_joints, mask_frames
        Probabilities that a joint of a frame, and that a whole frame, is hidden.
    crop
        Range of the side of the square that clips without depth are cropped to, in units of their extent.
    """

    flip: Fraction = 0.5
    noise: bool = False
    mask_joints: Fraction = 0.0
    mask_frames: Fraction = 0.0
    crop: tuple[float, float] = CROP


@dataclass(frozen=True, eq=False)
class MotionBatch:
    """Clips of one kind.

    Attributes
    ----------
    input
        (N, T, J, 3) float32: x, y and confidence.
    target
        (N, T, J, 3) float32, finite; the third axis is the depth, or means nothing where there is none.
    weight
        (N, T, J, 1) float32: what a joint counts; 0 where it is not known.
    depth
        Whether the target has a depth.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    input: Tensor
    target: Tensor
    weight: Tensor
    depth: bool
    micro: MicroBatch


class MotionCollator:
    """Makes the batches of a set.

    Parameters
    ----------
    relative
        What is to be predicted: poses relative to the root of each frame, or, of sets with depth, poses where
        they are in the picture, with depths relative to the root of the first frame.
    source
        Of sets with depth: whose 2D poses are the input.
    stream
        Tells the random numbers of this set apart from those of others in the same epoch.

    Raises
    ------
    DataError
        Detections are asked for that the set does not have.
    """

    def __init__(
        self,
        data: MotionSet,
        augment: MotionAugment,
        relative: bool = True,
        source: Source = "truth",
        stream: int = 0,
    ) -> None:
        if source == "detection" and data.detection is None:
            raise DataError("found a set without detections, expected them. Set data.input to truth")
        self._data = data
        self._augment = augment
        self._relative = relative
        self._given = data.detection if source == "detection" else None
        self._stream = stream

    def __call__(self, micro: MicroBatch) -> MotionBatch:
        """Collate the micro batch's own clips."""
        data, augment, n = self._data, self._augment, len(micro.index)
        depth = data.kind == "3d"
        draws = torch.rand((n, 2), generator=micro.generator(Purpose.AUGMENT, stream=self._stream))
        rows = torch.from_numpy(data.clips[micro.index]).to(data.pose.device)
        given, target = self._with_depth(rows) if depth else self._cropped(data.pose[rows], draws[:, 1])
        # the fourth number is what the joint counts; it goes with its joint when a clip is mirrored
        chosen = (draws[:, 0] < augment.flip).to(rows.device)[:, None, None, None]
        given, target = (torch.where(chosen, flip(x), x) for x in (given, target))
        if augment.noise and data.kind != "detected":
            given = add_noise(given, micro.generator(Purpose.NOISE, stream=self._stream))
        if augment.mask_joints or augment.mask_frames:
            generator = micro.generator(Purpose.MASK, stream=self._stream)
            given = add_mask(given, generator, augment.mask_joints, augment.mask_frames)
        own = micro.part
        given, target = given[own], target[own]
        target, weight = self._relative_to_root(target[..., :3], target[..., 3:])
        return MotionBatch(given, target, weight, depth, micro)

    def _with_depth(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pose = self._data.pose[rows]
        seen = pose.isfinite().all(dim=-1, keepdim=True)
        pose = pose.masked_fill(~seen, 0.0)
        target = torch.cat([pose, seen.to(pose)], dim=-1)
        if self._given is not None:
            return self._given[rows], target
        return torch.cat([pose[..., :2], seen.to(pose)], dim=-1), target

    def _cropped(self, points: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._augment.crop
        sides = (low + (high - low) * draws.double()).tolist()
        cropped = [crop_scale(clip, (side, side)) for clip, side in zip(points, sides, strict=True)]
        given = torch.stack(cropped)
        given = given.masked_fill(given[..., 2:] == 0, 0.0)
        return given, torch.cat([given, given[..., 2:]], dim=-1)

    def _relative_to_root(self, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target as `root_target` has it; where its root is unknown, nothing of it counts."""
        if not self._relative and self._data.kind != "3d":
            return target, weight
        root = weight[:, :, :1] if self._relative else weight[:, :1, :1]
        weight = weight * (root > 0)
        return root_target(target, self._relative).masked_fill(weight == 0, 0.0), weight


def numbers(data: MotionSet) -> np.ndarray:
    """Return the numbers (N,) int64 of the clips of a set."""
    return np.arange(len(data), dtype=np.int64)
