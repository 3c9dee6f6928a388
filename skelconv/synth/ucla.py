"""Generated NW-UCLA takes: ``aAA_sSS_eEE_vVV.json`` files of the ``all_sqe`` kind.

Three takes in a row are one performance seen from views 1 to 3. The format has one person, no body ids, no
tracking states and no gaps, so of what goes wrong only lost joints can be written: zeros, as in the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import orjson

from skelconv.human import Camera, Motion, find_action, observe, play, subject
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.protocols import load_facts
from skelformats.skeleton import load_skeleton

FRAME_RATE = 30.0
VIEWS, SUBJECTS, TAKES = 3, 10, 11

UCLA_ACTIONS: Mapping[int, str] = MappingProxyType(
    {
        1: "pick_up",
        2: "pick_up_both",
        3: "drop",
        4: "walk_about",
        5: "sit_down",
        6: "stand_up",
        8: "put_on",
        9: "take_off",
        11: "throw",
        12: "carry",
    }
)
"""Class code (the a of a file name) of each action."""

_TAKE, _SENSOR, _ORDER = range(20, 23)
"""First words of the random streams (see `skelconv.human.performance`)."""


class Performance(NamedTuple):
    """The numbers in a file's name but for the view."""

    action: int
    subject: int
    take: int

    def name(self, view: int) -> str:
        """Return the name of the take from ``view``."""
        return f"a{self.action:02d}_s{self.subject:02d}_e{self.take:02d}_v{view:02d}"


def make_take(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, bytes]:
    """Make take ``index`` of ``seed``: what is in it, and the text of its file.

    Raises
    ------
    SynthError
        The settings name a class that the dataset lacks, or ``index`` is beyond `capacity`.
    """
    performance, view = _performance(seed, index, settings), index % VIEWS + 1
    rng = np.random.default_rng((seed, _SENSOR, view, *performance))
    skeleton = load_skeleton("ucla20")
    azimuth = np.radians((-30.0, 0.0, 30.0)[view - 1])
    place = np.array([3.0 * np.sin(azimuth), 1.1, 3.0 * np.cos(azimuth)])
    camera = Camera.looking_at(np.array([0.0, 0.95, 0.0]), place)
    person = camera.view(_motion(seed, performance, settings))
    figure = observe([person], skeleton, settings.noise, settings.faults, rng)[0]
    # the dataset's own files have six decimals
    written = np.nan_to_num(figure.position, nan=0.0).round(6)
    name, label = performance.name(view), list(UCLA_ACTIONS).index(performance.action)
    text = orjson.dumps({"file_name": name, "skeletons": written.tolist(), "label": label + 1})
    position = written.astype(np.float32)
    position[(position == 0).all(axis=-1)] = np.nan
    track = TrueTrack(
        body="0",
        person=0,
        frame_index=np.arange(len(position), dtype=np.int32),
        position=position,
        state=figure.state,
        noiseless=figure.noiseless,
    )
    return GroundTruth(name, UCLA_ACTIONS[performance.action], label, len(position), (track,)), text


def capacity(settings: Settings) -> int:
    """Return how many takes with different names there are; raises `SynthError` as `make_take`."""
    return VIEWS * len(_actions(settings)) * SUBJECTS * TAKES


def _actions(settings: Settings) -> tuple[int, ...]:
    codes = tuple(load_facts("ucla").others["action_codes"])
    if unknown := [action for action in settings.actions if action not in codes]:
        raise SynthError(
            f"found the classes {unknown}, expected some of the dataset's: " + ", ".join(map(str, codes))
        )
    return tuple(dict.fromkeys(settings.actions)) or codes


def _performance(seed: int, index: int, settings: Settings) -> Performance:
    if not 0 <= index < capacity(settings):
        raise SynthError(
            f"found take number {index}, expected one of 0 to {capacity(settings) - 1}: ucla has no more "
            "names for these classes. Ask for fewer recordings or more classes"
        )
    actions = _actions(settings)
    turn, which = divmod(index // VIEWS, len(actions))
    number = int(_order(seed, actions[which])[turn])
    return Performance(actions[which], number % SUBJECTS + 1, number // SUBJECTS)


@lru_cache(maxsize=64)
def _order(seed: int, action: int) -> tuple[int, ...]:
    order = np.random.default_rng((seed, _ORDER, action)).permutation(SUBJECTS * TAKES)
    return tuple(order.tolist())


@lru_cache(maxsize=2)
def _motion(seed: int, performance: Performance, settings: Settings) -> Motion:
    """Play the take, once for its three views."""
    rng = np.random.default_rng((seed, _TAKE, *performance))
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    cast = [subject(seed, performance.subject)]
    action = find_action(UCLA_ACTIONS[performance.action])
    return play(action, cast, frames, FRAME_RATE, rng, heading=rng.normal(0.0, 0.35))[0]
