"""Reading the figures of MotionBERT's official code: npz files whose keys are paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TINY: dict[str, Any] = {
    "dim_feat": 32,
    "dim_rep": 16,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_joints": 17,
    "maxlen": 27,
}
"""The network of the figures."""


class Figures:
    """The arrays of one file, as torch tensors."""

    def __init__(self, golden: Path, name: str) -> None:
        self.arrays = dict(np.load(golden / "motionbert" / f"{name}.npz", allow_pickle=False))

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def number(self, key: str) -> float:
        return float(self.arrays[key])

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Arrays of numbers by the rest of their key."""
        return {
            key.removeprefix(prefix): self[key]
            for key, value in self.arrays.items()
            if key.startswith(prefix) and value.dtype.kind != "U"
        }


def close(found: Any, expected: Any, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    found, expected = (
        value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for value in (found, expected)
    )
    np.testing.assert_allclose(found, expected, atol=atol, rtol=rtol)
