"""How good a classification is. Labels are class numbers; nothing here is averaged over batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def top1(prediction: Tensor, label: Tensor) -> float:
    """Part of the samples whose predicted class (N,) is the true one (N,)."""
    return float((prediction == label).double().mean())


def topk(logits: Tensor, label: Tensor, k: int) -> float:
    """Part of the samples whose true class (N,) is among the ``k`` largest of the logits (N, classes)."""
    return float((logits.topk(k, dim=1).indices == label[:, None]).any(dim=1).double().mean())


def mean_class(prediction: Tensor, label: Tensor) -> float:
    """Mean over the classes that occur of the part of their samples that is predicted right."""
    right = (prediction == label).double()
    counts = label.bincount()
    hits = torch.zeros_like(counts, dtype=right.dtype).index_add_(0, label, right)
    return float((hits / counts)[counts > 0].mean())


def nearest_neighbour(train: Tensor, train_label: Tensor, test: Tensor, chunk: int = 1024) -> Tensor:
    """Class of the most similar training sample by cosine similarity: (N_test,).

    Parameters
    ----------
    train, test
        Features (N_train, D) and (N_test, D).
    chunk
        Test samples compared at once.
    """
    bank = functional.normalize(train.float(), dim=1)
    found = [
        train_label[(functional.normalize(part.float(), dim=1) @ bank.T).argmax(dim=1)]
        for part in torch.split(test, chunk)
    ]
    return torch.cat(found)


def group_mean(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of values (N, D) over the members of each group (N,): (groups, D)."""
    total = values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)
    return total / group.bincount(minlength=groups)[:, None]
