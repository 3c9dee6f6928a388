"""Linking people from frame to frame where the source has no track ids: `link_people`.

There is no model of motion or appearance: each pose goes on with the nearest one of the frames before,
nearest pair first. Where people cross or hide each other, their ids may be exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError, SkelconvError
from skelformats.keypoints import Detection
from skelformats.reader import Option, ReadOptions

FARTHEST = 0.5
"""Poses further apart than this share of the larger person's size are never linked."""

MOST_APART = 100
MOST_PEOPLE = 200
"""Without a track id, in one frame: the pairs that are compared grow as the square of their number."""

SINGLE_OPTION = Option(
    "single_person",
    bool,
    False,
    "Take detections without a track id for one person, who is alone in each frame.",
)

TRACK_OPTION = Option(
    "track",
    int,
    0,
    "Link detections without a track id: each to the nearest pose of the last N frames, by the joints' mean "
    "distance over the size of the box, nearest pairs first. 0 links none.",
)


def frames_apart(options: ReadOptions) -> int:
    """Return how many frames apart poses may be that are linked, 0 for none; raises `SkelconvError`."""
    apart = int(options.values.get("track", 0))
    if not 0 <= apart <= MOST_APART:
        raise SkelconvError(f"--track {apart}: found {apart} frames, expected 0 to {MOST_APART}")
    return apart


def link_people(path: Path, detections: Sequence[Detection], options: ReadOptions) -> list[Detection]:
    """Give detections without an id the ids that ``--single-person`` or ``--track`` ask for.

    Raises
    ------
    FormatError
        There are several people in one frame, or more than can be tracked.
    """
    found = list(detections)
    if options.values.get("single_person"):
        found = _single(path, found)
    apart = frames_apart(options)
    return _track(path, found, apart) if apart else found


def _single(path: Path, detections: Sequence[Detection]) -> list[Detection]:
    """Give detections without an id the id 0; raises `FormatError` where two are in one frame."""
    seen: set[int] = set()
    found = []
    for detection in detections:
        if detection.body is None:
            if detection.frame in seen:
                raise FormatError(
                    path,
                    f"several people without a track id in frame {detection.frame}",
                    "one, as --single-person says",
                    action="Track the people first, or take --track instead of --single-person",
                )
            seen.add(detection.frame)
            detection = replace(detection, body="0")
        found.append(detection)
    return found


@dataclass
class _Person:
    """A track that is being made: its name, and the last pose."""

    body: str
    last: Detection


def _track(path: Path, detections: Sequence[Detection], apart: int) -> list[Detection]:
    """Link detections without an id; those with one stay as they are."""
    found = [detection for detection in detections if detection.body is not None]
    names = _unused({detection.body for detection in found})
    nameless = [d for d in detections if d.body is None and d.joints.any()]
    people: list[_Person] = []
    for frame, group in groupby(sorted(nameless, key=lambda d: d.frame), key=lambda d: d.frame):
        here = list(group)
        if len(here) > MOST_PEOPLE:
            raise FormatError(
                path,
                f"{len(here)} people without a track id in frame {frame}",
                f"at most {MOST_PEOPLE}, to be linked by --track",
            )
        people = [person for person in people if frame - person.last.frame <= apart]
        free = set(range(len(here)))
        for person, pose in _nearest_first([person.last for person in people], here):
            here[pose] = replace(here[pose], body=people[person].body)
            people[person].last = here[pose]
            free.remove(pose)
        for pose in sorted(free):
            here[pose] = replace(here[pose], body=next(names))
            people.append(_Person(str(here[pose].body), here[pose]))
        found += here
    return found


def _unused(taken: set[str | None]) -> Iterator[str]:
    """Yield names for tracks: the numbers from 0 on that are not a track's id."""
    return (str(number) for number in count() if str(number) not in taken)


def _nearest_first(before: Sequence[Detection], here: Sequence[Detection]) -> list[tuple[int, int]]:
    """Return pairs (of ``before``, of ``here``), each pose in at most one, the nearest pair first."""
    if not before:
        return []
    costs = np.stack([_distances(before, pose) for pose in here], axis=1)
    pairs = []
    rows: set[int] = set()
    columns: set[int] = set()
    # stable: of equal costs the older track and the earlier detection come first
    for flat in np.argsort(costs, axis=None, kind="stable"):
        row, column = divmod(int(flat), len(here))
        if costs[row, column] > FARTHEST:
            break
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs


def _distances(before: Sequence[Detection], pose: Detection) -> NDArray[np.float64]:
    """Return (N,) mean distance of the joints that both have, over the larger person's size."""
    others = np.stack([other.joints for other in before])
    seen = others.any(axis=-1) & pose.joints.any(axis=-1)
    apart = np.linalg.norm(others[..., :2] - pose.joints[:, :2], axis=-1)
    shared = seen.sum(axis=-1)
    mean = (apart * seen).sum(axis=-1) / np.maximum(shared, 1)
    size = np.maximum([_size(other) for other in before], _size(pose))
    return np.where((shared > 0) & (size > 0), mean / np.maximum(size, 1e-9), np.inf)


def _size(pose: Detection) -> float:
    """Return the larger side of a person's box, in pixels; of the joints' where there is no box."""
    if pose.box is not None and (pose.box[2:] > 0).all():
        return float(pose.box[2:].max())
    joints = pose.joints[pose.joints.any(axis=-1), :2]
    return float((joints.max(axis=0) - joints.min(axis=0)).max())
