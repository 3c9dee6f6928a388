"""What one person can do that moves the whole body: sit, squat, kick, jump, run, walk.

As `skelconv.human.actions`: parametric, right-handed, and different every time.
"""

from __future__ import annotations

import numpy as np

from skelconv.human.body import SIDES
from skelconv.human.kinematics import Array
from skelconv.human.stage import Actor, Clock, bump, keys, minimum_jerk, mix, repeats, rise

GRAVITY = 9.81
"""m/s2."""


def seated(clock: Clock, actor: Actor, sit: Array) -> None:
    """Write a pose between standing (``sit`` 0) and sitting on a chair (1)."""
    c, body = actor.controls, actor.body
    seat = clock.draw(0.24, 0.28) * body.stature
    back = clock.draw(0.21, 0.25) * body.stature
    drop_by = body.standing - seat
    passing = 4 * sit * (1 - sit)
    c.pelvis[:, 1] -= sit * drop_by
    # the seat is reached backwards before it is reached downwards
    c.pelvis[:, 2] -= np.sqrt(np.maximum(sit, 0.0)) * sit**0.25 * back
    c.lean += passing * clock.draw(0.35, 0.65) - sit * clock.draw(0.0, 0.15)
    c.bend += passing * clock.draw(0.1, 0.35) + sit * clock.draw(0.0, 0.2)
    apart = clock.draw(-0.05, 0.35)
    low = clock.draw(-0.75, -0.6)
    actor.put_hands((apart - 0.1, low, clock.draw(0.35, 0.6)), sit)
    for side in SIDES:
        c.splay[side] = c.splay[side] + sit * clock.draw(0.0, 0.25)


def sit_down(clock: Clock, actor: Actor) -> None:
    """Sit down on a chair, and stay."""
    seated(clock, actor, minimum_jerk(clock.u))


def stand_up(clock: Clock, actor: Actor) -> None:
    """Stand up from a chair."""
    seated(clock, actor, minimum_jerk(1 - clock.u))


def kick(clock: Clock, actor: Actor) -> None:
    """Kick forward with the right foot."""
    u, size = clock.u, clock.size
    hit = clock.draw(0.5, 0.6)
    way = keys(
        u,
        (0.0, (0.0, 0.0, 0.0)),
        (0.3, (0.0, 0.14, -0.3 * size)),
        (hit, (0.0, clock.draw(0.2, 0.6) * size, clock.draw(0.5, 0.75))),
        (1.0, (0.0, 0.0, 0.0)),
    )
    _balance(clock, actor, way)
    actor.controls.lean -= bump(u, 0.35, hit, hit, 0.95) * clock.draw(0.1, 0.35)


def side_kick(clock: Clock, actor: Actor) -> None:
    """Kick to the right side."""
    u = clock.u
    hit = clock.draw(0.42, 0.55)
    out, high = clock.draw(0.45, 0.65), clock.draw(0.25, 0.65) * clock.size
    way = keys(
        u,
        (0.0, (0.0, 0.0, 0.0)),
        (0.25, (0.0, 0.3, 0.05)),
        (hit, (out, high, 0.0)),
        (1.0, (0.0, 0.0, 0.0)),
    )
    _balance(clock, actor, way)
    lean = bump(u, 0.2, hit, hit, 0.95)
    actor.controls.roll -= lean * clock.draw(0.2, 0.45)
    actor.controls.side -= lean * clock.draw(0.0, 0.3)


def _balance(clock: Clock, actor: Actor, way: Array) -> None:
    """Lift the right foot along ``way`` (T, 3) metres; the weight goes over the left foot, arms go out."""
    c, u = actor.controls, clock.u
    aloft = bump(u, 0.0, 0.25, 0.75, 1.0)
    actor.step("right", way, np.ones_like(u))
    c.pelvis[:, 0] += aloft * 0.9 * actor.body["hip"]
    c.toe["right"] = c.toe["right"] + aloft * clock.draw(0.0, 0.4)
    actor.put_hands((clock.draw(0.4, 0.8), -0.65, 0.15), aloft * clock.draw(0.1, 0.8))


