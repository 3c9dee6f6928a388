"""What a vision transformer's tokens attend to: the attention of its blocks, and rollout through all of them.

Legend: N images, H heads, L patches, T = 1 + L tokens, the class token first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.models.encoder import embed, find_pool

Method = Literal["rollout", "last"]

#: Ways to see what a feature attends to.
METHODS: tuple[Method, ...] = ("rollout", "last")


@torch.no_grad()
def attention_maps(encoder: VisionTransformer, image: Tensor) -> list[Tensor]:
    """Return the attention (N, H, T, T) of each block: row i is what token i takes of each token.

    Parameters
    ----------
    encoder
        With a class token, in evaluation mode.
    image
        (N, C, rows, columns), normalised; nothing is masked.

    Raises
    ------
    ModelError
        The encoder has no class token or position table.
    """
    patches, first = embed(encoder, image)
    tokens = torch.cat([first.expand(len(patches), -1, -1).to(patches.dtype), patches], dim=1)
    maps = []
    for block in encoder.blocks:
        attention = block.attn
        assert isinstance(attention, Attention)
        qkv = attention.qkv(block.get_submodule("norm1")(tokens)).unflatten(2, (3, attention.num_heads, -1))
        query, key, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = attention.q_norm(query), attention.k_norm(key)
        maps.append(((query * attention.scale) @ key.transpose(-2, -1)).float().softmax(dim=-1))
        tokens = block(tokens)
    return maps


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Return how much of each input token is in each output token, (N, T, T); rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020, section 3): heads averaged, half of each token kept by the
    residual connection, the blocks multiplied.
    """
    whole = None
    for attention in maps:
        mixed = attention.mean(dim=1)
        mixed = (mixed + torch.eye(mixed.shape[-1], device=mixed.device)) / 2
        whole = mixed if whole is None else mixed @ whole
    assert whole is not None
    return whole


def patch_attention(maps: Sequence[Tensor], method: str, pool: str) -> Tensor:
    """Return what part of the attention each patch gets, (N, L) summing to 1.

    Parameters
    ----------
    method
        ``rollout`` through all blocks, or ``last`` for the last block alone, heads averaged.
    pool
        Whose attention: ``token``, that of the class token; ``avg``, the mean of all patches'. What goes to
        the class token itself is left out.

    Raises
    ------
    UnknownNameError
        There is no such method or pooling.
    """
    if method not in METHODS:
        raise UnknownNameError("way to follow attention", method, METHODS)
    whole = rollout(maps) if method == "rollout" else maps[-1].mean(dim=1)
    of_patches = find_pool(pool)(whole, 1)[:, 1:]
    return of_patches / of_patches.sum(dim=1, keepdim=True)
