"""Votes and rankings by neighbours, against loops that say what is meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skeltrain.metrics.neighbours import TEMPERATURE, score_neighbours, soft_vote

RNG = np.random.default_rng(0)
QUERY, GALLERY = (torch.from_numpy(RNG.normal(size=(n, 6)).astype(np.float32)) for n in (30, 50))
QUERY_LABEL, GALLERY_LABEL = (torch.from_numpy(RNG.integers(0, 4, n)) for n in (30, 50))


def by_hand() -> dict[str, float]:
    """Every query by itself, in float64."""
    votes, soft, average, first = [], [], [], []
    bank = GALLERY.double() / GALLERY.double().norm(dim=1, keepdim=True)
    for query, label in zip(QUERY.double(), QUERY_LABEL.tolist(), strict=True):
        cosine = (bank @ (query / query.norm())).tolist()
        order = sorted(range(50), key=lambda row: -cosine[row])
        votes.append(int(GALLERY_LABEL[order[0]]) == label)
        weight = [0.0] * 4
        for row in order[:20]:
            weight[int(GALLERY_LABEL[row])] += np.exp(cosine[row] / TEMPERATURE)
        soft.append(int(np.argmax(weight)) == label)
        hits = [int(GALLERY_LABEL[row]) == label for row in order]
        at = [k for k, hit in enumerate(hits) if hit]
        average.append(np.mean([(n + 1) / (k + 1) for n, k in enumerate(at)]))
        first.append(at[0] + 1)
    return {
        "knn1_top1": float(np.mean(votes)),
        "knn20_top1": float(np.mean(soft)),
        "retrieval_map": float(np.mean(average)),
        **{f"recall_at_{k}": float(np.mean([rank <= k for rank in first])) for k in (5, 10)},
    }


def test_scores_are_those_of_a_loop_over_queries() -> None:
    found = score_neighbours(QUERY, QUERY_LABEL, GALLERY, GALLERY_LABEL)
    assert found == pytest.approx(by_hand(), abs=1e-9)


def test_groups_that_lie_apart_are_all_found_and_lengths_do_not_matter() -> None:
    label = torch.arange(40) % 4
    feature = torch.eye(4)[label] + 0.01 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    found = score_neighbours(100 * feature[:10], label[:10], feature[10:], label[10:])
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_many_that_are_far_do_not_outvote_one_that_is_near() -> None:
    values = torch.tensor([[0.99] + [0.2] * 19])
    label = torch.tensor([[1] + [0] * 19])
    assert soft_vote(values, label, 2).tolist() == [1]
    assert soft_vote(torch.full((1, 20), 0.5), label, 2).tolist() == [0]


def test_a_query_whose_class_the_gallery_lacks_counts_in_votes_alone() -> None:
    label = torch.tensor([0, 9])
    found = score_neighbours(QUERY[:2], label, GALLERY, torch.zeros(50, dtype=torch.long))
    assert found["retrieval_map"] == 1.0
    assert found["knn1_top1"] == 0.5
