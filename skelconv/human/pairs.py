"""What two people do to each other: parametric actions of two actors.

Each actor moves in a frame of its own, in which the partner stands ``gap`` metres ahead and faces back; an
action returns that gap, and `skelconv.human.performance` puts the two on one stage. A point halfway between
them, on the line that joins them, therefore has the same coordinates for both.
"""

from __future__ import annotations

import numpy as np

from skelconv.human.body import SIDES
from skelconv.human.kinematics import Array
from skelconv.human.legwork import walk
from skelconv.human.stage import Actor, Clock, bump, keys, mix, repeats, rise


def shake_hands(clock: Clock, first: Actor, second: Actor) -> float:
    """Shake the right hands."""
    gap = clock.draw(0.75, 1.0)
    height = 0.5 * (first.body.shoulder_height + second.body.shoulder_height) - clock.draw(0.25, 0.4)
    weight = bump(clock.u, 0.0, clock.draw(0.25, 0.4), clock.draw(0.7, 0.8), 1.0)
    shake = clock.draw(0.02, 0.07) * clock.size * np.sin(clock.phase(clock.draw(1.8, 3.0)))
    for actor in (first, second):
        _meet(actor, gap / 2 - 0.07, height + shake, weight)
        actor.controls.lean += weight * clock.draw(0.0, 0.25)
    return gap


def high_five(clock: Clock, first: Actor, second: Actor) -> float:
    """Clap the right hands together above the shoulders, once or twice."""
    gap = clock.draw(0.65, 0.95)
    height = 0.5 * (first.body.stature + second.body.stature) * clock.draw(0.88, 1.05)
    raised = bump(clock.u, 0.0, 0.3, 0.75, 1.0)
    meeting = np.sin(np.pi * repeats(rise(clock.u, 0.2, 0.85), int(clock.rng.integers(1, 3)))) ** 2
    back = gap / 2 - 0.1 - clock.draw(0.12, 0.25) * (1 - meeting)
    for actor in (first, second):
        _meet(actor, back, height + 0 * back, raised)
    return gap


def _meet(actor: Actor, ahead: Array | float, height: Array, weight: Array) -> None:
    """Lead the right hand to a place straight ahead."""
    place = np.stack([0 * height, height, ahead + 0 * height], axis=-1)
    actor.reach_for("right", place, weight)


def hug(clock: Clock, first: Actor, second: Actor) -> float:
    """Step up to each other and hug."""
    gap = clock.draw(0.95, 1.3)
    close = bump(clock.u, 0.0, 0.35, 0.75, 1.0)
    step = (gap - clock.draw(0.34, 0.42)) / 2
    high = clock.draw(-0.15, 0.1)
    for actor, other, up in ((first, second, 1.0), (second, first, -1.0)):
        _approach(actor, close * step, clock.u)
        for side, sign in SIDES.items():
            # one arm goes above the other person's, one below
            height = other.body.shoulder_height - 0.12 + sign * up * (0.1 + high * 0.3)
            behind = gap / 2 + 0.22 + 0 * close
            place = np.stack([sign * 0.12 + 0 * close, height + 0 * close, behind], axis=-1)
            actor.reach_for(side, place, bump(clock.u, 0.1, 0.45, 0.7, 0.95))
        actor.controls.bend += close * clock.draw(0.05, 0.25)
        actor.controls.tilt += close * 0.25
    return gap


def punch(clock: Clock, first: Actor, second: Actor) -> float:
    """Hit the other person's head or shoulder, once or twice; who recoils."""
    gap = clock.draw(0.7, 0.95)
    blows = repeats(clock.u, 1 + (clock.seconds > 1.6))
    wide = clock.draw(0.0, 0.35)
    high = second.body.shoulder_height + clock.draw(-0.05, 0.2)
    out = bump(blows, 0.3, 0.45, 0.5, 0.8)
    way = keys(
        blows,
        (0.0, (-0.2, high - 0.25, 0.2)),
        (0.3, (-0.25 - wide, high - 0.15, 0.05)),
        (0.45, (0.0, high, gap - 0.16)),
        (0.8, (-0.2, high - 0.25, 0.2)),
    )
    first.reach_for("right", way, bump(clock.u, 0.0, 0.15, 0.85, 1.0))
    first.put_hand("left", (-0.1, -0.2, 0.5), bump(clock.u, 0.0, 0.2, 0.8, 1.0) * clock.draw(0.2, 1.0))
    first.controls.twist += keys(blows, (0.0, 0.0), (0.3, -0.3), (0.45, 0.45), (0.8, 0.0))
    first.controls.pelvis[:, 2] += 0.08 * out
    first.controls.lean += 0.2 * out
    _recoil(clock, second, bump(blows, 0.4, 0.55, 0.6, 0.98), 1.0)
    return gap


