"""Features of samples as a map in the plane, by t-SNE (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.report.charts import LEGEND_CLASSES, scatter
from skeltrain.data.features import FEATURE_BATCH
from skeltrain.data.images import Normalise, chunks
from skeltrain.pages.explain import Encoding
from skeltrain.pages.poses import spread
from skeltrain.tasks.image_data import ImageSource

PERPLEXITY = 30.0
"""Neighbours that a point has in effect, in a map of enough points."""

FEWEST = 5
"""Samples without which there is no map."""


def compute_map(feature: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Place features (N, D) in the plane, (N, 2): the same for the same features, from their main axes on.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    """
    need("sklearn", "view")
    from sklearn.manifold import TSNE

    # cosine, as neighbours are counted elsewhere
    unit = feature / np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-12)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    placed: NDArray[np.float32] = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(
        unit.astype(np.float32)
    )
    return placed


def map_features(
    encoding: Encoding, source: ImageSource, index: NDArray[np.int64], points: int
) -> dict[str, Any] | None:
    """Return the map of samples' features, coloured by class, for the template; None for too few samples."""
    chosen = spread(index, points)
    if len(chosen) < FEWEST:
        return None
    normalise = Normalise(source.statistics, source.images.device)
    parts = [
        encoding.features(normalise(source.images.images(part))).cpu().numpy()
        for part in chunks(chosen, FEATURE_BATCH)
    ]
    label = source.images.labels(chosen).cpu().numpy()
    known = source.images.mixture.sets[0].classes
    names = [known[k] if k < len(known) else f"class {k}" for k in range(int(label.max(initial=0)) + 1)]
    there = [int(k) for k in np.unique(label) if k >= 0]
    return {
        "svg": scatter(compute_map(np.concatenate(parts)), label, names),
        "samples": len(chosen),
        "of": len(index),
        "classes": len(there),
        "numbered": [(k, names[k]) for k in there] if len(there) > LEGEND_CLASSES else [],
    }
