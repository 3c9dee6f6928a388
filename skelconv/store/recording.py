"""`Sequence` and `Recording`: what a store hands out, and what cleaning takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sequence:
    """One body's track in one recording: a row of the store.

    Attributes
    ----------
    name
        The sequence's id in its store.
    body
        The source's own id of the body.
    frame_index
        (T,) int32: the frame's number in its recording, strictly increasing; gaps are frames without it.
    position
        (T, J, A) float32 in the store's unit; a missing joint is NaN.
    confidence
        (T, J) tracking state (uint8) or detector score (float32), or None.
    extras
        Optional arrays of the store, each (T, ...).
    row
        The sequence's row of the table; the value of a column of arrays is a numpy array.
    """

    name: str
    body: str
    frame_index: NDArray[np.int32]
    position: NDArray[np.float32]
    confidence: NDArray[Any] | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame_index)


@dataclass(frozen=True)
class Recording:
    """One recording with all its bodies, in order of first appearance.

    ``length`` counts every frame of the recording, those without any body included.
    """

    name: str
    length: int
    bodies: tuple[Sequence, ...]
    row: Mapping[str, Any] = field(default_factory=dict)

    def frames(self) -> NDArray[np.int32]:
        """(F,) int32: numbers of the frames in which at least one body was observed, increasing."""
        if not self.bodies:
            return np.zeros(0, np.int32)
        return np.unique(np.concatenate([body.frame_index for body in self.bodies]))
