"""Generated Toyota Smarthome: trimmed V1.2 clips with split lists, and a few untrimmed videos beside them.

The procedural human has no household: an activity is played by a movement that has something of it. Frames
have a list of people, empty where nobody was found, with two of them now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from skelconv.human import Array, Camera, Figure, Motion, find_action, observe, play, play_in_a_row, subject
from skelconv.human.sensor_faults import ABSENT
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.protocols import Facts, load_facts
from skelformats.skeleton import load_skeleton
from skelformats.toyota import TSU_FRAME_RATE

FRAME_RATE = 20.0

TOYOTA_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Sitdown": "sit_down",
        "Walk": "walk_about",
        "Getup": "stand_up",
        "Drink.Fromcup": "salute",
        "Enter": "carry",
        "Cutbread": "rub_hands",
        "Eat.Snack": "cross_hands",
        "Readbook": "bow",
        "Pour.Frombottle": "drop",
        "Takepills": "pick_up",
        "Uselaptop": "fold_arms",
        "Usetelephone": "wave",
        "Cook.Cleanup": "pick_up_both",
        "Cook.Stir": "arm_circles",
        "Laydown": "squat",
        "Makecoffee.Pourwater": "point",
    }
)
"""What is played for each activity; those of the cross-view protocols first."""

TSU_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Walk": "walk_about",
        "Sit_down": "sit_down",
        "Make_coffee.Get_water": "pick_up",
        "Use_telephone": "wave",
        "Get_up": "stand_up",
        "Stir_coffee/tea": "arm_circles",
    }
)
"""What is played for each event of an untrimmed video, by the name that annotations have."""

INTERVALS = 4
CLIPS_A_VIDEO = 20
"""There is an untrimmed video for so many clips, and at least one."""

_VIDEOS, _REPETITIONS = 27, 54
_CAMERAS = (1, 2, 5, 3, 4, 6, 7)
"""In an order in which few clips have every part of the cross-view protocols."""
_TURNS = ("train", "test", "train", "val")
_FOCAL, _CENTRE = 525.0, (320.0, 240.0)

_TAKE, _UNTRIMMED = range(40, 42)
"""First words of the random streams (see `skelconv.human.performance`)."""


def make_clip(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, Mapping[str, bytes]]:
    """Make clip ``index`` of ``seed``: what is in it, and its file.

    Raises
    ------
    SynthError
        The settings name a class that cannot be generated, or ``index`` is beyond `capacity`.
    """
    activity, performer, name = _clip(index, settings)
    rng = np.random.default_rng((seed, _TAKE, index))
    frames = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    action = find_action(TOYOTA_ACTIONS[activity])
    motion = play(action, [subject(seed, performer)], frames, FRAME_RATE, rng, rng.normal(0.0, 0.6))[0]
    content, tracks = _film(motion, settings, rng)
    label = load_facts("toyota").classes.index(activity)
    truth = GroundTruth(name, action.name, label, frames, tracks)
    return truth, {f"skeletonv12/{name}_pose3d.json": content}


def make_video(seed: int, number: int, settings: Settings) -> tuple[GroundTruth, Mapping[str, bytes]]:
    """Make untrimmed video ``number`` of ``seed``: what is in it, its poses and its annotations."""
    facts = load_facts("tsu")
    subjects = _subjects(facts, "train") if number % 2 == 0 else _subjects(facts, "test")
    performer = subjects[number // 2 % len(subjects)]
    name = f"P{performer:02d}T{number // 14 % 99 + 1:02d}C{number % 7 + 1:02d}"
    rng = np.random.default_rng((seed, _UNTRIMMED, number))
    events = [list(TSU_ACTIONS)[(number + k) % len(TSU_ACTIONS)] for k in range(INTERVALS)]
    labels = [facts.classes.index(facts.others["merged"].get(event, event)) for event in events]
    actions = [(label, TSU_ACTIONS[event]) for label, event in zip(labels, events, strict=True)]
    scene = play_in_a_row(actions, [subject(seed, performer)], settings.frames, TSU_FRAME_RATE, rng)
    content, tracks = _film(scene.people[0], settings, rng)
    rows = (
        f"{event},{interval.start},{interval.stop}\n"
        for event, interval in zip(events, scene.intervals, strict=True)
    )
    truth = GroundTruth(name, "", -1, len(scene.together), tracks, scene.intervals)
    return truth, {
        f"tsu/results_{name}_lcrnet+v3d.json": content,
        f"Annotation/{name[:3]}/{name}.csv": ("event,start_frame,end_frame\n" + "".join(rows)).encode(),
    }


def lists_and_videos(seed: int, recordings: int, settings: Settings) -> Mapping[str, bytes]:
    """Return what belongs to the first clips: their split lists, and a few untrimmed videos."""
    files: dict[str, bytes] = {}
    for number in range(max(1, recordings // CLIPS_A_VIDEO)):
        files |= make_video(seed, number, settings)[1]
    clips = [_clip(index, settings) for index in range(recordings)]
    cross_view = load_facts("toyota").others["cross_view_classes"]
    for rule in load_facts("toyota").rules:
        lists: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for activity, performer, name in clips:
            part = rule.parts.get(performer if rule.column == "subject" else int(name[-2:]), "")
            if part and (rule.name == "cs" or activity in cross_view):
                lists["validation" if part == "val" else part].append(f"{name}.mp4\n")
        # a folder has both lists of a protocol, or none
        if lists["train"] and lists["test"]:
            for part, names in lists.items():
                if names:
                    files[f"splits/{part}_{rule.name.upper()}.txt"] = "".join(names).encode()
    return files


def capacity(settings: Settings) -> int:
    """Return how many clips with different names there are; raises `SynthError` as `make_clip`."""
    return len(_activities(settings)) * _VIDEOS * _REPETITIONS


def _clip(index: int, settings: Settings) -> tuple[str, int, str]:
    """Return activity, performer and name of a clip; activities take turns, and so do parts and cameras."""
    if not 0 <= index < capacity(settings):
        raise SynthError(
            f"found clip number {index}, expected one of 0 to {capacity(settings) - 1}: toyota has no more "
            "names for these classes. Ask for fewer recordings or more classes"
        )
    activities = _activities(settings)
    turn, which = divmod(index, len(activities))
    subjects = _subjects(load_facts("toyota"), _TURNS[(turn + which) % len(_TURNS)])
    performer = subjects[(turn // len(_TURNS) + which) % len(subjects)]
    camera = _CAMERAS[(turn + which) % len(_CAMERAS)]
    repetition, video = divmod(turn, _VIDEOS)
    name = f"{activities[which]}_p{performer:02d}_r{repetition:02d}_v{video + 1:02d}_c{camera:02d}"
    return activities[which], performer, name


def _activities(settings: Settings) -> tuple[str, ...]:
    classes = load_facts("toyota").classes
    known = {classes.index(activity) + 1: activity for activity in TOYOTA_ACTIONS}
    if unknown := [number for number in settings.actions if number not in known]:
        raise SynthError(
            f"found the classes {unknown}, expected some of those that can be generated for toyota: "
            + ", ".join(map(str, sorted(known)))
        )
    return tuple(known[number] for number in dict.fromkeys(settings.actions)) or tuple(TOYOTA_ACTIONS)


def _subjects(facts: Facts, part: str) -> list[int]:
    rule = next(rule for rule in facts.rules if rule.name == "cs")
    return [int(number) for number, of in rule.parts.items() if of == part]


def _film(
    motion: Motion, settings: Settings, rng: np.random.Generator
) -> tuple[bytes, tuple[TrueTrack, ...]]:
    """Return the pose file of one person before a camera in a corner, and what is in it."""
    azimuth = rng.uniform(-0.8, 0.8)
    place = np.array([3.5 * np.sin(azimuth), 2.0, 3.5 * np.cos(azimuth)])
    camera = Camera.looking_at(np.array([0.0, 0.9, 0.0]), place)
    figures = observe([camera.view(motion)], load_skeleton("toyota13"), settings.noise, settings.faults, rng)
    pose3d = [_about_chest(figure) for figure in figures]
    pose2d = [_pixels(figure.position) for figure in figures]
    frames: list[list[dict[str, Any]]] = []
    rows: dict[int, list[tuple[int, int]]] = {}
    for t in range(len(motion)):
        seen = [k for k, figure in enumerate(figures) if figure.identity[t] != ABSENT]
        # coordinate-major: all x, then all y, then all z
        frames.append(
            [
                {"pose2d": pose2d[k][t].T.ravel().tolist(), "pose3d": pose3d[k][t].T.ravel().tolist()}
                for k in seen
            ]
        )
        for slot, k in enumerate(seen):
            rows.setdefault(slot, []).append((t, k))
    tracks = (_track(slot, listed, figures, pose3d) for slot, listed in rows.items())
    content = orjson.dumps({"K": 5, "njts": 13, "frames": frames})
    return content, tuple(sorted(tracks, key=lambda track: int(track.frame_index[0])))


def _about_chest(figure: Figure) -> Array:
    """(F, 13, 3) metres about the middle between hips and shoulders; a lost joint is 0."""
    lost = ~(figure.position != 0).any(axis=-1) | np.isnan(figure.position).any(axis=-1)
    whole = np.where(lost[..., None], np.nan_to_num(figure.noiseless), figure.position)
    middle = whole[:, [4, 5, 10, 11]].mean(axis=1, keepdims=True)
    return np.where(lost[..., None], 0.0, (whole - middle).round(6))


def _pixels(position: Array) -> Array:
    """(F, 13, 2) pixels, rounded to a hundredth; -1 for a lost joint."""
    depth = np.nan_to_num(position[..., 2:])
    lost = depth == 0
    pixels = np.array(_CENTRE) - _FOCAL * np.nan_to_num(position[..., :2]) / np.where(lost, 1.0, depth)
    return np.where(lost, -1.0, pixels.round(2))


def _track(slot: int, rows: list[tuple[int, int]], figures: list[Figure], pose3d: list[Array]) -> TrueTrack:
    frame, who = np.array(rows).T
    position: NDArray[np.float32] = np.stack(pose3d)[who, frame].astype(np.float32)
    position[(position == 0).all(axis=-1)] = np.nan
    return TrueTrack(
        body=str(slot),
        person=figures[who[0]].person,
        frame_index=frame.astype(np.int32),
        position=position,
        state=np.stack([figure.state for figure in figures])[who, frame],
        noiseless=np.stack([figure.noiseless for figure in figures])[who, frame],
    )
