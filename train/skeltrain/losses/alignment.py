"""Contrastive losses that bring an image, its 2D pose and its 3D pose to one point of a common space.

UniHPR (arXiv 2510.19078) aligns three embeddings of one frame in two ways: each pair by InfoNCE (its Eq. 1),
and all three at once by the largest eigenvalue of their Gram matrix (Eq. 2 to 4). The paper writes the latter
as a singular value of the 3 x D matrix of unit vectors; since the Gram matrix has trace 3, its eigenvalue
lies in [1, 3] and the singular value in [1, sqrt 3]. The eigenvalue has a closed form: no SVD is needed.

The eigenvalue is blind to signs: (x, x, -x) has the value 3 of (x, x, x). Trained on alone, it leaves towers
with opposite signs, which the pairs do not; use `alignment_loss`.

Legend: B samples of a batch, D width of an embedding, K negatives of an anchor, n modalities. Every loss
takes un-normalised embeddings (B, D), works in float32 (float64 for float64 input) outside autocast, and
returns a scalar.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from skeltrain.losses.errors import AlignmentError
from skeltrain.losses.negatives import sample_negatives

__all__ = [
    "AlignmentError",
    "alignment_loss",
    "cosines",
    "gram_infonce",
    "largest_eigenvalue",
    "near_in_time",
    "near_poses",
    "pair_infonce",
    "sample_negatives",
    "triplet_infonce",
]

#: Relative gap of the largest eigenvalue to the next below which it counts as double, and has no gradient.
_DOUBLE = 1e-12

_TINY = 1e-300


def largest_eigenvalue(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Largest eigenvalue of the Gram matrix [[1, a, b], [a, 1, c], [b, c, 1]], in closed form.

    It is ``1 + x`` with x the largest root of ``x^3 - p x - 2 abc``, ``p = a^2 + b^2 + c^2`` (UniHPR Eq. 2,
    in trigonometric form). The discriminant is computed as a sum of squares, so nothing cancels where
    eigenvalues meet. The gradient is exact, ``(2 x a + 2 b c) / (3 x^2 - p)`` for a and cyclically, at most 1
    in size. Where the largest eigenvalue is double (a = b = c = 0, or |a| = |b| = |c| with abc < 0) no
    gradient exists, and 0 is given. Finite for every finite input; cosines that rounding put above 1 are
    taken as they are.

    Parameters
    ----------
    a, b, c
        Cosines between image and 2D, image and 3D, 2D and 3D; any shapes that broadcast.

    Returns
    -------
    Tensor
        float32 whatever the input and autocast are, float64 for float64 input; computed in float64. Cannot be
        differentiated twice.
    """
    whole = a + b + c  # its shape is the one that all three broadcast to
    value: Tensor = _LargestEigenvalue.apply(*(cosine.expand_as(whole) for cosine in (a, b, c)))
    return value


