"""The tower for images: a timm HRNet, its last stage's maps averaged over the picture and projected.

UniHPR (arXiv 2510.19078, section III-B): "concatenate and flatten the average-pooled features from the
last stage", then a linear projection. The maps are those of the last stage itself (timm's feature location
``""``): timm's default location lies behind further layers of 1,920 channels.

Legend: B pictures, D width.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError

#: Sides of a picture must be multiples of this, for the maps of all resolutions to fit together.
STRIDE = 32

#: Maps of the last stage; index 0 would be the stem's.
_STAGES = (1, 2, 3, 4)


class ImageEncoder(nn.Module):
    """Embed pictures (B, 3, rows, columns) as vectors (B, D).

    Pictures are red, green, blue: uint8, or floating point from 0 to 1. The mean and deviation that the
    backbone was trained with are applied here, on the device.

    Parameters
    ----------
    name
        timm's name of an HRNet: ``hrnet_w32`` and ``hrnet_w48`` are the paper's, ``hrnet_w18_small`` small.
    width
        D.
    pretrained
        Load timm's ImageNet weights (downloaded once).
    pool_grid
        Rows and columns of the averaged map; (1, 1) is the paper's, a finer one keeps where things are.

    Raises
    ------
    UnknownNameError
        timm has no HRNet of this name.
    """

    def __init__(
        self, name: str, width: int, pretrained: bool = False, pool_grid: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        known = tuple(timm.list_models("hrnet*"))
        if name not in known:
            raise UnknownNameError("image backbone", name, known)
        self.name = name
        self.width = width
        backbone: Any = timm.create_model(
            name, pretrained=pretrained, features_only=True, feature_location="", out_indices=_STAGES
        )
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(pool_grid)
        channels = sum(backbone.feature_info.channels()) * pool_grid[0] * pool_grid[1]
        self.project = nn.Linear(channels, width)
        config = backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(config["std"]).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Return embeddings (B, D), un-normalised.

        Raises
        ------
        ModelError
            Pictures of another shape, or sides that the backbone cannot halve often enough.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            raise ModelError(
                f"found pictures of shape {tuple(image.shape)}, expected (pictures, 3, rows, columns) with "
                f"rows and columns multiples of {STRIDE}, such as 256 and 192"
            )
        scaled = image.float() / 255 if image.dtype == torch.uint8 else image
        maps = self.backbone((scaled - self.mean) / self.deviation)
        embedding: Tensor = self.project(torch.cat([self.pool(one).flatten(1) for one in maps], dim=1))
        return embedding
