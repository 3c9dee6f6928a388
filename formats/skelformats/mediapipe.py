"""MediaPipe Pose: landmarks of videos and pictures as people write them down, JSON or csv, one file a video.

Landmarks of the picture are fractions of its width and height, those of the world metres from the middle of
the hips (Pose Landmarker guide, "Handle and display results"). `skelformats.mediapipe_json` and
`skelformats.mediapipe_csv` say which forms are known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats import mediapipe_csv, mediapipe_json
from skelformats.errors import FormatError, SkelconvError
from skelformats.files import list_sources
from skelformats.keypoints import Detection, make_tracks, recording_name
from skelformats.mediapipe_landmarks import LAYOUT, PRESENCE, VISIBILITY, WORLD, Landmarks
from skelformats.own_data import UPWARDS
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Confidence,
    Dataset,
    Extra,
    Option,
    Reader,
    ReadOptions,
    Source,
    Track,
)
from skelformats.skeleton import load_skeleton
from skelformats.tracking import TRACK_OPTION, frames_apart, link_people

CONFIDENCE = Confidence("f4", "MediaPipe's visibility of the landmark, 0 to 1")

_FARTHEST_FRACTION = 30.0
"""Landmarks outside the picture are fractions beyond 0 and 1; beyond this they are pixels."""
_FARTHEST_HIPS = 0.1
"""Metres between the middle of the hips and the origin, beyond which landmarks are not of the world."""
_NEAREST_HIPS = 0.02
"""Fraction of the picture within which hips in its corner are the origin of the world, in half of the
poses.
"""
_HIPS = [load_skeleton(LAYOUT).index(f"{side}_hip") for side in ("left", "right")]


@dataclass(frozen=True, eq=False)
class _Pose(Detection):
    """A detection with all that the file says of its landmarks: (33, 8) `values`, and its time in seconds."""

    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    time: float = float("nan")


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON and csv file below ``root``, by name and size.

    Raises
    ------
    SkelconvError
        ``--size`` or ``--track`` are not what they can be.
    """
    frames_apart(options)
    _asked_size(options)
    return sorted((*list_sources(root, ".json"), *list_sources(root, ".csv")), key=lambda source: source.path)


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Describe the files: pixels where the first tells the picture's size or an option does, or metres."""
    sources = options.wanted(scan(root, options))
    newest = max((int((root / source.path).stat().st_mtime_ns) for source in sources), default=0)
    first = _first(root, tuple(source.path for source in sources), newest)
    rate = float(options.values["frame_rate"]) or (first.frame_rate if first else None)
    dataset = replace(
        MEDIAPIPE.dataset,
        frame_rate=rate,
        confidence=None if first and not first.has_visibility else CONFIDENCE,
    )
    if options.values["landmarks"] == "world":
        return replace(
            dataset,
            unit="m",
            axes=("x", "y", "z"),
            axis_convention="right-handed, +y up; the origin is between the hips",
            axis_map=AxisMap(*UPWARDS["-y"]),
        )
    if _asked_size(options) or (first and first.size):
        return replace(dataset, unit="px", axis_convention="pixels, +y down")
    return dataset


@lru_cache(maxsize=4)
def _first(root: Path, paths: tuple[str, ...], newest: int) -> Landmarks | None:
    """Return what the first file holds that can be read; every worker asks this again for every source."""
    for path in paths:
        try:
            return _load(root / path)
        except FormatError:
            continue  # it is set aside by name when it is read
    return None


