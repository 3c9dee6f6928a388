"""Images into patches and back, and what a model predicts of a patch.

Sizes are (rows, columns) of pixels, or one number for a square.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skeltrain.models.errors import ModelError

#: One number for a square, or rows and columns.
Size = int | Sequence[int]


def pair(size: Size) -> tuple[int, int]:
    """Return rows and columns of a size; raises `ModelError` for anything but one or two whole numbers."""
    values = (size, size) if isinstance(size, int) else tuple(size)
    if len(values) != 2 or not all(isinstance(value, int) for value in values):
        raise ModelError(f"found the size {size!r}, expected one whole number, or rows and columns")
    return values[0], values[1]


def patch_grid(image_size: Size, patch_size: Size) -> tuple[int, int]:
    """Return rows and columns of patches; raises `ModelError` unless they tile the image."""
    (height, width), (rows, columns) = pair(image_size), pair(patch_size)
    tiles = 0 < rows <= height and 0 < columns <= width
    if not tiles or height % rows or width % columns:
        shown = f"{rows} x {columns}" if rows != columns else str(rows)
        raise ModelError(
            f"found image size {height} x {width} and patch size {shown}, "
            "expected patches that tile the image without rest"
        )
    return height // rows, width // columns


def patchify(image: Tensor, patch_size: Size) -> Tensor:
    """Cut ``image`` (N, C, rows, columns) into patches (N, L, P), with P pixels times channels in each.

    Patches go row by row; within a patch the order is pixel row, pixel column, channel, as in MAE.
    """
    samples, channels, height, width = image.shape
    high, wide = pair(patch_size)
    rows, columns = height // high, width // wide
    cut = image.reshape(samples, channels, rows, high, columns, wide)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(samples, rows * columns, high * wide * channels)


def unpatchify(patches: Tensor, patch_size: Size, grid: tuple[int, int]) -> Tensor:
    """Put ``patches`` (N, L, P) back into images (N, C, rows, columns)."""
    (rows, columns), (high, wide) = grid, pair(patch_size)
    cut = patches.reshape(len(patches), rows, columns, high, wide, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * high, columns * wide)


def pixel_targets(image: Tensor, patch_size: Size, normalise: bool) -> Tensor:
    """Return the patches (N, L, P) of ``image``, in float32 or better.

    With ``normalise``, each patch has zero mean and unit variance: the unbiased variance, plus 1e-6, as in
    MAE's code.
    """
    target = patchify(at_least_float32(image), patch_size)
    if normalise:
        mean = target.mean(dim=-1, keepdim=True)
        variance = target.var(dim=-1, keepdim=True, correction=1)
        target = (target - mean) / (variance + 1e-6).sqrt()
    return target


def check_image(image: Tensor, channels: int, size: tuple[int, int]) -> int:
    """Return the number of images; raises `ModelError` if they are not ``(N, channels, *size)``."""
    expected = (channels, *size)
    if image.ndim != 4 or image.shape[1:] != expected:
        raise ModelError(
            f"found images of shape {tuple(image.shape)}, expected (N, {', '.join(map(str, expected))}). "
            "Set the model's image_size and channels to those of the S2I images"
        )
    return image.shape[0]


def at_least_float32(value: Tensor) -> Tensor:
    """Widen half precision; float32 and float64 stay as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
