"""MediaPipe's results as JSON: a list of frames, or an object around one; `read_json`.

A frame is what the Tasks API returns, dumped: ``pose_landmarks`` and ``pose_world_landmarks`` (in JavaScript
``landmarks`` and ``worldLandmarks``), each a list of people, or what people make of it: one person's
landmarks, ``people`` with landmarks of their own, the protobuf message (``{"landmark": [...]}``), names
instead of an order, rows or one flat list of numbers instead of objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.json_text import kind, load_json
from skelformats.keypoints import identity, numbers, whole
from skelformats.mediapipe_landmarks import FIELDS, JOINTS, LAYOUT, OTHER_MODELS, WORLD, Landmarks
from skelformats.skeleton import load_skeleton

EXPECTED = "MediaPipe's results: a list of frames with 'pose_landmarks' or 'pose_world_landmarks'"

_LANDMARKS = {"poselandmarks": False, "landmarks": False, "poseworldlandmarks": True, "worldlandmarks": True}
"""Keys of landmarks without case and underscores, and whether they are of the world."""
_PEOPLE = ("people", "persons", "poses")
_FRAMES = ("frames", "results", "data")
_ABOUT = ("metadata", "meta", "video", "videoinfo", "info")
_NUMBER = ("frame", "frameindex", "frameidx", "framenumber", "framenum", "frameno", "frameid", "index")
_BODY = ("id", "personid", "person", "trackid", "poseid", "poseindex")
_WIDTH = ("width", "imagewidth", "framewidth", "videowidth")
_HEIGHT = ("height", "imageheight", "frameheight", "videoheight")
_RATE = ("fps", "framerate")
_TIME = re.compile(r"time(?:stamp)?_?(?P<unit>us|ms|s|sec|seconds)")
_DIGITS = re.compile(r"[0-9]{1,10}")
_SECONDS = {"us": 1e-6, "ms": 1e-3}
_MOST_PEOPLE = 20
"""More in one frame are taken for frames that nobody put into a list of frames."""
_POINT = FIELDS[:5]


@dataclass(frozen=True, eq=False)
class _Pose:
    frame: int
    body: str | None
    values: NDArray[np.float64]
    time: float


def read_json(path: Path) -> Landmarks:
    """Read one file.

    Raises
    ------
    FormatError
        It is not JSON, holds no landmarks of MediaPipe Pose, or contradicts itself.
    """
    content = load_json(path, EXPECTED)
    numbered, about = _frames(path, content)
    poses: list[_Pose] = []
    length, known = 0, False
    for number, frame in numbered:
        length = max(length, number + 1)
        has, found = _poses(path, number, frame)
        known |= has
        poses += found
    if numbered and not known:
        raise FormatError(path, "no frame with landmarks", EXPECTED)
    values = np.stack([pose.values for pose in poses]) if poses else np.zeros((0, JOINTS, len(FIELDS)))
    return Landmarks(
        ("",) * len(poses),
        np.array([pose.frame for pose in poses], np.int64),
        tuple(pose.body for pose in poses),
        values,
        np.array([pose.time for pose in poses], np.float64),
        length,
        _size(path, about),
        _rate(path, about),
    )


def _frames(path: Path, content: Any) -> tuple[list[tuple[int, Any]], Mapping[str, Any]]:
    """Return the numbered frames, and what the file says of them all."""
    about: dict[str, Any] = {}
    if isinstance(content, dict):
        plain = _plain(content)
        for name in _ABOUT:
            about |= _plain(plain.get(name))
        about |= plain
        inner = next((plain[name] for name in _FRAMES if isinstance(plain.get(name), list | dict)), None)
        if inner is not None:
            content = inner
    if isinstance(content, dict) and content and all(_DIGITS.fullmatch(key) for key in content):
        keyed = [(whole(path, "the frame", int(key)), frame) for key, frame in content.items()]
        return sorted(keyed, key=lambda pair: pair[0]), about
    if isinstance(content, dict):
        if not {*_LANDMARKS, *_PEOPLE} & set(_plain(content)):
            raise FormatError(path, f"the keys {', '.join(map(str, content))[:60] or 'of nothing'}", EXPECTED)
        content = [content]
    if not isinstance(content, list):
        raise FormatError(path, f"a JSON {type(content).__name__}", EXPECTED)
    if content and _is_point(content[0]):
        content = [content]  # the landmarks of one picture
    given = [_one_of(_plain(frame), _NUMBER) for frame in content]
    if all(number is None for number in given):
        about |= next((_plain(frame) for frame in content if isinstance(frame, dict)), {}) | about
        return list(enumerate(content)), about
    if None in given:
        raise FormatError(path, f"no number in frame {given.index(None)}", "one in every frame, or in none")
    first = _plain(content[0])
    return [
        (whole(path, f"in frame {at} the number", number), frame)
        for at, (number, frame) in enumerate(zip(given, content, strict=True))
    ], first | about


def _poses(path: Path, number: int, frame: Any) -> tuple[bool, list[_Pose]]:
    """Return whether a frame has landmarks or a place for them, and the poses in it."""
    where = f"in frame {number}"
    plain = _plain(frame)
    time = _time(path, where, frame) if isinstance(frame, dict) else float("nan")
    if not isinstance(frame, dict):
        if frame is not None and not isinstance(frame, list):
            raise FormatError(path, f"{where} a value {kind(frame)}", EXPECTED)
        people: list[tuple[str | None, Mapping[str, Any]]] = [
            (None, {"landmarks": person}) for person in _people(path, where, frame)
        ]
        known = bool(people)
    else:
        several = _one_of(plain, _PEOPLE)
        known = several is not None or bool(set(_LANDMARKS) & set(plain))
        people = []
        if isinstance(several, list):
            for person in several:
                own = _plain(person) or {"landmarks": person}
                people.append((identity(path, where, _one_of(own, _BODY)), own))
        elif several is not None:
            raise FormatError(path, f"{where} people {kind(several)}", "a list of people")
        else:
            people = [(None, person) for person in _paired(path, where, plain)]
    if len(people) > _MOST_PEOPLE:
        raise FormatError(
            path,
            f"{where} {len(people)} poses",
            f"at most {_MOST_PEOPLE} people",
            action="Frames go into a list, each an object with 'pose_landmarks'",
        )
    found = []
    for body, person in people:
        values = np.full((JOINTS, len(FIELDS)), np.nan)
        for key, is_world in _LANDMARKS.items():
            if person.get(key) is not None and person[key] != []:
                point = _points(path, f"{where} {key}", person[key])
                values[:, WORLD if is_world else slice(0, 3)] = point[:, :3]
                # both kinds say how visible a landmark is: the picture's wins
                if not is_world or np.isnan(values[:, 3:5]).all():
                    values[:, 3:5] = point[:, 3:5]
        if np.isfinite(values).any():
            found.append(_Pose(number, body, values, time))
    return known, found


def _paired(path: Path, where: str, plain: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a frame's people, whose landmarks of both kinds stand in lists of equal length."""
    lists = {key: _people(path, where, plain[key]) for key in _LANDMARKS if key in plain}
    counts = {len(people) for people in lists.values() if people}
    if len(counts) > 1:
        shown = ", ".join(f"{len(people)} {key}" for key, people in lists.items())
        raise FormatError(path, f"{where} {shown}", "as many in the world as in the picture")
    for at in range(max(counts, default=0)):
        yield {key: people[at] for key, people in lists.items() if people}


