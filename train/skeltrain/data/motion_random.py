"""One way to draw numbers for motion, whichever generator and kind of array the caller has.

The functions of `skeltrain.data.motion` take numpy arrays or torch tensors and give back the same kind. Their
randomness comes from a generator that is passed in: numpy's new or old kind (`numpy.random.RandomState` draws
what the released code of MotionBERT draws after ``numpy.random.seed``), or torch's.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", Tensor, NDArray[Any])
Randomness = np.random.Generator | np.random.RandomState | torch.Generator


def as_tensor(value: Tensor | NDArray[Any]) -> Tensor:
    """Return a tensor that may share memory; half precision becomes float32, whose steps a pixel can bear."""
    tensor = torch.from_numpy(_writable(value)) if isinstance(value, np.ndarray) else value
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def like(example: Tensor | NDArray[Any], result: Tensor) -> Any:
    """Return ``result`` as the kind of array that ``example`` is."""
    return result.numpy() if isinstance(example, np.ndarray) else result


def uniform(generator: Randomness, shape: tuple[int, ...], to: Tensor) -> Tensor:
    """Draw numbers of [0, 1) with the type and on the device of ``to``."""
    if isinstance(generator, torch.Generator):
        # float32 whatever the type: the sequence of draws depends on it
        return torch.rand(shape, generator=generator, device=generator.device).to(to)
    if isinstance(generator, np.random.RandomState):
        return torch.as_tensor(generator.random_sample(shape)).to(to)
    return torch.as_tensor(generator.random(shape)).to(to)


def normal(generator: Randomness, shape: tuple[int, ...], to: Tensor) -> Tensor:
    """Draw standard normal numbers with the type and on the device of ``to``."""
    if isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, device=generator.device).to(to)
    return torch.as_tensor(generator.standard_normal(shape)).to(to)


def whole(generator: Randomness, below: int, count: int | None = None) -> NDArray[np.int64]:
    """Draw whole numbers of 0 to ``below`` - 1: an array, or without ``count`` one of no axes."""
    shape = () if count is None else (count,)
    if isinstance(generator, torch.Generator):
        drawn = torch.randint(below, shape, generator=generator, device=generator.device)
        return drawn.cpu().numpy()
    if isinstance(generator, np.random.RandomState):
        return np.asarray(generator.randint(below, size=count), np.int64)
    return np.asarray(generator.integers(below, size=count), np.int64)


def _writable(value: NDArray[Any]) -> NDArray[Any]:
    """Copy a read-only array, which torch would warn of; nothing here writes into what it is given."""
    return value if value.flags.writeable and min(value.strides, default=0) >= 0 else value.copy()
