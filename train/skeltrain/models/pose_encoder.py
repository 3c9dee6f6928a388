"""The tower for poses: one transformer that reads the joints of a single frame, 2D or 3D.

UniHPR (arXiv 2510.19078) fixes: keypoint-wise embedding of coordinates that are normalised by the bounding
box, learned positions, a class token and a token of the box in front, the class token's output as the
embedding. It leaves sizes open; docs/unihpr.md says what was decided.

Legend: B poses, J joints, C coordinates of a joint (2 or 3), D width.
"""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from skeltrain.models.encoder import TOKEN_STD, check_heads
from skeltrain.models.errors import ModelError

#: Half the box's longest side is this part of the unit that joints are measured in: a 2D box is widened, as
#: crops are; a 3D one is taken as it is.
_MARGIN = {2: 1.25, 3: 1.0}

#: Smallest half side: all joints in one place must not divide by zero.
_SMALLEST = 1e-3


class PoseEncoder(nn.Module):
    """Embed poses (B, J, C) as vectors (B, D).

    The joints' box gives centre and scale (isotropic, so proportions stay), and is itself told to the model,
    which would not know size and place of the body otherwise. A joint that is missing, marked by NaN as in a
    store, is left out of the box and stands in the sequence as a learned token: a zero would be a place.

    Coordinates are those of `screen_coordinates` for 2D, and metres relative to the root in the axes of the
    picture's camera for 3D.

    Parameters
    ----------
    joints, dims
        J and C; C is 2 or 3.
    width, depth, heads
        Of the transformer: D, blocks, attention heads. 8.4 million parameters as they are.
    mlp_ratio
        Hidden width of a block's perceptron, in D.
    dropout
        After attention and in the perceptron.

    Raises
    ------
    ModelError
        Coordinates other than 2 or 3, or heads that do not divide the width.
    """

    def __init__(
        self,
        joints: int,
        dims: int,
        width: int = 512,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 2.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dims not in _MARGIN or joints < 1:
            raise ModelError(
                f"found {joints} joints of {dims} coordinates, expected at least one joint of 2 or 3 "
                "coordinates"
            )
        check_heads(width, heads)
        self.joints = joints
        self.dims = dims
        self.width = width
        self.joint = nn.Linear(dims, width)
        self.box = nn.Sequential(nn.Linear(2 * dims, width), nn.GELU(), nn.Linear(width, width))
        self.position = nn.Parameter(torch.empty(1, joints, width).normal_(std=TOKEN_STD))
        self.missing = nn.Parameter(torch.empty(1, 1, width).normal_(std=TOKEN_STD))
        self.cls_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=TOKEN_STD))
        self.blocks = nn.Sequential(
            *(
                Block(width, heads, mlp_ratio=mlp_ratio, qkv_bias=True, proj_drop=dropout)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, pose: Tensor) -> Tensor:
        """Return embeddings (B, D), un-normalised, of poses (B, J, C); a joint with any NaN is missing.

        Raises
        ------
        ModelError
            Poses of another shape, or one in which every joint is missing.
        """
        if pose.ndim != 3 or pose.shape[1:] != (self.joints, self.dims):
            raise ModelError(
                f"found poses of shape {tuple(pose.shape)}, expected (poses, {self.joints}, {self.dims})"
            )
        present = pose.isfinite().all(dim=-1)
        empty = ~present.any(dim=1)
        if bool(empty.any()):
            raise ModelError(
                f"found pose {int(empty.nonzero()[0, 0])} of the batch with every joint missing, expected at "
                "least one joint. Leave such frames out"
            )
        placed, box = self._normalise(pose.float(), present)
        tokens = torch.where(present[..., None], self.joint(placed), self.missing) + self.position
        front = torch.cat([self.cls_token.expand(len(pose), -1, -1), self.box(box)[:, None]], dim=1)
        tokens = torch.cat([front.to(tokens.dtype), tokens], dim=1)
        embedding: Tensor = self.norm(self.blocks(tokens)[:, 0])
        return embedding

    def _normalise(self, pose: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, J, C) within about [-1, 1], zero where missing; boxes (B, 2C): centre and sides."""
        there = present[..., None]
        low = torch.where(there, pose, torch.inf).amin(dim=1)
        high = torch.where(there, pose, -torch.inf).amax(dim=1)
        centre, sides = (low + high) / 2, high - low
        half = (sides.amax(dim=1, keepdim=True) * (_MARGIN[self.dims] / 2)).clamp_min(_SMALLEST)
        placed = (torch.where(there, pose, centre[:, None]) - centre[:, None]) / half[:, None]
        return placed, torch.cat([centre, sides], dim=1)


def screen_coordinates(pixel: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (..., 2) from the middle of a picture in units of half its width, so that x is in [-1, 1].

    Parameters
    ----------
    pixel
        x to the right, y down, from the upper left corner.
    size
        Width and height of the picture in pixels.
    """
    width, height = size
    return pixel * (2 / width) - pixel.new_tensor([1.0, height / width])