def _people(path: Path, where: str, value: Any) -> list[Any]:
    """Return the landmarks of each person: one's own as they are, or a list of several's."""
    if value is None or value == []:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise FormatError(path, f"{where} landmarks {kind(value)}", "a list of landmarks")
    first = value[0]
    one = _is_point(first) or _is_number(first)
    return [value] if one else [person for person in value if person is not None and person != []]


def _is_point(value: Any) -> bool:
    """Whether a value is one landmark: an object with x, or a row of up to five numbers."""
    if isinstance(value, dict):
        return "x" in value
    return isinstance(value, list) and 2 <= len(value) <= len(_POINT) and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _points(path: Path, where: str, value: Any) -> NDArray[np.float64]:
    """Return (33, 5) x, y, z, visibility and presence of one person's landmarks, NaN for what is not told."""
    if isinstance(value, dict):
        value = value["landmark"] if isinstance(value.get("landmark"), list) else _by_name(path, where, value)
    expected = f"a list of {JOINTS} landmarks with x and y"
    if not isinstance(value, list):
        raise FormatError(path, f"{where} {kind(value)}", expected)
    if value and all(map(_is_number, value)) and len(value) % JOINTS == 0:
        width = len(value) // JOINTS
        value = [value[at : at + width] for at in range(0, len(value), width)]
    if len(value) != JOINTS:
        model = OTHER_MODELS.get(len(value))
        raise FormatError(
            path, f"{where} {len(value)} landmarks{f', those of {model}' if model else ''}", expected
        )
    rows = [_row(path, f"{where} {at}", point, expected) for at, point in enumerate(value)]
    flat = [np.nan if cell is None else cell for row in rows for cell in row]
    missing = np.array([isinstance(cell, float) and cell != cell for cell in flat])
    known = numbers(
        path, where, [0.0 if gap else cell for gap, cell in zip(missing, flat, strict=True)], expected
    )
    return np.where(missing, np.nan, known).reshape(JOINTS, len(_POINT))


