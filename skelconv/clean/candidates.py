"""What a cleaning step takes and gives: `Candidates`, the bodies that there are, then `Actors`, those chosen.

Also the steps that every chain shares. A step is a plain function ``step(state, skeleton) -> state``; it
leaves its input as it is. docs/cleaning.md lists every step by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.recording import Recording
from skelformats.errors import SkelconvError
from skelformats.skeleton import Skeleton

Step = Callable[[Any, Skeleton], Any]


class CleaningError(SkelconvError, ValueError):
    """A recording cannot be cleaned.

    Parameters
    ----------
    recording
        Its name.
    found, expected
        What the chain met, and what it needs.
    """

    def __init__(self, recording: str, found: str, expected: str) -> None:
        super().__init__(recording, found, expected)
        self.recording = recording
        self.found = found
        self.expected = expected

    @property
    def reason(self) -> str:
        """The text without the recording's name, for lists of what was set aside."""
        return f"found {self.found}, expected {self.expected}"

    def __str__(self) -> str:
        return f"{self.recording}: {self.reason}. Leave the recording out, or clean it with another chain"


@dataclass(frozen=True, eq=False)
class Body:
    """One body on its way through a chain.

    Attributes
    ----------
    position
        (n, J, A) float32; a missing joint is 0.
    place
        (n,) index of each of its frames along `Candidates.frame_index`, strictly increasing.
    body
        Which of the recording's bodies it is.
    row
        (n,) which of that body's frames each is.
    motion
        Sum over the axes of the variance over all frames and joints, once `measure_motion` has run.
    """

    position: NDArray[np.float32]
    place: NDArray[np.intp]
    body: int
    row: NDArray[np.int32]
    motion: np.float32 | float = 0.0

    def __len__(self) -> int:
        return len(self.place)

    @property
    def first(self) -> int:
        """Place of its first frame."""
        return int(self.place[0])

    @property
    def last(self) -> int:
        """Place of its last frame."""
        return int(self.place[-1])


@dataclass(frozen=True, eq=False)
class Candidates:
    """The bodies of a recording that may become actors, along one time axis.

    ``frame_index`` (F,) int32 holds the number of each frame in the recording; ``body_count`` says how many
    bodies the recording has, dropped ones included.
    """

    recording: str
    frame_index: NDArray[np.int32]
    bodies: tuple[Body, ...]
    body_count: int


@dataclass(frozen=True, eq=False)
class Actors:
    """The persons a chain gives out, along one time axis.

    Attributes
    ----------
    position
        (M, T, J, A) float32. Absent person-frames and missing joints hold what the published arrays hold:
        0, or 0 minus the origin where the published translation moves them too (docs/cleaning.md).
    frame_index
        (T,) int32, increasing: the frame's number in the recording. Where a published chain moves a body in
        time, this is the number of the frame it is moved to.
    present
        (M, T) bool: the person is there and at least one joint of it was observed.
    body, row
        (M, T) int32: which body of the recording, and which of its frames, stands there; -1 where none does.
    recording
        Name of the recording.
    body_count
        Number of bodies in the recording, dropped ones included.
    """

    position: NDArray[np.float32]
    frame_index: NDArray[np.int32]
    present: NDArray[np.bool_]
    body: NDArray[np.int32]
    row: NDArray[np.int32]
    recording: str = ""
    body_count: int = 1

    def take_frames(self, frames: NDArray[Any]) -> Actors:
        """Return the actors in the given frames only: (T,) bool, or indices along time."""
        return replace(
            self,
            position=self.position[:, frames],
            frame_index=self.frame_index[frames],
            present=self.present[:, frames],
            body=self.body[:, frames],
            row=self.row[:, frames],
        )

    def take_persons(self, persons: Sequence[int]) -> Actors:
        """Return the given persons only, in that order."""
        order = list(persons)
        return replace(
            self,
            position=self.position[order],
            present=self.present[order],
            body=self.body[order],
            row=self.row[order],
        )


