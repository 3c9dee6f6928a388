"""What one person can do with the trunk, the head and the arms: parametric actions.

Actions are written as moves of the controls of `skelconv.human.body`. Everybody is right-handed here;
left-handed people are mirrored afterwards. Each action draws its own manner (how far, how often, which
variant), so that no two takes of it are equal.
"""

from __future__ import annotations

import numpy as np

from skelconv.human.body import SIDES
from skelconv.human.kinematics import Array
from skelconv.human.stage import Actor, Clock, bump, keys, repeats, rise


def pick_up(clock: Clock, actor: Actor) -> None:
    """Take something from the floor with one hand and hold it at the waist."""
    _pick_up(clock, actor, ("right",))


def pick_up_both(clock: Clock, actor: Actor) -> None:
    """Take something from the floor with both hands."""
    _pick_up(clock, actor, ("left", "right"))


def _pick_up(clock: Clock, actor: Actor, sides: tuple[str, ...]) -> None:
    c, body, u = actor.controls, actor.body, clock.u
    down = bump(u, 0.0, clock.draw(0.35, 0.45), clock.draw(0.48, 0.58), clock.draw(0.85, 1.0))
    # some squat, some stoop
    squat = clock.draw(0.25, 0.9)
    c.pelvis[:, 1] -= down * squat * 0.55 * body.leg
    c.pelvis[:, 2] -= down * (0.10 + 0.10 * squat) * body.stature
    c.lean += down * (1.25 - 0.45 * squat)
    c.bend += down * clock.draw(0.5, 0.9)
    c.nod += down * clock.draw(-0.3, 0.2)
    ahead = body.stature * clock.draw(0.14, 0.22)
    height = clock.draw(0.05, 0.25)
    aside = clock.draw(-0.05, 0.2) if len(sides) == 1 else 0.12
    for side in sides:
        actor.reach_for(side, (SIDES[side] * aside, height, ahead), down)
        actor.put_hand(side, (-0.1, -0.6, 0.45), rise(u, 0.45, 1.0) * clock.draw(0.5, 1.0))


def drop(clock: Clock, actor: Actor) -> None:
    """Carry something in front of the body, and let it fall into a bin."""
    c, u = actor.controls, clock.u
    hold = 1 - rise(u, 0.7, 1.0)
    away = bump(u, 0.15, 0.5, 0.75, 1.0)
    target = keys(u, (0.1, (-0.1, -0.5, 0.45)), (0.5, (clock.draw(-0.1, 0.4), -0.45, 0.85)))
    actor.put_hand("right", target, hold * rise(u, 0.0, 0.1) if clock.chance(0.4) else hold)
    c.bend += away * clock.draw(0.15, 0.5)
    c.lean += away * clock.draw(0.05, 0.4)
    c.twist -= away * clock.draw(0.0, 0.4)
    c.nod += away * clock.draw(0.1, 0.4)


def throw(clock: Clock, actor: Actor) -> None:
    """Throw something forward, overhand or (less often) underhand."""
    c, u, size = actor.controls, clock.u, clock.size
    cock, release = clock.draw(0.36, 0.46), clock.draw(0.54, 0.6)
    if clock.chance(0.7):
        way = keys(
            u,
            (0.0, (0.2, -0.5, 0.3)),
            (cock, (0.55, clock.draw(0.1, 0.4), -0.4 * size)),
            (release, (-0.05, clock.draw(0.2, 0.5), 0.85)),
            (0.75, (-0.45, -0.5, 0.65)),
        )
    else:
        way = keys(
            u,
            (0.0, (0.1, -0.8, 0.2)),
            (cock, (0.15, -0.7, -0.6 * size)),
            (release, (0.0, clock.draw(-0.3, 0.1), 0.9)),
            (0.75, (-0.2, 0.3, 0.8)),
        )
    actor.put_hand("right", way, bump(u, 0.0, 0.15, 0.72, 1.0))
    turn = clock.draw(0.25, 0.55) * size
    swing = keys(u, (0.0, 0.0), (cock, -turn), (0.66, turn), (1.0, 0.0))
    c.twist += swing
    c.pelvis[:, 2] += 0.12 * swing
    c.bend += 0.35 * np.maximum(swing, 0.0)
    actor.put_hand("left", (0.25, -0.5, 0.55), bump(u, 0.05, 0.4, 0.5, 0.9) * clock.draw(0.2, 0.8))
    stride = bump(u, 0.3, release, 0.8, 1.0) * clock.draw(0.0, 0.25)
    lift = 0.06 * np.sin(np.pi * np.clip((u - 0.3) / max(release - 0.3, 0.05), 0, 1))
    actor.step("left", np.stack([0 * u, lift, stride], axis=-1), np.ones_like(u))


def clap(clock: Clock, actor: Actor) -> None:
    """Clap the hands in front of the chest."""
    _palms_together(clock, actor, clock.draw(1.8, 3.6), clock.draw(0.18, 0.45) * clock.size, 0.02)


def rub_hands(clock: Clock, actor: Actor) -> None:
    """Rub the palms against each other."""
    _palms_together(clock, actor, clock.draw(1.5, 3.0), 0.02, clock.draw(0.07, 0.14) * clock.size)