def _row(path: Path, where: str, point: Any, expected: str) -> Sequence[Any]:
    if isinstance(point, dict):
        return [point.get(name) for name in _POINT]
    if isinstance(point, list) and 2 <= len(point) <= len(_POINT):
        return [*point, *[None] * (len(_POINT) - len(point))]
    if point is None:
        return [None] * len(_POINT)
    raise FormatError(path, f"{where} {kind(point)}", expected)


def _by_name(path: Path, where: str, named: Mapping[str, Any]) -> list[Any]:
    """Return landmarks that are told by name in the order of the layout; those that are not there as None."""
    skeleton = load_skeleton(LAYOUT)
    at = {
        re.sub("[^a-z]", "", joint.official.lower()): number for number, joint in enumerate(skeleton.joints)
    }
    found: list[Any] = [None] * JOINTS
    for name, point in named.items():
        plain = re.sub("[^a-z]", "", str(name).lower())
        if plain not in at:
            raise FormatError(path, f"{where} the landmark {name!r:.40}", "names such as LEFT_WRIST")
        found[at[plain]] = point
    return found


def _size(path: Path, about: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = _one_of(about, _WIDTH), _one_of(about, _HEIGHT)
    if None in sides:
        return None
    width, height = (whole(path, "a picture's side of", side, 1, 100_000) for side in sides)
    return width, height


def _rate(path: Path, about: Mapping[str, Any]) -> float | None:
    value = _one_of(about, _RATE)
    if value is None:
        return None
    rate = float(numbers(path, "a frame rate", [value], "a number of frames a second")[0])
    return rate if rate > 0 else None


def _time(path: Path, where: str, frame: Mapping[str, Any]) -> float:
    """Return a frame's time in seconds, NaN where its key names no unit."""
    for key, value in frame.items():
        match = _TIME.fullmatch(str(key).lower())
        if match and value is not None:
            if not _is_number(value) or not abs(value) < 1e15:
                raise FormatError(path, f"{where} the {key} {value!r:.40}", "a number")
            return float(value) * _SECONDS.get(match["unit"], 1.0)
    return float("nan")


def _plain(value: Any) -> dict[str, Any]:
    """Return an object by its keys without case and underscores; of anything else, nothing."""
    return (
        {str(key).lower().replace("_", ""): item for key, item in value.items()}
        if isinstance(value, dict)
        else {}
    )


def _one_of(plain: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((plain[name] for name in names if plain.get(name) is not None), None)
