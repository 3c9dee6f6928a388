"""Performances: subjects of different build and manner, playing an action for a number of frames.

Everything here depends only on the seed and on what is asked for: the same subject number is the same person
in every recording, and the same take the same motion in every camera.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from skelconv.human import actions as solo
from skelconv.human import legwork, pairs
from skelconv.human.body import RATIOS, SIDES, Body, Controls, Motion, solve
from skelconv.human.kinematics import Array, rotation_y
from skelconv.human.stage import Actor, Clock
from skelformats.errors import UnknownNameError

_SUBJECT = 0
"""First word, after the seed, of a random stream: what is drawn for one purpose never shifts another's draws.

What else draws from streams of the same seed has words of its own: 1 and above.
"""


@dataclass(frozen=True)
class Action:
    """Something to play: how long it takes an average person, by how many, and the function that moves them.

    ``perform(clock, *actors)`` writes the actors' controls; with two actors it returns their distance.
    ``seconds`` is None for what goes on as long as there is time.
    """

    name: str
    persons: int
    seconds: float | None
    perform: Callable[..., float | None]


def _actions() -> Mapping[str, Action]:
    alone: dict[Callable[..., float | None], float | None] = {
        solo.pick_up: 1.9,
        solo.pick_up_both: 2.0,
        solo.drop: 1.6,
        solo.throw: 1.4,
        legwork.sit_down: 1.3,
        legwork.stand_up: 1.3,
        solo.clap: None,
        solo.rub_hands: None,
        solo.cheer: None,
        solo.wave: None,
        legwork.kick: 1.3,
        legwork.side_kick: 1.3,
        legwork.hop: None,
        legwork.jump: 1.5,
        solo.point: 1.8,
        solo.bow: 1.7,
        solo.shake_head: None,
        solo.salute: 1.8,
        solo.cross_hands: 2.0,
        solo.fold_arms: 2.2,
        legwork.squat: 2.0,
        solo.hands_up: 2.0,
        solo.arm_circles: None,
        solo.arm_swings: None,
        legwork.run_on_the_spot: None,
        legwork.butt_kicks: None,
        legwork.toe_touch: 2.6,
        solo.stretch: 2.2,
        solo.put_on: 2.4,
        solo.take_off: 2.4,
        legwork.walk_about: None,
        legwork.carry: None,
    }
    together: dict[Callable[..., float | None], float | None] = {
        pairs.shake_hands: 2.0,
        pairs.high_five: 1.5,
        pairs.hug: 2.4,
        pairs.punch: 1.4,
        pairs.kick_person: 1.4,
        pairs.walk_towards: 1.8,
        pairs.walk_apart: 2.0,
    }
    listed = [Action(f.__name__, 1, seconds, f) for f, seconds in alone.items()]
    listed += [Action(f.__name__, 2, seconds, f) for f, seconds in together.items()]
    return MappingProxyType({action.name: action for action in listed})


ACTIONS = _actions()
"""Every action by name."""


def find_action(name: str) -> Action:
    """Return the action called ``name``; raises `UnknownNameError`."""
    if name not in ACTIONS:
        raise UnknownNameError("action of the procedural human", name, tuple(ACTIONS))
    return ACTIONS[name]


@dataclass(frozen=True)
class Subject:
    """A person: build, and the manner in which he or she does everything.

    ``rate`` and ``size`` are tempo and extent of movements against the average; ``slouch`` (radians) bends
    the resting trunk, ``arms`` holds the resting hands away from the body (arm lengths).
    """

    number: int
    body: Body
    rate: float
    size: float
    left_handed: bool
    slouch: float
    arms: float
    stance: float


def subject(seed: int, number: int) -> Subject:
    """Return person ``number`` of the cast that belongs to ``seed``.

    Stature is drawn around 1.62 m or 1.75 m (either with probability 1/2) with a deviation of 6.5 cm, and
    each segment varies by 3 % about its ratio.
    """
    rng = np.random.default_rng((seed, _SUBJECT, number))
    stature = float(np.clip(rng.normal(rng.choice([1.62, 1.75]), 0.065), 1.45, 1.98))
    proportions = {name: float(np.clip(rng.normal(1.0, 0.03), 0.92, 1.08)) for name in RATIOS}
    return Subject(
        number=number,
        body=Body.of_stature(stature, proportions),
        rate=float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.4)),
        size=float(np.clip(rng.normal(1.0, 0.12), 0.75, 1.25)),
        left_handed=bool(rng.random() < 0.2),
        slouch=float(rng.uniform(-0.03, 0.15)),
        arms=float(rng.uniform(0.0, 0.12)),
        stance=float(rng.uniform(0.0, 0.07)),
    )


def play(
    action: Action,
    cast: Sequence[Subject],
    frames: int,
    frame_rate: float,
    rng: np.random.Generator,
    heading: float = 0.0,
) -> tuple[Motion, ...]:
    """Let ``cast`` play ``action``, with idle time before and after.

    Parameters
    ----------
    cast
        As many subjects as the action has persons.
    frames, frame_rate
        T, and frames a second.
    rng
        Draws everything that makes this take differ from others.
    heading
        Direction in which a lone actor faces; two stand to the left and right of it. Radians about +y.

    Returns
    -------
    A motion of T frames for each person, in one scene around the origin.
    """
    actors = [Actor(person.body, _idle(person, frames, frame_rate, rng)) for person in cast]
    clock = _clock(action, cast[0], frames, frame_rate, rng)
    gap = action.perform(clock, *actors)
    motions = [solve(actor.body, actor.controls) for actor in actors]
    if gap is not None:
        motions = [
            motion.moved(_about_y(side * np.pi / 2), np.array([-side * gap / 2, 0.0, 0.0]))
            for motion, side in zip(motions, (1.0, -1.0), strict=True)
        ]
    # now and then somebody uses the other hand
    if cast[0].left_handed != (rng.random() < 0.2):
        motions = [motion.mirrored() for motion in motions]
    return tuple(motion.moved(_about_y(heading), np.zeros(3)) for motion in motions)


def _about_y(angle: float) -> Array:
    return rotation_y(np.asarray(angle))


def _clock(action: Action, lead: Subject, frames: int, frame_rate: float, rng: np.random.Generator) -> Clock:
    """Draw when the action begins and ends: it fills at most 95 % of the time; before and after is idle."""
    time = np.arange(frames) / frame_rate
    available = max(frames - 1, 1) / frame_rate
    rate = lead.rate * rng.uniform(0.85, 1.15)
    if action.seconds is None:
        seconds = available * rng.uniform(0.6, 0.95)
    else:
        seconds = min(action.seconds / rate, available * 0.95)
    start = (available - seconds) * rng.uniform(0.05, 0.95)
    return Clock(time, start, start + seconds, rate, lead.size * rng.uniform(0.9, 1.1), rng)


def _idle(person: Subject, frames: int, frame_rate: float, rng: np.random.Generator) -> Controls:
    """Controls of somebody who just stands: breathing, swaying, shifting, with arms at rest."""
    c = Controls.standing(person.body, frames)
    time = np.arange(frames) / frame_rate
    c.pelvis[:, 0] += 0.010 * _drift(time, rng)
    c.pelvis[:, 2] += 0.008 * _drift(time, rng)
    c.pelvis[:, 1] -= rng.uniform(0.0, 0.02)
    c.turn += 0.02 * _drift(time, rng)
    c.bend += person.slouch + 0.012 * np.sin(2 * np.pi * 0.27 * time + rng.uniform(0, 6.3))
    c.side += 0.015 * _drift(time, rng)
    c.twist += 0.02 * _drift(time, rng)
    c.nod += rng.normal(0.05, 0.06) + 0.03 * _drift(time, rng)
    c.look += rng.normal(0.0, 0.08) + 0.05 * _drift(time, rng)
    pose = _resting_hands(rng)
    for side, sign in SIDES.items():
        c.hand[side] += (person.arms, 0.0, 0.0)
        c.hand[side] = c.hand[side] + pose.get(side, np.zeros(3))
        c.hand[side] += 0.02 * np.stack([_drift(time, rng) for _ in range(3)], axis=-1)
        c.flex[side] += rng.uniform(0.0, 0.3)
        c.ankle[side][:, 0] += sign * (person.stance + rng.uniform(0.0, 0.03))
        c.ankle[side][:, 2] += rng.normal(0.0, 0.02)
    return c


def _resting_hands(rng: np.random.Generator) -> dict[str, Array]:
    """Where idle hands are, relative to hanging: mostly there, sometimes in front or at a hip."""
    kind = rng.random()
    if kind < 0.12:
        return {side: np.array([-0.3, 0.35, 0.35]) for side in SIDES}
    if kind < 0.2:
        return {str(rng.choice(list(SIDES))): np.array([0.05, 0.4, 0.25])}
    return {}


def _drift(time: Array, rng: np.random.Generator) -> Array:
    """(T,) slow wandering about 0, a deviation of about 1: three slow waves, as of somebody's balance."""
    hertz = rng.uniform((0.08, 0.2, 0.45), (0.2, 0.45, 0.9))
    phase = rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * hertz * time[:, None] + phase) * (1.0, 0.7, 0.4)
    return waves.sum(axis=1)