def zero_missing_joints(recording: Recording, skeleton: Skeleton) -> Candidates:
    """Enter a chain: put the bodies on a time axis of all the recording's frames, missing joints (NaN) at 0.

    The published arrays hold 0 where a store holds NaN.

    Raises
    ------
    CleaningError
        The recording has no body.
    """
    tracks = recording.bodies
    if not any(len(track) for track in tracks):
        raise CleaningError(
            recording.name, f"no body in any of its {recording.length} frames", "at least one body"
        )
    bodies = []
    for number, track in enumerate(tracks):
        if len(track):
            missing = np.isnan(track.position)
            position = np.where(missing, np.float32(0), track.position) if missing.any() else track.position
            place = track.frame_index.astype(np.intp)
            bodies.append(Body(position, place, number, np.arange(len(place), dtype=np.int32)))
    frames = max(recording.length, 1 + max(body.last for body in bodies))
    return Candidates(recording.name, np.arange(frames, dtype=np.int32), tuple(bodies), len(bodies))


def drop_bodyless_frames(candidates: Candidates, skeleton: Skeleton) -> Candidates:
    """Leave out the frames in which no body was recorded, so that time closes up over them."""
    occupied = np.zeros(len(candidates.frame_index), np.bool_)
    for body in candidates.bodies:
        occupied[body.place] = True
    if occupied.all():
        return candidates
    moved = np.cumsum(occupied) - 1
    bodies = tuple(replace(body, place=moved[body.place]) for body in candidates.bodies)
    return replace(candidates, frame_index=candidates.frame_index[occupied], bodies=bodies)


def cast_every_body(candidates: Candidates, skeleton: Skeleton) -> Actors:
    """Make every body a person of its own, in order of first appearance."""
    return cast_bodies(candidates, [[body] for body in candidates.bodies])


def drop_empty_frames(actors: Actors, skeleton: Skeleton) -> Actors:
    """Leave out the frames in which no person has an observed joint."""
    seen = np.logical_or.reduce(actors.present, axis=0)
    return actors if seen.all() else actors.take_frames(seen)


def cast_bodies(candidates: Candidates, roles: Sequence[Sequence[Body]]) -> Actors:
    """Write bodies into persons: ``roles`` lists the bodies of each person, where later ones overwrite."""
    frames, persons = len(candidates.frame_index), len(roles)
    position = np.zeros((persons, frames, *candidates.bodies[0].position.shape[1:]), np.float32)
    body = np.full((persons, frames), -1, np.int32)
    row = np.full((persons, frames), -1, np.int32)
    for person, pieces in enumerate(roles):
        for piece in pieces:
            position[person, piece.place] = piece.position
            body[person, piece.place] = piece.body
            row[person, piece.place] = piece.row
    present = shown(position)
    return Actors(
        position, candidates.frame_index, present, body, row, candidates.recording, candidates.body_count
    )


def observed_joints(position: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which joints of (..., J, A) are off zero, (..., J): in a chain, 0 means missing."""
    observed: NDArray[np.bool_] = (position != 0).any(axis=-1)
    return observed


def shown(position: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which poses of (..., J, A) have an observed joint, (...)."""
    poses: NDArray[np.bool_] = (position != 0).any(axis=(-2, -1))
    return poses


def gather_extra(recording: Recording, actors: Actors, name: str) -> NDArray[np.float32]:
    """Return an optional array of the recording along the actors' axes: (M, T, ...) float32.

    ``name`` is one of the store's optional arrays, or ``confidence``. Its frames are arranged as the chain
    arranged those of the positions, NaN where nobody stands; its values are as stored.

    Raises
    ------
    CleaningError
        A body of the recording has no such array.
    """
    arrays = [
        track.confidence if name == "confidence" else track.extras.get(name) for track in recording.bodies
    ]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays) or not known:
        raise CleaningError(recording.name, f"no array {name!r} with every body", "it to be in the store")
    out = np.full((*actors.body.shape, *known[0].shape[1:]), np.nan, np.float32)
    for number, array in enumerate(known):
        here = actors.body == number
        out[here] = array[actors.row[here]]
    return out
