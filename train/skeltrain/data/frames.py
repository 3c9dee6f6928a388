"""`Frames`: rows of poses on a device; `Frames.gather` brings those of a batch together.

Legend: F rows of all samples, R rows of a batch, N samples of a batch, J joints, A axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
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
    confidence
        (R, J), where the frames have one.
    extras
        Optional arrays by name, each (R, ...).
    """

    position: Tensor
    offsets: Tensor
    next_row: Tensor
    sample: Tensor
    confidence: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Frames:
    """Rows of poses on a device. Only row numbers travel when a batch is gathered.

    Parameters
    ----------
    position
        (F, J, A) float32.
    device
        Where the rows lie.
    next_row
        (F,) int64: row of the same person's next frame, a row's own number for the last; by default every
        row is its own, so that there is no motion.
    confidence
        (F, J), or None.
    extras
        Optional arrays by name, each (F, ...).
    """

    def __init__(
        self,
        position: NDArray[np.float32],
        device: torch.device,
        next_row: NDArray[np.int64] | None = None,
        confidence: NDArray[Any] | None = None,
        extras: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.device = device
        self.shape = position.shape
        rows = np.arange(len(position))
        step = np.zeros_like(rows) if next_row is None else next_row - rows
        self._position = torch.from_numpy(position).to(device)
        # relative to the row itself, so that it holds wherever a sample's rows come to stand
        self._step = torch.from_numpy(step).to(device)
        self._confidence = None if confidence is None else torch.from_numpy(confidence).to(device)
        self._extras = {name: torch.from_numpy(a).to(device) for name, a in (extras or {}).items()}

    def __len__(self) -> int:
        return self.shape[0]

    def gather(self, start: NDArray[np.int64], length: NDArray[np.int64]) -> Ragged:
        """Bring together the rows of N samples, each the ``length`` (N,) rows from ``start`` (N,) on."""
        offsets = np.concatenate([[0], np.cumsum(length)])
        total = int(offsets[-1])
        numbers = torch.from_numpy(np.stack([start - offsets[:-1], length, offsets[1:]])).to(self.device)
        shift, lengths, stop = numbers
        row = torch.arange(total, device=self.device)
        sample = torch.arange(len(start), device=self.device)
        sample = sample.repeat_interleave(lengths, output_size=total)
        source = row + shift[sample]
        return Ragged(
            self._position[source],
            torch.cat([stop.new_zeros(1), stop]),
            row + self._step[source],
            sample,
            None if self._confidence is None else self._confidence[source],
            {name: array[source] for name, array in self._extras.items()},
        )
