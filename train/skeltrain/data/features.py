"""Features of a frozen encoder, computed once and dealt out like images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from skeltrain.data.batch import Batch, Deck
from skeltrain.data.resident import Normalise, Resident, chunks
from skeltrain.distributed import autocast
from skeltrain.models.encoder import features

FEATURE_BATCH = 128
"""Images that are encoded at once."""


@torch.no_grad()
def compute_features(
    encoder: VisionTransformer,
    pool: str,
    data: Resident,
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


class FeatureBatches:
    """Batches whose ``image`` is a feature (N, D) instead; the deck deals out row numbers of the features."""

    def __init__(self, features: Tensor, label: Tensor, deck: Deck) -> None:
        self._features = features
        self._label = label
        self._deck = deck

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return self._deck.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from optimiser step ``first`` on."""
        for deal in self._deck.epoch(epoch, first):
            index = torch.from_numpy(deal.own).to(self._features.device)
            yield Batch(self._features[index], self._label[index], index, deal)
