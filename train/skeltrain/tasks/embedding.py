"""Features of a store's samples, by the backbone of any model of S2I images."""

from __future__ import annotations

import numpy as np
from timm.models.vision_transformer import VisionTransformer

from skeltrain.checkpoint import CheckpointError
from skeltrain.data.features import compute_features
from skeltrain.data.images import Normalise
from skeltrain.models.registry import load_backbone
from skeltrain.tasks.image_data import open_like
from skeltrain.tasks.registry import Features, Trained

POOL = "avg"
"""The mean of the patches: a short reconstruction training leaves the class token little to learn."""


def embed_images(trained: Trained, store: str) -> Features:
    """Return a feature (D,) for each sample of a store: the mean of the encoder's patch tokens."""
    source = open_like(trained, store)
    samples = source.images.mixture.sets[0]
    encoder = load_backbone(trained.checkpoint).to(trained.world.device)
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(
            f"{trained.path}: found a backbone of type {type(encoder).__name__}, expected a vision "
            "transformer"
        )
    normalise = Normalise(source.statistics, trained.world.device)
    index = np.arange(len(source.images), dtype=np.int64)
    precision = trained.metadata["recipe"].get("precision", "fp32")
    feature = compute_features(encoder, POOL, source.images, normalise, index, precision)
    return Features(
        feature.cpu().numpy(),
        samples.table,
        {
            "pooling": POOL,
            "precision": precision,
            "chain": samples.chain,
            "skeleton": samples.skeleton.name,
            "store": samples.identity,
        },
    )
