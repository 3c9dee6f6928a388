"""The NTU RGB+D chain of SGN (Zhang et al., CVPR 2020), which CTR-GCN and many others took over.

Bodies are filtered by length and by the spread of their joints, ranked by motion, and joined into at most
two actors; the first frame of the first actor gives the origin. Its quirks are part of the published
arrays, so they are reproduced: each is said where it happens and listed in docs/cleaning.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skelconv.clean.candidates import Actors, Body, Candidates, CleaningError, cast_bodies, shown
from skelformats.skeleton import Skeleton

SHORT_BODY_FRAMES = 11
"""A body of at most so many frames is noise, when there is another (SGN, denoising by length)."""

SPREAD_RATIO = np.float32(0.8)
"""A frame is noise when its joints are wider than this share of their height (SGN, denoising by spread).

float32, as numpy 2 compares a float32 with a Python number."""

SPREAD_NOISE_SHARE = 0.69754
"""A body with at least this share of noisy frames is noise (SGN, denoising by spread)."""


def close_gaps(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Number each body's frames on from its first one, so that a body that comes back is shifted early.

    A defect of the published code, which advances a body's frame number by one at each sighting.
    """
    return replace(
        candidates,
        bodies=tuple(replace(body, place=body.first + np.arange(len(body))) for body in candidates.bodies),
    )


def drop_short_bodies(
    candidates: Candidates, skeleton: Skeleton, frames: int = SHORT_BODY_FRAMES
) -> Candidates:
    """Drop bodies of at most ``frames`` frames; a recording with one body keeps it whatever its length.

    Raises
    ------
    CleaningError
        Every one of several bodies is that short; the published code ends in an IndexError there.
    """
    if candidates.body_count == 1:
        return candidates
    kept = tuple(body for body in candidates.bodies if len(body) > frames)
    if not kept:
        raise CleaningError(
            candidates.recording,
            f"{candidates.body_count} bodies of at most {max(map(len, candidates.bodies))} frames",
            f"one of more than {frames}",
        )
    return replace(candidates, bodies=kept)


def measure_motion(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Give each body its motion; with a single body there is nothing to rank, and it is left out."""
    if len(candidates.bodies) == 1:
        return candidates
    return replace(
        candidates,
        bodies=tuple(replace(body, motion=body_motion(body.position)) for body in candidates.bodies),
    )


def drop_spread_bodies(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Drop bodies whose joints are wider than high in most frames (furniture), but never the last one.

    Bodies are judged in order of first appearance. One that stays although some of its frames are noise
    counts with the smaller of its motion and its motion over the other frames.
    """
    bodies = {body.body: body for body in candidates.bodies}
    for body in candidates.bodies:
        if len(bodies) == 1:
            break
        judged = judge_spread(body)
        if judged is None:
            del bodies[body.body]
        else:
            bodies[body.body] = judged
    return replace(candidates, bodies=tuple(bodies.values()))


def rank_by_motion(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Order the bodies by motion, the largest first; equal ones keep their order."""
    return replace(candidates, bodies=tuple(sorted(candidates.bodies, key=lambda body: -float(body.motion))))


def choose_main_actors(candidates: Candidates, skeleton: Skeleton) -> Actors:
    """Join the bodies, in their order, into two actors; a lone body is the only one.

    A body goes to the first actor whose interval it overlaps by at most one frame, and overwrites that
    frame; else it is lost. As published, the second actor's interval starts at frame 0 whatever its first
    body's does, so that a later body that ends before the interval's end is lost although there was room.
    """
    first, *others = candidates.bodies
    if not others:
        return cast_bodies(candidates, [[first]])
    roles: tuple[list[Body], list[Body]] = ([first], [])
    intervals = [(first.first, first.last), (0, 0)]
    for body in others:
        for actor, (start, end) in enumerate(intervals):
            if min(end, body.last) - max(start, body.first) <= 0:
                roles[actor].append(body)
                intervals[actor] = (min(start, body.first), max(end, body.last))
                break
    return cast_bodies(candidates, roles)


def drop_zero_sum_frames(actors: Actors, skeleton: Skeleton) -> Actors:
    """Leave out frames whose coordinates sum to 0, in recordings that have more than one body.

    The published test for an empty frame: it would also take a frame whose coordinates happen to cancel.
    """
    if actors.body_count == 1:
        return actors
    frames = actors.position.shape[1]
    side_by_side = np.concatenate([person.reshape(frames, -1) for person in actors.position], axis=1)
    kept = side_by_side.sum(axis=1) != 0
    return actors if kept.all() else actors.take_frames(kept)


def translate_to_first_frame(actors: Actors, skeleton: Skeleton) -> Actors:
    """Move all persons so that the first actor's origin joint is 0 in the first frame that shows it.

    The origin is the middle of the spine (the mean of the skeleton's origin joints, where it has several).
    As published, every coordinate moves: a missing joint ends at minus the origin. With two persons, the
    person-frames whose coordinates summed to 0 are 0 again afterwards; with one they are not.

    Raises
    ------
    CleaningError
        The first actor has no observed joint.
    """
    first = first_seen(actors)
    origin = actors.position[0, first, list(skeleton.origin)].mean(axis=0, dtype=np.float32)
    moved = actors.position - origin
    if len(moved) == 1:
        return replace(actors, position=moved)
    absent = actors.position.reshape(*actors.present.shape, -1).sum(axis=-1) == 0
    moved[absent] = 0
    return replace(actors, position=moved, present=actors.present & ~absent)


def add_empty_second(actors: Actors, skeleton: Skeleton) -> Actors:
    """Give a lone person an empty second one, as the published NTU-60 arrays have it."""
    if len(actors.position) > 1:
        return actors
    pair = actors.take_persons([0, 0])
    pair.position[1], pair.present[1], pair.body[1], pair.row[1] = 0, False, -1, -1
    return pair


def repeat_lone_actor(actors: Actors, skeleton: Skeleton) -> Actors:
    """Give a lone person a copy of itself as the second one, as CTR-GCN's NTU-120 arrays have it."""
    return actors if len(actors.position) > 1 else actors.take_persons([0, 0])


def body_motion(position: NDArray[np.float32]) -> np.float32:
    """Sum over the axes of the variance over all frames and joints of (n, J, A), in float32."""
    motion: np.float32 = np.var(position.reshape(-1, position.shape[-1]), axis=0).sum()
    return motion


def judge_spread(body: Body) -> Body | None:
    """Return the body, its motion corrected for noisy frames, or None where too many of them are noisy."""
    width = np.ptp(body.position[..., 0], axis=1)
    height = np.ptp(body.position[..., 1], axis=1)
    clean = width <= SPREAD_RATIO * height
    noisy = len(body) - int(clean.sum())
    if noisy == 0:
        return body
    if noisy / len(body) >= SPREAD_NOISE_SHARE:
        return None
    return replace(body, motion=min(body.motion, body_motion(body.position[clean])))


def first_seen(actors: Actors) -> int:
    """Return the first frame in which the first person has a joint off zero; raises `CleaningError`."""
    seen = shown(actors.position[0])
    if not seen.any():
        raise CleaningError(
            actors.recording, f"no observed joint of the main actor in {len(seen)} frames", "at least one"
        )
    return int(np.argmax(seen))
