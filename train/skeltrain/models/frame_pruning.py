"""Pruning of similar frames inside a network, and their recovery at its end.

W. Li et al., Hourglass Tokenizer for Efficient Transformer-Based 3D Human Pose Estimation (CVPR 2024): from
some depth on, a transformer works on representative frames alone, chosen by density-peak clustering of the
frames' features (token pruning cluster), and attention from a token of every frame recovers the full length
(token recovering attention). docs/motionbert.md says what is done differently here.

B clips, T frames, F frames kept, J joints, C features, H heads, c = C / H features a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from skeltrain.models.errors import ModelError


@dataclass(frozen=True)
class Prune:
    """When a network goes on with representative frames alone, and with how many.

    Attributes
    ----------
    after
        Pairs of blocks that see every frame (HoT's hot_motionbert.py: 1 of 5).
    frames
        Frames that are kept of each clip (there 81 of 243). Clips that have no more are not pruned.
    neighbours
        Nearest frames that the density of a frame is measured with, itself among them (there 2).
    """

    after: int = 1
    frames: int = 81
    neighbours: int = 2

    @classmethod
    def of(cls, settings: Mapping[str, int] | None, depth: int, maxlen: int) -> Prune | None:
        """Check the settings for a network of ``depth`` pairs of blocks; raises `ModelError`."""
        if settings is None:
            return None
        names = [field.name for field in fields(cls)]
        unknown = [name for name in settings if name not in names]
        if unknown:
            raise ModelError(f"DSTformer: found prune.{unknown[0]}, expected only {', '.join(names)}")
        prune = cls(**settings)
        wrong = "DSTformer: found prune.{}={} for {}, expected {}"
        for name in names:
            value = getattr(prune, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ModelError(f"DSTformer: found prune.{name}={value!r}, expected a whole number")
        if depth < 2:
            raise ModelError(
                f"DSTformer: found prune for a network with depth={depth}, expected depth of at least 2: one "
                "pair of blocks sees every frame, and one the frames that are kept"
            )
        if not 1 <= prune.after < depth:
            expected = f"1 to {depth - 1}: a pair of blocks before the pruning, and one after it"
            raise ModelError(wrong.format("after", prune.after, f"depth={depth}", expected))
        if not 1 <= prune.frames < maxlen:
            expected = f"1 to {maxlen - 1}: with more, no clip would ever be pruned"
            raise ModelError(wrong.format("frames", prune.frames, f"maxlen={maxlen}", expected))
        if not 2 <= prune.neighbours <= prune.frames + 1:
            expected = f"2 to {prune.frames + 1}: the frame itself and at least one other"
            raise ModelError(wrong.format("neighbours", prune.neighbours, f"frames={prune.frames}", expected))
        return prune


@torch.no_grad()
def representative_frames(feature_BTC: Tensor, count: int, neighbours: int) -> Tensor:
    """Choose the frames of each clip that stand for the others: density peaks, nearest neighbours.

    The density of a frame is ``exp(-mean(d²))`` over its ``neighbours`` nearest frames, itself among them,
    where d is the distance of features over the root of their number. A frame counts its density times its
    distance to the nearest denser frame; the densest, the largest distance in the clip. Of equal densities,
    and of equal products, the earlier frame comes first: nothing is random.

    Parameters
    ----------
    feature_BTC
        A feature vector for each frame; at least float32 is used.
    count
        Frames to choose, at most T.
    neighbours
        At most T.

    Returns
    -------
    (B, count) frame numbers in the order of time.
    """
    feature_BTC = feature_BTC.to(torch.promote_types(feature_BTC.dtype, torch.float32))
    # distances from products cancel where frames are alike, which is where they matter
    exact = "donot_use_mm_for_euclid_dist"
    distance_BTT = torch.cdist(feature_BTC, feature_BTC, compute_mode=exact) / feature_BTC.shape[-1] ** 0.5
    nearest = distance_BTT.topk(neighbours, dim=-1, largest=False).values
    density_BT = nearest.square().mean(dim=-1).neg().exp()
    own, other = density_BT[:, :, None], density_BT[:, None, :]
    frame = torch.arange(feature_BTC.shape[1], device=feature_BTC.device)
    denser_BTT = (other > own) | ((other == own) & (frame[None, :] < frame[:, None]))
    largest = distance_BTT.amax(dim=(1, 2), keepdim=True)
    apart_BT = torch.where(denser_BTT, distance_BTT, largest).amin(dim=-1)
    order = (density_BT * apart_BT).sort(dim=-1, descending=True, stable=True).indices
    return order[:, :count].sort(dim=-1).values


def keep_frames(x_BTJC: Tensor, kept_BF: Tensor) -> Tensor:
    """Return (B, F, J, C): the frames of each clip with the numbers ``kept_BF``."""
    return x_BTJC[_clips(kept_BF), kept_BF]


class Recovery(nn.Module):
    """Features of every frame from those of the frames that were kept, for each joint.

    A token of every frame attends to the frames that were kept. How far away in time these are is subtracted
    from the scores, times a learned factor for each head. A frame that was kept keeps its features. A fresh
    recovery is an interpolation in time.

    Parameters
    ----------
    dim, heads
        C, and H.
    maxlen
        Most frames of a clip: there is a token for each.
    init_std
        Standard deviation of the first weights of queries and keys.
    """

    def __init__(self, dim: int, heads: int, maxlen: int, init_std: float) -> None:
        super().__init__()
        self.heads = heads
        self.token = nn.Parameter(torch.zeros(maxlen, dim))
        #: Logarithm of the factor, in units of 1 a frame.
        self.nearness = nn.Parameter(torch.zeros(heads))
        self.q, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(3))
        # a bias of the keys would change no score against another
        self.k = nn.Linear(dim, dim, bias=False)
        for layer in (self.q, self.k):
            nn.init.trunc_normal_(layer.weight, std=init_std)
        for layer in (self.v, self.proj):
            nn.init.eye_(layer.weight)
        for layer in (self.q, self.v, self.proj):
            nn.init.zeros_(layer.bias)

    def forward(self, x_BFJC: Tensor, kept_BF: Tensor, frames: int) -> Tensor:
        """Return (B, T, J, C) for the ``frames`` T of clips of which the frames ``kept_BF`` are given."""
        B, F, J, C = x_BFJC.shape
        token_TC = self.token[:frames]
        query = self.q(token_TC).view(1, frames, self.heads, -1).transpose(1, 2).expand(B * J, -1, -1, -1)
        context = x_BFJC.transpose(1, 2).reshape(B * J, F, C)
        key, value = (
            part(context).view(B * J, F, self.heads, -1).transpose(1, 2) for part in (self.k, self.v)
        )
        frame = torch.arange(frames, device=kept_BF.device)
        away_BTF = (frame[None, :, None] - kept_BF[:, None, :]).abs()
        bias = -self.nearness.exp()[:, None, None] * away_BTF[:, None]
        bias = bias.to(query.dtype).repeat_interleave(J, dim=0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.proj(mixed.transpose(1, 2).reshape(B, J, frames, C))
        every_BTJC = (token_TC + mixed).transpose(1, 2).contiguous()
        return every_BTJC.index_put((_clips(kept_BF), kept_BF), x_BFJC.to(every_BTJC.dtype))

    def nothing(self) -> Tensor:
        """Return 0, of which every parameter has the gradient 0, for a clip that needs no recovery.

        Several processes wait for a gradient of every parameter, and one would pass over those without.
        """
        return torch.stack([0.0 * value.sum() for value in self.parameters()]).sum()


def _clips(kept_BF: Tensor) -> Tensor:
    return torch.arange(len(kept_BF), device=kept_BF.device)[:, None]
