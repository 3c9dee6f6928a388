"""Generated NTU RGB+D recordings: names as the dataset has them, and genuine ``.skeleton`` text.

Recording ``i`` depends on the seed, on ``i`` and on the settings, and on nothing else: not on how many are
asked for. Three recordings in a row are one take seen by cameras 1 to 3; takes go round the classes, and
within a class alternate between the training and the test subjects of the cross-subject split.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skelconv.human import Array, Camera, Figure, Motion, Subject, find_action, observe, play, subject
from skelconv.human.camera import bone_orientations, clipped_edges, color_pixels, depth_pixels
from skelconv.synth.text import as_written, skeleton_text
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.protocols import load_facts
from skelformats.skeleton import load_skeleton

FRAME_RATE = 30.0
CAMERAS = 3

NTU_ACTIONS: Mapping[int, str] = MappingProxyType(
    {
        6: "pick_up",
        7: "throw",
        8: "sit_down",
        9: "stand_up",
        10: "clap",
        22: "cheer",
        23: "wave",
        24: "kick",
        26: "hop",
        27: "jump",
        31: "point",
        34: "rub_hands",
        35: "bow",
        36: "shake_head",
        38: "salute",
        40: "cross_hands",
        50: "punch",
        51: "kick_person",
        55: "hug",
        58: "shake_hands",
        59: "walk_towards",
        60: "walk_apart",
        80: "squat",
        95: "hands_up",
        96: "fold_arms",
        97: "arm_circles",
        98: "arm_swings",
        99: "run_on_the_spot",
        100: "butt_kicks",
        101: "toe_touch",
        102: "side_kick",
        104: "stretch",
        112: "high_five",
    }
)
"""Class number (the A of a file name) of each action that the procedural human can play."""

_NTU60_ACTIONS, _NTU60_SETUPS, _NTU60_SUBJECTS = 60, 17, 40
_NTU120_SETUPS, _NTU120_SUBJECTS = 32, 106

_TAKE, _SENSOR, _ORDER, _SETUP = range(10, 14)
"""First words of the random streams (see `skelconv.human.performance`)."""


class Take(NamedTuple):
    """One performance: the numbers in its name but for the camera."""

    setup: int
    subject: int
    replication: int
    action: int

    def name(self, camera: int) -> str:
        """Return the name of the recording by ``camera``."""
        return f"S{self.setup:03d}C{camera:03d}P{self.subject:03d}R{self.replication:03d}A{self.action:03d}"


def make_recording(dataset: str, seed: int, index: int, settings: Settings) -> tuple[GroundTruth, bytes]:
    """Make recording ``index`` of ``seed``: what is in it, and the text of its file.

    Raises
    ------
    SynthError
        The settings name a class that the generator cannot play, or ``index`` is beyond `capacity`.
    """
    take, camera = _take(dataset, seed, index, settings), index % CAMERAS + 1
    rng = np.random.default_rng((seed, _SENSOR, camera, *take))
    scene = _scene(seed, take, settings, _partner(dataset, take))
    people = [_camera(seed, take.setup, camera).view(motion) for motion in scene]
    skeleton = load_skeleton("ntu25")
    figures = observe(people, skeleton, settings.noise, settings.faults, rng)
    rows = _Rows.of(figures, rng)
    cells = _cells(rows)
    flags, lean = _flags(rows, rng), _lean(rows)
    text = skeleton_text(rows.counts, rows.identity, flags, lean, cells, rows.state)
    truth = GroundTruth(
        name=take.name(camera),
        action=NTU_ACTIONS[take.action],
        label=take.action - 1,
        length=len(rows.counts),
        tracks=_tracks(rows, figures, as_written(cells), as_written(_header(flags, lean))),
    )
    return truth, text


def capacity(dataset: str, settings: Settings) -> int:
    """Return how many recordings with different names there are; raises `SynthError` as `make_recording`."""
    actions = _actions(dataset, settings)
    return CAMERAS * len(actions) * min(len(_takes(dataset, 0, action)) for action in actions)


def _take(dataset: str, seed: int, index: int, settings: Settings) -> Take:
    if not 0 <= index < capacity(dataset, settings):
        raise SynthError(
            f"found recording number {index}, expected one of 0 to {capacity(dataset, settings) - 1}: "
            f"{dataset} has no more names for these classes. Ask for fewer recordings or more classes"
        )
    actions = _actions(dataset, settings)
    turn, which = divmod(index // CAMERAS, len(actions))
    return _takes(dataset, seed, actions[which])[turn]


def _actions(dataset: str, settings: Settings) -> tuple[int, ...]:
    known = tuple(a for a in NTU_ACTIONS if dataset == "ntu120" or a <= _NTU60_ACTIONS)
    if unknown := [action for action in settings.actions if action not in known]:
        raise SynthError(
            f"found the classes {unknown}, expected some of those that can be generated for {dataset}: "
            + ", ".join(map(str, known))
        )
    return tuple(dict.fromkeys(settings.actions)) or known


@lru_cache(maxsize=512)
def _takes(dataset: str, seed: int, action: int) -> tuple[Take, ...]:
    """All takes of a class in a random order, training and test subjects in turn.

    Setups 1 to 17 hold classes 1 to 60 and subjects 1 to 40, setups 18 to 32 the rest, as in the dataset.
    Takes that the authors list as missing in some camera are left out, since readers leave them out, too.
    """
    facts = load_facts(dataset)
    first = action <= _NTU60_ACTIONS
    setups = range(1, _NTU60_SETUPS + 1) if first else range(_NTU60_SETUPS + 1, _NTU120_SETUPS + 1)
    people = range(1, (_NTU60_SUBJECTS if first else _NTU120_SUBJECTS) + 1)
    takes = [Take(setup, person, r, action) for setup in setups for person in people for r in (1, 2)]
    takes = [t for t in takes if not any(t.name(c) in facts.left_out for c in range(1, CAMERAS + 1))]
    order = np.random.default_rng((seed, _ORDER, action)).permutation(len(takes))
    parts = _parts(dataset)
    train = [takes[k] for k in order if parts[takes[k].subject] == "train"]
    test = [takes[k] for k in order if parts[takes[k].subject] != "train"]
    return tuple(take for pair in zip(train, test, strict=False) for take in pair)


def _parts(dataset: str) -> Mapping[int, str]:
    """Part of the cross-subject split that each subject is in."""
    rule = next(rule for rule in load_facts(dataset).rules if rule.name == "xsub")
    return {int(number): part for number, part in rule.parts.items()}


def _partner(dataset: str, take: Take) -> int:
    """Second person of a take: always of the same part of the split, so that nobody is in both."""
    parts = _parts(dataset)
    most = _NTU60_SUBJECTS if take.setup <= _NTU60_SETUPS else _NTU120_SUBJECTS
    peers = sorted(n for n, part in parts.items() if part == parts[take.subject] and n <= most)
    step = 1 + (take.setup + take.replication) % (len(peers) - 1)
    return peers[(peers.index(take.subject) + step) % len(peers)]


@lru_cache(maxsize=2)
def _scene(seed: int, take: Take, settings: Settings, partner: int) -> tuple[Motion, ...]:
    """Play the take, once for its three cameras."""
    rng = np.random.default_rng((seed, _TAKE, *take))
    action = find_action(NTU_ACTIONS[take.action])
    cast: list[Subject] = [subject(seed, number) for number in (take.subject, partner)]
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    # the first performance is for camera 2, the second for camera 3 (Shahroudy et al. 2016, section 3)
    towards = _azimuth(seed, take.setup, take.replication + 1)
    heading = towards + np.radians(rng.uniform(-28, 28))
    where = np.array([rng.normal(0.0, 0.12), 0.0, rng.normal(0.0, 0.12)])
    people = play(action, cast[: action.persons], frames, FRAME_RATE, rng, heading)
    return tuple(person.moved(np.eye(3), where) for person in people)


def _azimuth(seed: int, setup: int, camera: int) -> float:
    """Where a camera stands about the stage: 1 in the middle, 2 and 3 some 25 to 35 degrees to its sides."""
    apart = np.radians(np.random.default_rng((seed, _SETUP, setup)).uniform(25, 35))
    return float((0.0, -apart, apart)[camera - 1])


def _camera(seed: int, setup: int, camera: int) -> Camera:
    rng = np.random.default_rng((seed, _SETUP, setup, camera))
    distance, height = np.random.default_rng((seed, _SETUP, setup, 0)).uniform((2.6, 0.9), (4.0, 2.0))
    azimuth = _azimuth(seed, setup, camera) + rng.normal(0.0, 0.03)
    distance += rng.normal(0.0, 0.05)
    position = np.array([distance * np.sin(azimuth), height, distance * np.cos(azimuth)])
    return Camera.looking_at(np.array([0.0, rng.normal(0.95, 0.05), 0.0]), position)


class _Rows(NamedTuple):
    """The R rows of a file in its order: body-frames, sorted by frame and then by slot."""

    counts: NDArray[np.int64]
    frame: NDArray[np.int32]
    identity: NDArray[np.int64]
    figure: NDArray[np.int64]
    position: Array
    state: NDArray[np.uint8]

    @classmethod
    def of(cls, figures: list[Figure], rng: np.random.Generator) -> _Rows:
        """Merge figures; now and then, two bodies exchange their slots for a while."""
        length = len(figures[0].identity)
        swapped = np.zeros(length, np.bool_)
        if len(figures) > 1 and rng.random() < 0.3:
            start, stop = np.sort(rng.integers(0, length + 1, 2))
            swapped[start:stop] = True
        frame, who = np.nonzero(np.stack([figure.identity >= 0 for figure in figures], axis=1))
        slot = np.where(swapped[frame], len(figures) - 1 - who, who)
        order = np.lexsort((slot, frame))
        frame, who = frame[order], who[order]
        return cls(
            counts=np.bincount(frame, minlength=length).astype(np.int64),
            frame=frame.astype(np.int32),
            identity=np.stack([figure.identity for figure in figures])[who, frame],
            figure=who,
            position=np.stack([figure.position for figure in figures])[who, frame],
            state=np.stack([figure.state for figure in figures])[who, frame],
        )


def _cells(rows: _Rows) -> Array:
    """(R, 25, 11) numbers of a joint's line but for its state; what is lost is 0, what is NaN is all NaN."""
    skeleton = load_skeleton("ntu25")
    position = rows.position
    unknown = np.isnan(position)
    turn = bone_orientations(np.where(unknown, 0.0, position), skeleton)
    return np.concatenate([position, depth_pixels(position), color_pixels(position), turn], axis=-1)


