"""The masked autoencoder, on timm's transformer blocks.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022. Equal to the official code
in loss, prediction and gradients (tests/skeltrain/test_mae.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from skeltrain.models import encoder as vit
from skeltrain.models.attention import set_attention
from skeltrain.models.masking import check_noise, find_strategy, masked_count, split
from skeltrain.models.patches import Size, at_least_float32, check_image, pair, pixel_targets
from skeltrain.models.patches import patchify as patchify
from skeltrain.models.patches import unpatchify as unpatchify
from skeltrain.models.positions import sincos_table
from skeltrain.models.presets import PRESETS as PRESETS
from skeltrain.models.presets import Sizes, preset_options
from skeltrain.models.registry import Family


@dataclass(frozen=True, eq=False)
class MAEOutput:
    """What one forward pass of `MaskedAutoencoder` gives, for N images of L patches of which K are visible.

    Attributes
    ----------
    loss
        Scalar: mean squared error over all pixels of the masked patches. float32 under autocast.
    prediction
        ``(N, L, P)``: the pixels of every patch as the decoder has them, in the order of `patchify`.
    mask
        ``(N, L)`` float32: 1 where a patch was masked.
    ids_restore
        ``(N, L)`` int64: where each patch stands in the sequence "visible patches, then masked ones".
    latent
        ``(N, 1 + K, D)``: the encoder's class token and visible patches.
    """

    loss: Tensor
    prediction: Tensor
    mask: Tensor
    ids_restore: Tensor
    latent: Tensor


def build_mae(preset: str, attention: str = "fused", **options: Any) -> MaskedAutoencoder:
    """Build the model of that name.

    Parameters
    ----------
    preset
        Sizes of encoder and decoder (`skeltrain.models.presets.preset_options`).
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    options
        Those of `MaskedAutoencoder`; they win over the preset.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    ModelError
        If the sizes do not fit each other.
    """
    model = MaskedAutoencoder(**{**preset_options(preset), **options})
    set_attention(model, attention)
    return model


class MaskedAutoencoder(nn.Module):
    """Encode the visible patches of an image and predict the pixels of the masked ones.

    Parameters
    ----------
    image_size, patch_size
        Pixels: one number for a square, or rows and columns.
    embed_dim, depth, num_heads
        The encoder: width of its tokens, number of blocks, attention heads.
    decoder_dim, decoder_depth, decoder_heads
        The same for the decoder.
    mlp_ratio
        Width of a block's hidden layer over that of its tokens, in both.
    norm_pix_loss
        Predict each patch normalised to zero mean and unit (unbiased) variance, instead of its pixels.
        S2I predicts pixels; MAE's released weights were trained on normalised ones.
    mask_ratio
        Part of the patches to mask, rounded down to whole patches (`skeltrain.models.masking.masked_count`).
    masking
        Name of a masking strategy (`skeltrain.models.masking.find_strategy`).
    channels
        Of an image: three for each of its streams.

    Attributes
    ----------
    encoder
        A timm ``VisionTransformer`` with a class token and no head.
    decoder
        A `Decoder`.
    grid
        Rows and columns of patches.
    masked
        Number of patches that are masked in each image.

    Raises
    ------
    ModelError
        If the sizes do not fit each other.
    UnknownNameError
        If there is no such masking strategy.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: Size = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_pix_loss: bool = False,
        mask_ratio: float = 0.75,
        masking: str = "random",
        channels: int = vit.CHANNELS,
    ) -> None:
        super().__init__()
        self.sizes = Sizes(
            image_size,
            patch_size,
            channels,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio,
            decoder_dim,
            decoder_depth,
            decoder_heads,
        )
        self.grid = self.sizes.grid
        self.patch_size = patch_size
        self.norm_pix_loss = norm_pix_loss
        self.masked = masked_count(self.grid[0] * self.grid[1], mask_ratio)
        self.strategy = find_strategy(masking)
        self.encoder = self.sizes.encoder()
        self.decoder = Decoder(
            embed_dim, self.sizes.pixels, self.grid, decoder_dim, decoder_depth, decoder_heads, mlp_ratio
        )

    def draw(
        self, samples: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Draw what `forward` takes besides the images, a row for each of ``samples``.

        Draw for a whole step and hand each process its rows: then what a sample gets does not depend on
        the number of processes.
        """
        return {"noise": self.strategy(samples, self.grid, device, generator)}

    def forward(
        self, image: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> MAEOutput:
        """Mask, encode, decode and compare.

        Parameters
        ----------
        image
            ``(N, C, rows, columns)``, normalised.
        noise
            ``(N, L)``: the patches of largest noise are masked. Drawn by the masking strategy when not given.
        generator
            Where the strategy takes its random numbers from; torch's default generator when not given.

        Raises
        ------
        ModelError
            If the images are not of the size the model was built for, or ``noise`` not of their number.
        """
        samples = self._check_image(image)
        if noise is None:
            noise = self.draw(samples, image.device, generator)["noise"]
        check_noise(noise, samples, self.grid)
        mask = split(noise, self.masked)
        latent = vit.encode_visible(self.encoder, image, mask.keep)
        prediction = self.decoder(latent, mask.restore)
        loss = self.loss(image, prediction, mask.mask)
        return MAEOutput(loss, prediction, mask.mask, mask.restore, latent)

    def loss(self, image: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the pixels of masked patches, in float32 or better."""
        with torch.autocast(image.device.type, enabled=False):
            target = pixel_targets(image, self.patch_size, self.norm_pix_loss)
            error = (at_least_float32(prediction) - target).square().mean(dim=-1)
            return (error * mask).sum() / mask.sum()

    def features(self, image: Tensor, pool: str = "token") -> Tensor:
        """Return one feature vector (N, D) for each image, of which nothing is masked (`encoder.features`).

        Put the model in ``eval()`` and under ``torch.no_grad()`` first, unless the encoder is being trained.
        """
        self._check_image(image)
        return vit.features(self.encoder, image, pool)

    def _check_image(self, image: Tensor) -> int:
        return check_image(image, self.sizes.channels, pair(self.sizes.image_size))


class Decoder(nn.Module):
    """Predict the pixels of every patch from the encoder's tokens; small, and thrown away after pretraining.

    Parameters
    ----------
    encoder_dim
        Width of the encoder's tokens.
    pixels
        Numbers to predict for each patch.
    grid
        Rows and columns of patches.
    dim, depth, num_heads, mlp_ratio
        Width, number of blocks, attention heads, and hidden width over width.
    """

    def __init__(
        self,
        encoder_dim: int,
        pixels: int,
        grid: tuple[int, int],
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        vit.check_heads(dim, num_heads)
        self.embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(sincos_table(dim, *grid)[None], requires_grad=False)
        self.blocks = nn.Sequential(
            *[Block(dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=True) for _ in range(depth)]
        )
        self.norm = LayerNorm(dim)
        self.pred = nn.Linear(dim, pixels)
        nn.init.normal_(self.mask_token, std=vit.TOKEN_STD)
        self.apply(vit.initialise)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Return ``(N, L, pixels)`` from ``latent`` (N, 1 + K, D) and ``restore`` (N, L)."""
        tokens = self.embed(latent)
        samples, patches = restore.shape
        hidden = patches + 1 - tokens.shape[1]
        fill = self.mask_token.to(tokens.dtype).expand(samples, hidden, -1)
        shuffled = torch.cat([tokens[:, 1:], fill], dim=1)
        ordered = shuffled.gather(1, restore[:, :, None].expand(-1, -1, shuffled.shape[-1]))
        tokens = torch.cat([tokens[:, :1], ordered], dim=1) + self.pos_embed
        return self.pred(self.norm(self.blocks(tokens)))[:, 1:]


#: Masked autoencoders, as checkpoints name them.
FAMILY = Family("mae", build_mae, lambda model: model.get_submodule("encoder"))
