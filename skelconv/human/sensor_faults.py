"""What a body tracker makes of people: ids, noise, and the sensor faults that happen now and then.

Genuine recordings have frames without anybody, bodies that vanish or come back under a new id, chairs taken
for people, joints that are lost, and values that are not a number. So have generated ones, at about the rates
that are known of NTU RGB+D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelconv.human.body import SIDES, Body, Controls, Motion, solve
from skelconv.human.camera import INFERRED, LOST, TRACKED, hidden, sensed, tracking_states
from skelconv.human.kinematics import Array
from skelformats.skeleton import Skeleton

RATES = {
    "gap": 0.06,
    "vanish": 0.03,
    "new_id": 0.04,
    "ghost": 0.05,
    "lost_joints": 0.03,
    "nan": 0.004,
    "empty": 0.001,
}
"""Share of recordings with frames that nobody is in, a body that goes for a while, a body that gets a new id,
a ghost, joints that are lost for a while, values that are not a number, and nobody at all."""

FIRST_ID = 2**56
"""Genuine body ids are this and a small number: neighbours that float64 cannot tell apart."""

ABSENT = -1


@dataclass(frozen=True, eq=False)
class Figure:
    """Somebody, or something, that the tracker follows through the F frames of a recording.

    Attributes
    ----------
    person
        Which of the people in the scene it is; -1 for a ghost.
    identity
        (F,) int64 body id, -1 in frames without it.
    position
        (F, J, 3) as sensed; 0 for a lost joint.
    state
        (F, J) uint8.
    noiseless
        (F, J, 3) as it was; NaN for a ghost.
    """

    person: int
    identity: NDArray[np.int64]
    position: Array
    state: NDArray[np.uint8]
    noiseless: Array


def observe(
    people: Sequence[Motion], skeleton: Skeleton, noise: float, faults: float, rng: np.random.Generator
) -> list[Figure]:
    """Track people whose motions are given in the camera's frame.

    Parameters
    ----------
    people
        At least one, of equally many frames.
    skeleton
        Layout that the tracker reports.
    noise
        Factor on the sensor's noise (`skelconv.human.camera.sensed`); 0 leaves the motion as it is.
    faults
        Factor on `RATES`; 0 leaves whole tracks of the people who are there.

    Returns
    -------
    A figure a person, and one more for a ghost.

    Raises
    ------
    UnknownNameError
        The layout has a joint that the human lacks.
    """
    frames = len(people[0])
    ids = FIRST_ID + int(rng.integers(2_000, 40_000)) + rng.permutation(64)
    figures = []
    for number, (person, unseen) in enumerate(zip(people, hidden(people, skeleton), strict=True)):
        exact = person.layout(skeleton)
        state = tracking_states(unseen, skeleton, rng) if noise else np.full_like(unseen, 2, np.uint8)
        position = sensed(exact, state, skeleton, noise, rng)
        identity = np.full(frames, ids[number])
        figures.append(Figure(number, identity, position, state, exact))
    if faults:
        apply_faults(figures, ids[len(people) :], skeleton, faults, rng)
    return figures


def apply_faults(
    figures: list[Figure],
    spare_ids: NDArray[np.int64],
    skeleton: Skeleton,
    factor: float,
    rng: np.random.Generator,
) -> None:
    """Let things go wrong in place, each with its rate in `RATES` times ``factor``.

    ``spare_ids`` are ids that nobody has yet, at least one more than there are figures.
    """

    def happens(what: str) -> bool:
        return bool(rng.random() < RATES[what] * factor)

    frames = len(figures[0].identity)
    for k, figure in enumerate(list(figures)):
        if happens("new_id"):
            _change_id(figure, int(spare_ids[k]), rng)
        if happens("vanish"):
            figure.identity[_run(frames, rng, frames // 3)] = ABSENT
        if happens("lost_joints"):
            joints = rng.choice(len(skeleton), int(rng.integers(1, 5)), replace=False)
            _set_joints(figure, _run(frames, rng, frames // 2), joints, 0.0, LOST)
        if happens("nan"):
            joints = rng.choice(len(skeleton), int(rng.integers(1, 3)), replace=False)
            _set_joints(figure, _run(frames, rng, 3), joints, np.nan, INFERRED)
    if happens("ghost"):
        figures.append(_ghost(figures[0], int(spare_ids[-1]), skeleton, rng))
    if happens("gap"):
        # as often as not, the tracker has yet to find anybody
        run = slice(0, int(rng.integers(1, 9))) if rng.random() < 0.5 else _run(frames, rng, 8)
        for figure in figures:
            figure.identity[run] = ABSENT
    if happens("empty"):
        for figure in figures:
            figure.identity[:] = ABSENT


def _run(frames: int, rng: np.random.Generator, longest: int) -> slice:
    """Return some frames in a row, at most ``longest`` and at least one."""
    length = int(rng.integers(1, max(longest, 1) + 1))
    start = int(rng.integers(0, max(frames - length, 0) + 1))
    return slice(start, start + length)


def _change_id(figure: Figure, new: int, rng: np.random.Generator) -> None:
    """Lose a body for a few frames, or for none, and find it again under another id."""
    frames = len(figure.identity)
    at, gap = int(rng.integers(0, frames)), int(rng.integers(0, 4))
    figure.identity[at:] = new
    figure.identity[at : at + gap] = ABSENT


def _set_joints(figure: Figure, frames: slice, joints: NDArray[np.int64], value: float, state: int) -> None:
    figure.position[frames, joints] = value
    figure.state[frames, joints] = state


def _ghost(beside: Figure, identity: int, skeleton: Skeleton, rng: np.random.Generator) -> Figure:
    """Something that was taken for a body: furniture, folded and flattened, still but for its trembling."""
    frames = len(beside.identity)
    body = Body.of_stature(1.6)
    controls = Controls.standing(body, 1)
    controls.pelvis[:] = (0.0, 0.45, 0.0)
    controls.lean += rng.uniform(0.3, 1.3)
    for side in SIDES:
        controls.ankle[side][:] += rng.normal(0.0, 0.25, 3)
        controls.hand[side][:] = rng.uniform(-0.9, 0.9, 3)
    shape = solve(body, controls).layout(skeleton) * (rng.uniform(1.0, 1.5), rng.uniform(0.3, 0.8), 1.0)
    place = beside.noiseless[0, 0] + (rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0), 0.0, 0.3)
    position = (
        shape - shape[:, :1] + place - (0.0, 0.4, 0.0) + rng.normal(0.0, 0.015, (frames, *shape.shape[1:]))
    )
    state = np.where(rng.random((frames, len(skeleton))) < 0.6, INFERRED, TRACKED).astype(np.uint8)
    present = np.full(frames, ABSENT, np.int64)
    present[_run(frames, rng, frames)] = identity
    return Figure(-1, present, position, state, np.full_like(position, np.nan))
