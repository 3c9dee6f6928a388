"""The NTU chain of 2s-AGCN and MS-G3D (Liu et al., CVPR 2020), and its normalisation.

It takes bodies by their slot in the file, not by who they are. A store keeps who they are and not the slot;
the steps give each frame's bodies slots in order of first appearance, which is the file's order in all
frames but those where the sensor swapped two slots.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skelconv.clean.candidates import Actors, Candidates, observed_joints, shown
from skelformats.skeleton import Skeleton

SLOTS = 4
"""Bodies read a frame; further ones are ignored (2s-AGCN)."""

PERSONS = 2


def fill_slots(candidates: Candidates, skeleton: Skeleton) -> Actors:
    """Give each frame's bodies the slots 0, 1, ... in order of first appearance, at most four."""
    frames = len(candidates.frame_index)
    position = np.zeros((SLOTS, frames, *candidates.bodies[0].position.shape[1:]), np.float32)
    number = np.full((SLOTS, frames), -1, np.int32)
    row = np.full((SLOTS, frames), -1, np.int32)
    taken = np.zeros(frames, np.intp)
    for body in candidates.bodies:
        slot = taken[body.place]
        taken[body.place] += 1
        fits = slot < SLOTS
        at = slot[fits], body.place[fits]
        position[at], number[at], row[at] = body.position[fits], body.body, body.row[fits]
    present = shown(position)
    return Actors(
        position, candidates.frame_index, present, number, row, candidates.recording, candidates.body_count
    )


def keep_most_energetic(actors: Actors, skeleton: Skeleton) -> Actors:
    """Keep the two slots of largest energy: the sum over axes of the standard deviation over shown frames."""
    energy = np.array([_energy(slot) for slot in actors.position])
    return actors.take_persons([int(slot) for slot in energy.argsort()[::-1][:PERSONS]])


def start_at_first_shown(actors: Actors, skeleton: Skeleton) -> Actors:
    """Close each person's gaps when it is absent from frame 0; a person there from the start keeps them."""
    order = np.arange(actors.position.shape[1])
    orders = [
        order if present[0] or not present.any() else np.concatenate([order[present], order[~present]])
        for present in actors.present
    ]
    return _reorder(actors, np.stack(orders))


def repeat_to_the_end(actors: Actors, skeleton: Skeleton) -> Actors:
    """Fill the empty frames at each person's end by playing what is before them again."""
    order = np.arange(actors.position.shape[1])
    orders = []
    for present in actors.present:
        length = 1 + int(np.flatnonzero(present)[-1]) if present.any() else len(order)
        orders.append(order % length)
    return _reorder(actors, np.stack(orders))


def centre_every_frame(actors: Actors, skeleton: Skeleton) -> Actors:
    """Move each frame's observed joints so that the first person's origin joint is 0 in every frame."""
    centre = actors.position[0][:, list(skeleton.origin)].mean(axis=1, dtype=np.float32)
    observed = observed_joints(actors.position)[..., None]
    return replace(actors, position=np.where(observed, actors.position - centre[:, None], np.float32(0)))


def _energy(slot: NDArray[np.float32]) -> float:
    poses = slot[shown(slot)].astype(np.float64)
    return sum(float(poses[..., axis].std()) for axis in range(poses.shape[-1])) if len(poses) else 0.0


def _reorder(actors: Actors, orders: NDArray[np.intp]) -> Actors:
    """Take each person's frames in its own order: ``orders`` (M, T) frame numbers."""
    person = np.arange(len(orders))[:, None]
    return replace(
        actors,
        position=actors.position[person, orders],
        present=actors.present[person, orders],
        body=actors.body[person, orders],
        row=actors.row[person, orders],
    )
