"""Toyota Smarthome Untrimmed (TSU): whole videos, each with a csv of annotated intervals.

A video's poses are ``results_PppTttCcc_lcrnet+v3d.json``, its annotations ``PppTttCcc.csv`` with the header
``event,start_frame,end_frame``; they may lie in any folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.intervals import INTERVAL_TABLE, Interval, Label, frame_number, locate, refuse
from skelformats.protocols import load_facts
from skelformats.reader import Clip, ReadOptions, Refused, Source
from skelformats.text import quote
from skelformats.toyota_json import parse_poses

VIDEO_FILE = re.compile(r"(?:results_)?(P([0-9]{2})T([0-9]{2})C([0-9]{2}))(?:_lcrnet\+v3d)?\.json")
_CSV_HEADER = "event,start_frame,end_frame"


def list_videos(root: Path, files: Sequence[tuple[str, int]]) -> list[Source]:
    """Return the source of each video among ``files``, pose files by path and size, with its annotations."""
    annotations: dict[str, list[tuple[str, int]]] = {}
    for path, size in find_files(root, ".csv"):
        annotations.setdefault(_base(path).removesuffix(".csv"), []).append((path, size))
    taken = set()
    sources = []
    for path, size in files:
        named = VIDEO_FILE.fullmatch(_base(path))
        video = named[1] if named else path
        of_video = annotations.get(video, [])
        recording = path.removesuffix(".json") if video in taken else ""
        members = tuple(member for member, _ in of_video)
        sources.append(Source(path, size + sum(bytes_ for _, bytes_ in of_video), members, recording))
        taken.add(video)
    return sources


def read_video(root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one video with its annotations; those that are degenerate are set aside one by one.

    Raises
    ------
    FormatError
        The pose file is not of this format, or there is more than one file of annotations.
    """
    named = VIDEO_FILE.fullmatch(_base(source.path))
    if named is None:
        raise FormatError(source.path, "the file name", "results_PppTttCcc_lcrnet+v3d.json")
    video, subject, take, camera = named[1], *(int(number) for number in named.groups()[1:])
    poses = parse_poses(root / source.path)
    name = source.recording or video
    if len(source.members) > 1:
        raise FormatError(
            source.path, f"{len(source.members)} annotation files: {', '.join(source.members)}", "one"
        )
    found = [
        item if isinstance(item, Refused) else locate(item, poses.frames, options.values["frame_base"])
        for member in source.members
        for item in _annotations(root, member, name)
    ]
    intervals = [item for item in found if isinstance(item, Interval)]
    columns = {
        "subject": subject,
        "video": take,
        "camera": camera,
        "intervals": len(intervals) if source.members else -1,
    }
    rows = {INTERVAL_TABLE.name: [interval.row(name) for interval in intervals]}
    splits = load_facts("tsu").splits(video, columns)
    clip = Clip(name, poses.frames, poses.tracks(options.extras), -1, columns, splits, rows)
    return [clip, *(item for item in found if isinstance(item, Refused))]


def _annotations(root: Path, path: str, video: str) -> list[Label | Refused]:
    """Parse a csv of annotations; a line that is not one is set aside alone."""
    lines = (root / path).read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    if not lines or lines[0].replace(" ", "").lower() != _CSV_HEADER:
        first = quote(lines[0]) if lines else "an empty file"
        return [refuse(f"{video}_i001", FormatError(path, first, f"the header {_CSV_HEADER}", 1))]
    return [
        _annotation(line, path, number, f"{video}_i{number:03d}")
        for number, line in enumerate(lines, start=1)
        if number > 1 and line.strip()
    ]


def _annotation(line: str, path: str, number: int, name: str) -> Label | Refused:
    facts = load_facts("tsu")
    try:
        event, *fields = (field.strip() for field in line.split(","))
        start, end = map(frame_number, fields)
    except ValueError:
        return refuse(name, FormatError(path, quote(line), _CSV_HEADER, number))
    merged = facts.others["merged"].get(event, event)
    if merged not in facts.classes:
        expected = f"one of the {len(facts.classes)} classes: {', '.join(facts.classes)}"
        return refuse(name, FormatError(path, f"the event {quote(event)}", expected, number))
    return Label(path, number, name, facts.classes.index(merged), event, start, end)


def _base(path: str) -> str:
    return path.rpartition("/")[2]
