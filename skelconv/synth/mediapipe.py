"""Generated landmarks of MediaPipe Pose, one file a video, by turns as the three forms that people write.

JSON with the picture's size and world landmarks, as the Tasks API gives them; csv with a row a frame; csv
with a row a landmark. MediaPipe guesses what it does not see: a lost joint stands where it is, hardly
visible. Only JSON has several people, who have no ids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from skelconv.human import Array
from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import FRAME_RATE, HEIGHT, WIDTH, Filmed, film, true_track, truth, untracked
from skelformats.skeleton import load_skeleton

_WORD = 8
_LAYOUT = "mediapipe33"
_HIDDEN = 0.05
"""Visibility of a joint that the detector lost."""
_SIZE = np.array([WIDTH, HEIGHT], np.float64)


def make_video(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the landmarks of video ``index``."""
    name = f"video_{index:05d}"
    video = film(_LAYOUT, _WORD, seed, index, settings)
    alone = len(video.people) == 1
    people = tuple(_guessed(person) for person in video.people)
    video = replace(video, people=people)
    form = index % 3 if alone else 0
    write = (_json, _wide, _long)[form]
    content = write(people, video.length)
    if alone:
        track = true_track("0", people[0], people[0].rows)
        tracks = [track] if track is not None else []
    else:
        tracks = untracked(video)
    # csv does not tell of frames after the last pose
    length = video.length if form == 0 else int(people[0].frame_index[-1]) + 1
    found = replace(truth(name, video, tracks), label=-1, length=length)
    return found, {f"{name}.{'csv' if form else 'json'}": content}


def _guessed(person: Filmed) -> Filmed:
    """Return a person whose lost joints are guessed, with pixels that survive being written as fractions."""
    rows = person.rows.copy()
    lost = ~rows.any(axis=-1)
    rows[lost, :2], rows[lost, 2] = person.noiseless[lost], _HIDDEN
    rows[..., :2] = _fractions(rows) * _SIZE
    return replace(person, rows=rows)


def _fractions(rows: Array) -> Array:
    return (rows[..., :2] / _SIZE).round(8)


def _values(person: Filmed) -> NDArray[np.float64]:
    """Return (T, J, 8) x, y, z, visibility and presence, then x, y and z of the world."""
    skeleton = load_skeleton(_LAYOUT)
    hips = [skeleton.index(f"{side}_hip") for side in ("left", "right")]
    # MediaPipe's x goes to the right of the picture, y down
    world = (person.seen - person.seen[:, hips].mean(axis=1, keepdims=True)) * [-1.0, -1.0, 1.0]
    visibility = person.rows[..., 2:]
    parts = (_fractions(person.rows), world[..., 2:].round(6), visibility, np.sqrt(visibility).round(6))
    return np.concatenate([*parts, world.round(6)], axis=-1)


def _json(people: tuple[Filmed, ...], length: int) -> bytes:
    names = ("x", "y", "z", "visibility", "presence")
    frames: list[dict[str, Any]] = [
        {
            "frame": frame,
            "timestamp_ms": round(1000 * frame / FRAME_RATE),
            "pose_landmarks": [],
            "pose_world_landmarks": [],
        }
        for frame in range(length)
    ]
    for person in people:
        for frame, rows in zip(person.frame_index.tolist(), _values(person).tolist(), strict=True):
            image = [dict(zip(names, row[:5], strict=True)) for row in rows]
            world = [dict(zip(names, [*row[5:], *row[3:5]], strict=True)) for row in rows]
            frames[frame]["pose_landmarks"].append(image)
            frames[frame]["pose_world_landmarks"].append(world)
    return orjson.dumps({"width": WIDTH, "height": HEIGHT, "fps": FRAME_RATE, "frames": frames})


def _wide(people: tuple[Filmed, ...], length: int) -> bytes:
    fields = ("x", "y", "z", "visibility", "presence", "world_x", "world_y", "world_z")
    names = [joint.official for joint in load_skeleton(_LAYOUT).joints]
    head = ["frame", "width", "height", *(f"{name}_{field}" for name in names for field in fields)]
    (person,) = people
    rows = [
        [frame, WIDTH, HEIGHT, *values]
        for frame, values in zip(
            person.frame_index.tolist(), _values(person).reshape(len(person.rows), -1).tolist(), strict=True
        )
    ]
    return _csv(head, rows)


def _long(people: tuple[Filmed, ...], length: int) -> bytes:
    head = [
        "frame",
        "landmark_id",
        "x",
        "y",
        "z",
        "visibility",
        "presence",
        "wx",
        "wy",
        "wz",
        "image_width",
        "image_height",
    ]
    (person,) = people
    rows = [
        [frame, number, *landmark, WIDTH, HEIGHT]
        for frame, values in zip(person.frame_index.tolist(), _values(person).tolist(), strict=True)
        for number, landmark in enumerate(values)
    ]
    return _csv(head, rows)


def _csv(head: list[str], rows: list[list[Any]]) -> bytes:
    lines = [",".join(head), *(",".join(map(repr, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()
