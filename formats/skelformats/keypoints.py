"""What the 2D pose formats share: flat keypoint lists, ids, boxes, and tracks made of detections.

A keypoint list is ``[x0, y0, c0, x1, y1, c1, ...]``: pixels, and how sure the source is. ``0, 0, 0`` is how
all of these formats write a joint that they do not have; any other triple is kept as it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.keypoint_layout import LAYOUT_OF_COUNT
from skelformats.reader import Confidence, Dataset, Extra, Track
from skelformats.skeleton import load_skeleton

MISSING = "x, y and confidence all 0 in the raw list"

SCORE = Confidence("f4", "detector's score of the joint, as the source gives it")

BOX_EXTRA = Extra(
    "box",
    ("side",),
    {"side": ("left", "top", "width", "height")},
    "f4",
    "px",
    "the person's bounding box; NaN where the source has none",
)
SCORE_EXTRA = Extra("score", (), {}, "f4", "1", "score of the person; NaN where the source has none")

_LARGEST_PIXEL = 1e7
_NUMBER = re.compile(r"(\d{1,9})$")


@dataclass(frozen=True, eq=False)
class Detection:
    """One person in one frame.

    Attributes
    ----------
    frame
        Number of the frame in its recording.
    body
        The source's id of the person, or None where it has none.
    joints
        (J, 3) float64: x, y, confidence.
    box
        (4,) left, top, width, height in pixels, or None.
    score
        Score of the whole person; NaN where there is none.
    columns
        Values for the table that belong to the person.
    """

    frame: int
    body: str | None
    joints: NDArray[np.float64]
    box: NDArray[np.float32] | None = None
    score: float = float("nan")
    columns: Mapping[str, Any] = field(default_factory=dict)


def triples(path: Path, where: str, values: Any, layout: str) -> NDArray[np.float64]:
    """Return (J, 3) float64 rows x, y, confidence of a flat keypoint list in a layout of J joints.

    Of a whole-body list the rows after the body are left out.

    Raises
    ------
    FormatError
        ``values`` is not a list of numbers, or not of this layout.
    """
    joints = len(load_skeleton(layout))
    expected = f"a list of {3 * joints} numbers, x, y and confidence of the {joints} joints of {layout}"
    if not isinstance(values, list):
        raise FormatError(path, f"{where} keypoints of type {type(values).__name__}", expected)
    array = numbers(path, f"{where} keypoints", values, expected)
    count, rest = divmod(len(values), 3)
    if rest or (count != joints and not (count in (133, 136) and LAYOUT_OF_COUNT[count] == layout)):
        fitting = LAYOUT_OF_COUNT.get(count) if not rest else None
        hint = f"Add --layout {fitting}, or ingest files of different layouts separately"
        raise FormatError(
            path, f"{where} a list of {len(values)} numbers", expected, action=hint if fitting else None
        )
    return array.reshape(-1, 3)[:joints]


def numbers(path: Path, where: str, values: Sequence[Any], expected: str) -> NDArray[np.float64]:
    """Return (N,) float64 of a list of plain finite numbers that can be pixels; raises `FormatError`."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths in the list
        array = np.zeros((0, 0))
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise FormatError(path, f"{where} with a value that is not a number", expected)
    result = array.astype(np.float64)
    if not (np.abs(result) <= _LARGEST_PIXEL).all():
        raise FormatError(path, f"{where} with {result[np.abs(result).argmax()]:g}", expected)
    return result


def whole(path: Path, where: str, value: Any, least: int = 0, most: int = 2**31 - 2) -> int:
    """Return a whole number within bounds; a float such as 3.0 counts as one. Raises `FormatError`."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise FormatError(path, f"{where} {value!r:.40}", f"a whole number from {least} to {most}")
    return value


def identity(path: Path, where: str, value: Any) -> str | None:
    """Return a track id as text: numbers, text and lists of them; None for none (null, -1, []).

    A list of several numbers, or of lists of one, is what AlphaPose writes for a person whose identities were
    merged: the least is taken, as AlphaPose's own viewer does.
    """
    while isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if isinstance(value, list):
        merged = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in value]
        return str(min(whole(path, f"{where} the track id", item, -(2**62), 2**62) for item in merged))
    if value is None or value == -1 or value == "":
        return None
    if isinstance(value, str):
        return value
    return str(whole(path, f"{where} the track id", value, -(2**62), 2**62))


def box_of(path: Path, where: str, value: Any) -> NDArray[np.float32] | None:
    """Return (4,) of a box given as left, top, width, height; None where there is none."""
    if value is None or value == []:
        return None
    expected = "a box of 4 numbers: left, top, width, height"
    if not isinstance(value, list) or len(value) != 4:
        raise FormatError(path, f"{where} a box {value!r:.40}", expected)
    return numbers(path, f"{where} a box", value, expected).astype(np.float32)


def score_of(path: Path, where: str, value: Any) -> float:
    """Return a person's score, NaN for none; lists of one number are taken, too."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return float("nan")
    return float(numbers(path, f"{where} a score", [value], "a number")[0])


