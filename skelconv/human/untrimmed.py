"""Actions in a row, as untrimmed videos show them: `play_in_a_row`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelconv.human.body import Motion
from skelconv.human.scene import Subject, find_action, play
from skelconv.human.truth import Settings, TrueInterval

BREAK = (6, 20)
"""Shortest and longest moment between two actions, frames."""

_ASIDE = np.array([1.6, 0.0, -0.4])
"""Where the second person waits, unseen, while the first one acts alone."""


@dataclass(frozen=True)
class Play:
    """What happens in a video: everybody's motion, and the intervals of its actions.

    ``together`` (F,) tells in which frames the second person takes part; without any there is only one.
    """

    people: tuple[Motion, ...]
    intervals: tuple[TrueInterval, ...]
    together: NDArray[np.bool_]


def play_in_a_row(
    actions: Sequence[tuple[int, str]],
    cast: Sequence[Subject],
    settings: Settings,
    frame_rate: float,
    rng: np.random.Generator,
) -> Play:
    """Let two people play actions, given as labels and names, one after another.

    Each action is as long as a recording by ``settings``; before it, everybody moves over to where it begins.
    """
    first: list[Motion] = []
    second: list[Motion] = []
    intervals = []
    frame = 0
    for label, name in actions:
        action = find_action(name)
        pause = int(rng.integers(BREAK[0], BREAK[1] + 1))
        frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
        people = play(action, cast[: action.persons], frames, frame_rate, rng, rng.normal(0.0, 0.35))
        other = people[1] if action.persons == 2 else people[0].moved(np.eye(3), _ASIDE)
        for motions, motion in ((first, people[0]), (second, other)):
            motions += [_way(motions[-1] if motions else motion, motion, pause), motion]
        intervals.append(TrueInterval(label, name, frame + pause, frame + pause + frames))
        frame += pause + frames
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
