"""The stage on which actions are played: `Actor`, `Clock`, and the timing that makes motion look human.

Moves between keys follow the minimum-jerk profile of T. Flash and N. Hogan, The coordination of arm
movements, Journal of Neuroscience 5(7), 1985: smooth, slow at both ends, fastest in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from skelconv.human.body import SIDES, Body, Controls
from skelconv.human.kinematics import Array


@dataclass(frozen=True, eq=False)
class Clock:
    """When an action happens, and how it is done.

    Attributes
    ----------
    time
        (T,) seconds since the first frame.
    start, stop
        Seconds between which the action takes place; before and after, its actors are idle.
    rate
        Speed against the average person's: periodic moves are that much faster.
    size
        Extent against the average person's.
    rng
        Draws the choices that an action leaves open.
    """

    time: Array
    start: float
    stop: float
    rate: float
    size: float
    rng: np.random.Generator

    @property
    def seconds(self) -> float:
        """Duration of the action."""
        return self.stop - self.start

    @property
    def u(self) -> Array:
        """(T,) progress of the action, from 0 before it to 1 after it."""
        return np.clip((self.time - self.start) / self.seconds, 0.0, 1.0)

    def during(self, edge: float = 0.35) -> Array:
        """(T,) weight of the action: rises to 1 in its first ``edge`` seconds and falls in its last."""
        edge = min(edge, self.seconds / 2)
        return minimum_jerk((self.time - self.start) / edge) * minimum_jerk((self.stop - self.time) / edge)

    def phase(self, hertz: float) -> Array:
        """(T,) phase of a move that repeats ``hertz`` times a second, radians; negative before the start."""
        return 2 * np.pi * hertz * self.rate * (self.time - self.start)

    def draw(self, low: float, high: float) -> float:
        """Draw a number between ``low`` and ``high``."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Draw whether something with that probability happens."""
        return bool(self.rng.random() < probability)


@dataclass(frozen=True)
class Actor:
    """A body and the controls that an action writes."""

    body: Body
    controls: Controls

    def put_hand(self, side: str, target: Array | tuple[float, float, float], weight: Array) -> None:
        """Lead a hand towards (outward, up, forward) from its shoulder, in arm lengths, by ``weight``."""
        hand = self.controls.hand
        hand[side] = mix(hand[side], np.asarray(target), weight)

    def put_hands(self, target: Array | tuple[float, float, float], weight: Array) -> None:
        """Lead both hands to the same place of their own side."""
        for side in SIDES:
            self.put_hand(side, target, weight)

    def reach_for(self, side: str, place: Array | tuple[float, float, float], weight: Array) -> None:
        """Lead a hand to a place of the scene, metres."""
        self.controls.reach[side] = np.broadcast_to(np.asarray(place, float), (len(weight), 3)).copy()
        self.controls.hold[side] = weight

    def step(self, side: str, shift: Array, weight: Array) -> None:
        """Move an ankle by (outward, up, forward) metres in the pelvis's heading, by ``weight``."""
        turn = self.controls.turn
        outward = shift[..., 0] * SIDES[side]
        moved = np.stack(
            [
                outward * np.cos(turn) + shift[..., 2] * np.sin(turn),
                shift[..., 1] + 0 * turn,
                shift[..., 2] * np.cos(turn) - outward * np.sin(turn),
            ],
            axis=-1,
        )
        self.controls.ankle[side] += moved * weight[:, None]

    @property
    def midline(self) -> float:
        """The hand's outward coordinate at which both hands meet in front of the chest."""
        return -self.body["shoulder"] / self.body.arm


def minimum_jerk(x: Array) -> Array:
    """Rise from 0 (x <= 0) to 1 (x >= 1) with the least jerk: 10 x^3 - 15 x^4 + 6 x^5."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10 - 15 * x + 6 * x * x)


def rise(u: Array, start: float, stop: float) -> Array:
    """Rise from 0 at ``start`` to 1 at ``stop``."""
    return minimum_jerk((u - start) / (stop - start))


def bump(u: Array, start: float, full: float, leave: float, end: float) -> Array:
    """Rise from 0 to 1 between ``start`` and ``full``, fall back between ``leave`` and ``end``."""
    return rise(u, start, full) * (1 - rise(u, leave, end))


def keys(u: Array, *frames: tuple[float, float | tuple[float, ...]]) -> Array:
    """Move through (progress, value) pairs, resting at each: (T,) for numbers, (T, A) for tuples."""
    value = np.asarray(frames[0][1], float) + np.zeros((len(u), *np.shape(frames[0][1])))
    for (before, old), (after, new) in pairwise(frames):
        part = rise(u, before, after).reshape(-1, *[1] * np.ndim(new))
        value = value + (np.asarray(new, float) - np.asarray(old, float)) * part
    return value


def mix(old: Array, new: Array, weight: Array) -> Array:
    """Blend (T, A) values: ``old`` where the (T,) weight is 0, ``new`` where it is 1."""
    return old + (new - old) * weight[:, None]


def repeats(u: Array, count: int) -> Array:
    """Progress within each of ``count`` equal repetitions; 1 after the last."""
    scaled = u * count
    return np.where(u >= 1, 1.0, scaled - np.floor(scaled))