class _LargestEigenvalue(torch.autograd.Function):
    """Value and the three derivatives in one pass; the derivatives are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, *cosines: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        a, b, c = (cosine.detach().double() for cosine in cosines)
        value, *grads = _eigenvalue(a, b, c, wanted)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [cosine.dtype for cosine in cosines]
        return value if torch.float64 in ctx.dtypes else value.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, ...]:
        # the derivatives are float64, so the product is; each input gets its own type back
        return tuple(
            (outer[0] * grad).to(dtype) for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )


def _eigenvalue(a: Tensor, b: Tensor, c: Tensor, derivatives: bool) -> list[Tensor]:
    """Largest eigenvalue of float64 cosines (N,) and, if wanted, its three derivatives."""
    a2, b2, c2 = a * a, b * b, c * c
    p, q = a2 + b2 + c2, a * b * c
    ab, bc, ca = ((u - v).mul_(u + v).square_() for u, v in ((a, b), (b, c), (c, a)))
    # 27 times the discriminant (p/3)^3 - q^2, without its cancellation
    discriminant = (ab + bc + ca).mul_(p).div_(2).add_(a2.mul_(bc).addcmul_(b2, ca).addcmul_(c2, ab), alpha=3)
    cosine = torch.atan2(discriminant.div_(27).sqrt_(), q).div_(3).cos_()
    x = (p / 3).sqrt_().mul_(2).mul_(cosine)
    if not derivatives:
        return [x.add_(1)]
    gap = cosine.square_().mul_(4).sub_(1)
    # 3 x^2 - p, infinite where the eigenvalue is double; where all three are 0 a tiny one, times which 0
    # stays 0
    slope = functional.threshold(gap, _DOUBLE, torch.inf).mul_(p.clamp_min_(_TINY))
    scale = slope.reciprocal_().mul_(2)
    # |2 v1 v2| <= 1 for the eigenvector v; rounding near a double eigenvalue must not break it
    grads = [
        (x * one).addcmul_(u, v).mul_(scale).clamp_(-1, 1) for one, u, v in ((a, b, c), (b, a, c), (c, a, b))
    ]
    return [x.add_(1), *grads]


def pair_infonce(x: Tensor, y: Tensor, tau: float | Tensor, duplicates: Tensor | None = None) -> Tensor:
    """InfoNCE of two modalities: mean of both directions, mean over anchors (UniHPR Eq. 1).

    Parameters
    ----------
    x, y
        (B, D) embeddings, row i of both from one frame.
    tau
        Temperature; a tensor gets its gradient.
    duplicates
        (B, B) bool, symmetric: pairs of frames that are no negatives of each other (`near_in_time`,
        `near_poses`). The diagonal is ignored.

    Returns
    -------
    Tensor
        Scalar; ``ln B`` where all embeddings are equal.

    Raises
    ------
    AlignmentError
        A batch of one, shapes that differ, an embedding of zero length or one that is not finite.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _pair(cosines(*_unit((x, y))), tau, duplicates)


def triplet_infonce(
    image: Tensor,
    pose2d: Tensor,
    pose3d: Tensor,
    negatives: Tensor,
    tau: float | Tensor,
    duplicates: Tensor | None = None,
) -> Tensor:
    """InfoNCE on the largest eigenvalue of three embeddings' Gram matrix (UniHPR Eq. 3), mean over anchors.

    Parameters
    ----------
    image, pose2d, pose3d
        (B, D) embeddings, row i of all from one frame.
    negatives
        (B, K, 3) int64 from `sample_negatives`: for each anchor the rows of image, 2D and 3D pose.
    tau
        Temperature of the eigenvalue, which spreads over 2, a cosine over about 1.
    duplicates
        As in `pair_infonce`; leaves out a negative whose members are all the anchor's or its near duplicates.

    Returns
    -------
    Tensor
        Scalar; ``ln (K + 1)`` for equal and for orthogonal embeddings alike.

    Raises
    ------
    AlignmentError
        As `pair_infonce`; negatives of another shape, or rows that the batch does not have.
    """
    with torch.autocast(image.device.type, enabled=False):
        units = _unit((image, pose2d, pose3d))
        between = [cosines(units[m], units[n]) for m, n in ((0, 1), (0, 2), (1, 2))]
        return _triplet(between, negatives, tau, duplicates)


def alignment_loss(
    image: Tensor,
    pose2d: Tensor,
    pose3d: Tensor,
    negatives: Tensor,
    tau_pair: float | Tensor,
    tau_triplet: float | Tensor,
    alpha: float = 1.0,
    duplicates: Tensor | None = None,
) -> Tensor:
    """Sum of the three pairs' InfoNCE plus ``alpha`` times the triplet's (UniHPR Eq. 4, alpha = 1).

    The same as three calls of `pair_infonce` and one of `triplet_infonce`, with the cosines computed once.

    Raises
    ------
    AlignmentError
        As `triplet_infonce`.
    """
    with torch.autocast(image.device.type, enabled=False):
        units = _unit((image, pose2d, pose3d))
        between = [cosines(units[m], units[n]) for m, n in ((0, 1), (0, 2), (1, 2))]
        pairs = torch.stack([_pair(cosine, tau_pair, duplicates) for cosine in between]).sum()
        return pairs + alpha * _triplet(between, negatives, tau_triplet, duplicates)


