"""DSTformer, the network of MotionBERT: two streams of spatial and temporal attention, fused joint by joint.

W. Zhu et al., MotionBERT: A Unified Perspective on Learning Human Motion Representations (ICCV 2023), section
3.2. Parameters have the names and shapes of the released checkpoints, and the arithmetic is that of the
released code where the paper's words differ: blocks normalise before attention, not after (docs/motionbert.md
has the whole table).

B clips, T frames, J joints, C features, R features of the representation, H heads, c = C / H features a head.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from skeltrain.models.errors import ModelError
from skeltrain.models.frame_pruning import Prune, Recovery, keep_frames, representative_frames
from skeltrain.models.registry import Family

#: Of every LayerNorm in the released models; PyTorch's default is 1e-5 (MotionBERT, lib/utils/learning.py).
NORM_EPS = 1e-6

#: Standard deviation of the first values of embeddings and linear weights (MotionBERT, DSTformer.py).
INIT_STD = 0.02

#: Bias of a fresh fusion, whose weight is 0: both streams count half (MotionBERT, DSTformer.py).
FUSION_BIAS = 0.5


class DSTformer(nn.Module):
    """Map 2D motion with confidences to 3D motion, or to a representation of every joint in every frame.

    Parameters
    ----------
    dim_in
        Numbers a joint and frame on entry: x, y and confidence.
    dim_out
        Numbers a joint and frame in the result.
    dim_feat, dim_rep
        C, and R of the representation.
    depth
        Pairs of blocks.
    num_heads
        H; it divides ``dim_feat``. No tensor of a checkpoint shows it; every released model has 8.
    mlp_ratio
        Width of the hidden layer of each MLP, in units of ``dim_feat``.
    num_joints, maxlen
        J, and the largest T; any number of frames from 1 to ``maxlen`` is taken.
    att_fuse
        Weigh the two streams by learned scores; False takes their plain mean.
    prune
        Beyond the paper: settings of `Prune`, with which most blocks work on representative frames alone and
        the submodule ``recover`` finds the others' features. None: every block sees every frame.

    Raises
    ------
    ModelError
        The settings make no network.

    Notes
    -----
    ``dim_feat=512, mlp_ratio=2`` is the released model (42,466,317 parameters), ``dim_feat=256, mlp_ratio=4``
    the lite one (16,001,549).
    """

    def __init__(
        self,
        dim_in: int = 3,
        dim_out: int = 3,
        dim_feat: int = 256,
        dim_rep: int = 512,
        depth: int = 5,
        num_heads: int = 8,
        mlp_ratio: float = 4,
        num_joints: int = 17,
        maxlen: int = 243,
        att_fuse: bool = True,
        prune: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        _check_settings(locals())
        self.prune = Prune.of(prune, depth, maxlen)
        self.dim_in, self.dim_out, self.dim_feat, self.dim_rep = dim_in, dim_out, dim_feat, dim_rep
        self.depth, self.num_heads, self.mlp_ratio = depth, num_heads, mlp_ratio
        self.num_joints, self.maxlen, self.att_fuse = num_joints, maxlen, att_fuse

        self.joints_embed = nn.Linear(dim_in, dim_feat)
        self.temp_embed = nn.Parameter(torch.zeros(1, maxlen, 1, dim_feat))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_joints, dim_feat))
        block = functools.partial(Block, dim_feat, num_heads, mlp_ratio)
        self.blocks_st = nn.ModuleList(block("st") for _ in range(depth))
        self.blocks_ts = nn.ModuleList(block("ts") for _ in range(depth))
        self.ts_attn = nn.ModuleList(Fusion(dim_feat) for _ in range(depth if att_fuse else 0))
        self.norm = nn.LayerNorm(dim_feat, eps=NORM_EPS)
        self.pre_logits = _Representation(dim_feat, dim_rep)
        self.head = nn.Linear(dim_rep, dim_out)
        self._init_weights()
        if self.prune is not None:
            # last, so that with one seed all other weights are those of the network that prunes nothing
            self.recover = Recovery(dim_feat, num_heads, maxlen, INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Return the motion (B, T, J, dim_out) of clips ``x``; as `get_representation`."""
        return self.head(self.get_representation(x))

    def get_representation(self, x: Tensor) -> Tensor:
        """Return the representation (B, T, J, R) of clips.

        Parameters
        ----------
        x
            (B, T, J, dim_in) with 1 <= T <= ``maxlen``: x and y in [-1, 1], y down, and a confidence.

        Returns
        -------
        Values in (-1, 1): the network ends in a hyperbolic tangent.

        Raises
        ------
        ModelError
            ``x`` has another shape.
        """
        self._check_input(x)
        x_BTJC = self.joints_embed(x) + self.pos_embed[:, None] + self.temp_embed[:, : x.shape[1]]
        kept_BF: Tensor | None = None
        for i in range(self.depth):
            if self.prune is not None and i == self.prune.after and x.shape[1] > self.prune.frames:
                frame_BTC = x_BTJC.detach().float().mean(dim=2)
                kept_BF = representative_frames(frame_BTC, self.prune.frames, self.prune.neighbours)
                x_BTJC = keep_frames(x_BTJC, kept_BF)
            st_BTJC, ts_BTJC = self.blocks_st[i](x_BTJC), self.blocks_ts[i](x_BTJC)
            if self.att_fuse:
                share_BTJ2 = self.ts_attn[i](st_BTJC, ts_BTJC).softmax(dim=-1).to(st_BTJC.dtype)
                # a st + (1 - a) ts: the two shares add to 1
                x_BTJC = torch.lerp(ts_BTJC, st_BTJC, share_BTJ2[..., :1])
            else:
                x_BTJC = (st_BTJC + ts_BTJC) * 0.5
        x_BTJC = self.norm(x_BTJC)
        if kept_BF is not None:
            x_BTJC = self.recover(x_BTJC, kept_BF, x.shape[1])
        elif self.prune is not None and torch.is_grad_enabled():
            x_BTJC = x_BTJC + self.recover.nothing()
        return self.pre_logits(x_BTJC)

    def _init_weights(self) -> None:
        for embedding in (self.temp_embed, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, Fusion):
                nn.init.zeros_(module.weight)
                nn.init.constant_(module.bias, FUSION_BIAS)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def _check_input(self, x: Tensor) -> None:
        expected = f"(clips, 1 to {self.maxlen} frames, {self.num_joints} joints, {self.dim_in} numbers)"
        found = f"found an input of shape {tuple(x.shape)}, expected {expected}"
        if x.ndim != 4:
            raise ModelError(f"DSTformer: {found}")
        frames, joints, numbers = x.shape[1:]
        if joints != self.num_joints:
            raise ModelError(
                f"DSTformer: {found}. Convert the poses to the model's {self.num_joints} joints, or build "
                f"the model with num_joints={joints}"
            )
        if numbers != self.dim_in:
            raise ModelError(f"DSTformer: {found}. A joint is x, y and confidence; 1 where there is none")
        if not 1 <= frames <= self.maxlen:
            raise ModelError(
                f"DSTformer: {found}. Cut longer motion to windows of at most {self.maxlen} frames, or build "
                f"the model with maxlen={max(frames, 1)}"
            )


