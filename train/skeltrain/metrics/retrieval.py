"""Retrieval by cosine similarity, exact: `retrieve`, and what a ranking is worth.

UniHPR (arXiv 2510.19078, Tables III and IV) looks for the nearest 3D embedding among all test frames, that
of the query's own frame among them, and states the joint error of the pose found. Neighbours in a video
differ by a few millimetres, so this alone says little; `evaluate_retrieval` puts beside it how often the very
frame is found, a gallery without the query's neighbours in time, a gallery of the training set, and the best
that any ranking of these galleries could do.

Legend: Q queries, N gallery rows, D width, J joints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from skelformats.errors import SkelconvError

#: Queries and gallery rows compared at once: 64 MB of similarities.
QUERY_CHUNK, GALLERY_CHUNK = 1024, 16_384

PoseError = Callable[[Tensor, Tensor], Tensor]
"""Error of poses (N, J, 3) against poses (N, J, 3): (N,), such as a root-relative MPJPE in millimetres."""


class RetrievalError(SkelconvError, ValueError):
    """Embeddings that cannot be searched, or searched for."""


class Retrieved(NamedTuple):
    """The k most similar rows of a gallery for each query, the most similar first.

    ``values`` are cosines (Q, k) float32, ``indices`` rows (Q, k) int64. Where a query may see fewer than k
    rows, minus infinity and -1.
    """

    values: Tensor
    indices: Tensor


def retrieve(
    query: Tensor,
    gallery: Tensor,
    k: int = 1,
    exclude: Callable[[slice, slice], Tensor] | None = None,
    query_chunk: int = QUERY_CHUNK,
    gallery_chunk: int = GALLERY_CHUNK,
) -> Retrieved:
    """Find the k most similar rows of ``gallery`` for each row of ``query``, exactly, by cosine.

    Works on the query's device and brings the gallery there chunk by chunk, so a gallery in memory or mapped
    from a file may be larger than the device's memory. Similarities are float32 products, without TF32. Of
    equal similarities the lowest row comes first.

    Parameters
    ----------
    query, gallery
        (Q, D) and (N, D) embeddings of any floating type, un-normalised. To store a gallery use float16, not
        bfloat16: that changes the first match of 4 % of queries among frames of videos, float16 of 0.3 %.
    k
        How many, 1 to N.
    exclude
        Called with the rows of the queries and of the gallery being compared; returns (q, n) bool: gallery
        rows that a query may not see, such as from `neighbours_in_time`.

    Raises
    ------
    RetrievalError
        Another width, an empty gallery or one of fewer than k rows, or an embedding without a direction.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise RetrievalError(
            f"found queries of shape {tuple(query.shape)} and a gallery of shape {tuple(gallery.shape)}, "
            "expected (queries, width) and (rows, width) of one width. Both must come from one model"
        )
    if not 1 <= k <= len(gallery):
        raise RetrievalError(f"found k = {k} and a gallery of {len(gallery)} rows, expected k from 1 to that")
    unit = _unit(query, "query", 0)
    values = unit.new_full((len(query), k), -torch.inf)
    indices = torch.full((len(query), k), -1, dtype=torch.long, device=unit.device)
    with torch.no_grad(), torch.autocast(unit.device.type, enabled=False):
        for first in range(0, len(gallery), gallery_chunk):
            of_gallery = slice(first, min(first + gallery_chunk, len(gallery)))
            rows = _unit(gallery[of_gallery].to(unit.device), "gallery row", first)
            for start in range(0, len(query), query_chunk):
                of_query = slice(start, min(start + query_chunk, len(query)))
                cosine = _products(unit[of_query], rows)
                if exclude is not None:
                    cosine = cosine.masked_fill(exclude(of_query, of_gallery).to(cosine.device), -torch.inf)
                best, where = _top(cosine, min(k, len(rows)))
                # earlier rows stand first, so a stable sort leaves them before equals
                merged = torch.cat([values[of_query], best], dim=1)
                places = torch.cat([indices[of_query], where + first], dim=1)
                merged, order = merged.sort(dim=1, descending=True, stable=True)
                values[of_query] = merged[:, :k]
                indices[of_query] = places.gather(1, order)[:, :k]
    return Retrieved(values, indices.masked_fill(values == -torch.inf, -1))


