"""Candidates from an approximate index of faiss, ranked exactly: for galleries of millions on a CPU.

An approximate index alone looks bad on frames of videos, whose neighbours are near duplicates; ranked again
by float32 products its answers are those of `skeltrain.metrics.retrieval.retrieve` in nearly all queries.
`retrieve` remains what figures are made with. Legend: Q queries, N gallery rows, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.extras import need
from skeltrain.metrics.retrieval import RetrievalError, Retrieved, retrieve

LEAST_CLUSTERED = 10_000
"""Rows from which on the index is clustered; fewer are compared one and all, in 8 bits a number."""

ROWS_A_CLUSTER = 250
CANDIDATES = 100
PROBED = 32
"""Rows that are ranked exactly, and clusters that they are taken from."""

TRAINED_ON = 100_000
SUFFIX = ".faiss"


def build_index(gallery: NDArray[np.floating[Any]]) -> Any:
    """Return a faiss index of (N, D) embeddings by cosine: 8 bits a number, clustered where N is large.

    Raises
    ------
    MissingExtraError
        faiss is not installed.
    RetrievalError
        An empty gallery, or an embedding without a direction.
    """
    need("faiss", "faiss")
    import faiss

    if not len(gallery):
        raise RetrievalError("found an empty gallery, expected at least one embedding")
    count, width = gallery.shape
    codes = faiss.ScalarQuantizer.QT_8bit
    index: Any
    if count < LEAST_CLUSTERED:
        index = faiss.IndexScalarQuantizer(width, codes, faiss.METRIC_INNER_PRODUCT)
    else:
        coarse = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(
            coarse, width, max(1, count // ROWS_A_CLUSTER), codes, faiss.METRIC_INNER_PRODUCT
        )
        index.nprobe = PROBED
    some = np.random.default_rng(0).permutation(count)[:TRAINED_ON]
    index.train(_unit(gallery[np.sort(some)]))
    for start in range(0, count, TRAINED_ON):
        index.add(_unit(gallery[start : start + TRAINED_ON]))
    return index


def retrieve_indexed(
    query: Tensor, gallery: NDArray[np.floating[Any]], k: int, index: Any, candidates: int = CANDIDATES
) -> Retrieved:
    """Find the k most similar rows among the candidates that an index of the gallery gives, exactly ranked.

    Parameters
    ----------
    query
        (Q, D).
    gallery
        (N, D), any floating type, what the index was built of.
    candidates
        How many are ranked, at least k.

    Raises
    ------
    RetrievalError
        As `retrieve`.
    """
    if query.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise RetrievalError(
            f"found queries of shape {tuple(query.shape)} and a gallery of width {gallery.shape[1]}, "
            "expected one width. Both must come from one model"
        )
    if not 1 <= k <= len(gallery):
        raise RetrievalError(f"found k = {k} and a gallery of {len(gallery)} rows, expected k from 1 to that")
    taken = min(max(candidates, k), len(gallery))
    _, near = index.search(_unit(query.detach().float().cpu().numpy()), taken)
    values, indices = [], []
    for one, rows in zip(query, near, strict=True):
        # in the gallery's order, so that of equals the lowest row comes first
        rows = np.sort(rows[rows >= 0])
        if len(rows) < k:
            # too few in the clusters that were looked at
            rows = np.arange(len(gallery))
        best = retrieve(one[None].cpu(), torch.from_numpy(np.asarray(gallery[rows])), k)
        values.append(best.values[0])
        indices.append(torch.from_numpy(rows)[best.indices[0]])
    return Retrieved(torch.stack(values), torch.stack(indices))


def nearest_by_index(
    query: Tensor,
    gallery: NDArray[np.floating[Any]],
    k: int,
    path: Path,
    log: Callable[[str], None] = lambda line: None,
) -> Retrieved:
    """`retrieve_indexed` with the index that is kept beside the gallery at ``path``, built when there is
    none.

    An index of other embeddings than the gallery's is built again.

    Raises
    ------
    MissingExtraError, RetrievalError
        As `build_index` and `retrieve`.
    """
    need("faiss", "faiss")
    import faiss

    file = path.with_name(path.name + SUFFIX)
    about = file.with_name(file.name + ".json")
    known = {
        "rows": len(gallery),
        "digest": hashlib.sha256(np.ascontiguousarray(gallery).tobytes()).hexdigest(),
    }
    if file.is_file() and about.is_file() and json.loads(about.read_text()) == known:
        index = faiss.read_index(str(file))
    else:
        log(f"building {file} of {len(gallery):,} embeddings")
        index = build_index(gallery)
        aside = file.with_name(file.name + ".partial")
        faiss.write_index(index, str(aside))
        about.unlink(missing_ok=True)
        aside.replace(file)
        about.write_text(json.dumps(known))
    return retrieve_indexed(query, gallery, k, index)


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    wide = np.ascontiguousarray(rows, np.float32)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0))[:, 0])
    if len(bad):
        raise RetrievalError(
            f"found row {int(bad[0])} of length {float(length[bad[0], 0]):g}, expected a finite length above "
            "0: such a vector has no direction to compare"
        )
    return np.asarray(wide / length, np.float32)
