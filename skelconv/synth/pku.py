"""Generated PKU-MMD videos: skeleton text, label files and split lists in the folders of the distribution.

A video is a few actions in a row, with moments between them in which people move over to the next. Three in
a row are one performance seen from the left, the middle and the right; performances alternate between the
training and the test part of the cross-subject split. Body 2 is there in actions of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from skelconv.human import ActionInterval, Array, Camera, Figure, Play, observe, play_in_a_row, subject
from skelconv.human.sensor_faults import ABSENT
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.pku import FRAME_RATE, PHASE_1, PHASE_2, VIEWS, Phase
from skelformats.protocols import load_facts
from skelformats.skeleton import load_skeleton

PKU_ACTIONS: Mapping[int, str] = MappingProxyType(
    {
        1: "bow",
        5: "cheer",
        6: "clap",
        7: "cross_hands",
        9: "drop",
        13: "wave",
        14: "shake_hands",
        15: "hop",
        16: "hug",
        17: "jump",
        18: "kick_person",
        19: "kick",
        22: "pick_up",
        25: "point",
        26: "punch",
        31: "rub_hands",
        32: "salute",
        33: "sit_down",
        34: "stand_up",
        37: "take_off",
        41: "throw",
        48: "put_on",
    }
)
"""Number of each action in label files."""

INTERVALS = 4
"""Actions in a video; a genuine one has about twenty."""

_TAKE, _SENSOR, _ORDER, _LABEL = range(30, 34)
"""First words of the random streams (see `skelconv.human.performance`)."""

_ABSENT_VIDEOS = {*range(247, 251), 191, 192}
"""Phase I has no videos of these numbers, or none with people in them."""
_ABSENT_TAKES = {(5, 4), (7, 12), (8, 12), (14, 12), (20, 1)}
"""Scripts and subjects of which Phase II lacks a view."""


@dataclass(frozen=True)
class Folders:
    """Where a phase's archives unpack to, and what it calls its split lists."""

    phase: Phase
    skeletons: str
    labels: str
    lists: Mapping[str, str]


FOLDERS: Mapping[str, Folders] = MappingProxyType(
    {
        "pku1": Folders(
            PHASE_1,
            "PKU_Skeleton_Renew",
            "Train_Label_PKU_final",
            {"xsub": "Split/cross-subject.txt", "xview": "Split/cross-view.txt"},
        ),
        "pku2": Folders(
            PHASE_2,
            "Skeleton_v2",
            "Label_PKUMMD_v2",
            {"xsub": "Split/cross_subject_v2.txt", "xview": "Split/cross_view_v2.txt"},
        ),
    }
)


