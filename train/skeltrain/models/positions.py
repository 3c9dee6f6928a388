"""The fixed two-dimensional sine-cosine position table, in the layout of MAE's weights."""

from __future__ import annotations

import torch
from torch import Tensor

from skeltrain.models.errors import ModelError

#: Longest wavelength over 2 pi (He et al. 2022, section A.1, after Vaswani et al. 2017, section 3.5).
TEMPERATURE = 10_000.0


def sincos_table(dim: int, rows: int, columns: int) -> Tensor:
    """Return the position table of a grid of patches and the class token before them.

    The first half of the dimensions encodes the column, the second half the row; within each half the sines
    come first, then the cosines. The class token's row is zero. timm's `build_sincos2d_pos_embed` orders
    the dimensions otherwise in all of its variants, and does not fit MAE's weights.

    Parameters
    ----------
    dim
        Width of the tokens, a multiple of 4.
    rows, columns
        The grid; patches are numbered row by row.

    Returns
    -------
    Tensor
        ``(1 + rows * columns, dim)`` float32, computed in float64.

    Raises
    ------
    ModelError
        If ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ModelError(
            f"found a token width of {dim}, expected a multiple of 4 (sine and cosine, for rows and columns)"
        )
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    patches = torch.cat([_waves(column.flatten(), dim // 2), _waves(row.flatten(), dim // 2)], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), patches]).float()


def _waves(position: Tensor, dim: int) -> Tensor:
    """Return ``(P, dim)``: sines, then cosines, of ``position`` (P,) at ``dim / 2`` frequencies."""
    count = dim // 2
    frequency = TEMPERATURE ** -(torch.arange(count, dtype=torch.float64) / count)
    angle = torch.outer(position, frequency)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
