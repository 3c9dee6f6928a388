"""The model of UniHPR (arXiv 2510.19078): a tower for each of picture, 2D and 3D pose, and the decoders;
beyond the paper, a tower of motion.

Legend: B frames, J joints, D width of the common space.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.decoders import Decoder, DiffusionDecoder, MLPDecoder, TransformerDecoder
from skeltrain.models.image_encoder import ImageEncoder
from skeltrain.models.motion_encoder import MotionEncoder
from skeltrain.models.pose_encoder import PoseEncoder
from skeltrain.models.registry import Family

MODALITIES = ("image", "pose2d", "pose3d")

MOTION = "motion"
"""A fourth: the window of 2D poses about the frame."""

BOX_MARGIN = 1.25
"""A 2D pose is decoded within its box made so many times as large, as `PoseEncoder` reads it."""

SCALES = {2: 10.0, 3: 15.0}
"""By coordinates: what brings joints in half boxes, or in metres, to a deviation of about 5 for diffusion."""


class AlignModel(nn.Module):
    """Towers ``pose2d`` and ``pose3d``; ``image``, ``motion``, ``decoder2d`` and ``decoder3d`` where there
    are any.

    Parameters
    ----------
    joints
        J.
    width, depth, heads, mlp_ratio, dropout
        Of the pose towers (`PoseEncoder`); ``width`` is D.
    image
        timm's name of an HRNet, or None for no tower of pictures.
    pool_grid
        As in `ImageEncoder`.
    decoder
        Name in `DECODERS`, or None for none.
    hidden
        Width of the decoder's blocks; of no meaning for a transformer.
    motion
        Settings of a `MotionEncoder` besides joints and width, or None for no tower of windows.

    Raises
    ------
    UnknownNameError, ModelError
        No such backbone or decoder, or widths that do not fit.
    """

    def __init__(
        self,
        joints: int,
        width: int = 512,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 2.0,
        dropout: float = 0.1,
        *,
        image: str | None = None,
        pool_grid: tuple[int, int] = (1, 1),
        decoder: str | None = None,
        hidden: int = 1024,
        motion: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.joints = joints
        self.width = width
        self.pose2d = PoseEncoder(joints, 2, width, depth, heads, mlp_ratio, dropout)
        self.pose3d = PoseEncoder(joints, 3, width, depth, heads, mlp_ratio, dropout)
        self.image = None if image is None else ImageEncoder(image, width, pool_grid=pool_grid)
        self.motion = None if motion is None else MotionEncoder(joints, width, **motion)
        self.decoder2d = None if decoder is None else build_decoder(decoder, joints, 2, width, hidden)
        self.decoder3d = None if decoder is None else build_decoder(decoder, joints, 3, width, hidden)

    def forward(
        self,
        image: Tensor | None,
        pose2d: Tensor | None,
        pose3d: Tensor | None,
        motion: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the embedding (B, D), un-normalised, of each modality that is given and has a tower."""
        given = {"image": image, "pose2d": pose2d, "pose3d": pose3d, MOTION: motion}
        found = {}
        for name in (*MODALITIES, MOTION):
            tower, value = getattr(self, name), given[name]
            if tower is not None and value is not None:
                found[name] = tower(value)
        return found


def build_decoder(name: str, joints: int, dims: int, width: int, hidden: int) -> Decoder:
    """Build a decoder; raises `UnknownNameError` or `ModelError`."""
    if name not in DECODERS:
        raise UnknownNameError("decoder", name, tuple(DECODERS))
    if name == "diffusion":
        return DiffusionDecoder(joints, dims, width, hidden, scale=SCALES[dims])
    return (
        MLPDecoder(joints, dims, width, hidden) if name == "mlp" else TransformerDecoder(joints, dims, width)
    )


DECODERS: Mapping[str, type[Decoder]] = MappingProxyType(
    {"diffusion": DiffusionDecoder, "mlp": MLPDecoder, "transformer": TransformerDecoder}
)


def in_box(pose2d: Tensor) -> Tensor:
    """2D joints (B, J, 2) in half sides of their box, made `BOX_MARGIN` as large; what is decoded in 2D.

    A crop does not tell where in its picture it lies, so neither place nor size is decoded. Missing joints
    (NaN) stay so.
    """
    there = pose2d.isfinite()
    low = torch.where(there, pose2d, torch.inf).amin(dim=1, keepdim=True)
    high = torch.where(there, pose2d, -torch.inf).amax(dim=1, keepdim=True)
    half = ((high - low).amax(dim=2, keepdim=True) * (BOX_MARGIN / 2)).clamp_min(1e-3)
    return (pose2d - (low + high) / 2) / half


def build_align(**config: Any) -> AlignModel:
    """Build an `AlignModel` from settings that are plain data."""
    grid = config.pop("pool_grid", (1, 1))
    return AlignModel(**config, pool_grid=(int(grid[0]), int(grid[1])))


FAMILY = Family("align", build_align, lambda model: model.get_submodule("pose3d"))
"""Towers and decoders of UniHPR; the tower of 3D poses is what other tasks can use."""