def _load(path: Path) -> Landmarks:
    return mediapipe_json.read_json(path) if path.suffix == ".json" else mediapipe_csv.read_csv(path)


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Read the recordings of one file.

    Raises
    ------
    FormatError
        The file has no landmarks of a pose, none of the kind asked for, or is not like the first one.
    """
    path = root / source.path
    dataset, found = configure(root, options), _load(path)
    _check_like_the_first(path, found, dataset, options)
    world = len(dataset.axes) == 3
    found = _of_the_world(path, found) if world else _of_the_picture(path, found)
    size = found.size or _asked_size(options) or (-1, -1)
    names = list(dict.fromkeys(found.recording)) or [""]
    columns: dict[str, Any] = {"width": size[0], "height": size[1]}
    clips = []
    for name in names:
        at = [k for k, recording in enumerate(found.recording) if recording == name]
        scale = np.array(size, np.float64) if dataset.unit == "px" else np.ones(2)
        poses = link_people(path, _alone([_pose(found, k, world, scale) for k in at]), options)
        asked = options.extras
        made = make_tracks(poses, "f4", more=partial(_arrays, asked=asked, world=world))
        tracks = tuple(_finished(track, dataset, asked) for track in made)
        length = found.length if len(names) == 1 else int(found.frame[at].max(initial=-1)) + 1
        clips.append(Clip(name or recording_name(source.path), length, tracks, -1, columns, {}))
    return clips


def _check_like_the_first(path: Path, found: Landmarks, dataset: Dataset, options: ReadOptions) -> None:
    if len(found.frame) and found.has_visibility != (dataset.confidence is not None):
        words = ("no visibility", "a visibility")
        raise FormatError(
            path, words[found.has_visibility], f"{words[not found.has_visibility]}, as in the first file"
        )
    if dataset.unit == "px" and not (found.size or _asked_size(options)):
        raise FormatError(
            path,
            "no size of the picture",
            "its width and height, as in the first file",
            action="Give it with --size 1920x1080",
        )
    rate = found.frame_rate
    if rate and not options.values["frame_rate"] and rate != dataset.frame_rate:
        shown = "none" if dataset.frame_rate is None else f"{dataset.frame_rate:g}"
        raise FormatError(
            path,
            f"{rate:g} frames a second",
            f"{shown}, as in the first file",
            action="Ingest them separately",
        )


def _of_the_world(path: Path, found: Landmarks) -> Landmarks:
    """Return world landmarks: those that are called so, or the only ones if the hips are their origin."""
    if not len(found.frame) or found.has_world:
        return found
    hips = found.values[:, _HIPS, :3].mean(axis=1)
    middle = np.nanmedian(np.linalg.norm(hips, axis=1)) if np.isfinite(hips).all(axis=1).any() else np.inf
    if middle > _FARTHEST_HIPS:
        raise FormatError(
            path,
            "no world landmarks",
            "pose_world_landmarks, in metres from the middle of the hips",
            action="Leave out --landmarks world for the landmarks of the picture",
        )
    values = found.values.copy()
    values[..., WORLD] = values[..., :3]
    return replace(found, values=values)


def _of_the_picture(path: Path, found: Landmarks) -> Landmarks:
    """Check landmarks of the picture, which are fractions of its width and height."""
    if not len(found.frame):
        return found
    place = found.values[..., :2]
    hips = place[:, _HIPS].mean(axis=1)
    at_origin = np.isfinite(hips).all() and float(np.median(np.abs(hips).max(axis=1))) < _NEAREST_HIPS
    if not found.has_image or at_origin:
        raise FormatError(
            path,
            "world landmarks alone"
            if not found.has_image
            else "hips at the origin, as world landmarks have them",
            "landmarks of the picture, x and y from 0 to 1",
            action="Add --landmarks world for poses in metres",
        )
    farthest = float(np.nanmax(np.abs(place)))
    if farthest > _FARTHEST_FRACTION:
        raise FormatError(
            path,
            f"a landmark at {farthest:g}",
            "fractions of the picture's width and height, as MediaPipe gives them",
            action=f"Landmarks in pixels are read by skelconv ingest table --skeleton {LAYOUT}",
        )
    return found


def _pose(found: Landmarks, number: int, world: bool, scale: NDArray[np.float64]) -> _Pose:
    values = found.values[number]
    place = values[:, WORLD][:, :2] if world else values[:, :2] * scale
    # protobuf leaves out zeros: a landmark without visibility is not visible
    sure = np.nan_to_num(values[:, VISIBILITY]) if found.has_visibility else np.ones(len(values))
    joints = np.where(np.isfinite(place).all(axis=1)[:, None], np.column_stack([place, sure]), 0.0)
    return _Pose(
        int(found.frame[number]), found.body[number], joints, values=values, time=float(found.time[number])
    )


def _alone(poses: list[_Pose]) -> list[Detection]:
    """Give poses without an id one where no frame has several: MediaPipe follows one person from frame to
    frame.
    """
    frames = {pose.frame for pose in poses}
    if len(frames) < len(poses) or any(pose.body is not None for pose in poses):
        return list(poses)
    return [replace(pose, body="0") for pose in poses]


def _arrays(poses: Sequence[Detection], asked: frozenset[str], world: bool) -> dict[str, NDArray[Any]]:
    found = [pose for pose in poses if isinstance(pose, _Pose)]
    values = np.stack([pose.values for pose in found])
    arrays = {
        "world": _whole(values[..., WORLD]),
        "depth": values[..., 2].astype(np.float32),
        "presence": values[..., PRESENCE].astype(np.float32),
        "time": np.array([pose.time for pose in found]),
    }
    return {name: array for name, array in arrays.items() if name in asked or (world and name == "world")}


def _whole(place: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return places as float32, NaN in all axes where one is missing, or where all are 0."""
    missing = ~np.isfinite(place).all(axis=-1, keepdims=True) | (place == 0).all(axis=-1, keepdims=True)
    return np.where(missing, np.nan, place).astype(np.float32)