def _palms_together(clock: Clock, actor: Actor, hertz: float, gap: float, shear: float) -> None:
    """Hold the palms before the chest: ``gap`` opens and closes, ``shear`` moves them past each other."""
    weight, phase = clock.during(), clock.phase(hertz)
    high, ahead = clock.draw(-0.55, 0.0), clock.draw(0.5, 0.75)
    open_by = gap * (0.5 - 0.5 * np.cos(phase))
    for side, sign in SIDES.items():
        slide = sign * shear * np.sin(phase)
        target = np.stack([actor.midline + 0.07 + open_by, high + slide, ahead + 0.5 * slide], axis=-1)
        actor.put_hand(side, target, weight)
    actor.controls.nod += 0.15 * weight


def cheer(clock: Clock, actor: Actor) -> None:
    """Throw the arms up and shake them."""
    c, weight, phase = actor.controls, clock.during(0.3), clock.phase(clock.draw(1.4, 2.4))
    shake = np.sin(phase)
    apart, depth = clock.draw(0.0, 0.5), clock.draw(0.08, 0.2) * clock.size
    for side in ("right",) if clock.chance(0.25) else SIDES:
        target = np.stack([apart + 0 * shake, 0.75 + depth * shake, 0.15 + 0.1 * shake], axis=-1)
        actor.put_hand(side, target, weight)
    c.pelvis[:, 1] -= weight * (0.03 + 0.03 * shake) * clock.size
    c.nod -= weight * clock.draw(0.0, 0.3)


def wave(clock: Clock, actor: Actor) -> None:
    """Wave one raised hand (now and then both)."""
    weight, phase = clock.during(0.4), clock.phase(clock.draw(1.2, 2.6))
    out, high, ahead = clock.draw(0.25, 0.5), clock.draw(0.2, 0.7), clock.draw(0.15, 0.5)
    extent = clock.draw(0.14, 0.3) * clock.size
    target = np.stack([out + extent * np.sin(phase), high - 0.1 * np.cos(2 * phase), ahead + 0 * phase], -1)
    for side in SIDES if clock.chance(0.12) else ("right",):
        actor.put_hand(side, target, weight)
    actor.controls.tilt += 0.08 * weight * np.sin(phase)


def point(clock: Clock, actor: Actor) -> None:
    """Point at something with a stretched arm."""
    c, u = actor.controls, clock.u
    weight = bump(u, 0.0, clock.draw(0.25, 0.4), clock.draw(0.65, 0.8), 1.0)
    azimuth, elevation = clock.draw(-0.5, 1.2), clock.draw(-0.35, 0.4)
    level = np.cos(elevation)
    target = (level * np.sin(azimuth), np.sin(elevation), level * np.cos(azimuth))
    actor.put_hand("right", target, weight)
    look = -azimuth * clock.draw(0.3, 0.9)
    c.look += weight * look
    c.twist += weight * 0.3 * look


def bow(clock: Clock, actor: Actor) -> None:
    """Nod the head a few times, or bow once."""
    c = actor.controls
    if clock.chance(0.5):
        count = int(clock.rng.integers(2, 4))
        dip = np.sin(np.pi * repeats(clock.u, count)) ** 2
        c.nod += dip * clock.draw(0.3, 0.6) * clock.size
        c.bend += dip * 0.1
    else:
        dip = bump(clock.u, 0.0, clock.draw(0.35, 0.5), clock.draw(0.5, 0.65), 1.0)
        c.bend += dip * clock.draw(0.3, 0.7) * clock.size
        c.lean += dip * clock.draw(0.2, 0.7) * clock.size
        c.nod += dip * clock.draw(0.2, 0.5)
        c.pelvis[:, 2] -= 0.08 * dip


def shake_head(clock: Clock, actor: Actor) -> None:
    """Turn the head from side to side."""
    c, weight = actor.controls, clock.during(0.3)
    swing = np.sin(clock.phase(clock.draw(0.8, 1.6)))
    c.look += weight * swing * clock.draw(0.45, 0.9) * clock.size
    c.twist += weight * swing * clock.draw(0.0, 0.12)
    c.tilt += weight * swing * clock.draw(0.0, 0.12)


def salute(clock: Clock, actor: Actor) -> None:
    """Raise the right hand to the forehead and hold it there."""
    c, u = actor.controls, clock.u
    weight = bump(u, 0.0, clock.draw(0.25, 0.4), clock.draw(0.65, 0.8), 1.0)
    target = (actor.midline + 0.38, clock.draw(0.3, 0.45), clock.draw(0.15, 0.35))
    actor.put_hand("right", target, weight)
    c.swivel["right"] = c.swivel["right"] + weight * clock.draw(0.6, 1.2)
    c.nod -= weight * clock.draw(0.0, 0.2)


