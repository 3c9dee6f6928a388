"""Augmentation in joint space, on the device, before the encoding (S2I paper, section A.3).

Each sample gets one draw, shared by its persons and frames: first the mirror, then x' = s·R·x + t about the
origin of the sequence, then noise.

A missing joint is 0 in every axis where the cleaning chain leaves it there (`none`), and stays 0 here. The
chains that translate have moved it to minus the origin with all the rest, as in the arrays that SGN and
CTR-GCN publish; their feeders rotate such a joint with the body, and so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelformats.skeleton import Skeleton
from skeltrain.data.augment_kernel import augment_rows
from skeltrain.sections import Augment


@dataclass(frozen=True, eq=False)
class Draw:
    """The transformation of each of N samples.

    Attributes
    ----------
    flip
        (N,) bool: mirror the sample.
    matrix
        (N, 3, 3) float32: rotation times scale.
    shift
        (N, 3) float32.
    noise
        (N,) float32 standard deviation of the noise.
    """

    flip: Tensor
    matrix: Tensor
    shift: Tensor
    noise: Tensor

    def take(self, part: slice | NDArray[np.intp], device: torch.device) -> Draw:
        """Keep the samples of ``part``, a stretch or the number of each, on ``device``."""
        chosen = part if isinstance(part, slice) else torch.from_numpy(part)
        kept = (value[chosen].to(device) for value in (self.flip, self.matrix, self.shift, self.noise))
        return Draw(*kept)


def draw(samples: int, settings: Augment, generator: torch.Generator) -> Draw:
    """Draw a transformation for each sample, from a generator on the CPU: the same for every device."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(samples, *shape, generator=generator)

    flip = uniform() < settings.flip
    angles = (2 * uniform(3) - 1) * torch.tensor(settings.rotate)
    low, high = settings.scale
    scale = low + (high - low) * uniform()
    shift = (2 * uniform(3) - 1) * settings.translate
    noisy = uniform() < settings.noise_probability
    return Draw(flip, rotation(angles) * scale[:, None, None], shift, noisy * settings.noise)


def rotation(angles: Tensor) -> Tensor:
    """Return Rz·Ry·Rx (N, 3, 3) for angles (N, 3) about x, y and z, in radians."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().T, angles.sin().T
    zero, one = torch.zeros_like(cx), torch.ones_like(cx)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], dim=1).view(-1, 3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], dim=1).view(-1, 3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    return about_z @ about_y @ about_x


class JointAugment:
    """Transforms the rows of a ragged batch of one layout."""

    def __init__(self, skeleton: Skeleton, device: torch.device) -> None:
        self._mirror = torch.tensor(skeleton.mirror, device=device)
        # The origin is at 0 because everything was moved there, not because it is missing.
        self._may_be_missing = torch.ones(len(skeleton), 1, dtype=torch.bool, device=device)
        self._may_be_missing[list(skeleton.origin)] = False

    def __call__(self, position: Tensor, sample: Tensor, drawn: Draw, noise: Tensor | None = None) -> Tensor:
        """Transform rows; on a CPU by a compiled kernel, which gives the same bits in fewer passes.

        Parameters
        ----------
        position
            (R, J, 3) float32.
        sample
            (R,) int64: which sample of ``drawn`` a row belongs to.
        noise
            (R, J, 3) standard normal numbers, or None for no noise.

        Returns
        -------
        (R, J, 3) float32.
        """
        if position.device.type == "cpu" and position.dtype == torch.float32:
            return self._on_cpu(position, sample, drawn, noise)
        return self.by_tensors(position, sample, drawn, noise)

    def _on_cpu(self, position: Tensor, sample: Tensor, drawn: Draw, noise: Tensor | None) -> Tensor:
        def array(values: Tensor) -> NDArray[Any]:
            return values.contiguous().numpy()

        out = torch.empty_like(position, memory_format=torch.contiguous_format)
        chance = position[:0] if noise is None else noise
        augment_rows(
            (array(position), array(sample), array(chance), array(out)),
            (array(drawn.flip), array(drawn.matrix), array(drawn.shift), array(drawn.noise)),
            (array(self._mirror), array(self._may_be_missing[:, 0])),
        )
        return out

    def by_tensors(
        self, position: Tensor, sample: Tensor, drawn: Draw, noise: Tensor | None = None
    ) -> Tensor:
        """Transform rows by tensor operations alone, as a call does away from the CPU; same arguments."""
        flipped = position[:, self._mirror]
        flipped[..., 0].neg_()
        position = torch.where(drawn.flip[sample][:, None, None], flipped, position)
        missing = (position == 0).all(dim=-1, keepdim=True) & self._may_be_missing
        # Sums of products, not a matrix product, which may run as TF32 and move a joint by millimetres.
        matrix = drawn.matrix[sample][:, None]
        x, y, z = position[..., None].unbind(dim=-2)
        moved = x * matrix[..., 0] + y * matrix[..., 1] + z * matrix[..., 2] + drawn.shift[sample][:, None]
        if noise is not None:
            moved = moved + noise * drawn.noise[sample][:, None, None]
        return moved.masked_fill(missing, 0.0)