def gram_infonce(
    embeddings: Sequence[Tensor],
    negatives: Tensor,
    tau: float | Tensor,
    duplicates: Tensor | None = None,
) -> Tensor:
    """`triplet_infonce` over any number of modalities, the eigenvalue by `torch.linalg.eigvalsh`.

    Parameters
    ----------
    embeddings
        n tensors (B, D), n >= 2, row i of all from one sample.
    negatives
        (B, K, n) int64, from ``sample_negatives(..., modalities=n)``.

    Raises
    ------
    AlignmentError
        As `triplet_infonce`, or fewer than two modalities.
    """
    count = len(embeddings)
    if count < 2:
        raise AlignmentError(f"found {count} modalities, expected at least two to align")
    with torch.autocast(embeddings[0].device.type, enabled=False):
        units = _unit(embeddings)
        batch = len(units[0])
        chosen = _candidates(negatives, batch, count)
        gram = units[0].new_zeros(*chosen.shape[:2], count, count)
        for m, n in itertools.combinations(range(count), 2):
            cosine = cosines(units[m], units[n])[chosen[..., m], chosen[..., n]]
            gram[..., n, m] = gram[..., m, n] = cosine  # eigvalsh gives each of the two half of the gradient
        gram = gram + torch.eye(count, dtype=gram.dtype, device=gram.device)
        # its backward pass divides by no gap of eigenvalues, so it is finite where they meet
        value = torch.linalg.eigvalsh(gram)[..., -1]
        return _softmax_of_first(value / tau, _left_out(chosen, duplicates))


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """(B, N) products of unit vectors (B, D) and (N, D), exact to float32 whatever TF32 is set to.

    TF32 and bfloat16 products put cosines up to a thousandth beyond 1.
    """
    if x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return (x.double() @ y.double().T).float()
    return x @ y.T


def near_in_time(sequence: Tensor, frame: Tensor, window: int) -> Tensor:
    """(B, B) bool: pairs of one sequence whose frames are at most ``window`` apart, the diagonal included.

    Parameters
    ----------
    sequence, frame
        (B,) int64: number of the sequence, and of the frame in it.
    """
    return (sequence[:, None] == sequence) & ((frame[:, None] - frame).abs() <= window)


def near_poses(pose3d: Tensor, distance: float) -> Tensor:
    """(B, B) bool: pairs of root-relative poses (B, J, 3) whose mean joint distance is below ``distance``."""
    joints = pose3d.detach().float().transpose(0, 1)
    return torch.cdist(joints, joints).mean(dim=0) < distance