def _flags(rows: _Rows, rng: np.random.Generator) -> NDArray[np.int64]:
    """(R, 6) clipped edges, hands (1 not tracked, 2 open, 3 closed, with confidence) and restriction."""
    flags = np.zeros((len(rows.identity), 6), np.int64)
    flags[:, 0] = clipped_edges(rows.position)
    hands = rng.choice([0, 1, 1, 2, 3], (int(rows.figure.max(initial=0)) + 1, 2))
    flags[:, [2, 4]] = hands[rows.figure]
    flags[:, [1, 3]] = (flags[:, [2, 4]] > 0) & (rng.random((len(flags), 2)) < 0.8)
    return flags


def _lean(rows: _Rows) -> Array:
    """(R, 2) how far the trunk leans to the camera's right and to the camera, -1 to 1."""
    skeleton = load_skeleton("ntu25")
    base, top = (rows.position[:, skeleton.index(name)] for name in ("spine_base", "spine_shoulder"))
    trunk = np.nan_to_num(top - base)
    upright = np.maximum(np.abs(trunk[:, 1:2]), 0.05)
    return np.clip(trunk[:, [0, 2]] / upright, -1.0, 1.0)


def _header(flags: NDArray[np.int64], lean: Array) -> Array:
    """(R, 9) what stands behind the id on a body's first line."""
    return np.concatenate([flags, lean, np.full((len(flags), 1), 2.0)], axis=1)


def _tracks(
    rows: _Rows,
    figures: list[Figure],
    cells: NDArray[np.float32],
    header: NDArray[np.float32],
) -> tuple[TrueTrack, ...]:
    """Sort the rows by body id, in order of appearance."""
    found = []
    for identity in dict.fromkeys(rows.identity.tolist()):
        at = np.flatnonzero(rows.identity == identity)
        figure = figures[rows.figure[at[0]]]
        position = cells[at, :, :3].copy()
        position[(position == 0).all(axis=-1)] = np.nan
        found.append(
            TrueTrack(
                body=str(identity),
                person=figure.person,
                frame_index=rows.frame[at],
                position=position,
                state=rows.state[at],
                noiseless=figure.noiseless[rows.frame[at]],
                depth=cells[at, :, 3:5],
                color=cells[at, :, 5:7],
                orientation=cells[at, :, 7:],
                header=header[at],
            )
        )
    return tuple(found)
