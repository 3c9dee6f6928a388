"""Augmentation in image space: what a reader of the S2I paper's list does with torchvision (section A.2).

The operations are those of pictures: the columns are reversed, the image is turned, scaled and moved, what
comes in from outside is 0, and noise is added to the pixels. Rows of an S2I image are time and columns are
joints, so none of it is a motion that a body could make; joint space (`skeltrain.data.augment`) is the
default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skeltrain.sections import Augment


@dataclass(frozen=True, eq=False)
class ImageDraw:
    """The transformation of each of N images.

    Attributes
    ----------
    flip
        (N,) bool: reverse the columns.
    angle
        (N,) float32 radians.
    scale
        (N,) float32.
    shift
        (N, 2) float32: to the right and down, as parts of the width and the height.
    noise
        (N,) float32: standard deviation of the noise, as part of each channel's.
    """

    flip: Tensor
    angle: Tensor
    scale: Tensor
    shift: Tensor
    noise: Tensor

    def take(self, part: slice, device: torch.device) -> ImageDraw:
        """Keep the images of ``part``, on ``device``."""
        kept = (self.flip, self.angle, self.scale, self.shift, self.noise)
        return ImageDraw(*(value[part].to(device) for value in kept))


def draw_images(samples: int, settings: Augment, generator: torch.Generator) -> ImageDraw:
    """Draw a transformation for each image, from a generator on the CPU: the same for every device."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(samples, *shape, generator=generator)

    flip = uniform() < settings.flip
    angle = (2 * uniform() - 1) * settings.rotate[0]
    low, high = settings.scale
    scale = low + (high - low) * uniform()
    shift = (2 * uniform(2) - 1) * settings.translate
    noisy = uniform() < settings.noise_probability
    return ImageDraw(flip, angle, scale, shift, noisy * settings.noise)


def augment_images(image: Tensor, drawn: ImageDraw, std: Tensor, noise: Tensor | None = None) -> Tensor:
    """Transform images, all at once.

    Parameters
    ----------
    image
        (N, C, rows, columns) float32, not normalised.
    drawn
        Of the N images, on their device.
    std
        (C,) standard deviation of each channel, by which noise is scaled.
    noise
        (N, C, rows, columns) standard normal numbers, or None for no noise.

    Returns
    -------
    (N, C, rows, columns) float32: an image that is neither turned, scaled nor moved comes back bit for bit.
    """
    image = torch.where(drawn.flip[:, None, None, None], image.flip(3), image)
    grid = functional.affine_grid(_inverse(drawn, image), list(image.shape), align_corners=False)
    moved = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    still = (drawn.angle == 0) & (drawn.scale == 1) & (drawn.shift == 0).all(dim=1)
    image = torch.where(still[:, None, None, None], image, moved)
    if noise is None:
        return image
    return image + noise * (drawn.noise[:, None] * std.to(image.dtype))[:, :, None, None]


def _inverse(drawn: ImageDraw, image: Tensor) -> Tensor:
    """(N, 2, 3): where each pixel comes from, in coordinates that run from -1 to 1 along both sides.

    Turning is about the centre and by pixels, so that a rectangle is not sheared.
    """
    rows, columns = image.shape[2:]
    cosine, sine = drawn.angle.cos() / drawn.scale, drawn.angle.sin() / drawn.scale
    across, along = columns / rows, rows / columns
    matrix = torch.stack([cosine, sine * along, -sine * across, cosine], dim=1).view(-1, 2, 2)
    # a shift by the whole side is 2 in these coordinates
    shift = -(matrix @ (2 * drawn.shift)[:, :, None])
    return torch.cat([matrix, shift], dim=2)