def kick_person(clock: Clock, first: Actor, second: Actor) -> float:
    """Kick the other person's leg or hip; who recoils."""
    gap = clock.draw(0.75, 1.0)
    u = clock.u
    hit = clock.draw(0.45, 0.55)
    way = keys(
        u,
        (0.0, (0.0, 0.0, 0.0)),
        (0.28, (0.02, 0.15, -0.25)),
        (hit, (clock.draw(-0.1, 0.05), clock.draw(0.25, 0.6), gap - 0.2)),
        (1.0, (0.0, 0.0, 0.0)),
    )
    first.step("right", way, np.ones_like(u))
    aloft = bump(u, 0.0, 0.25, 0.75, 1.0)
    first.controls.pelvis[:, 0] += 0.9 * first.body["hip"] * aloft
    first.controls.lean -= 0.25 * bump(u, 0.3, hit, hit, 0.9)
    first.put_hands((0.45, -0.55, 0.2), aloft * clock.draw(0.2, 0.9))
    _recoil(clock, second, bump(u, hit - 0.05, hit + 0.12, hit + 0.2, 1.0), 0.6)
    return gap


def _recoil(clock: Clock, actor: Actor, weight: Array, high: float) -> None:
    """Give way to a blow: the upper body goes back, the arms come up."""
    c = actor.controls
    force = clock.draw(0.3, 1.0)
    c.pelvis[:, 2] -= weight * 0.10 * force
    c.lean -= weight * 0.3 * force * high
    c.nod -= weight * 0.35 * force * high
    c.twist += weight * clock.draw(-0.3, 0.3)
    actor.put_hands((0.1, -0.35, 0.5), weight * clock.draw(0.1, 0.7))


def walk_towards(clock: Clock, first: Actor, second: Actor) -> float:
    """Walk towards each other and stop."""
    gap = clock.draw(2.2, 2.9)
    for actor in (first, second):
        walk(clock, actor, (gap - clock.draw(0.7, 0.95)) / 2)
    return gap


def walk_apart(clock: Clock, first: Actor, second: Actor) -> float:
    """Turn round and walk away from each other."""
    gap = clock.draw(0.7, 1.1)
    for actor in (first, second):
        c = actor.controls
        walk(clock, actor, clock.draw(0.65, 0.95))
        turned = np.pi * (1 if clock.chance(0.5) else -1) * rise(clock.u, 0.0, 0.35)
        _face(actor, turned)
        c.look += 0.3 * np.sin(turned)
    return gap


def _face(actor: Actor, turned: Array) -> None:
    """Carry a walk straight ahead over into one in the opposite direction, that begins with a turn."""
    c = actor.controls
    ahead = c.pelvis[:, 2].copy()
    c.pelvis[:, 2] = -ahead
    c.turn += turned
    cosine, sine = np.cos(turned), np.sin(turned)
    for side in SIDES:
        x, z = c.ankle[side][:, 0], c.ankle[side][:, 2] - ahead
        c.ankle[side][:, 0] = x * cosine + z * sine
        c.ankle[side][:, 2] = z * cosine - x * sine - ahead


def _approach(actor: Actor, ahead: Array, u: Array) -> None:
    """Move the pelvis ``ahead`` metres, and let the feet follow in two small steps each way."""
    c = actor.controls
    most = max(float(ahead.max()), 1e-6)
    c.pelvis[:, 2] += ahead
    for side, begin in (("right", 0.0), ("left", 0.12)):
        # the feet leave and come back one after the other, not gliding with the body
        there = bump(u, begin, begin + 0.22, 0.74 + begin, 0.88 + begin)
        lift = 0.06 * np.sin(np.pi * there) ** 2
        moved = np.stack([0 * u, lift, most * there], axis=-1)
        c.ankle[side] = mix(c.ankle[side], c.ankle[side] + moved, np.ones_like(u))
