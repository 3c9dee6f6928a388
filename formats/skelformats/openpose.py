"""OpenPose output: one JSON file a frame, ``<video>_<12 digits>_keypoints.json``.

As in OpenPose, doc/02_output.md: each has ``people``, each of these ``pose_keypoints_2d`` of the BODY_25
model (x, y, confidence) and a ``person_id`` that is [-1] unless OpenPose tracked. All frames of a video are
one recording. A file whose name has no frame number is a recording of its own.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files, group_sources
from skelformats.json_text import load_json
from skelformats.keypoints import (
    MISSING,
    SCORE,
    Detection,
    identity,
    in_pixels,
    make_tracks,
    recording_name,
    triples,
)
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Source, Value
from skelformats.tracking import SINGLE_OPTION, TRACK_OPTION, frames_apart, link_people

LAYOUT = "openpose25"
EXPECTED = "OpenPose output: an object with 'people'"

_FRAME = re.compile(r"(?:(.*)_)?(\d{1,12})_keypoints\.json")
_OTHER_MODELS = {18: "COCO", 15: "MPI"}


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List the videos below ``root``: files that differ in nothing but the frame's number are one."""
    frames_apart(options)
    return group_sources((*frame_of(path), path, size) for path, size in find_files(root, ".json"))


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse the frames of one video.

    Raises
    ------
    FormatError
        A file is not of this format, or of another model than BODY_25.
    """
    found: list[Detection] = []
    frames = []
    for name in (source.path, *source.members):
        frame = frame_of(name)[1]
        frames.append(frame)
        found += _people(root / name, frame)
    found = link_people(root / source.path, found, options)
    video = recording_name(frame_of(source.path)[0])
    columns: dict[str, Value | NDArray[Any]] = {"video": video, "files": len(frames)}
    return [Clip(video, max(frames) + 1, make_tracks(found, "f4"), -1, columns, {})]


def frame_of(path: str) -> tuple[str, int]:
    """Return the video that a file belongs to, with its folder, and the number of its frame.

    Numbers beyond those of frames are taken for part of a name.
    """
    place = PurePosixPath(path)
    named = _FRAME.fullmatch(place.name)
    if named is None or int(named[2]) > 2**31 - 2:
        return path, 0
    # frames without a name are named after their folder
    video = str(place.parent / named[1]) if named[1] else str(place.parent)
    return ("video" if video == "." else video) + ".json", int(named[2])


def _people(path: Path, frame: int) -> list[Detection]:
    content = load_json(path, EXPECTED)
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise FormatError(path, "no list 'people'", EXPECTED)
    found = []
    for number, person in enumerate(people):
        where = f"in person {number}"
        if not isinstance(person, dict):
            raise FormatError(path, f"{where} a JSON {type(person).__name__}", "an object with keypoints")
        # the name was pose_keypoints before version 1.2
        keypoints = person.get("pose_keypoints_2d", person.get("pose_keypoints"))
        _check_model(path, where, keypoints)
        found.append(
            Detection(
                frame, identity(path, where, person.get("person_id")), triples(path, where, keypoints, LAYOUT)
            )
        )
    return found


def _check_model(path: Path, where: str, keypoints: Any) -> None:
    model = _OTHER_MODELS.get(len(keypoints) // 3) if isinstance(keypoints, list) else None
    if model:
        raise FormatError(
            path,
            f"{where} {len(keypoints) // 3} keypoints, those of the model {model}",
            "the 25 of BODY_25",
            action="Run OpenPose with --model_pose BODY_25",
        )


OPENPOSE = Reader(
    dataset=in_pixels(
        Dataset(
            name="openpose",
            title="OpenPose output, BODY_25",
            skeleton=LAYOUT,
            licence="that of the videos; OpenPose itself is for non-commercial use",
            citation=(
                "Z. Cao et al. OpenPose: Realtime Multi-Person 2D Pose Estimation using Part Affinity "
                "Fields. TPAMI 2019"
            ),
            homepage="https://github.com/CMU-Perceptual-Computing-Lab/openpose",
            # the output does not tell
            frame_rate=None,
            classes=(),
            columns=(
                Column("video", "string", "name of the video, with its folders"),
                Column("files", "i4", "number of the video's files; fewer than frames where some are absent"),
            ),
            protocols=(),
            missing=MISSING,
            confidence=SCORE,
            options=(SINGLE_OPTION, TRACK_OPTION),
        )
    ),
    scan=scan,
    read=read,
)
