"""AlphaPose results: one JSON list a video, each entry one person in one frame.

``{"image_id": "12.jpg", "category_id": 1, "keypoints": [x, y, score, ...], "score": ..., "box": [x, y, w, h],
"idx": ...}``; which layout it is depends on the model: 17, 26 or 136 keypoints. ``idx`` is the track id of
the people tracker, in some versions a list of one number, and a list of such lists for a person whose
identities were merged. Without tracking it is absent or, in most versions, 0 for everybody.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from skelformats.errors import FormatError
from skelformats.files import list_sources
from skelformats.json_text import load_json
from skelformats.keypoint_layout import LAYOUT_OPTION, layout_name, peek
from skelformats.keypoints import (
    BOX_EXTRA,
    MISSING,
    SCORE,
    SCORE_EXTRA,
    Detection,
    box_of,
    frame_numbers,
    identity,
    in_pixels,
    make_tracks,
    recording_name,
    score_of,
    triples,
)
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Source
from skelformats.tracking import SINGLE_OPTION, TRACK_OPTION, frames_apart, link_people

EXPECTED = "a list of AlphaPose results, objects with 'image_id' and 'keypoints'"


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset with the layout that the option asks for or the first file shows."""
    return replace(ALPHAPOSE.dataset, skeleton=layout_name(options, peek(root), "halpe26"))


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    frames_apart(options)
    return list_sources(root, ".json")


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one video's results.

    Frames are numbered as their images, ``12.jpg`` being frame 12; where the names do not all end in
    different numbers, by the images' order in the file.

    Raises
    ------
    FormatError
        The file is not of this format, or of another layout than the first one.
    """
    path = root / source.path
    content = load_json(path, EXPECTED)
    if not isinstance(content, list):
        raise FormatError(path, f"a JSON {type(content).__name__}", EXPECTED)
    layout = layout_name(options, peek(root), "halpe26")
    entries = [_entry(path, number, entry) for number, entry in enumerate(content)]
    frames = frame_numbers(str(entry["image_id"]) for entry in entries)
    found = [
        _detection(path, f"in entry {number}", entry, frames[str(entry["image_id"])], layout)
        for number, entry in enumerate(entries)
    ]
    found = link_people(path, _without_false_ids(found), options)
    tracks = make_tracks(found, "f4", options.extras)
    name = _name(source.path)
    return [Clip(name, max(frames.values(), default=-1) + 1, tracks, -1, {"video": name}, {})]


def _without_false_ids(detections: list[Detection]) -> list[Detection]:
    """Take the ids away where all are 0 and a frame has it more than once: AlphaPose did not track then."""
    if {detection.body for detection in detections} != {"0"}:
        return detections
    if len({detection.frame for detection in detections}) == len(detections):
        return detections
    return [replace(detection, body=None) for detection in detections]


def _entry(path: Path, number: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or type(entry.get("image_id")) not in (int, str):
        raise FormatError(path, f"in entry {number} no person with an 'image_id'", EXPECTED)
    if "keypoints" not in entry:
        raise FormatError(path, f"in entry {number} no 'keypoints'", EXPECTED)
    return entry


def _detection(path: Path, where: str, entry: dict[str, Any], frame: int, layout: str) -> Detection:
    return Detection(
        frame,
        identity(path, where, entry.get("idx")),
        triples(path, where, entry["keypoints"], layout),
        box_of(path, where, entry.get("box")),
        score_of(path, where, entry.get("score")),
    )


def _name(path: str) -> str:
    """``video/alphapose-results.json`` is named after its folder, any other file after itself."""
    whole = PurePosixPath(path)
    is_usual = whole.name == "alphapose-results.json" and len(whole.parts) > 1
    return recording_name(str(whole.parent / "_"))[:-3] if is_usual else recording_name(path)


ALPHAPOSE = Reader(
    dataset=in_pixels(
        Dataset(
            name="alphapose",
            title="AlphaPose results",
            skeleton="halpe26",
            licence="that of the videos; AlphaPose itself is for non-commercial use",
            citation=(
                "H.-S. Fang et al. AlphaPose: Whole-Body Regional Multi-Person Pose Estimation and Tracking "
                "in Real-Time. TPAMI 2022"
            ),
            homepage="https://github.com/MVIG-SJTU/AlphaPose",
            # the results do not tell
            frame_rate=None,
            classes=(),
            columns=(Column("video", "string", "name of the results' folder or file"),),
            protocols=(),
            missing=MISSING,
            confidence=SCORE,
            extras=(BOX_EXTRA, SCORE_EXTRA),
            options=(LAYOUT_OPTION, SINGLE_OPTION, TRACK_OPTION),
        )
    ),
    scan=scan,
    read=read,
    configure=configure,
)