def cross_hands(clock: Clock, actor: Actor) -> None:
    """Cross the forearms in front of the body, to say stop; once or a few times."""
    count = int(clock.rng.integers(1, 4))
    crossing = np.sin(np.pi * repeats(clock.u, count)) ** 0.7 if count > 1 else bump(clock.u, 0, 0.3, 0.7, 1)
    high, ahead = clock.draw(-0.3, 0.15), clock.draw(0.5, 0.75)
    for side, sign in SIDES.items():
        out = 0.35 + (actor.midline - 0.22 - 0.35) * crossing
        target = np.stack([out, high + 0 * out, ahead + 0.04 * sign + 0 * out], axis=-1)
        actor.put_hand(side, target, bump(clock.u, 0.0, 0.2, 0.8, 1.0))


def fold_arms(clock: Clock, actor: Actor) -> None:
    """Fold the arms on the chest and keep them there."""
    weight = bump(clock.u, 0.0, clock.draw(0.3, 0.45), clock.draw(0.75, 0.9), 1.0)
    low = clock.draw(-0.5, -0.3)
    for side, sign in SIDES.items():
        actor.put_hand(side, (actor.midline - 0.35, low + 0.05 * sign, 0.42 + 0.05 * sign), weight)


def hands_up(clock: Clock, actor: Actor) -> None:
    """Raise both hands above the head and hold them."""
    weight = bump(clock.u, 0.0, clock.draw(0.25, 0.4), clock.draw(0.65, 0.85), 1.0)
    actor.put_hands((clock.draw(0.0, 0.45), clock.draw(0.6, 0.95), clock.draw(0.0, 0.25)), weight)


def arm_circles(clock: Clock, actor: Actor) -> None:
    """Move both arms in circles, small ones at the sides or large ones past the ears."""
    weight, phase = clock.during(0.4), clock.phase(clock.draw(0.8, 1.5)) * clock.rng.choice([-1, 1])
    radius = clock.draw(0.2, 0.85) * min(clock.size, 1.1)
    # shoulders give less backwards than forwards, so wide circles are drawn in front
    ahead = 0.45 * radius
    lag = np.pi if clock.chance(0.15) else 0.0
    for side, sign in SIDES.items():
        angle = phase + lag * (sign > 0)
        up, forward = radius * np.cos(angle), ahead + 0.8 * radius * np.sin(angle)
        out = np.sqrt(np.maximum(0.95 - up**2 - forward**2, 0.05))
        actor.put_hand(side, np.stack([out, up, forward], axis=-1), weight)


def arm_swings(clock: Clock, actor: Actor) -> None:
    """Swing stretched arms forward and back, together or in turn."""
    weight, phase = clock.during(0.4), clock.phase(clock.draw(0.7, 1.3))
    extent, middle = clock.draw(0.5, 1.1) * clock.size, clock.draw(0.1, 0.6)
    opposite = clock.chance(0.4)
    for side, sign in SIDES.items():
        angle = middle + extent * np.sin(phase + np.pi * (opposite and sign > 0))
        target = np.stack([0.12 + 0 * angle, -0.95 * np.cos(angle), 0.95 * np.sin(angle)], axis=-1)
        actor.put_hand(side, target, weight)
    actor.controls.pelvis[:, 1] -= weight * 0.02 * (1 - np.cos(2 * phase))


def stretch(clock: Clock, actor: Actor) -> None:
    """Stretch the arms overhead and bend back or to the sides."""
    c, u = actor.controls, clock.u
    weight = bump(u, 0.0, 0.35, 0.7, 1.0)
    actor.put_hands((actor.midline + 0.12, 0.95, clock.draw(-0.1, 0.15)), weight)
    c.bend -= weight * clock.draw(0.05, 0.3)
    c.nod -= weight * clock.draw(0.0, 0.4)
    c.side += weight * clock.draw(-0.4, 0.4) * np.sin(2 * np.pi * u * clock.draw(0.5, 1.2))


def put_on(clock: Clock, actor: Actor) -> None:
    """Put on a jacket: one arm into its sleeve, then the other, then close it."""
    _jacket(clock, actor, clock.u)


def take_off(clock: Clock, actor: Actor) -> None:
    """Take off a jacket: the same way, backwards."""
    _jacket(clock, actor, 1 - clock.u)


def _jacket(clock: Clock, actor: Actor, u: Array) -> None:
    sleeve, high = clock.draw(0.5, 0.8), clock.draw(-0.1, 0.3)
    weight = bump(clock.u, 0.0, 0.12, 0.88, 1.0)
    lead = keys(
        u,
        (0.0, (-0.1, -0.45, 0.5)),
        (0.25, (sleeve, high, -0.25)),
        (0.45, (0.1, -0.2, 0.55)),
        (0.9, (actor.midline + 0.1, -0.55, 0.45)),
    )
    follow = keys(
        u,
        (0.2, (-0.3, -0.2, 0.45)),
        (0.6, (0.45, -0.6, -0.5)),
        (0.75, (0.3, -0.1, 0.4)),
        (0.95, (actor.midline + 0.1, -0.5, 0.45)),
    )
    actor.put_hand("right", lead, weight)
    actor.put_hand("left", follow, weight)
    actor.controls.twist += weight * keys(u, (0.1, 0.0), (0.25, -0.3), (0.6, 0.35), (0.9, 0.0))
    actor.controls.nod += 0.2 * weight