class Block(nn.Module):
    """Attention over joints and over frames, each with its MLP, each normalised before and added.

    Parameters
    ----------
    order
        ``st`` attends to joints first, ``ts`` to frames first.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, order: Literal["st", "ts"]) -> None:
        super().__init__()
        self.order = order
        self.norm1_s, self.norm1_t, self.norm2_s, self.norm2_t = (
            nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(4)
        )
        self.attn_s = Attention(dim, heads, "joints")
        self.attn_t = Attention(dim, heads, "frames")
        self.mlp_s, self.mlp_t = MLP(dim, int(dim * mlp_ratio)), MLP(dim, int(dim * mlp_ratio))

    def forward(self, x_BTJC: Tensor) -> Tensor:
        """Return (B, T, J, C) of the same."""
        halves = (self._over_joints, self._over_frames)
        for half in halves if self.order == "st" else reversed(halves):
            x_BTJC = half(x_BTJC)
        return x_BTJC

    def _over_joints(self, x_BTJC: Tensor) -> Tensor:
        x_BTJC = x_BTJC + self.attn_s(self.norm1_s(x_BTJC))
        return x_BTJC + self.mlp_s(self.norm2_s(x_BTJC))

    def _over_frames(self, x_BTJC: Tensor) -> Tensor:
        x_BTJC = x_BTJC + self.attn_t(self.norm1_t(x_BTJC))
        return x_BTJC + self.mlp_t(self.norm2_t(x_BTJC))


class Attention(nn.Module):
    """Multi-head attention over the joints of each frame, or over the frames of each joint; never masked.

    The rows of ``qkv`` are ordered [query, key, value][head][feature], as the checkpoints have them.
    """

    def __init__(self, dim: int, heads: int, over: Literal["joints", "frames"]) -> None:
        super().__init__()
        self.heads = heads
        self.over = over
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BTJC: Tensor) -> Tensor:
        """Return (B, T, J, C) of the same."""
        attended = self._over_joints(x_BTJC) if self.over == "joints" else self._over_frames(x_BTJC)
        return self.proj(attended.reshape(x_BTJC.shape))

    def _over_joints(self, x_BTJC: Tensor) -> Tensor:
        B, T, J, C = x_BTJC.shape
        parts = self.qkv(x_BTJC).view(B * T, J, 3, self.heads, C // self.heads).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)

    def _over_frames(self, x_BTJC: Tensor) -> Tensor:
        B, T, J, C = x_BTJC.shape
        # With the rows as [head][query, key, value][feature], joints and heads are one axis of the result,
        # and (B, J H, T, c) is a view of it: no activation is moved, only the small weight.
        weight = self.qkv.weight.view(3, self.heads, C // self.heads, C).transpose(0, 1).reshape(3 * C, C)
        bias = self.qkv.bias.view(3, self.heads, C // self.heads).transpose(0, 1).reshape(3 * C)
        mixed = functional.linear(x_BTJC, weight, bias)
        parts = mixed.view(B, T, J * self.heads, 3, C // self.heads).unbind(3)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., C) of the same."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Fusion(nn.Linear):
    """Scores of the two streams from both: a linear layer on [st, ts], which are never put together."""

    def __init__(self, dim: int) -> None:
        super().__init__(2 * dim, 2)

    def forward(self, st_BTJC: Tensor, ts_BTJC: Tensor) -> Tensor:  # type: ignore[override]
        """Return the scores (B, T, J, 2)."""
        for_st, for_ts = self.weight.chunk(2, dim=1)
        return functional.linear(st_BTJC, for_st, self.bias) + functional.linear(ts_BTJC, for_ts)


class _Representation(nn.Module):
    def __init__(self, dim: int, dim_rep: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim_rep)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).tanh()


def _check_settings(settings: dict[str, object]) -> None:
    whole = ("dim_in", "dim_out", "dim_feat", "dim_rep", "depth", "num_heads", "num_joints", "maxlen")
    for name in whole:
        value = settings[name]
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"DSTformer: found {name}={value!r}, expected a whole number of at least 1")
    width, heads, ratio = settings["dim_feat"], settings["num_heads"], settings["mlp_ratio"]
    assert isinstance(width, int)
    assert isinstance(heads, int)
    if width % heads:
        raise ModelError(
            f"DSTformer: found dim_feat={width} for num_heads={heads}, expected a multiple of the heads"
        )
    if not isinstance(ratio, int | float) or int(width * ratio) < 1:
        raise ModelError(f"DSTformer: found mlp_ratio={ratio!r}, expected a positive number")


FAMILY = Family("dstformer", DSTformer, lambda model: model)
