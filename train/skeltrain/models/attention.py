"""How attention is computed, by torch's fused kernels or step by step; and attention to other tokens.

Both ways give the same up to rounding; which is faster depends on the device (benchmarks/attention.py).
"""

from __future__ import annotations

from typing import Final

import torch
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn import functional

from skelformats.errors import UnknownNameError

ATTENTION = ("auto", "fused", "explicit")

#: On a CPU, explicit attention is faster up to so many tokens in float32, and always in half precision
#: (benchmarks/attention.py; docs/models.md has the figures).
CPU_EXPLICIT_TOKENS: Final = 64


def set_attention(model: nn.Module, choice: str) -> None:
    """Choose how every attention of ``model`` is computed.

    Parameters
    ----------
    model
        Changed in place; its parameters and their names stay.
    choice
        ``fused``: torch's ``scaled_dot_product_attention``. ``explicit``: matrix products and softmax.
        ``auto``: whichever is faster on the device and in the precision of each forward pass
        (`is_fused_faster`).

    Raises
    ------
    UnknownNameError
        If there is no such choice.
    """
    if choice not in ATTENTION:
        raise UnknownNameError("way of computing attention", choice, ATTENTION)
    for module in model.modules():
        if isinstance(module, Attention):
            module.__class__ = RuledAttention if choice == "auto" else Attention
            module.fused_attn = choice != "explicit"  # type: ignore[misc]  # final for TorchScript alone
        elif isinstance(module, CrossAttention):
            module.choice = choice


def is_fused_faster(device: torch.device, dtype: torch.dtype, tokens: int) -> bool:
    """Tell whether fused attention over ``tokens`` is the faster one: the rule of ``auto``."""
    if device.type != "cpu":
        return True
    return dtype == torch.float32 and tokens > CPU_EXPLICIT_TOKENS


class RuledAttention(Attention):
    """timm's self-attention, computed in the way that is faster; nothing else differs."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attend as timm's class does."""
        self.fused_attn = is_fused_faster(x.device, _dtype(x), x.shape[1])  # type: ignore[misc]
        return super().forward(x, attn_mask=attn_mask, is_causal=is_causal)


class CrossAttention(nn.Module):
    """Attention of some tokens to others of the same width: queries from ones, keys and values from others.

    Parameters
    ----------
    dim, heads
        Width of the tokens, and attention heads.

    Attributes
    ----------
    choice
        How it is computed (`set_attention`).
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.choice = "fused"
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return ``(N, M, D)`` for ``x`` (N, M, D), which attends to ``context`` (N, K, D)."""
        samples, tokens, dim = x.shape
        query = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv(context).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        fused = self.choice == "fused"
        if self.choice == "auto":
            fused = is_fused_faster(x.device, _dtype(x), max(tokens, context.shape[1]))
        mixed = attend(query, key, value, fused)
        return self.proj(mixed.transpose(1, 2).reshape(samples, tokens, dim))


def attend(query: Tensor, key: Tensor, value: Tensor, fused: bool) -> Tensor:
    """Return ``softmax(query key' / sqrt(width)) value``; all are ``(N, heads, tokens, width)``."""
    if fused:
        return functional.scaled_dot_product_attention(query, key, value)
    weight = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return weight.softmax(dim=-1) @ value


def _dtype(x: Tensor) -> torch.dtype:
    """Return the precision in which ``x`` is going to be multiplied."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
