"""AlphaPose results: one JSON list a video, each entry one person in one frame.

``{"image_id": "12.jpg", "category_id": 1, "keypoints": [x, y, score, ...], "score": ..., "box": [x, y, w, h],
"idx": ...}``; which layout it is depends on the model: 17, 26 or 136 keypoints. ``idx`` is the track id of
the people tracker, in some versions a list of one number; without tracking it is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.json_text import load_json
from skelformats.keypoints import (
    BOX_EXTRA,
    LAYOUT_OPTION,
    MISSING,
    SCORE,
    SCORE_EXTRA,
    SINGLE_OPTION,
    Detection,
    box_of,
    identity,
    layout_name,
    make_tracks,
    peek,
    recording_name,
    score_of,
    single,
    triples,
)
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Source

EXPECTED = "a list of AlphaPose results, objects with 'image_id' and 'keypoints'"

_NUMBER = re.compile(r"(\d{1,9})$")


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset with the layout that the option asks for or the first file shows."""
    return replace(ALPHAPOSE.dataset, skeleton=layout_name(options, peek(root), "halpe26"))


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    return [Source(path, size) for path, size in find_files(root, ".json")]


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
    if options.values.get("single_person"):
        found = single(path, found)
    tracks = make_tracks(found, "f4", options.extras)
    name = _name(source.path)
    return [Clip(name, max(frames.values(), default=-1) + 1, tracks, -1, {"video": name}, {})]


def frame_numbers(images: Iterable[str]) -> dict[str, int]:
    """Number the images of a video: by the digits that end their names, or by their order."""
    ordered = list(dict.fromkeys(images))
    found = [_NUMBER.search(PurePosixPath(image).stem) for image in ordered]
    numbers = [int(match[1]) for match in found if match]
    if len(set(numbers)) == len(ordered):
        return dict(zip(ordered, numbers, strict=True))
    return {image: number for number, image in enumerate(ordered)}


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
    dataset=Dataset(
        name="alphapose",
        title="AlphaPose results",
        skeleton="halpe26",
        licence="that of the videos; AlphaPose itself is for non-commercial use",
        citation=(
            "H.-S. Fang et al. AlphaPose: Whole-Body Regional Multi-Person Pose Estimation and Tracking in "
            "Real-Time. TPAMI 2022"
        ),
        homepage="https://github.com/MVIG-SJTU/AlphaPose",
        # the results do not tell
        frame_rate=None,
        classes=(),
        columns=(Column("video", "string", "name of the results' folder or file"),),
        protocols=(),
        missing=MISSING,
        unit="px",
        axes=("x", "y"),
        axis_convention="pixels, +y down",
        confidence=SCORE,
        extras=(BOX_EXTRA, SCORE_EXTRA),
        options=(LAYOUT_OPTION, SINGLE_OPTION),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
