"""Which patches the encoder does not see.

A strategy is a function that gives every patch a number; the patches with the smallest numbers stay visible.
Whatever the strategy, every sample of a batch therefore has the same number of visible patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError

#: ``(samples, (rows, columns), device, generator)`` to ``(samples, rows * columns)`` float32 on ``device``.
Strategy = Callable[[int, tuple[int, int], torch.device, torch.Generator | None], Tensor]


def random_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw U(0, 1) for each patch: every set of patches is equally likely (He et al. 2022, section 3)."""
    shape = (samples, grid[0] * grid[1])
    if generator is None:
        return torch.rand(shape, device=device)
    # A generator on the CPU draws the same masks whatever device the model is on.
    return torch.rand(shape, device=generator.device, generator=generator).to(device)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"random": random_noise})


def find_strategy(name: str) -> Strategy:
    """Return the masking strategy of that name; raises `UnknownNameError` with the names that exist."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise UnknownNameError("masking strategy", name, tuple(STRATEGIES)) from None


def masked_count(patches: int, ratio: float) -> int:
    """Return how many of ``patches`` are masked: ``floor(ratio * patches)``, as the S2I paper has it.

    MAE's code keeps ``int(patches * (1 - ratio))`` instead, which is the same at .75 and masks one patch
    more at .6, .8 and .9 of 196.

    Raises
    ------
    ModelError
        If no patch, or every patch, would be masked.
    """
    # The tolerance lets .29 of 100 be 29, which binary fractions make 28.999999999999996.
    count = math.floor(ratio * patches + 1e-9)
    if not 0 < count < patches:
        raise ModelError(
            f"found mask ratio {ratio:g}, which masks {count} of {patches} patches, "
            f"expected at least one masked and one visible: a ratio from {1 / patches:.3g} to below 1"
        )
    return count


@dataclass(frozen=True)
class Mask:
    """A mask for each of N samples of L patches, of which K stay visible.

    Attributes
    ----------
    keep
        ``(N, K)`` int64: the visible patches, in the order in which the encoder gets them.
    mask
        ``(N, L)`` float32: 1 where a patch is masked, 0 where it is visible.
    restore
        ``(N, L)`` int64: where each patch stands in the sequence "visible patches, then masked ones".
    """

    keep: Tensor
    mask: Tensor
    restore: Tensor


def split(noise: Tensor, masked: int) -> Mask:
    """Mask the ``masked`` patches of largest ``noise`` (N, L) in each sample.

    Equal values are taken in the order of the patches, so that the mask does not depend on the device.
    """
    visible = noise.shape[1] - masked
    order = torch.argsort(noise, dim=1, stable=True)
    restore = torch.argsort(order, dim=1)
    return Mask(keep=order[:, :visible], mask=(restore >= visible).float(), restore=restore)
