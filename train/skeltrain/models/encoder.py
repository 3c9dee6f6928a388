"""The encoder: a timm vision transformer, used whole for features and on visible patches in pretraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from timm.layers.drop import DropPath
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError
from skeltrain.models.patches import Size, pair
from skeltrain.models.patches import patch_grid as patch_grid
from skeltrain.models.positions import sincos_table

#: Channels of an S2I image of one stream: x, y and z.
CHANNELS = 3

#: Standard deviation of a new class or mask token (MAE, BEiT).
TOKEN_STD = 0.02


def build_encoder(
    image_size: Size = 224,
    patch_size: Size = 16,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    channels: int = CHANNELS,
    drop_path: float = 0.0,
) -> VisionTransformer:
    """Build a timm vision transformer as MAE has it, freshly initialised and without a head.

    Its keys are those of timm's ``vit_*_patch16_224`` and of MAE's released files. The position table is
    MAE's sine-cosine table and frozen, as in pretraining; ``encoder.pos_embed.requires_grad_(True)``
    lets fine-tuning learn it.

    Parameters
    ----------
    image_size, patch_size
        Pixels: one number for a square, or rows and columns.
    channels
        Three for each stream of the images.
    drop_path
        Probability with which a sample skips the last block (Huang et al. 2016); it grows linearly from 0 in
        the first. For fine-tuning; pretraining has none.

    Raises
    ------
    ModelError
        If the patches do not tile the image, the heads do not divide the width, or there is no channel.
    """
    rows, columns = patch_grid(image_size, patch_size)
    check_heads(embed_dim, num_heads)
    if channels < 1 or not 0 <= drop_path < 1:
        raise ModelError(
            f"found {channels} channels and a drop path of {drop_path:g}, "
            "expected at least one channel, and a probability below 1"
        )
    encoder = VisionTransformer(
        img_size=pair(image_size),
        patch_size=pair(patch_size),
        in_chans=channels,
        num_classes=0,
        global_pool="token",
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        qkv_bias=True,
        drop_path_rate=drop_path,
        norm_layer=LayerNorm,  # with epsilon 1e-6, as MAE; torch's own has 1e-5
        weight_init="skip",
    )
    encoder.pos_embed = nn.Parameter(sincos_table(embed_dim, rows, columns)[None], requires_grad=False)
    encoder.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim).normal_(std=TOKEN_STD))
    encoder.apply(initialise)
    return encoder


def set_drop_path(encoder: VisionTransformer, rate: float) -> None:
    """Let samples skip blocks in training mode, as ``drop_path`` of `build_encoder`; nothing else changes.

    Raises
    ------
    ModelError
        If ``rate`` is not a probability below 1.
    """
    if not 0 <= rate < 1:
        raise ModelError(f"found a drop path of {rate:g}, expected a probability below 1")
    for block, own in zip(encoder.blocks, torch.linspace(0, rate, len(encoder.blocks)).tolist(), strict=True):
        block.drop_path1 = DropPath(own) if own > 0 else nn.Identity()
        block.drop_path2 = DropPath(own) if own > 0 else nn.Identity()


def initialise(module: nn.Module) -> None:
    """Initialise one layer as MAE does; for `torch.nn.Module.apply`.

    Linear layers, and the patch embedding seen as one, get Xavier-uniform weights and no bias;
    normalisations start as the identity.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.data.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def encode_visible(encoder: VisionTransformer, image: Tensor, keep: Tensor) -> Tensor:
    """Encode only the patches that are visible.

    Parameters
    ----------
    encoder
        A vision transformer with a class token.
    image
        ``(N, C, rows, columns)``.
    keep
        ``(N, K)`` int64, the visible patches (`skeltrain.models.masking.Mask`).

    Returns
    -------
    Tensor
        ``(N, 1 + K, D)``: class token and visible patches after the final normalisation.

    Raises
    ------
    ModelError
        If the encoder has no class token, or no position table.
    """
    return encoder.norm(encoder.blocks(embed_visible(encoder, image, keep)))


def encode_levels(encoder: VisionTransformer, image: Tensor, keep: Tensor) -> list[Tensor]:
    """Return what each block of the encoder gives, ``(N, 1 + K, D)``; the last of them normalised."""
    tokens, levels = embed_visible(encoder, image, keep), []
    for block in encoder.blocks:
        tokens = block(tokens)
        levels.append(tokens)
    levels[-1] = encoder.norm(tokens)
    return levels


def embed_visible(encoder: VisionTransformer, image: Tensor, keep: Tensor) -> Tensor:
    """Return class token and visible patches, ``(N, 1 + K, D)``, as the encoder's first block gets them."""
    patches, first = embed(encoder, image)
    visible = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[-1]))
    return torch.cat([first.expand(visible.shape[0], -1, -1).to(visible.dtype), visible], dim=1)


def embed(encoder: VisionTransformer, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return all patches (N, L, D) and the class token (1, 1, D), with their positions added."""
    token, position = encoder.cls_token, encoder.pos_embed
    if token is None or position is None:
        raise ModelError("found an encoder without class token or position table, expected one with both")
    return encoder.patch_embed(image) + position[:, 1:], token + position[:, :1]


def _class_token(tokens: Tensor, prefix: int) -> Tensor:
    return tokens[:, 0]


def _patch_mean(tokens: Tensor, prefix: int) -> Tensor:
    return tokens[:, prefix:].mean(dim=1)


#: How tokens (N, prefix + L, D) become one feature (N, D). `avg` is timm's word, `mean` says what it is.
POOLS: Mapping[str, Callable[[Tensor, int], Tensor]] = MappingProxyType(
    {"token": _class_token, "avg": _patch_mean, "mean": _patch_mean}
)


def features(encoder: VisionTransformer, image: Tensor, pool: str = "token") -> Tensor:
    """Return one feature vector for each image.

    Parameters
    ----------
    encoder
        A vision transformer with a class token.
    image
        ``(N, C, rows, columns)``, normalised as in pretraining; nothing is masked.
    pool
        ``token`` takes the class token, ``avg`` (or ``mean``) averages the patch tokens; both after the
        final normalisation, whose weights are pretrained, so that no untrained layer comes after it.

    Returns
    -------
    Tensor
        ``(N, D)``.

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    """
    return find_pool(pool)(encoder.forward_features(image), encoder.num_prefix_tokens)


def find_pool(name: str) -> Callable[[Tensor, int], Tensor]:
    """Return the pooling of that name; raises `UnknownNameError` with the names that exist."""
    try:
        return POOLS[name]
    except KeyError:
        raise UnknownNameError("pooling", name, tuple(POOLS)) from None


def check_heads(dim: int, heads: int) -> None:
    """Raise `ModelError` unless ``heads`` divide ``dim``."""
    if heads < 1 or dim % heads:
        raise ModelError(
            f"found width {dim} and {heads} attention heads, expected heads that divide the width"
        )
