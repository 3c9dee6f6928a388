"""The NTU chain of pyskl (Duan et al., ACM MM 2022), and its 3D normalisation.

It goes back to the chain of `skelconv.clean.ntu` and differs where the functions here say so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skelconv.clean.candidates import Actors, Body, Candidates, CleaningError, cast_bodies, observed_joints
from skelconv.clean.ntu import judge_spread
from skelconv.clean.rotate import turn_upright
from skelformats.skeleton import Skeleton

EMPTY_SUM = 1e-3
"""A frame is empty when the absolute values of its coordinates sum to less (pyskl)."""


def drop_all_spread_bodies(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Drop bodies whose joints are wider than high in most frames, the last one too.

    Unlike the SGN chain, which keeps a last body; a single body is not judged.

    Raises
    ------
    CleaningError
        None is left; the published code ends in an AssertionError there.
    """
    if len(candidates.bodies) == 1:
        return candidates
    judged = [judge_spread(body) for body in candidates.bodies]
    kept = tuple(body for body in judged if body is not None)
    if not kept:
        raise CleaningError(
            candidates.recording, f"{len(judged)} bodies wider than high in most frames", "one that is not"
        )
    return replace(candidates, bodies=kept)


def choose_apart_actors(candidates: Candidates, skeleton: Skeleton) -> Actors:
    """Join the bodies, in their order, into two actors; a lone body is the only one.

    Unlike the SGN chain, a body joins an actor only when they share no frame at all.
    """
    first, *others = candidates.bodies
    if not others:
        return cast_bodies(candidates, [[first]])
    roles: tuple[list[Body], list[Body]] = ([first], [])
    intervals = [(first.first, first.last + 1), (0, 0)]
    for body in others:
        for actor, (start, end) in enumerate(intervals):
            if max(start, body.first) >= min(end, body.last + 1):
                roles[actor].append(body)
                intervals[actor] = (min(start, body.first), max(end, body.last + 1))
                break
    return cast_bodies(candidates, roles)


def trim_empty_ends(actors: Actors, skeleton: Skeleton) -> Actors:
    """Leave out the frames before the first and after the last one that shows anybody."""
    shown = np.flatnonzero(np.abs(actors.position).sum(axis=(0, 2, 3)) >= EMPTY_SUM)
    if not len(shown):
        raise CleaningError(actors.recording, "no observed joint in any frame", "at least one")
    return actors.take_frames(np.arange(shown[0], shown[-1] + 1))


def put_present_actor_first(actors: Actors, skeleton: Skeleton) -> Actors:
    """Swap the two persons when only the second is there in frame 0."""
    if len(actors.position) == 2 and actors.present[1, 0] and not actors.present[0, 0]:
        return actors.take_persons([1, 0])
    return actors


def round_to_half(actors: Actors, skeleton: Skeleton) -> Actors:
    """Round to float16, as pyskl's files are: steps of 2 mm at a distance of 4 m."""
    return replace(actors, position=actors.position.astype(np.float16).astype(np.float32))


def keep_longer_actor(actors: Actors, skeleton: Skeleton) -> Actors:
    """Put the person with more frames first, and keep only the frames that show it."""
    frames = actors.present.sum(axis=1)
    if len(frames) == 2 and frames[1] > frames[0]:
        actors = actors.take_persons([1, 0])
    return actors.take_frames(actors.present[0])


def centre_observed_joints(actors: Actors, skeleton: Skeleton) -> Actors:
    """Move all observed joints so that the first person's origin joint is 0 in frame 0; others stay at 0."""
    centre = actors.position[0, 0, list(skeleton.origin)].mean(axis=0, dtype=np.float32)
    observed = observed_joints(actors.position)[..., None]
    return replace(actors, position=np.where(observed, actors.position - centre, np.float32(0)))


def turn_first_frame_upright(actors: Actors, skeleton: Skeleton) -> Actors:
    """Turn all persons so that in frame 0 the first one's spine points along +z, its shoulders along +x."""
    position = actors.position.astype(np.float64)
    turned = turn_upright(position, position[0, 0], skeleton)
    return replace(actors, position=turned.astype(np.float32))
