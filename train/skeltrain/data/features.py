"""Features of a frozen encoder, computed once and dealt out like images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from skeltrain.data.images import Images, Normalise, chunks
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import autocast
from skeltrain.models.encoder import features

FEATURE_BATCH = 128
"""Images that are encoded at once."""


@torch.no_grad()
def compute_features(
    encoder: VisionTransformer,
    pool: str,
    data: Images,
    normalise: Normalise,
    index: NDArray[np.int64],
    precision: str,
) -> Tensor:
    """Features (N, D) float32 of samples as they are, by an encoder in evaluation mode."""
    encoder.eval()
    found = []
    for part in chunks(index, FEATURE_BATCH):
        image = normalise(data.images(part))
        with autocast(data.device, precision):
            found.append(features(encoder, image, pool).float())
    return torch.cat(found)


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """Features (N, D) float32 and labels (N,) int64 of samples; ``index`` and ``micro`` as `ImageBatch` has
    them.
    """

    feature: Tensor
    label: Tensor
    index: Tensor
    micro: MicroBatch


class FeatureCollator:
    """Takes out features that were computed before; the sampler deals out their row numbers."""

    def __init__(self, features: Tensor, label: Tensor) -> None:
        self._features = features
        self._label = label

    def __call__(self, micro: MicroBatch) -> FeatureBatch:
        """Collate the micro batch's own rows."""
        index = torch.from_numpy(micro.own).to(self._features.device)
        return FeatureBatch(self._features[index], self._label[index], index, micro)
