"""Which patches the encoder does not see.

A strategy is a function that gives every patch a number; the patches with the smallest numbers stay visible.
Whatever the strategy, every sample of a batch therefore has the same number of visible patches.

Rows of the patch grid are time, columns are joints (S2I, section 3.1). Another package adds a strategy by
an entry point of the group ``skeltrain.masks`` (docs/models.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType

import torch
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError

#: ``(samples, (rows, columns), device, generator)`` to ``(samples, rows * columns)`` float32 on ``device``.
Strategy = Callable[[int, tuple[int, int], torch.device, torch.Generator | None], Tensor]

#: Other packages offer their strategies here: the entry point's name is the strategy's.
ENTRY_POINT_GROUP = "skeltrain.masks"

#: Number of patches around which `block_noise` hides.
BLOCK_SEEDS = 4

#: Part of the grid's side by which seeds of blocks may lie outside: 2 of 14 patches on either side.
BLOCK_MARGIN = 1 / 7

#: Stretches of time into which `tube_noise` cuts a column of patches.
TUBE_STRETCHES = 2


def random_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw U(0, 1) for each patch: every set of patches is equally likely (He et al. 2022, section 3)."""
    return _uniform((samples, grid[0] * grid[1]), device, generator)


def joint_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Hide whole columns of patches, so joints through all time (S2I, section 3.3).

    Columns are masked in random order; the last one may be masked in part, in random places: three quarters
    of 14 x 14 are ten whole columns and seven patches of an eleventh.
    """
    rows, columns = grid
    rank = _uniform((samples, 1, columns), device, generator).argsort(dim=2)
    return (rank + _uniform((samples, rows, columns), device, generator)).flatten(1)


def temporal_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Hide whole rows of patches, so stretches of time of all joints; else as `joint_noise`."""
    rows, columns = grid
    rank = _uniform((samples, rows, 1), device, generator).argsort(dim=1)
    return (rank + _uniform((samples, rows, columns), device, generator)).flatten(1)


def block_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Hide neighbouring patches around four seeds ("block" in S2I's section 3.3, "group" in its table 2).

    The paper gives no construction. Here the patches nearest to a seed are hidden, by Chebyshev distance,
    which a random part of a patch makes ragged. Seeds may lie a little outside the grid: inside it alone,
    the patches at its edges would be hidden much less often (0.41 against 0.93 of the time on 14 x 14;
    so it is 0.52 against 0.88).
    """
    row = _seed_distance(samples, grid[0], device, generator)
    column = _seed_distance(samples, grid[1], device, generator)
    nearest = torch.maximum(row[:, :, :, None], column[:, :, None, :]).amin(dim=1)
    return -(nearest + _uniform((samples, *grid), device, generator)).flatten(1)


def _seed_distance(
    samples: int, size: int, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw the seeds' places along one side of the grid; return ``(N, seeds, size)`` distances from them."""
    margin = round(size * BLOCK_MARGIN)
    drawn = _uniform((samples, BLOCK_SEEDS, 1), device, generator) * (size + 2 * margin)
    return (torch.arange(size, device=device) - (drawn.floor() - margin)).abs()


def tube_noise(
    samples: int, grid: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Hide columns of patches through half of the time each: tubes, for the prediction of features.

    What is next to a hidden patch in time is mostly hidden too, so that it cannot be copied from there
    (Do et al. 2026, arXiv 2603.10648, hide body parts so). A tube through all time is `joint_noise`.
    """
    rows, columns = grid
    stretches = min(TUBE_STRETCHES, rows)
    order = _uniform((samples, stretches * columns), device, generator).argsort(dim=1)
    rank = order.reshape(samples, stretches, columns)
    stretch = torch.arange(rows, device=device) * stretches // rows
    return (rank[:, stretch] + _uniform((samples, rows, columns), device, generator)).flatten(1)


#: The strategies of this package. `find_strategy` knows those of others too.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "random": random_noise,
        "block": block_noise,
        "joint": joint_noise,
        "temporal": temporal_noise,
        "tube": tube_noise,
    }
)


def strategy_names() -> tuple[str, ...]:
    """Return the names of all masking strategies, ours first, then those of other packages."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return (*STRATEGIES, *sorted(others - set(STRATEGIES)))


def find_strategy(name: str) -> Strategy:
    """Return the masking strategy of that name, of this package or of another one.

    Raises
    ------
    UnknownNameError
        Nobody offers it; the error lists the names that exist.
    ModelError
        It is offered more than once, cannot be imported, or is not a function.
    """
    points = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    offers = [point.value for point in points]
    if name in STRATEGIES:
        offers.insert(0, f"{__name__}:{STRATEGIES[name].__name__}")
    if not offers:
        raise UnknownNameError("masking strategy", name, strategy_names())
    if len(offers) > 1:
        raise ModelError(
            f"found the masking strategy {name!r} offered more than once ({', '.join(offers)}), "
            "expected one. Rename or uninstall the others"
        )
    if name in STRATEGIES:
        return STRATEGIES[name]
    try:
        strategy = points[0].load()
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"found the masking strategy {name!r} at {offers[0]}, where it cannot be loaded ({error}), "
            "expected a function. Repair or uninstall the package that offers it"
        ) from error
    if not callable(strategy):
        raise ModelError(
            f"found an object of type {type(strategy).__name__} as the masking strategy {name!r} at "
            f"{offers[0]}, expected a function (samples, grid, device, generator) to noise"
        )
    return strategy


def check_noise(noise: Tensor, samples: int, grid: tuple[int, int]) -> None:
    """Raise `ModelError` unless ``noise`` has one number for each patch of each sample."""
    if noise.shape != (samples, grid[0] * grid[1]):
        raise ModelError(
            f"found noise of shape {tuple(noise.shape)}, "
            f"expected ({samples}, {grid[0] * grid[1]}): one number for each patch"
        )


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


@dataclass(frozen=True, eq=False)
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

    @property
    def hidden(self) -> Tensor:
        """``(N, L - K)`` int64: the masked patches, in their order behind the visible ones."""
        return self.restore.argsort(dim=1)[:, self.keep.shape[1] :]


def split(noise: Tensor, masked: int) -> Mask:
    """Mask the ``masked`` patches of largest ``noise`` (N, L) in each sample.

    Equal values are taken in the order of the patches, so that the mask does not depend on the device.
    """
    visible = noise.shape[1] - masked
    order = torch.argsort(noise, dim=1, stable=True)
    restore = torch.argsort(order, dim=1)
    return Mask(keep=order[:, :visible], mask=(restore >= visible).float(), restore=restore)


def _uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw U(0, 1) float32 on ``device``; a generator on the CPU draws the same masks for every device."""
    if generator is None:
        return torch.rand(shape, device=device)
    return torch.rand(shape, device=generator.device, generator=generator).to(device)
