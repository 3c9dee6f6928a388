"""Negatives of the triplet term: which image, 2D and 3D pose of a batch make a wrong triplet for an anchor.

The anchored set of frame b holds every triple that shares at least one member with (b, b, b) and is not it:
B^3 - (B-1)^3 - 1 = 3 B (B-1) triples for three modalities. UniHPR counts B^3 - (B-1)^3, which includes the
positive, and describes in words a larger set ("at least one embedding from a different frame", B^3 - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.losses.errors import AlignmentError

#: (B, K, modalities, generator) to (B, K', modalities) int64 on the generator's device.
Mode = Callable[[int, int, int, torch.Generator | None], Tensor]


def sample_negatives(
    B: int,
    K: int,
    generator: torch.Generator | None = None,
    mode: str = "sampled",
    modalities: int = 3,
) -> Tensor:
    """Choose negatives for each anchor of a batch; never the positive, always with a member of the anchor's.

    Parameters
    ----------
    B
        Batch size, at least 2.
    K
        Negatives an anchor. The paper takes B - 1; ``full`` gives all, whatever K is.
    generator
        Where the random numbers come from; the result lies on its device (the CPU without one).
    mode
        ``sampled``: uniform over the anchored set, with replacement. ``full``: the whole anchored set, in
        lexicographic order; 3 B (B-1) triples for three modalities. ``stratified``: each negative keeps all
        members of the anchor's but one, and each modality is the replaced one equally often, to within one
        negative an anchor. A uniform draw has about one such negative an anchor, and none for a third of the
        anchors.
    modalities
        How many indices a negative has.

    Returns
    -------
    Tensor
        (B, K, modalities) int64 rows of the batch.

    Raises
    ------
    AlignmentError
        A batch of one, K below 1, or fewer than two modalities.
    UnknownNameError
        No such mode.
    """
    if B < 2:
        raise AlignmentError(
            f"found a batch of {B}, expected at least two samples: one alone has no negatives. Make the "
            "batch larger, or leave out the last, incomplete one"
        )
    if K < 1 or modalities < 2:
        raise AlignmentError(
            f"found {K} negatives of {modalities} modalities, expected at least one negative and "
            "two modalities"
        )
    if mode not in MODES:
        raise UnknownNameError("way to choose negatives", mode, tuple(MODES))
    return MODES[mode](B, K, modalities, generator)


def _sampled(B: int, K: int, modalities: int, generator: torch.Generator | None) -> Tensor:
    """Set one random member to the anchor's and draw the others; a triple that has n ways to arise from this
    is kept with probability 1 / n, which makes all equally likely.
    """
    device = _device(generator)
    drawn = torch.empty(B * K, modalities, dtype=torch.long, device=device)
    anchor = torch.arange(B, device=device).repeat_interleave(K)
    todo = torch.arange(B * K, device=device)
    while len(todo):
        own = anchor[todo]
        member = torch.randint(modalities, (len(todo),), generator=generator, device=device)
        triple = torch.randint(B, (len(todo), modalities), generator=generator, device=device)
        triple.scatter_(1, member[:, None], own[:, None])
        ways = (triple == own[:, None]).sum(dim=1)
        kept = torch.rand(len(todo), generator=generator, device=device) * ways < 1
        kept &= ways < modalities
        drawn[todo[kept]] = triple[kept]
        todo = todo[~kept]
    return drawn.view(B, K, modalities)


def _full(B: int, K: int, modalities: int, generator: torch.Generator | None) -> Tensor:
    device = _device(generator)
    # relative to the anchor: 0 is its own member, 1 to B - 1 the others'
    steps = torch.cartesian_prod(*[torch.arange(B, device=device)] * modalities)
    steps = steps[(steps == 0).any(dim=1) & (steps != 0).any(dim=1)]
    triples = (torch.arange(B, device=device)[:, None, None] + steps) % B
    # the same order for every anchor: by the first member's row, then the second's, ...
    weight = B ** torch.arange(modalities - 1, -1, -1, device=device)
    order = (triples * weight).sum(dim=-1).argsort(dim=1)
    return triples.gather(1, order[..., None].expand_as(triples))


def _stratified(B: int, K: int, modalities: int, generator: torch.Generator | None) -> Tensor:
    device = _device(generator)
    anchor = torch.arange(B, device=device)[:, None]
    # where K is no multiple of the modalities, the odd ones go round over the anchors
    replaced = (torch.arange(K, device=device) + anchor) % modalities
    other = torch.randint(1, B, (B, K), generator=generator, device=device)
    triples = anchor[..., None].repeat(1, K, modalities)
    return triples.scatter_(2, replaced[..., None], ((anchor + other) % B)[..., None])


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


MODES: Mapping[str, Mode] = MappingProxyType({"sampled": _sampled, "full": _full, "stratified": _stratified})
