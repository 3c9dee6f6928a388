"""A linear classifier on the features of a frozen encoder: the linear-evaluation protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skeltrain.models.encoder import features, find_pool
from skeltrain.models.registry import Family, build, find_family

#: Standard deviation of the head's first weights, and the normalisation's epsilon (MAE's linear probing).
HEAD_STD = 0.01
NORM_EPS = 1e-6


class LinearProbe(nn.Module):
    """Classify images from frozen features: ``Linear(BatchNorm(features))``; only the head learns.

    The encoder stays in evaluation mode whatever mode the probe is put in, and gets no gradients.

    Parameters
    ----------
    encoder
        A timm vision transformer without a head; it is frozen in place.
    classes
        Number of classes.
    head_bn
        Normalise the features over the batch first, without learned scale, as MAE does (He et al. 2022,
        section A.1). S2I does not say; on by default.
    pool
        How tokens become a feature: ``token`` or ``avg`` (`skeltrain.models.encoder.features`).

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    """

    def __init__(
        self, encoder: VisionTransformer, classes: int, head_bn: bool = True, pool: str = "token"
    ) -> None:
        super().__init__()
        find_pool(pool)
        self.pool = pool
        self.encoder = encoder.requires_grad_(False)
        self.norm = (
            nn.BatchNorm1d(encoder.embed_dim, affine=False, eps=NORM_EPS) if head_bn else nn.Identity()
        )
        self.head = nn.Linear(encoder.embed_dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Put the head in training mode; the encoder never is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` float32 of ``image`` (N, 3, rows, columns)."""
        return self.logits_from_features(self.features(image))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Return the frozen features ``(N, D)`` of ``image``; without augmentation, compute them once."""
        return features(self.encoder, image, self.pool)

    def logits_from_features(self, feature: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of features ``(N, D)``, float32 even under autocast."""
        with torch.autocast(feature.device.type, enabled=False):
            return self.head(self.norm(feature.to(self.head.weight.dtype)))


def build_linear_probe(
    encoder: Mapping[str, Any], classes: int, head_bn: bool = True, pool: str = "token"
) -> LinearProbe:
    """Build a probe on a fresh encoder; ``encoder`` is family and settings (`skeltrain.models.registry`)."""
    backbone = find_family(encoder["family"]).backbone(build(encoder["family"], encoder["config"]))
    assert isinstance(backbone, VisionTransformer)
    return LinearProbe(backbone, classes, head_bn, pool)


#: Linear probes, as checkpoints name them.
FAMILY = Family("linear_probe", build_linear_probe, lambda model: model.get_submodule("encoder"))