def make_video(
    dataset: str, seed: int, index: int, settings: Settings
) -> tuple[GroundTruth, Mapping[str, bytes]]:
    """Make video ``index`` of ``seed``: what is in it, its skeleton file and its label file.

    Raises
    ------
    SynthError
        The settings name a class that cannot be generated, or ``index`` is beyond `capacity`.
    """
    folders = FOLDERS[dataset]
    name = video_name(dataset, seed, index, settings)
    view = index % len(VIEWS)
    scene = _play(dataset, seed, index // len(VIEWS), settings)
    rng = np.random.default_rng((seed, _SENSOR, index, dataset == "pku2"))
    camera = Camera.looking_at(np.array([0.0, 0.95, 0.0]), _place(view))
    people = [camera.view(motion) for motion in scene.people]
    figures = observe(people, load_skeleton("ntu25"), settings.noise, settings.faults, rng)
    _come_and_go(figures, scene)
    figures = figures[:2]
    slots = _slots(figures, settings, rng)
    text, written = _text(_chosen([figure.position for figure in figures], slots))
    truth = GroundTruth(
        name=name,
        action="",
        label=-1,
        length=len(written),
        tracks=_tracks(written, figures, slots),
        intervals=scene.intervals,
    )
    return truth, {
        f"{folders.skeletons}/{name}.txt": text,
        f"{folders.labels}/{name}.txt": _label_text(scene.intervals, seed, index),
    }


def split_lists(dataset: str, seed: int, recordings: int, settings: Settings) -> Mapping[str, bytes]:
    """Write the split lists of the first videos, with misspelt heading and last comma as in the original."""
    folders = FOLDERS[dataset]
    names = sorted(video_name(dataset, seed, index, settings) for index in range(recordings))
    lists = {}
    for protocol, path in folders.lists.items():
        part_of = {name: _part(dataset, name, protocol) for name in names}
        train, test = (", ".join(n for n in names if part_of[n] == part) for part in ("train", "test"))
        lists[path] = f"Training videos: \n{train}, \nValidataion videos: \n{test}, \n".encode()
    return lists


def capacity(dataset: str, settings: Settings) -> int:
    """Return how many videos with different names there are; raises `SynthError` as `make_video`."""
    _actions(dataset, settings)
    return len(VIEWS) * len(_performances(dataset, 0))


def video_name(dataset: str, seed: int, index: int, settings: Settings) -> str:
    """Return the name of video ``index``; raises `SynthError` as `make_video`."""
    if not 0 <= index < capacity(dataset, settings):
        raise SynthError(
            f"found video number {index}, expected one of 0 to {capacity(dataset, settings) - 1}: "
            f"{dataset} has no more names. Ask for fewer recordings"
        )
    return f"{_performances(dataset, seed)[index // len(VIEWS)]}-{list(VIEWS)[index % len(VIEWS)]}"


def _actions(dataset: str, settings: Settings) -> tuple[int, ...]:
    if unknown := [action for action in settings.actions if action not in PKU_ACTIONS]:
        raise SynthError(
            f"found the classes {unknown}, expected some of those that can be generated for {dataset}: "
            + ", ".join(map(str, PKU_ACTIONS))
        )
    return tuple(dict.fromkeys(settings.actions)) or tuple(PKU_ACTIONS)


@lru_cache(maxsize=8)
def _performances(dataset: str, seed: int) -> tuple[str, ...]:
    """Names of all performances but for the view, training and test in turn as long as there are both."""
    if dataset == "pku1":
        names = [f"{video:04d}" for video in range(2, 365) if video not in _ABSENT_VIDEOS]
    else:
        takes = ((script, person) for script in range(1, 27) for person in range(1, 14))
        names = [f"A{take[0]:02d}N{take[1]:02d}" for take in takes if take not in _ABSENT_TAKES]
    order = np.random.default_rng((seed, _ORDER)).permutation(len(names))
    shuffled = [names[k] for k in order]
    parts = {name: _part(dataset, f"{name}-L", "xsub") for name in names}
    train, test = ([n for n in shuffled if parts[n] == part] for part in ("train", "test"))
    return tuple(name for name in chain.from_iterable(zip_longest(train, test)) if name is not None)


def _part(dataset: str, video: str, protocol: str) -> str:
    columns = FOLDERS[dataset].phase.columns(video)
    return load_facts(dataset).splits(video, columns)[protocol]


def _cast(dataset: str, performance: str) -> tuple[int, int]:
    """Numbers of the two people: nobody is in the training and in the test part."""
    columns = FOLDERS[dataset].phase.columns(f"{performance}-L")
    if dataset == "pku2":
        return columns["subject"], 100 + columns["subject"]
    test = _part(dataset, f"{performance}-L", "xsub") == "test"
    lead = 200 + 50 * test + columns["video"] % 50
    return lead, 100 + lead


@lru_cache(maxsize=2)
def _play(dataset: str, seed: int, number: int, settings: Settings) -> Play:
    """Play a performance, once for its three views."""
    rng = np.random.default_rng((seed, _TAKE, number, dataset == "pku2"))
    cast = [subject(seed, person) for person in _cast(dataset, _performances(dataset, seed)[number])]
    known = _actions(dataset, settings)
    codes = [known[(number * INTERVALS + k) % len(known)] for k in range(INTERVALS)]
    actions = [(code - 1, PKU_ACTIONS[code]) for code in codes]
    return play_in_a_row(actions, cast, settings.frames, FRAME_RATE, rng)


def _place(view: int) -> Array:
    azimuth = np.radians((-45.0, 0.0, 45.0)[view])
    return np.array([3.0 * np.sin(azimuth), 1.2, 3.0 * np.cos(azimuth)])


def _come_and_go(figures: list[Figure], scene: Play) -> None:
    """Hide the second person in actions of one, and the first never through a whole action."""
    for figure in figures:
        if figure.person == 1:
            figure.identity[~scene.together] = ABSENT
    for interval in scene.intervals:
        frames = slice(interval.start, interval.stop)
        if not any((figure.identity[frames] != ABSENT).any() for figure in figures[:2]):
            figures[0].identity[frames] = 0


def _slots(figures: list[Figure], settings: Settings, rng: np.random.Generator) -> NDArray[np.int64]:
    """(F, 2) figure in each of the two slots of a line, -1 for none; now and then two change places."""
    slots = np.full((len(figures[0].identity), 2), -1)
    for number, figure in enumerate(figures):
        slots[figure.identity != ABSENT, number] = number
    if rng.random() < 0.3 * settings.faults:
        start, stop = np.sort(rng.integers(0, len(slots) + 1, 2))
        slots[start:stop] = slots[start:stop, ::-1]
    return slots


def _chosen(blocks: list[Array], slots: NDArray[np.int64]) -> Array:
    """(F, 2, J, 3) what is in each slot; zeros where nobody is, or where a joint was lost."""
    stacked = np.nan_to_num(np.stack(blocks, axis=1), nan=0.0)
    picked = np.take_along_axis(stacked, np.maximum(slots, 0)[:, :, None, None], axis=1)
    return np.where((slots >= 0)[:, :, None, None], picked, 0.0)


def _text(values: Array) -> tuple[bytes, NDArray[np.float32]]:
    """Return the text of (F, 2, J, 3) values, six decimals each, and the float32 that it reads back as."""
    lines = [" ".join([f"{value:.6f}" for value in row]) for row in values.reshape(len(values), -1).tolist()]
    written = np.array([line.split(" ") for line in lines], np.float64).astype(np.float32)
    return ("\n".join(lines) + "\n").encode(), written.reshape(values.shape)


def _label_text(intervals: tuple[ActionInterval, ...], seed: int, index: int) -> bytes:
    """Return a label file: action, first and last frame counted from 1, and a grade."""
    grades = np.random.default_rng((seed, _LABEL, index)).integers(1, 3, len(intervals))
    lines = (
        f"{interval.label + 1},{interval.start + 1},{interval.stop},{grade}\n"
        for interval, grade in zip(intervals, grades, strict=True)
    )
    return "".join(lines).encode()


def _tracks(
    written: NDArray[np.float32], figures: list[Figure], slots: NDArray[np.int64]
) -> tuple[TrueTrack, ...]:
    """Return what stands in each slot, where it is not all zeros."""
    exact = np.stack([figure.noiseless for figure in figures], axis=1)
    states = np.stack([figure.state for figure in figures], axis=1)
    tracks = []
    for slot in range(written.shape[1]):
        rows = np.flatnonzero((written[:, slot] != 0).any(axis=(1, 2)))
        if not len(rows):
            continue
        position = written[rows, slot]
        position[(position == 0).all(axis=-1)] = np.nan
        who = slots[rows, slot]
        tracks.append(
            TrueTrack(
                body=str(slot + 1),
                person=figures[who[0]].person,
                frame_index=rows.astype(np.int32),
                position=position,
                state=states[rows, who],
                noiseless=exact[rows, who],
            )
        )
    return tuple(sorted(tracks, key=lambda track: int(track.frame_index[0])))
