"""How well modalities are aligned, how smooth the way between two poses is, the best of several hypotheses.

Legend: N samples, D width, J joints, P points on a path, S hypotheses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from skelformats.errors import SkelconvError
from skeltrain.losses.alignment import cosines, largest_eigenvalue
from skeltrain.metrics.retrieval import nearest_pose


class AlignmentMetricError(SkelconvError, ValueError):
    """Embeddings or poses that cannot be measured so."""


@torch.no_grad()
def alignment_diagnostics(embeddings: Mapping[str, Tensor]) -> dict[str, float]:
    """Say how far embeddings (N, D) of several modalities, row i of all from one frame, are aligned.

    Returns
    -------
    dict
        ``cosine <one>-<other>``: mean over the frames, near 1 when aligned. ``unmatched``: mean cosine of
        embeddings of different frames, near 0 in a space that is used well. ``effective rank <one>``:
        exp of the entropy of the normalised singular values, 1 for a collapsed space, at most D (Roy and
        Vetterli 2007). With three modalities ``eigenvalue``: the mean largest eigenvalue of the matched
        triples, 1 to 3; beware that it does not see signs.

    Raises
    ------
    AlignmentMetricError
        Fewer than two modalities or samples.
    """
    count = min((len(embedding) for embedding in embeddings.values()), default=0)
    if len(embeddings) < 2 or count < 2:
        raise AlignmentMetricError(
            f"found {len(embeddings)} modalities of {count} samples, expected at least two of each"
        )
    unit = {name: functional.normalize(x.float(), dim=1) for name, x in embeddings.items()}
    figures: dict[str, float] = {}
    matched = []
    total = 0.0
    for one, other in itertools.combinations(unit, 2):
        between = cosines(unit[one], unit[other]).double()
        matched.append(between.diagonal())
        figures[f"cosine {one}-{other}"] = float(between.diagonal().mean())
        total += float((between.sum() - between.diagonal().sum()) / (count * (count - 1)))
    figures["unmatched"] = total / len(matched)
    if len(matched) == 3:
        figures["eigenvalue"] = float(largest_eigenvalue(*matched).mean())
    for name, x in unit.items():
        figures[f"effective rank {name}"] = effective_rank(x)
    return figures


@torch.no_grad()
def effective_rank(embedding: Tensor) -> float:
    """Exp of the entropy of the singular values of (N, D), normalised to sum 1 (Roy and Vetterli 2007)."""
    # by the Gram matrix of the shorter side, in float64
    wide = embedding.double()
    gram = wide.T @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())


def slerp(start: Tensor, end: Tensor, points: int = 11) -> Tensor:
    """Unit vectors (P, ..., D) at equal angles on the arc from ``start`` to ``end``, (..., D) of any length.

    Raises
    ------
    AlignmentMetricError
        Fewer than two points, a vector of zero length, or vectors that are opposite, which have no one arc.
    """
    if points < 2:
        raise AlignmentMetricError(f"found {points} points of a path, expected at least 2")
    if not bool((start.norm(dim=-1) > 0).all() & (end.norm(dim=-1) > 0).all()):
        raise AlignmentMetricError("found a vector of zero length, expected one with a direction")
    one, other = (functional.normalize(x.double(), dim=-1) for x in (start, end))
    # exact for small angles, where arccos is not
    angle = 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1))
    if bool((angle > torch.pi - 1e-6).any()):
        raise AlignmentMetricError("found opposite vectors, expected ones with one shortest arc between them")
    part = torch.linspace(0, 1, points, dtype=torch.float64, device=one.device).view(-1, *[1] * one.ndim)
    wide = angle[None, ..., None]
    # sinc keeps the weights finite where the two vectors are one
    both = torch.sinc(wide / torch.pi)
    first = (1 - part) * torch.sinc((1 - part) * wide / torch.pi) / both
    second = part * torch.sinc(part * wide / torch.pi) / both
    return functional.normalize(first * one + second * other, dim=-1).to(start.dtype)


def interpolation_measures(
    path: Tensor, bones: Sequence[tuple[int, int]], train: Tensor | None = None
) -> dict[str, float]:
    """Measure poses (P, J, 3) decoded along a path between two embeddings, with one noise for all points.

    Returns
    -------
    dict
        ``step ratio``: the largest over the mean step, in mean joint distance; 1 for an even path. ``bone
        deviation``: the mean over ``bones`` of the deviation of its length along the path, in the poses'
        unit. With ``train`` (N, J, 3) ``to train``: the mean distance to the nearest training pose.

    Raises
    ------
    AlignmentMetricError
        Fewer than two points.
    """
    if len(path) < 2:
        raise AlignmentMetricError(f"found a path of {len(path)} poses, expected at least 2")
    step = (path[1:] - path[:-1]).norm(dim=-1).mean(dim=-1)
    ends = torch.tensor(list(bones), device=path.device)
    length = (path[:, ends[:, 0]] - path[:, ends[:, 1]]).norm(dim=-1)
    mean = float(step.mean())
    figures = {
        "step ratio": float(step.max()) / mean if mean > 0 else 1.0,
        "bone deviation": float(length.std(dim=0, correction=0).mean()),
    }
    if train is not None:
        nearest = train[nearest_pose(path, train)]
        figures["to train"] = float((path - nearest).norm(dim=-1).mean())
    return figures


def best_of_s(hypotheses: Tensor, target: Tensor, error: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N,) error of the best of S hypotheses (S, N, J, 3), chosen by the truth (N, J, 3): an oracle's figure.

    It falls with S whatever the model knows; never put it beside errors of single hypotheses unnamed.
    """
    return torch.stack([error(one, target) for one in hypotheses]).amin(dim=0)
