"""Batches of actions: clips of two persons as the network is given them, and their classes.

A clip covers its whole recording: its frames are spread over it. What is drawn for a recording in a step
depends on the step and its place in it alone, not on how the step is divided among processes.

N samples of a batch, M = 2 persons, T frames, J = 17 joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from skeltrain.data.action_sets import ActionSet
from skeltrain.data.loader import DataError
from skeltrain.data.motion import (
    MOVE_ANGLE,
    MOVE_SCALE,
    MOVE_SHIFT,
    crop_scale,
    flip,
    random_move,
    resample,
)
from skeltrain.data.sampler import MicroBatch, Purpose, random_seed
from skeltrain.recipe import Fraction, NotNegative, Section

Side = Annotated[float, Field(gt=0)]

#: The square that poses are placed in, in units of their extent: drawn of a range in training, and in tests
#: (MotionBERT, configs/action/MB_ft_NTU60_xsub.yaml).
TRAIN_CROP, TEST_CROP = (1.0, 3.0), 2.0


class ActionAugment(Section):
    """What is done to recordings in training (MotionBERT, dataset_action.py).

    Attributes
    ----------
    resample
        When the frames of a clip are chosen: ``redrawn`` in every epoch, or ``once`` for all of them, as the
        released code does.
    angle, scale, shift
        How far all persons turn (degrees), grow and move in the picture, either way, ever more or less from
        the first frame to the last; 0 for all three moves nothing.
    crop
        Range of the side of the square about the poses, in units of their extent.
    flip
        Probability of mirroring a sample; the released code mirrors none.
    """

    resample: Literal["redrawn", "once"] = "redrawn"
    angle: NotNegative = MOVE_ANGLE
    scale: Annotated[float, Field(ge=0, lt=1)] = MOVE_SCALE
    shift: NotNegative = MOVE_SHIFT
    crop: tuple[Side, Side] = TRAIN_CROP
    flip: Fraction = 0.0

    @model_validator(mode="after")
    def _range_runs_upwards(self) -> ActionAugment:
        if self.crop[0] > self.crop[1]:
            raise ValueError(f"crop runs from {self.crop[0]} down to {self.crop[1]}; swap the two")
        return self


@dataclass(frozen=True, eq=False)
class ActionBatch:
    """Clips and their classes.

    Attributes
    ----------
    motion
        (N, M, T, J, 3) float32: x, y and confidence.
    label
        (N,) int64 class.
    micro
        Where the batch stands in its step, and the step's random numbers.
    """

    motion: Tensor
    label: Tensor
    micro: MicroBatch


class ActionCollator:
    """Makes the batches of a set for training.

    Parameters
    ----------
    length
        Frames of a clip.
    """

    def __init__(self, data: ActionSet, length: int, augment: ActionAugment) -> None:
        self._data = data
        self._length = length
        self._augment = augment

    def __call__(self, micro: MicroBatch) -> ActionBatch:
        """Collate the micro batch's own samples."""
        drawn = torch.randint(2**62, (len(micro.index),), generator=micro.generator(Purpose.AUGMENT))
        seeds = drawn[micro.part].tolist()
        clips = [self._clip(int(n), micro.seed, seed) for n, seed in zip(micro.own, seeds, strict=True)]
        label = torch.from_numpy(self._data.label[micro.own]).to(self._data.place.device)
        return ActionBatch(torch.stack(clips), label, micro)

    def _clip(self, number: int, run_seed: int, seed: int) -> Tensor:
        augment = self._augment
        draws = np.random.default_rng(seed)
        frames = int(self._data.length[number])
        source = draws
        if augment.resample == "once":
            source = np.random.default_rng(random_seed(run_seed, 0, number, Purpose.CROP))
        motion = self._data.motion(number, resample(frames, self._length, source))
        if augment.angle or augment.scale or augment.shift:
            motion = random_move(motion, draws, augment.angle, augment.scale, augment.shift)
        placed = place(self._data, motion, augment.crop, draws)
        return flip(placed) if draws.random() < augment.flip else placed


def place(
    data: ActionSet,
    motion: Tensor,
    crop: tuple[float, float] = (TEST_CROP, TEST_CROP),
    draws: np.random.Generator | None = None,
) -> Tensor:
    """Return a clip (M, T, J, 3) scaled to its square.

    Joints that were not found move with the others where the set has the released code's ways, else they
    are 0.
    """
    placed = crop_scale(motion, crop, draws)
    return placed if data.parity else placed.masked_fill(placed[..., 2:] == 0, 0.0)


def even_clips(data: ActionSet, index: NDArray[np.int64], length: int, batch: int) -> Iterator[Tensor]:
    """Yield clips (n, M, T, J, 3) of recordings, ``batch`` at a time, with evenly spaced frames."""
    for start in range(0, len(index), batch):
        numbers = index[start : start + batch].tolist()
        frames = [resample(int(data.length[number]), length) for number in numbers]
        yield torch.stack([place(data, data.motion(n, own)) for n, own in zip(numbers, frames, strict=True)])


def check_frames(data: ActionSet, index: NDArray[np.int64], what: str) -> None:
    """Raise `DataError` where no joint of any of these recordings was found."""
    found = data.score > 0
    rows = data.rows
    for number in index.tolist():
        own = slice(int(data.first[number]), int(data.first[number] + data.length[number]))
        if bool(found[rows[own]].any()):
            return
    raise DataError(
        f"{data.store.path}: found no joint with a confidence above 0 in the {len(index)} {what}, expected "
        "people"
    )