def check_states(path: Path, where: str, joints: NDArray[np.float64], states: Mapping[int, str]) -> None:
    """Raise `FormatError` unless the third number of each (J, 3) row is one of the ``states``."""
    odd = ~np.isin(joints[:, 2], list(states))
    if odd.any():
        raise FormatError(
            path,
            f"{where} the visibility {joints[odd.argmax(), 2]:g} of joint {odd.argmax()}",
            "one of " + ", ".join(f"{state} ({meaning})" for state, meaning in states.items()),
        )


def make_tracks(
    detections: Iterable[Detection],
    confidence: str,
    extras: frozenset[str] = frozenset(),
    more: Callable[[Sequence[Detection]], Mapping[str, NDArray[Any]]] | None = None,
) -> tuple[Track, ...]:
    """Link detections to tracks by id, in order of first appearance.

    A detection without any joint is left out. Without an id each is a track of its own of one frame, called
    ``<frame>.<number in the frame>``. An id that comes twice in a frame gives a second track, ``<id>#2``.

    Parameters
    ----------
    confidence
        Dtype of the confidence.
    extras
        Which of ``box`` and ``score`` to keep.
    more
        Further optional arrays of a track's detections.
    """
    linked: dict[str, list[Detection]] = {}
    times: Counter[tuple[int, str | None]] = Counter()
    for detection in sorted(detections, key=lambda d: d.frame):
        if not detection.joints.any():
            continue
        times[detection.frame, detection.body] += 1
        number = times[detection.frame, detection.body]
        if detection.body is None:
            body = f"{detection.frame}.{number - 1}"
        else:
            body = detection.body if number == 1 else f"{detection.body}#{number}"
        linked.setdefault(body, []).append(detection)
    tracks = []
    for body, found in linked.items():
        arrays = dict(more(found)) if more else {}
        if "box" in extras:
            arrays["box"] = np.stack(
                [np.full(4, np.nan, np.float32) if d.box is None else d.box for d in found]
            )
        if "score" in extras:
            arrays["score"] = np.array([d.score for d in found], np.float32)
        position, sure = observed(np.stack([d.joints for d in found]), confidence)
        frames = np.array([d.frame for d in found], np.int32)
        tracks.append(Track(body, frames, position, sure, arrays, dict(found[0].columns)))
    return tuple(tracks)


def observed(joints: NDArray[np.float64], confidence: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Split (..., J, 3) rows into positions (..., J, 2), NaN for missing joints, and confidences (..., J)."""
    position = joints[..., :2].astype(np.float32)
    position[(joints == 0).all(axis=-1)] = np.nan
    return position, joints[..., 2].astype(confidence)


def frame_numbers(images: Iterable[str]) -> dict[str, int]:
    """Number the images of a video: by the digits that end their names, or by their order."""
    ordered = list(dict.fromkeys(images))
    found = [_NUMBER.search(PurePosixPath(image).stem) for image in ordered]
    numbers = [int(match[1]) for match in found if match]
    if len(set(numbers)) == len(ordered):
        return dict(zip(ordered, numbers, strict=True))
    return {image: number for number, image in enumerate(ordered)}


def in_pixels(dataset: Dataset) -> Dataset:
    """Return a dataset as one of 2D poses in pixels, y down, without classes or a known frame rate."""
    return replace(
        dataset,
        frame_rate=None,
        unit="px",
        axes=("x", "y"),
        axis_convention="pixels, +y down",
        missing=MISSING,
    )


def recording_name(path: str) -> str:
    """Name of the recording that a whole file is: its path without the suffix, folders joined by ``__``."""
    return "__".join(PurePosixPath(path).with_suffix("").parts)
