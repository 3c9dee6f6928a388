"""What the neighbours of a feature say of its class, with nothing trained: votes, and retrieval.

Similarity is the cosine of un-normalised features. Legend: Q queries, N rows of the gallery, D width, C
classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skeltrain.metrics.classification import top1
from skeltrain.metrics.retrieval import retrieve

#: Sharpness of the votes: exp(cosine / temperature) (Wu et al. 2018, section 3.4; DINO's evaluation).
TEMPERATURE = 0.07

#: Neighbours of the hard and of the soft vote.
HARD, SOFT = 1, 20

#: Ranks for which the recall is stated; for the first it is that of the hard vote.
RECALL_AT = (5, 10)

QUERY_CHUNK = 1024


def soft_vote(values: Tensor, label: Tensor, classes: int, temperature: float = TEMPERATURE) -> Tensor:
    """Class of the most votes, (Q,), of neighbours with cosines ``values`` and classes ``label`` (Q, k)."""
    votes = values.new_zeros(len(values), classes)
    votes.scatter_add_(1, label, ((values - 1) / temperature).exp())
    return votes.argmax(dim=1)


def score_neighbours(
    query: Tensor, query_label: Tensor, gallery: Tensor, gallery_label: Tensor
) -> dict[str, float]:
    """Score features by their neighbours.

    Parameters
    ----------
    query, gallery
        (Q, D) and (N, D).
    query_label, gallery_label
        (Q,) and (N,) int64, from 0 on.

    Returns
    -------
    ``knn1_top1`` and ``knn20_top1``, the part of the queries whose class the nearest row of the gallery has,
    and the soft vote of the 20 nearest (of all, in a smaller gallery) gives; ``retrieval_map``, the mean
    average precision of the gallery ranked by similarity, with rows of the query's class as hits, over the
    queries that have any; ``recall_at_5`` and ``recall_at_10``, the part of these with a hit among the first.
    """
    classes = int(torch.cat([query_label, gallery_label]).max()) + 1
    near = retrieve(query, gallery, min(SOFT, len(gallery)))
    labels = gallery_label[near.indices]
    scores = {
        f"knn{HARD}_top1": top1(labels[:, 0], query_label),
        f"knn{SOFT}_top1": top1(soft_vote(near.values, labels, classes), query_label),
    }
    return scores | score_ranking(query, query_label, gallery, gallery_label)


def score_ranking(
    query: Tensor, query_label: Tensor, gallery: Tensor, gallery_label: Tensor
) -> dict[str, float]:
    """Score the gallery ranked by similarity to each query: `score_neighbours` says what is returned."""
    precision: list[Tensor] = []
    first: list[Tensor] = []
    place = torch.arange(1, len(gallery) + 1, device=query.device, dtype=torch.float64)
    for part in range(0, len(query), QUERY_CHUNK):
        some = slice(part, part + QUERY_CHUNK)
        order = retrieve(query[some], gallery, len(gallery)).indices
        hit = gallery_label[order] == query_label[some, None]
        there = hit.any(dim=1)
        hit = hit[there]
        count = hit.sum(dim=1)
        # precision at each hit, averaged over the hits
        at_hit = (hit.cumsum(dim=1).double() / place * hit).sum(dim=1) / count
        precision.append(at_hit)
        first.append(hit.int().argmax(dim=1) + 1)
    if not sum(map(len, first)):
        return {}
    rank = torch.cat(first)
    scores = {"retrieval_map": float(torch.cat(precision).mean())}
    return scores | {f"recall_at_{k}": float((rank <= k).double().mean()) for k in RECALL_AT}
