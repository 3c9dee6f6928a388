"""What a generated recording is made to, and what is in it: `Settings`, `GroundTruth`, `TrueTrack`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelconv.human import ActionInterval
from skelformats.errors import SkelconvError


class SynthError(SkelconvError, ValueError):
    """Recordings cannot be generated as asked."""


@dataclass(frozen=True)
class Settings:
    """How recordings are generated, beside the seed.

    Attributes
    ----------
    frames
        Shortest and longest recording.
    actions
        Class numbers of the dataset to take turns with; empty for all that the generator knows.
    noise
        Factor on the sensor's noise; 0 leaves the motion as it is.
    faults
        Factor on the rates of sensor faults (dropped frames, lost joints, new ids, ghosts); 0 leaves whole
        recordings of the people who are there.
    """

    frames: tuple[int, int] = (30, 120)
    actions: tuple[int, ...] = ()
    noise: float = 1.0
    faults: float = 1.0

    def __post_init__(self) -> None:
        shortest, longest = self.frames
        if not 1 <= shortest <= longest:
            raise SynthError(f"found frames {shortest} to {longest}, expected 1 <= shortest <= longest")
        for name in ("noise", "faults"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SynthError(f"found {name} {getattr(self, name)}, expected a number of at least 0")


@dataclass(frozen=True, eq=False)
class TrueTrack:
    """What one body's rows in a generated file say: the same values, bit for bit, that a reader must find.

    Attributes
    ----------
    body
        The id in the file.
    person
        Which of the scene's people it is, counted from 0; -1 for a ghost.
    frame_index
        (T,) int32.
    position
        (T, J, 3) float32 metres in the camera's frame; NaN where the file has no joint.
    state
        (T, J) uint8 tracking state: 0 not tracked, 1 inferred, 2 tracked.
    noiseless
        (T, J, 3) float64: where the joints were before the sensor added its errors; of a ghost, NaN.
    color, depth, orientation
        (T, J, 2), (T, J, 2) and (T, J, 4) float32, or None where the format has no such columns.
    header
        (T, 9) float32: what follows the id on a body's first line, or None.
    """

    body: str
    person: int
    frame_index: NDArray[np.int32]
    position: NDArray[np.float32]
    state: NDArray[np.uint8]
    noiseless: NDArray[np.float64]
    color: NDArray[np.float32] | None = None
    depth: NDArray[np.float32] | None = None
    orientation: NDArray[np.float32] | None = None
    header: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class GroundTruth:
    """One generated recording.

    Attributes
    ----------
    name
        The recording's name, which is its file's without suffix.
    action
        Name of the action of `skelconv.human.performance.ACTIONS`.
    label
        Class, counted from 0; -1 where only ``intervals`` have one.
    length
        Frames in the file, those without a body included.
    tracks
        The bodies in order of first appearance; none in a recording that lost everything.
    intervals
        Of an untrimmed recording, in the order of its label file.
    """

    name: str
    action: str
    label: int
    length: int
    tracks: tuple[TrueTrack, ...]
    intervals: tuple[ActionInterval, ...] = ()