def hop(clock: Clock, actor: Actor) -> None:
    """Hop on the left foot."""
    c, body, weight = actor.controls, actor.body, clock.during(0.4)
    cycle = clock.phase(clock.draw(1.5, 2.2)) / (2 * np.pi) % 1.0
    flight = np.clip((cycle - 0.45) / 0.55, 0.0, 1.0)
    height = weight * clock.draw(0.05, 0.14) * clock.size * 4 * flight * (1 - flight)
    dip = weight * 0.06 * np.sin(np.pi * np.clip(cycle / 0.45, 0.0, 1.0))
    c.pelvis[:, 1] += height - dip
    c.pelvis[:, 0] += weight * body["hip"]
    c.ankle["left"][:, 1] += height
    c.toe["left"] = c.toe["left"] + 5 * np.minimum(height, 0.1)
    lifted = np.stack([0 * cycle, clock.draw(0.15, 0.35) + height, 0 * cycle - clock.draw(0.05, 0.3)], -1)
    actor.step("right", lifted, weight)
    c.toe["right"] = c.toe["right"] + 0.6 * weight
    actor.put_hands((clock.draw(0.2, 0.6), clock.draw(-0.7, -0.3), 0.3), weight * clock.draw(0.3, 1.0))


def jump(clock: Clock, actor: Actor) -> None:
    """Jump up from both feet, once or twice; in the air the body falls as bodies do."""
    c = actor.controls
    apex = clock.draw(0.08, 0.3) * clock.size
    flight = 2 * np.sqrt(2 * apex / GRAVITY)
    count = int(np.clip(clock.seconds // (flight + 0.75 / clock.rate), 1, 2))
    each = clock.seconds / count
    crouch, swing = 0.22 * apex + 0.14, clock.draw(0.3, 1.0)
    for k in range(count):
        begin = clock.start + k * each
        leave = begin + max(each - flight, 0.3) * 0.6
        t = clock.time
        air = np.clip((t - leave) / flight, 0.0, 1.0)
        height = apex * 4 * air * (1 - air)
        before = minimum_jerk((t - begin) / (0.7 * (leave - begin))) * (
            1 - minimum_jerk((t - leave + 0.3 * (leave - begin)) / (0.3 * (leave - begin)))
        )
        landing = leave + flight
        rest = max(begin + each - landing, 0.15)
        after = np.sin(np.pi * np.clip((t - landing) / rest, 0.0, 1.0)) ** 2
        dip = crouch * before + 0.6 * crouch * after
        c.pelvis[:, 1] += height - dip
        c.pelvis[:, 2] -= 0.3 * dip
        c.lean += 1.8 * dip
        for side in SIDES:
            c.ankle[side][:, 1] += height
            c.toe[side] = c.toe[side] + np.minimum(6 * height, 0.7)
        actor.put_hands((0.2, -0.7, -0.45), swing * before)
        actor.put_hands((0.3, 0.5, 0.45), swing * np.sin(np.pi * air) ** 2)


def squat(clock: Clock, actor: Actor) -> None:
    """Squat down and come up again, once or twice."""
    c, body = actor.controls, actor.body
    count = 1 + (clock.seconds > 2.2)
    progress = repeats(clock.u, count)
    down = bump(progress, 0.0, 0.45, 0.55, 1.0) * clock.draw(0.7, 1.0) * min(clock.size, 1.1)
    c.pelvis[:, 1] -= down * 0.55 * body.leg
    c.pelvis[:, 2] -= down * 0.09 * body.stature
    c.lean += down * clock.draw(0.4, 0.7)
    c.bend += down * clock.draw(0.1, 0.3)
    ahead = clock.draw(0.3, 1.0)
    actor.put_hands((-0.05, -0.15, 0.9), np.minimum(down, 1.0) * ahead)


def run_on_the_spot(clock: Clock, actor: Actor) -> None:
    """Run without getting anywhere, knees to the front."""
    _steps_on_the_spot(clock, actor, clock.draw(0.15, 0.35) * clock.size, -0.05)


def butt_kicks(clock: Clock, actor: Actor) -> None:
    """Run without getting anywhere, heels to the back."""
    _steps_on_the_spot(clock, actor, clock.draw(0.3, 0.45) * clock.size, -0.38)


def _steps_on_the_spot(clock: Clock, actor: Actor, high: float, ahead: float) -> None:
    c, weight, phase = actor.controls, clock.during(0.4), clock.phase(clock.draw(1.1, 1.7))
    c.pelvis[:, 1] -= weight * 0.02 * (1 + np.cos(2 * phase))
    pump = clock.draw(0.1, 0.5)
    for side, sign in SIDES.items():
        lift = np.maximum(np.sin(phase) * sign, 0.0)
        actor.step(side, np.stack([0 * lift, high * lift, ahead * lift], axis=-1), weight)
        c.toe[side] = c.toe[side] + weight * lift * 0.9
        swing = -sign * np.sin(phase) * pump
        target = np.stack([0.1 + 0 * swing, -0.5 + 0.4 * swing, 0.35 + 0.6 * swing], axis=-1)
        actor.put_hand(side, target, weight)


def toe_touch(clock: Clock, actor: Actor) -> None:
    """Touch one foot with the hand of the other side, then the other way round."""
    c, body = actor.controls, actor.body
    count = 2 if clock.seconds < 2.4 else 3
    progress = repeats(clock.u, count)
    down = np.sin(np.pi * progress) ** 2 * bump(clock.u, 0.0, 0.1, 0.9, 1.0)
    turn = np.where((np.floor(clock.u * count) % 2 == 0) & (clock.u < 1), 1.0, -1.0)
    wide = bump(clock.u, 0.0, 0.12, 0.88, 1.0) * clock.draw(0.03, 0.12)
    for side in SIDES:
        actor.step(side, np.stack([wide, 0 * wide, 0 * wide], axis=-1), np.ones_like(wide))
    c.lean += down * clock.draw(0.9, 1.2)
    c.bend += down * clock.draw(0.5, 0.9)
    c.twist += down * turn * clock.draw(0.4, 0.7)
    c.pelvis[:, 2] -= down * 0.12 * body.stature
    for side, sign in SIDES.items():
        # turning left brings the right hand to the left foot
        touching = down * (turn * sign < 0)
        other = "left" if side == "right" else "right"
        actor.reach_for(side, c.ankle[other] + (0.0, 0.08, 0.12), touching)
        actor.put_hand(side, (0.7, -0.2, -0.5), down * (turn * sign > 0))


def walk_about(clock: Clock, actor: Actor) -> None:
    """Walk along an arc."""
    c = actor.controls
    distance = clock.seconds * clock.draw(0.7, 1.1) * clock.rate
    bend = clock.draw(-1.2, 1.2)
    walk(clock, actor, distance, bend)
    # the arc is centred on the stage, so that cameras keep it in view
    middle = c.pelvis[len(clock.time) // 2].copy()
    middle[1] = 0.0
    c.pelvis -= middle
    for side in SIDES:
        c.ankle[side] -= middle


def carry(clock: Clock, actor: Actor) -> None:
    """Walk with something in both hands."""
    walk_about(clock, actor)
    actor.put_hands((-0.05, clock.draw(-0.65, -0.4), clock.draw(0.4, 0.65)), np.ones_like(clock.u))


def walk(clock: Clock, actor: Actor, distance: float, bend: float = 0.0) -> None:
    """Walk ``distance`` metres, turning by ``bend`` radians on the way; starts and stops on both feet.

    While a foot bears weight (60 % of its cycle) it stays where it is.
    """
    c, body = actor.controls, actor.body
    stride = 0.78 * body.stature * clock.size**0.5
    gone = distance * minimum_jerk(clock.u) * 0.35 + distance * clock.u * 0.65
    moving = clock.during(0.3)
    across, along, heading = _arc(gone, distance, bend)
    c.pelvis[:, 0] += across
    c.pelvis[:, 2] += along
    c.turn += heading
    cycle = gone / stride
    c.pelvis[:, 1] -= moving * 0.012 * (1 + np.cos(4 * np.pi * cycle))
    swing = clock.draw(0.2, 0.45)
    for side, sign in SIDES.items():
        lag = 0.0 if sign > 0 else 0.5
        whole, part = np.divmod(cycle + lag, 1.0)
        step = np.clip((part - 0.6) / 0.4, 0.0, 1.0)
        # the foot is below the body in the middle of its stance
        placed = stride * (whole + minimum_jerk(step) + 0.3 - lag)
        here = np.clip(gone + moving * (placed - gone), 0.0, distance)
        x, z, turn = _arc(here, distance, bend)
        offset = sign * 1.2 * body["hip"]
        ankle = np.stack([x + offset * np.cos(turn), 0 * x, z - offset * np.sin(turn)], axis=-1)
        ankle[:, 1] = body["ankle_height"] + moving * 0.09 * np.sin(np.pi * step) ** 2
        c.ankle[side] = mix(c.ankle[side], ankle, rise(clock.time, clock.start - 0.2, clock.start))
        c.toe[side] = c.toe[side] + moving * 0.5 * np.sin(2 * np.pi * step) * (step < 0.5)
        # arms swing against the legs
        angle = -swing * np.cos(2 * np.pi * (cycle + lag))
        target = np.stack([0.12 + 0 * angle, -0.92 * np.cos(angle), 0.05 + 0.92 * np.sin(angle)], axis=-1)
        actor.put_hand(side, target, moving)


def _arc(gone: Array, distance: float, bend: float) -> tuple[Array, Array, Array]:
    """Across, along and heading after ``gone`` metres of a path that turns by ``bend`` over ``distance``."""
    if abs(bend) < 1e-3 or distance < 1e-6:
        return 0 * gone, gone, 0 * gone
    radius = distance / bend
    angle = gone / radius
    return radius * (1 - np.cos(angle)), radius * np.sin(angle), angle