def _finished(track: Track, dataset: Dataset, asked: frozenset[str]) -> Track:
    position = track.extras["world"] if len(dataset.axes) == 3 else track.position
    return replace(
        track,
        position=position,
        extras={name: array for name, array in track.extras.items() if name in asked},
        confidence=track.confidence if dataset.confidence else None,
    )


def _asked_size(options: ReadOptions) -> tuple[int, int] | None:
    """Return the picture's width and height that the user gives; raises `SkelconvError`."""
    text = str(options.values["size"])
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise SkelconvError(
            f"--size {text}: expected the picture's width and height in pixels, such as 1920x1080"
        )
    return int(match[1]), int(match[2])


MEDIAPIPE = Reader(
    dataset=Dataset(
        name="mediapipe",
        title="MediaPipe Pose landmarks",
        skeleton=LAYOUT,
        licence="that of the videos; MediaPipe itself is under the Apache License 2.0",
        citation=(
            "V. Bazarevsky et al. BlazePose: On-device Real-time Body Pose Tracking. CVPR Workshop on "
            "Computer Vision for Augmented and Virtual Reality 2020"
        ),
        homepage="https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker",
        # few files tell
        frame_rate=None,
        classes=(),
        columns=(
            Column("width", "i4", "pixels across the picture, -1 where nobody tells", unit="px"),
            Column("height", "i4", "pixels down the picture, -1 where nobody tells", unit="px"),
        ),
        protocols=(),
        missing="null or empty, or x, y and visibility all 0",
        unit="1",
        axes=("x", "y"),
        axis_convention="fractions of the picture's width and height, +y down",
        axis_map=AxisMap((0, 1), (1, 1)),
        confidence=CONFIDENCE,
        extras=(
            Extra(
                "world",
                ("joint", "world_axis"),
                {"world_axis": ("x", "y", "z")},
                "f4",
                "m",
                "world landmarks from the middle of the hips, in MediaPipe's axes (+y down, +z away); NaN "
                "where there are none",
            ),
            Extra(
                "depth",
                ("joint",),
                {},
                "f4",
                "1",
                "z of the picture's landmarks, about in fractions of its width; smaller is nearer",
            ),
            Extra("presence", ("joint",), {}, "f4", "1", "MediaPipe's presence; NaN where it is not written"),
            Extra("time", (), {}, "f8", "s", "the frame's time, where the file gives it in a unit; else NaN"),
        ),
        options=(
            Option(
                "landmarks",
                str,
                "image",
                "Landmarks to store: in the picture (2D), or in the world, in metres from the hips (3D).",
                ("image", "world"),
            ),
            Option("size", str, "", "Size of the pictures of files that do not tell it: 1920x1080."),
            Option("frame_rate", float, 0.0, "Frames a second; 0 for what the first file says, if it does."),
            TRACK_OPTION,
        ),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
