"""The tower for motion: DSTformer's representation of a window of 2D poses, averaged and projected.

UniHPR aligns three modalities; its term over all of them at once takes any number. This is a fourth: what the
body does about the frame, which a single pose does not tell.

Legend: B windows, T frames, J joints, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError

_SMALLEST = 1e-3


class MotionEncoder(nn.Module):
    """Embed windows (B, T, J, 2) of 2D poses as vectors (B, D).

    A window is brought to [-1, 1] by the square about all its joints, as `DSTformer` reads motion; a joint
    that is missing (NaN) has confidence 0.

    Parameters
    ----------
    joints, width
        J and D.
    length
        T.
    dim_feat, dim_rep, depth, heads
        Of the `DSTformer`, whose weights under ``network`` are those of MotionBERT where sizes agree.

    Raises
    ------
    ModelError
        The settings make no network.
    """

    def __init__(
        self,
        joints: int,
        width: int,
        length: int = 27,
        dim_feat: int = 256,
        dim_rep: int = 512,
        depth: int = 5,
        heads: int = 8,
    ) -> None:
        super().__init__()
        self.joints = joints
        self.width = width
        self.length = length
        self.network = DSTformer(
            dim_feat=dim_feat,
            dim_rep=dim_rep,
            depth=depth,
            num_heads=heads,
            mlp_ratio=2,
            num_joints=joints,
            maxlen=length,
        )
        # its coordinates are another task's
        del self.network.head
        self.project = nn.Linear(dim_rep, width)

    def forward(self, motion: Tensor) -> Tensor:
        """Return embeddings (B, D), un-normalised, of windows (B, T, J, 2).

        Raises
        ------
        ModelError
            Windows of another shape, or one in which every joint is missing.
        """
        if motion.ndim != 4 or motion.shape[1:] != (self.length, self.joints, 2):
            raise ModelError(
                f"found windows of shape {tuple(motion.shape)}, expected (windows, {self.length}, "
                f"{self.joints}, 2)"
            )
        there = motion.isfinite().all(dim=-1, keepdim=True)
        if not bool(there.flatten(1).any(dim=1).all()):
            raise ModelError("found a window with every joint missing, expected at least one. Leave it out")
        low = torch.where(there, motion, torch.inf).amin(dim=(1, 2), keepdim=True)
        high = torch.where(there, motion, -torch.inf).amax(dim=(1, 2), keepdim=True)
        half = ((high - low).amax(dim=-1, keepdim=True) / 2).clamp_min(_SMALLEST)
        placed = torch.where(there, (motion - (low + high) / 2) / half, 0.0)
        tokens = torch.cat([placed, there.to(placed.dtype)], dim=-1)
        embedding: Tensor = self.project(self.network.get_representation(tokens).mean(dim=(1, 2)))
        return embedding
