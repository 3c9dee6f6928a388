"""The decoders of the diffusion masked autoencoder: what hidden patches attend to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from skelformats.errors import UnknownNameError
from skeltrain.models.attention import CrossAttention
from skeltrain.models.encoder import check_heads, initialise
from skeltrain.models.errors import ModelError
from skeltrain.models.masking import Mask
from skeltrain.models.positions import TEMPERATURE, sincos_table
from skeltrain.models.presets import Sizes

#: Width of the sine-cosine embedding of a step (Peebles and Xie 2023, DiT).
TIME_DIM = 256

#: What each decoder's hidden patches attend to.
DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "cross": "the visible patches",
        "cross_self": "the visible patches, then each other",
        "joint": "all patches at once",
    }
)

KEYS_AND_VALUES = ("last", "top_down")
TIME = ("add", "none")


class DiffusionDecoder(nn.Module):
    """Predict the clean pixels of hidden patches from noisy ones and the encoder's tokens.

    Every token gets the position of its patch, clean and noisy ones have projections of their own, and the
    class token is attended to like a visible patch (S2I, section A.1).

    Parameters
    ----------
    sizes
        Width, depth and heads are ``decoder_*``.
    kind, kv, time
        ``decoder``, ``kv`` and ``time`` of `skeltrain.models.diffmae.Diffusion`.

    Raises
    ------
    UnknownNameError
        If there is no such decoder, or no such choice.
    ModelError
        If the sizes do not fit, or ``top_down`` is asked of the joint decoder, which attends to one level.
    """

    def __init__(self, sizes: Sizes, kind: str = "cross", kv: str = "last", time: str = "add") -> None:
        super().__init__()
        for what, name, known in (
            ("diffusion decoder", kind, tuple(DECODERS)),
            ("source of keys and values", kv, KEYS_AND_VALUES),
            ("way of telling the time", time, TIME),
        ):
            if name not in known:
                raise UnknownNameError(what, name, known)
        if kind == "joint" and kv == "top_down":
            raise ModelError("found the joint decoder with kv 'top_down', expected kv 'last' for it")
        dim, depth, heads = sizes.decoder_dim, sizes.decoder_depth, sizes.decoder_heads
        check_heads(dim, heads)
        self.joint = kind == "joint"
        self.levels = _levels(sizes.depth, depth) if kv == "top_down" else [-1] * depth
        used = sorted(set(self.levels))
        self.level_norms = nn.ModuleDict(
            {str(level): LayerNorm(sizes.embed_dim) for level in used if level not in (-1, sizes.depth - 1)}
        )
        self.embed = nn.Linear(sizes.embed_dim, dim)
        self.embed_noisy = nn.Linear(sizes.pixels, dim)
        self.time = None if time == "none" else TimeEmbedding(dim)
        self.pos_embed = nn.Parameter(sincos_table(dim, *sizes.grid)[None], requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=sizes.mlp_ratio, qkv_bias=True)
            if self.joint
            else CrossBlock(dim, heads, sizes.mlp_ratio, attend_to_each_other=kind == "cross_self")
            for _ in range(depth)
        )
        self.norm = LayerNorm(dim)
        self.pred = nn.Linear(dim, sizes.pixels)
        self.apply(initialise)

    def forward(self, levels: list[Tensor], noisy: Tensor, mask: Mask, step: Tensor) -> Tensor:
        """Return the clean pixels ``(N, M, P)`` of the hidden patches.

        Parameters
        ----------
        levels
            Outputs ``(N, 1 + K, D)`` of the encoder's blocks, or of the last one alone.
        noisy
            ``(N, M, P)``: pixels of the hidden patches with noise, in the order of ``mask.hidden``.
        mask
            Which patches are visible, and which hidden.
        step
            ``(N,)`` int64 step of the diffusion.
        """
        hidden = self.embed_noisy(noisy) + self._positions(mask.hidden)
        if self.time is not None:
            hidden = hidden + self.time(step)[:, None]
        visible = {level: self._context(levels, level, mask) for level in set(self.levels)}
        if self.joint:
            tokens = torch.cat([visible[-1].to(hidden.dtype), hidden], dim=1)
            for block in self.blocks:
                tokens = block(tokens)
            hidden = tokens[:, -hidden.shape[1] :]
        else:
            for block, level in zip(self.blocks, self.levels, strict=True):
                hidden = block(hidden, visible[level])
        return self.pred(self.norm(hidden))

    def _context(self, levels: list[Tensor], level: int, mask: Mask) -> Tensor:
        """Return class token and visible patches ``(N, 1 + K, dim)`` as the decoder's blocks get them."""
        tokens = levels[level]
        if str(level) in self.level_norms:  # the encoder normalises its last output itself
            tokens = self.level_norms[str(level)](tokens)
        tokens = self.embed(tokens)
        first = self.pos_embed[:, :1].expand(len(tokens), -1, -1)
        return tokens + torch.cat([first, self._positions(mask.keep)], dim=1)

    def _positions(self, patches: Tensor) -> Tensor:
        return self.pos_embed[0, 1:][patches]


class CrossBlock(nn.Module):
    """A transformer block whose tokens attend to others.

    ``x + CA(LN x, context)``, then ``x + SA(LN x)`` if the tokens also attend to each other, then
    ``x + MLP(LN x)``. Without self-attention it has exactly as many parameters as a block of MAE's decoder.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, attend_to_each_other: bool) -> None:
        super().__init__()
        self.norm_cross = LayerNorm(dim)
        self.cross = CrossAttention(dim, heads)
        self.norm1 = LayerNorm(dim) if attend_to_each_other else None
        self.attn = Attention(dim, heads, qkv_bias=True) if attend_to_each_other else None
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return ``(N, M, dim)`` for ``x`` (N, M, dim) and ``context`` (N, K, dim)."""
        x = x + self.cross(self.norm_cross(x), context)
        if self.norm1 is not None and self.attn is not None:
            x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TimeEmbedding(nn.Module):
    """The step of the diffusion as a vector: cosines and sines of it, then two linear layers (as in DiT)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(TIME_DIM, dim)
        self.second = nn.Linear(dim, dim)

    def forward(self, step: Tensor) -> Tensor:
        """Return ``(N, dim)`` for ``step`` (N,)."""
        half = TIME_DIM // 2
        kind = torch.promote_types(self.first.weight.dtype, torch.float32)
        exponent = torch.arange(half, device=step.device, dtype=kind) / half
        angle = step[:, None].to(kind) * torch.exp(-math.log(TEMPERATURE) * exponent)
        waves = torch.cat([angle.cos(), angle.sin()], dim=1).to(self.first.weight.dtype)
        return self.second(functional.silu(self.first(waves)))


def _levels(encoder_depth: int, decoder_depth: int) -> list[int]:
    """Return the block of the encoder that each block of the decoder attends to, from last to first."""
    if decoder_depth == 1:
        return [encoder_depth - 1]
    last = encoder_depth - 1
    return [round(last * (1 - i / (decoder_depth - 1))) for i in range(decoder_depth)]
