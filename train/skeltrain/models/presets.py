"""Sizes of models: the presets, and those of any plain vision transformer that timm knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from skelformats.errors import UnknownNameError
from skeltrain.models.encoder import CHANNELS, build_encoder
from skeltrain.models.errors import ModelError
from skeltrain.models.patches import Size, pair, patch_grid

#: A preset's name that begins so is a model of timm's.
TIMM_PREFIX = "timm/"

_SHOWN = 3


@dataclass(frozen=True)
class Preset:
    """Widths, depths and heads of an encoder and its decoder."""

    embed_dim: int
    depth: int
    num_heads: int
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int


#: vit_base, vit_large and vit_huge are MAE's (He et al. 2022; S2I uses ViT-B; MAE's ViT-H has patches of 14);
#: vit_small and vit_tiny are timm's encoders of these names, with decoders in proportion; vit_micro is for
#: demonstrations and tests on a CPU.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "vit_micro": Preset(96, 4, 3, 64, 2, 2),
        "vit_tiny": Preset(192, 12, 3, 128, 4, 4),
        "vit_small": Preset(384, 12, 6, 256, 4, 8),
        "vit_base": Preset(768, 12, 12, 512, 8, 16),
        "vit_large": Preset(1024, 24, 16, 512, 8, 16),
        "vit_huge": Preset(1280, 32, 16, 512, 8, 16),
    }
)


@dataclass(frozen=True)
class Sizes:
    """Everything about a model's size.

    Attributes
    ----------
    image_size, patch_size
        Pixels: one number for a square, or rows and columns.
    channels
        Of an image: three for each of its streams.
    embed_dim, depth, num_heads
        The encoder: width of its tokens, number of blocks, attention heads.
    mlp_ratio
        Width of a block's hidden layer over that of its tokens, in encoder and decoder.
    decoder_dim, decoder_depth, decoder_heads
        The decoder, or predictor.
    """

    image_size: Size = 224
    patch_size: Size = 16
    channels: int = CHANNELS
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; raises `ModelError` unless they tile the image."""
        return patch_grid(self.image_size, self.patch_size)

    @property
    def pixels(self) -> int:
        """Numbers in a patch: its pixels times the channels."""
        high, wide = pair(self.patch_size)
        return high * wide * self.channels

    def encoder(self) -> VisionTransformer:
        """Build the encoder, freshly initialised (`skeltrain.models.encoder.build_encoder`)."""
        return build_encoder(
            self.image_size,
            self.patch_size,
            self.embed_dim,
            self.depth,
            self.num_heads,
            self.mlp_ratio,
            self.channels,
        )


def preset_options(name: str) -> dict[str, Any]:
    """Return the sizes that a preset sets, by the names that `Sizes` has for them.

    Parameters
    ----------
    name
        One of `PRESETS`, or ``timm/`` and the name of a vision transformer of timm's, whose width, depth,
        heads, patch and image size are taken, with the decoder of the preset nearest in width.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    ModelError
        If timm has no such model, or one of another architecture than MAE's encoder.
    """
    if name.startswith(TIMM_PREFIX):
        return _timm_options(name)
    if name not in PRESETS:
        raise UnknownNameError("model preset", name, tuple(PRESETS))
    return asdict(PRESETS[name])


def split_options(name: str, options: Mapping[str, Any]) -> tuple[Sizes, dict[str, Any]]:
    """Return the sizes of a preset as ``options`` change them, and the options that are no sizes."""
    names = {field.name for field in fields(Sizes)}
    sizes = {key: value for key, value in options.items() if key in names}
    rest = {key: value for key, value in options.items() if key not in names}
    return Sizes(**{**preset_options(name), **sizes}), rest


def _timm_options(name: str) -> dict[str, Any]:
    """Read the sizes off a model of timm's, which is built without memory for its weights."""
    known = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(known):
        raise ModelError(
            f"found the preset {name!r}, which is not a model of timm's, expected for example "
            f"{TIMM_PREFIX}vit_small_patch32_224, or one of {', '.join(PRESETS)}"
        )
    with torch.device("meta"):
        theirs = timm.create_model(known, num_classes=0)
    if not isinstance(theirs, VisionTransformer):
        kind = type(theirs).__name__
        raise ModelError(f"found {name}, a model of type {kind}, expected a plain vision transformer")
    first, width = _first_block(theirs), theirs.embed_dim
    nearest = min(PRESETS.values(), key=lambda preset: abs(preset.embed_dim - width))
    options = {
        **asdict(nearest),
        "image_size": theirs.patch_embed.img_size,
        "patch_size": theirs.patch_embed.patch_size,
        "embed_dim": width,
        "depth": len(theirs.blocks),
        "num_heads": first.attn.num_heads,
        "mlp_ratio": first.mlp.fc1.out_features / width,
    }
    with torch.device("meta"):
        ours = Sizes(**options).encoder()
    _require_same(name, theirs, ours)
    return options


def _first_block(model: VisionTransformer) -> Any:
    return model.blocks[0]


def _require_same(name: str, theirs: VisionTransformer, ours: VisionTransformer) -> None:
    """Raise `ModelError` unless both compute the same from the same weights."""
    one, other = (
        {key: tuple(value.shape) for key, value in model.state_dict().items()} for model in (theirs, ours)
    )
    differing = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    activation = type(_first_block(theirs).mlp.act)
    if activation is not nn.GELU:
        differing.append(f"activation {activation.__name__}")
    if differing:
        shown = ", ".join(differing[:_SHOWN]) + (", ..." if len(differing) > _SHOWN else "")
        raise ModelError(
            f"found {name}, which differs from MAE's encoder in {shown}, "
            "expected a plain vision transformer with a class token, without layer scale or registers"
        )