def neighbours_in_time(
    query: tuple[Tensor, Tensor], gallery: tuple[Tensor, Tensor], window: int
) -> Callable[[slice, slice], Tensor]:
    """Make an ``exclude`` of `retrieve`: rows of the query's sequence at most ``window`` frames from it.

    Parameters
    ----------
    query, gallery
        Number of the sequence and of the frame in it, (Q,) and (N,) int64 each.
    window
        Frames; half a second is what `evaluate_retrieval` leaves out.
    """

    def exclude(of_query: slice, of_gallery: slice) -> Tensor:
        same = query[0][of_query, None] == gallery[0][of_gallery]
        near = (query[1][of_query, None] - gallery[1][of_gallery]).abs() <= window
        return same & near

    return exclude


def recall(indices: Tensor, truth: Tensor) -> float:
    """Part of the queries whose true row (Q,) is among those found, ``indices`` (Q, k): recall at k."""
    return float((indices == truth.to(indices.device)[:, None]).any(dim=1).double().mean())


def recall_within(errors: Tensor, threshold: float) -> float:
    """Part of the queries with a pose found, errors (Q, k), whose error is below ``threshold``."""
    return float((errors < threshold).any(dim=1).double().mean())


def errors_of_found(indices: Tensor, query: Tensor, gallery: Tensor, error: PoseError) -> Tensor:
    """(Q, k) errors of the poses found, ``gallery[indices]``, against the query's own; infinite for index -1.

    Parameters
    ----------
    query, gallery
        (Q, J, 3) and (N, J, 3) poses.
    """
    found = [
        error(gallery[column.clamp_min(0)], query).masked_fill(column < 0, torch.inf)
        for column in indices.to(gallery.device).unbind(1)
    ]
    return torch.stack(found, dim=1)


@dataclass(frozen=True, eq=False)
class Embedded:
    """Frames with their embeddings, poses and places in time.

    Attributes
    ----------
    embedding
        (N, D).
    pose
        (N, J, 3), root-relative, in the unit that errors are wanted in.
    sequence, frame
        (N,) int64: number of the sequence, and of the frame in it.
    """

    embedding: Tensor
    pose: Tensor
    sequence: Tensor
    frame: Tensor


def evaluate_retrieval(
    query: Tensor,
    test: Embedded,
    errors: Mapping[str, PoseError],
    window: int,
    train: Embedded | None = None,
    thresholds: tuple[float, ...] = (),
) -> dict[str, float]:
    """Evaluate retrieval of 3D poses as UniHPR does, and in the ways that mean something.

    Keys are ``<gallery>/<figure>``. Galleries: ``paper`` is all of ``test``, the query's own frame included;
    ``apart`` leaves out the query's neighbours in time; ``train`` is the training set. Figures: a mean error
    by its name in ``errors``; ``<name> within <threshold>``, the part of queries below it; ``oracle <name>``,
    the mean error of the gallery's nearest pose by mean joint distance, below which no ranking comes by much
    (``apart`` and ``train``); ``exact index at 1`` (``paper``).

    Parameters
    ----------
    query
        (N, D) embeddings of the test frames in another modality, row i of the frame in row i of ``test``.
    errors
        Pose errors by name, such as ``{"mpjpe": ..., "pa-mpjpe": ...}``.
    window
        Frames on both sides of the query that ``apart`` leaves out: half a second.
    train
        The gallery of the training set, where wanted.
    thresholds
        In the unit of the poses.

    Raises
    ------
    RetrievalError
        As `retrieve`, or not as many queries as test frames.
    """
    if len(query) != len(test.embedding):
        raise RetrievalError(
            f"found {len(query)} queries of {len(test.embedding)} test frames, expected one each"
        )
    time = (test.sequence, test.frame)
    apart = neighbours_in_time(time, time, window)
    galleries = {"paper": (test, None), "apart": (test, apart)}
    if train is not None:
        galleries["train"] = (train, None)
    figures = {}
    for name, (gallery, exclude) in galleries.items():
        found = retrieve(query, gallery.embedding, 1, exclude).indices
        if name == "paper":
            figures["paper/exact index at 1"] = recall(found, torch.arange(len(query)))
            oracle = None
        else:
            oracle = nearest_pose(test.pose, gallery.pose, exclude)[:, None]
        for kind, error in errors.items():
            each = errors_of_found(found, test.pose, gallery.pose, error)
            figures[f"{name}/{kind}"] = float(each.mean())
            for threshold in thresholds:
                figures[f"{name}/{kind} within {threshold:g}"] = recall_within(each, threshold)
            if oracle is not None:
                best = errors_of_found(oracle, test.pose, gallery.pose, error)
                figures[f"{name}/oracle {kind}"] = float(best.mean())
    return figures


