"""A vision transformer alone, for training without pretraining: the encoder of every other family here."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer

from skeltrain.models.attention import set_attention
from skeltrain.models.presets import split_options
from skeltrain.models.registry import Family


def build_vit(preset: str, attention: str = "fused", **options: Any) -> VisionTransformer:
    """Build the encoder of that name, freshly initialised and without a head.

    Parameters
    ----------
    preset
        Sizes (`skeltrain.models.presets.preset_options`); what it says of a decoder is not used.
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    options
        Fields of `skeltrain.models.presets.Sizes`; they win over the preset.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    ModelError
        If the sizes do not fit each other.
    TypeError
        If an option is no size.
    """
    sizes, rest = split_options(preset, options)
    if rest:
        raise TypeError(f"unexpected {', '.join(rest)}")
    encoder = sizes.encoder()
    set_attention(encoder, attention)
    return encoder


#: Vision transformers, as checkpoints name them.
FAMILY = Family("vit", build_vit, lambda model: model)