def _pair(cosine: Tensor, tau: float | Tensor, duplicates: Tensor | None) -> Tensor:
    logits = cosine / tau
    if duplicates is not None:
        batch = len(logits)
        if duplicates.shape != (batch, batch):
            raise AlignmentError(
                f"found duplicates of shape {tuple(duplicates.shape)}, expected {(batch, batch)} for a batch "
                f"of {batch}"
            )
        own = torch.eye(batch, dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(duplicates.to(logits.device) & ~own, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def _triplet(
    between: Sequence[Tensor], negatives: Tensor, tau: float | Tensor, duplicates: Tensor | None
) -> Tensor:
    """`triplet_infonce` of the (B, B) cosines image-2D, image-3D, 2D-3D."""
    chosen = _candidates(negatives, len(between[0]), 3)
    rows = chosen.unbind(-1)
    places = [rows[m] * len(between[0]) + rows[n] for m, n in ((0, 1), (0, 2), (1, 2))]
    out = _left_out(chosen, duplicates)
    if not isinstance(tau, Tensor):
        tau = torch.tensor(tau, dtype=torch.float64, device=between[0].device)
    loss: Tensor = _Triplet.apply(*between, *places, tau, out)
    return loss


class _Triplet(torch.autograd.Function):
    """The triplet term of three matrices of cosines (B, B) and the places (B, 1 + K) in them, in one pass.

    The loss is one number, so its gradients are worked out with it and kept; autograd would walk through a
    score of arrays of 1 + K numbers an anchor once more.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        between, places, tau, left_out = given[:3], given[3:6], given[6], given[7]
        dtype, shape = between[0].dtype, between[0].shape
        picked = (
            one.reshape(-1).index_select(0, place.reshape(-1)).view(place.shape).double()
            for one, place in zip(between, places, strict=True)
        )
        a, b, c = picked
        value, *slopes = _eigenvalue(a, b, c, True)
        logits = value.to(dtype) / tau.to(dtype)
        if left_out is not None:
            logits = logits.masked_fill_(left_out, -torch.inf)
        log_share = logits.log_softmax(dim=1)
        loss = -log_share[:, 0].mean()
        share = log_share.exp_()
        share[:, 0] -= 1
        share /= len(logits) * tau.to(dtype)
        grads = [
            torch.zeros(shape.numel(), dtype=dtype, device=tau.device)
            .index_add_(0, place.reshape(-1), slope.to(dtype).mul_(share).view(-1))
            .view(shape)
            for place, slope in zip(places, slopes, strict=True)
        ]
        # minus infinity where a negative is left out: its share is 0
        of_tau = -(logits.masked_fill(left_out, 0.0) if left_out is not None else logits).mul(share).sum()
        ctx.save_for_backward(*grads, of_tau.to(tau.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        *grads, of_tau = (grad * outer[0].to(grad.dtype) for grad in ctx.saved_tensors)
        return (*grads, None, None, None, of_tau, None)


def _softmax_of_first(logits: Tensor, left_out: Tensor | None) -> Tensor:
    """Mean over rows of -log softmax of the first column."""
    if left_out is not None:
        logits = logits.masked_fill(left_out, -torch.inf)
    return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def _candidates(negatives: Tensor, batch: int, modalities: int) -> Tensor:
    """(B, 1 + K, n): the positive, then the negatives."""
    if negatives.ndim != 3 or negatives.shape[0] != batch or negatives.shape[2] != modalities:
        raise AlignmentError(
            f"found negatives of shape {tuple(negatives.shape)}, expected ({batch}, K, {modalities}): for "
            "each anchor K rows, one index a modality. sample_negatives makes them"
        )
    if negatives.shape[1] == 0:
        raise AlignmentError("found no negative for any anchor, expected at least one (K >= 1)")
    low, high = (int(end) for end in negatives.aminmax())
    if low < 0 or high >= batch:
        raise AlignmentError(
            f"found negatives from {low} to {high}, expected rows of the batch, 0 to {batch - 1}"
        )
    anchors = torch.arange(batch, device=negatives.device)[:, None, None].expand(batch, 1, modalities)
    return torch.cat([anchors, negatives], dim=1)


def _left_out(chosen: Tensor, duplicates: Tensor | None) -> Tensor | None:
    """(B, 1 + K) bool: negatives in which every member is the anchor's or a near duplicate of it."""
    if duplicates is None:
        return None
    batch = len(chosen)
    near = duplicates.to(chosen.device) | torch.eye(batch, dtype=torch.bool, device=chosen.device)
    anchors = torch.arange(batch, device=chosen.device)[:, None, None]
    left_out = near[anchors, chosen].all(dim=-1)
    left_out[:, 0] = False
    return left_out


def _unit(embeddings: Sequence[Tensor]) -> list[Tensor]:
    """Embeddings scaled to length 1, in float32 or wider.

    Looks at the lengths once for all, which on a GPU waits for the device.
    """
    shapes = {tuple(embedding.shape) for embedding in embeddings}
    if len(shapes) > 1 or embeddings[0].ndim != 2:
        raise AlignmentError(
            f"found embeddings of shapes {', '.join(map(str, sorted(shapes)))}, expected one shape (B, D)"
        )
    if len(embeddings[0]) < 2:
        raise AlignmentError(
            f"found a batch of {len(embeddings[0])}, expected at least two samples: a contrastive loss needs "
            "negatives. Make the batch larger, or leave out the last, incomplete one"
        )
    double = any(embedding.dtype == torch.float64 for embedding in embeddings)
    wide = [embedding.double() if double else embedding.float() for embedding in embeddings]
    lengths = [embedding.detach().norm(dim=1, keepdim=True) for embedding in wide]
    good = torch.stack([(length > 0) & length.isfinite() for length in lengths])[..., 0]
    if not bool(good.all()):
        which, row = (~good).nonzero()[0].tolist()
        raise AlignmentError(
            f"found an embedding of length {float(lengths[which][row]):g} (modality {which}, row {row} of "
            "the batch), expected a finite length above 0: such a vector has no direction to compare"
        )
    return [_Scaled.apply(embedding, length) for embedding, length in zip(wide, lengths, strict=True)]


class _Scaled(torch.autograd.Function):
    """x / |x| by rows; the gradient is what of it is across x, over |x|, in three passes instead of ten."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        x, length = given
        unit = x / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        unit, length = ctx.saved_tensors
        along = (outer[0] * unit).sum(dim=1, keepdim=True)
        return torch.addcmul(outer[0], unit, along, value=-1).div_(length), None