def nearest_pose(
    query: Tensor, gallery: Tensor, exclude: Callable[[slice, slice], Tensor] | None = None
) -> Tensor:
    """(Q,) rows of ``gallery`` (N, J, 3) of smallest mean joint distance to ``query`` (Q, J, 3), or -1."""
    best = torch.full((len(query),), torch.inf, device=query.device)
    where = torch.full((len(query),), -1, dtype=torch.long, device=query.device)
    for first in range(0, len(gallery), GALLERY_CHUNK):
        of_gallery = slice(first, min(first + GALLERY_CHUNK, len(gallery)))
        for start in range(0, len(query), QUERY_CHUNK):
            of_query = slice(start, min(start + QUERY_CHUNK, len(query)))
            distance = query.new_zeros(of_query.stop - start, of_gallery.stop - first)
            # joint by joint, which needs no array of every pair of poses
            for one, other in zip(query[of_query].unbind(1), gallery[of_gallery].unbind(1), strict=True):
                distance += torch.cdist(one, other.to(one), compute_mode="donot_use_mm_for_euclid_dist")
            if exclude is not None:
                distance = distance.masked_fill(exclude(of_query, of_gallery).to(distance.device), torch.inf)
            nearest, place = distance.min(dim=1)
            closer = nearest < best[of_query]
            best[of_query] = torch.where(closer, nearest, best[of_query])
            where[of_query] = torch.where(closer, place + first, where[of_query])
    return where


def _top(cosine: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest k of each row, and where; equals in the order of their columns."""
    more = min(k + 1, cosine.shape[1])
    values, where = cosine.topk(more, dim=1)
    if more > k:
        # topk chooses among equals as it likes; where the last one taken equals the first one left, sort all
        tied = values[:, k - 1] == values[:, k]
        values, where = values[:, :k], where[:, :k]
        if bool(tied.any()):
            exact, order = cosine[tied].sort(dim=1, descending=True, stable=True)
            values[tied], where[tied] = exact[:, :k], order[:, :k]
    where, order = where.sort(dim=1)
    values, by_value = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, where.gather(1, by_value)


def _products(query: Tensor, rows: Tensor) -> Tensor:
    if torch.get_float32_matmul_precision() != "highest":
        return (query.double() @ rows.double().T).float()
    return query @ rows.T


def _unit(embedding: Tensor, what: str, first: int) -> Tensor:
    wide = embedding.detach().float()
    length = wide.norm(dim=1, keepdim=True)
    good = ((length > 0) & length.isfinite())[:, 0]
    if not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        raise RetrievalError(
            f"found {what} {first + row} of length {float(length[row]):g}, expected a finite length above 0: "
            "such a vector has no direction to compare"
        )
    return wide / length
