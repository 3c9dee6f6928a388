"""Actions in a row, as untrimmed videos show them: `play_in_a_row`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelconv.human.body import Motion
from skelconv.human.performance import Subject, find_action, play

BREAK = (6, 20)
"""Shortest and longest moment between two actions, frames."""

_ASIDE = np.array([1.6, 0.0, -0.4])
"""Where the second person waits, unseen, while the first one acts alone."""


@dataclass(frozen=True)
class ActionInterval:
    """One action of several in a row: frames ``start`` to ``stop`` - 1, counted from 0.

    ``label`` is the class, counted from 0, and ``action`` the name of what is played.
    """

    label: int
    action: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Play:
    """What happens in a video: everybody's motion, and the intervals of its actions.

    ``together`` (F,) tells in which frames the second person takes part; without any there is only one.
    """

    people: tuple[Motion, ...]
    intervals: tuple[ActionInterval, ...]
    together: NDArray[np.bool_]


def play_in_a_row(
    actions: Sequence[tuple[int, str]],
    cast: Sequence[Subject],
    frames: tuple[int, int],
    frame_rate: float,
    rng: np.random.Generator,
) -> Play:
    """Let two people play actions, given as labels and names, one after another.

    Before each action everybody moves over to where it begins.

    Parameters
    ----------
    actions
        (label, name in `skelconv.human.ACTIONS`) of each.
    cast
        Two subjects; one where every action is for one person.
    frames
        Shortest and longest action.

    Raises
    ------
    UnknownNameError
        There is no such action.
    """
    first: list[Motion] = []
    second: list[Motion] = []
    intervals = []
    frame = 0
    for label, name in actions:
        action = find_action(name)
        pause = int(rng.integers(BREAK[0], BREAK[1] + 1))
        length = int(rng.integers(frames[0], frames[1] + 1))
        people = play(action, cast[: action.persons], length, frame_rate, rng, rng.normal(0.0, 0.35))
        other = people[1] if action.persons == 2 else people[0].moved(np.eye(3), _ASIDE)
        for motions, motion in ((first, people[0]), (second, other)):
            motions += [_way(motions[-1] if motions else motion, motion, pause), motion]
        intervals.append(ActionInterval(label, name, frame + pause, frame + pause + length))
        frame += pause + length
    together = np.zeros(frame, np.bool_)
    for interval in intervals:
        if find_action(interval.action).persons == 2:
            together[interval.start : interval.stop] = True
    people = (_in_a_row(first), _in_a_row(second)) if together.any() else (_in_a_row(first),)
    return Play(people, tuple(intervals), together)


def _way(before: Motion, after: Motion, frames: int) -> Motion:
    """Lead from the end of one motion to the beginning of the next, every joint on a straight way."""
    part = (np.arange(1, frames + 1) / (frames + 1))[:, None]
    return Motion(
        {name: before.joints[name][-1] * (1 - part) + after.joints[name][0] * part for name in after.joints}
    )


def _in_a_row(motions: list[Motion]) -> Motion:
    names = motions[0].joints
    return Motion({name: np.concatenate([motion.joints[name] for motion in motions]) for name in names})
