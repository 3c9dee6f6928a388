"""The masked autoencoder, on timm's transformer blocks.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022. Equal to the official code
in loss, prediction and gradients (tests/skeltrain/test_mae.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models import encoder as vit
from skeltrain.models.errors import ModelError
from skeltrain.models.masking import find_strategy, masked_count, split
from skeltrain.models.positions import sincos_table
from skeltrain.models.registry import Family


@dataclass(frozen=True)
class MAEOutput:
    """What one forward pass of `MaskedAutoencoder` gives, for N images of L patches of which K are visible.

    Attributes
    ----------
    loss
        Scalar: mean squared error over all pixels of the masked patches. float32 under autocast.
    prediction
        ``(N, L, patch_size ** 2 * 3)``: every patch as the decoder has it, in the order of `patchify`.
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


@dataclass(frozen=True)
class Preset:
    """Widths, depths and heads of an encoder and its decoder."""

    embed_dim: int
    depth: int
    num_heads: int
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int


#: vit_base is MAE's ViT-B, which S2I uses too; vit_small and vit_tiny are timm's encoders of these names,
#: with decoders in proportion; vit_micro is for demonstrations and tests on a CPU.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "vit_micro": Preset(96, 4, 3, 64, 2, 2),
        "vit_tiny": Preset(192, 12, 3, 128, 4, 4),
        "vit_small": Preset(384, 12, 6, 256, 4, 8),
        "vit_base": Preset(768, 12, 12, 512, 8, 16),
    }
)


def build_mae(preset: str, **options: Any) -> MaskedAutoencoder:
    """Build the model of that name; ``options`` are those of `MaskedAutoencoder`, and win over the preset.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    """
    if preset not in PRESETS:
        raise UnknownNameError("model preset", preset, tuple(PRESETS))
    return MaskedAutoencoder(**{**asdict(PRESETS[preset]), **options})


class MaskedAutoencoder(nn.Module):
    """Encode the visible patches of an image and predict the pixels of the masked ones.

    Parameters
    ----------
    image_size
        Pixels, one number for a square or (rows, columns).
    patch_size
        Pixels along the side of a patch.
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
        Name of a masking strategy (`skeltrain.models.masking.STRATEGIES`).

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
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
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
    ) -> None:
        super().__init__()
        self.grid = vit.patch_grid(image_size, patch_size)
        self.patch_size = patch_size
        self.norm_pix_loss = norm_pix_loss
        self.masked = masked_count(self.grid[0] * self.grid[1], mask_ratio)
        self.strategy = find_strategy(masking)
        self.encoder = vit.build_encoder(image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        pixels = patch_size**2 * vit.CHANNELS
        self.decoder = Decoder(
            embed_dim, pixels, self.grid, decoder_dim, decoder_depth, decoder_heads, mlp_ratio
        )

    def forward(
        self, image: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> MAEOutput:
        """Mask, encode, decode and compare.

        Parameters
        ----------
        image
            ``(N, 3, rows, columns)``, normalised.
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
            noise = self.strategy(samples, self.grid, image.device, generator)
        elif noise.shape != (samples, self.grid[0] * self.grid[1]):
            raise ModelError(
                f"found noise of shape {tuple(noise.shape)}, "
                f"expected ({samples}, {self.grid[0] * self.grid[1]}): one number for each patch"
            )
        mask = split(noise, self.masked)
        latent = vit.encode_visible(self.encoder, image, mask.keep)
        prediction = self.decoder(latent, mask.restore)
        loss = self.loss(image, prediction, mask.mask)
        return MAEOutput(loss, prediction, mask.mask, mask.restore, latent)

    def loss(self, image: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the pixels of masked patches, in float32 or better."""
        with torch.autocast(image.device.type, enabled=False):
            image, prediction = _at_least_float32(image), _at_least_float32(prediction)
            target = patchify(image, self.patch_size)
            if self.norm_pix_loss:
                mean = target.mean(dim=-1, keepdim=True)
                variance = target.var(dim=-1, keepdim=True, correction=1)
                target = (target - mean) / (variance + 1e-6).sqrt()
            error = (prediction - target).square().mean(dim=-1)
            return (error * mask).sum() / mask.sum()

    def features(self, image: Tensor, pool: str = "token") -> Tensor:
        """Return one feature vector (N, D) for each image, of which nothing is masked (`encoder.features`).

        Put the model in ``eval()`` and under ``torch.no_grad()`` first, unless the encoder is being trained.
        """
        self._check_image(image)
        return vit.features(self.encoder, image, pool)

    def _check_image(self, image: Tensor) -> int:
        expected = (vit.CHANNELS, self.grid[0] * self.patch_size, self.grid[1] * self.patch_size)
        if image.ndim != 4 or image.shape[1:] != expected:
            raise ModelError(
                f"found images of shape {tuple(image.shape)}, expected (N, {', '.join(map(str, expected))}). "
                "Set the model's image_size to the size of the S2I images"
            )
        return image.shape[0]


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


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """Cut ``image`` (N, C, rows, columns) into patches (N, L, patch_size ** 2 * C).

    Patches go row by row; within a patch the order is pixel row, pixel column, channel, as in MAE.
    """
    samples, channels, height, width = image.shape
    rows, columns = height // patch_size, width // patch_size
    cut = image.reshape(samples, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(samples, rows * columns, patch_size**2 * channels)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Put ``patches`` (N, L, patch_size ** 2 * C) back into images (N, C, rows, columns)."""
    rows, columns = grid
    cut = patches.reshape(len(patches), rows, columns, patch_size, patch_size, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * patch_size, columns * patch_size)


def _at_least_float32(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


#: Masked autoencoders, as checkpoints name them.
FAMILY = Family("mae", build_mae, lambda model: model.get_submodule("encoder"))
