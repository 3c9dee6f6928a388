"""A temperature that is learned within bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skeltrain.losses.errors import AlignmentError


class Temperature(nn.Module):
    """A learned temperature, kept as its logarithm; `clamp` is to be called after each optimiser step.

    Clamping in the forward pass instead would give a gradient of zero outside the bounds, and the temperature
    would stay there. It takes no weight decay, and a fresh one starts each step of UniHPR's training:

    ===================== ===== ======= ==========
    step                  batch initial bounds
    ===================== ===== ======= ==========
    1, 2D and 3D poses    2048  1/14    1/100, 1e4
    2, images             180   1/5     1/10, 1e4
    3, all together       180   1/5     1/5, 1e4
    ===================== ===== ======= ==========

    (UniHPR section IV-B). The upper bound never acts.

    Parameters
    ----------
    initial, low, high
        First value and bounds of the temperature itself, 0 < low <= initial <= high.

    Raises
    ------
    AlignmentError
        They are not in this order.
    """

    def __init__(self, initial: float, low: float = 1e-2, high: float = 1e4) -> None:
        super().__init__()
        if not 0 < low <= initial <= high < math.inf:
            raise AlignmentError(
                f"found a temperature of {initial:g} in [{low:g}, {high:g}], expected "
                "0 < low <= initial <= high"
            )
        self.low = low
        self.high = high
        self.log_tau = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        """Return the temperature, a scalar that carries its gradient."""
        return self.log_tau.exp()

    @torch.no_grad()
    def clamp(self) -> None:
        """Put the temperature back within its bounds."""
        self.log_tau.clamp_(math.log(self.low), math.log(self.high))
