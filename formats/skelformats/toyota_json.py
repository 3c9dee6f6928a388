"""The pose JSON of Toyota Smarthome, as LCR-Net and its refinements write it.

One object: ``{"K": int, "njts": 13, "frames": [[person, ...], ...]}``, a list of people a frame, empty where
nobody was found. A person has ``pose2d`` (26 numbers), ``pose3d`` (39 numbers) and in V1.1 ``cumscore``. The
numbers are coordinate-major: all x, then all y, then all z.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.json_text import kind, load_json
from skelformats.reader import Track

JOINTS = 13
_PLACEHOLDER = -1.0
"""Both pixels of a joint that was not found."""


@dataclass(frozen=True, eq=False)
class Poses:
    """The R people found in a file's frames, those without any joint left out.

    Attributes
    ----------
    frames
        Frames in the file, those without anybody included.
    frame, slot
        (R,) int32 frame, counted from 0, and place in the frame's list.
    position
        (R, 13, 3) float32; a missing joint is NaN.
    pixel
        (R, 13, 2) float32; NaN for a joint that was not found.
    score
        (R,) float32 detection score; NaN where the file has none.
    """

    frames: int
    frame: NDArray[np.int32]
    slot: NDArray[np.int32]
    position: NDArray[np.float32]
    pixel: NDArray[np.float32]
    score: NDArray[np.float32]

    def tracks(self, extras: Collection[str] = ()) -> tuple[Track, ...]:
        """Return a track for each place in the frames' lists, the one seen first before the others.

        ``extras`` are the optional arrays to keep: ``pose2d``, ``cumscore``.
        """
        tracks = []
        for slot in np.unique(self.slot):
            rows = np.flatnonzero(self.slot == slot)
            arrays = {"pose2d": self.pixel, "cumscore": self.score}
            kept = {name: values[rows] for name, values in arrays.items() if name in extras}
            tracks.append(Track(str(slot), self.frame[rows], self.position[rows], extras=kept))
        return tuple(sorted(tracks, key=lambda track: int(track.frame_index[0])))


def parse_poses(path: Path) -> Poses:
    """Parse a pose file.

    Raises
    ------
    FormatError
        It is not JSON, or not of this form.
    OSError
        It cannot be read.
    """
    frames = _frames(path)
    frame: list[int] = []
    slot: list[int] = []
    people: list[dict[str, Any]] = []
    for number, found in enumerate(frames):
        if not isinstance(found, list) or not all(isinstance(person, dict) for person in found):
            raise FormatError(path, f"in frame {number} {kind(found)}", "a list of objects, one a person")
        people += found
        frame += [number] * len(found)
        slot += range(len(found))
    # coordinate-major: one row of all x, one of all y, one of all z
    position = _matrix(path, people, frame, "pose3d", 3)
    pixel = _matrix(path, people, frame, "pose2d", 2)
    score = np.array([_score(path, person, at) for person, at in zip(people, frame, strict=True)], np.float32)
    missing = (position == 0).all(axis=-1) | ~np.isfinite(position).all(axis=-1)
    unseen = (pixel == _PLACEHOLDER).all(axis=-1) | ~np.isfinite(pixel).all(axis=-1)
    position[missing] = np.nan
    pixel[unseen] = np.nan
    kept = ~missing.all(axis=-1) & ~unseen.all(axis=-1)
    return Poses(
        len(frames),
        np.array(frame, np.int32)[kept],
        np.array(slot, np.int32)[kept],
        position[kept],
        pixel[kept],
        score[kept],
    )


def _frames(path: Path) -> list[Any]:
    content = load_json(path, "one JSON object")
    expected = "an object with 'njts' and 'frames'"
    if not isinstance(content, dict):
        raise FormatError(path, f"a JSON {type(content).__name__}", expected)
    if content.get("njts") != JOINTS:
        raise FormatError(path, f"'njts' {content.get('njts')!r:.40}", f"{JOINTS} joints")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise FormatError(path, f"'frames' that is {kind(frames)}", "a list of frames")
    return frames


def _matrix(
    path: Path, people: list[dict[str, Any]], frame: list[int], key: str, axes: int
) -> NDArray[np.float32]:
    """Return (R, 13, axes) float32 of the lists under ``key``; what float32 cannot hold becomes infinite."""
    lists = [person.get(key) for person in people]
    try:
        values = np.asarray(lists) if lists else np.zeros((0, axes * JOINTS))
    except ValueError:  # lists of different lengths
        values = np.zeros(0)
    if values.dtype.kind not in "if" or values.shape[1:] != (axes * JOINTS,):
        raise FormatError(path, _first_odd(lists, frame, key, axes), f"{axes * JOINTS} numbers a person")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.astype(np.float32).reshape(-1, axes, JOINTS).transpose(0, 2, 1))


def _score(path: Path, person: dict[str, Any], frame: int) -> float:
    score = person.get("cumscore", np.nan)
    if type(score) not in (int, float):
        raise FormatError(path, f"in frame {frame} the cumscore {score!r:.40}", "a number")
    return float(np.clip(score, -3e38, 3e38))


def _first_odd(lists: list[Any], frame: list[int], key: str, axes: int) -> str:
    """Say which person's list is not as it should be."""
    for values, at in zip(lists, frame, strict=True):
        if not isinstance(values, list) or len(values) != axes * JOINTS:
            return f"in frame {at} a '{key}' that is {kind(values)}"
        for value in values:
            if type(value) not in (int, float):
                return f"in frame {at} a '{key}' with the value {value!r:.40}"
    return f"a '{key}' with numbers beyond 64 bits"
