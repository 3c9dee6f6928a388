"""PKU-MMD Phases I and II: long Kinect v2 videos of many actions, each with a label file of intervals.

A video has a skeleton file and a label file of the same name in two folders, of which the one with the labels
has ``label`` in its name. A recording is one action interval, or with ``--untrimmed`` a whole video with its
intervals as the side table ``interval``. docs/datasets/pku.md says what is kept and what is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.intervals import (
    FRAME_BASES,
    INTERVAL_TABLE,
    ONE_INCLUSIVE,
    Interval,
    Label,
    frame_number,
    locate,
    refuse,
)
from skelformats.pku_text import parse_frames
from skelformats.protocols import load_facts
from skelformats.reader import (
    Clip,
    Column,
    Dataset,
    Option,
    Protocol,
    Reader,
    ReadOptions,
    Refused,
    Source,
    Track,
)
from skelformats.split_lists import read_split_list
from skelformats.text import load_text, quote

SUFFIX = ".txt"
FRAME_RATE = 30.0
VIEWS = {"L": 1, "M": 2, "R": 3}
"""Camera number of each view letter, in the order that MMNet and others number them."""

_LABEL_GRAMMAR = "action,start,end,confidence in whole numbers"
_LABEL_FIELDS = 4
_PARTS = {"train": "train", "valid": "test", "test": "test"}
"""The authors call their second part validation; everybody tests on it."""
_PROTOCOL_WORDS = {"subject": "xsub", "view": "xview"}


@dataclass(frozen=True)
class Phase:
    """What differs between the phases: names of videos and of split lists."""

    dataset: str
    title: str
    citation: str
    name: re.Pattern[str]
    example: str
    split_file: re.Pattern[str]
    name_columns: tuple[Column, ...]

    def columns(self, video: str) -> dict[str, int]:
        """Return what a video's name says, as columns; raises ValueError for a name of another form."""
        named = self.name.fullmatch(video)
        if named is None:
            raise ValueError(video)
        *numbers, view = named.groups()
        names = [column.name for column in self.name_columns]
        return dict(zip(names, [*map(int, numbers), VIEWS[view]], strict=True))


_CAMERA = Column("camera", "i4", "view: 1 left (L), 2 middle (M), 3 right (R)")

PHASE_1 = Phase(
    dataset="pku1",
    title="PKU-MMD Phase I",
    citation=(
        "C. Liu, Y. Hu, Y. Li, S. Song, J. Liu. PKU-MMD: A Large Scale Benchmark for Continuous Multi-Modal "
        "Human Action Understanding. arXiv:1703.07475, 2017"
    ),
    name=re.compile(r"([0-9]{4})-([LMR])"),
    example="0002-L",
    split_file=re.compile(r"cross[-_ ]?(subject|view)\.txt", re.IGNORECASE),
    name_columns=(Column("video", "i4", "number of the video, 2 to 364"), _CAMERA),
)
PHASE_2 = Phase(
    dataset="pku2",
    title="PKU-MMD Phase II",
    citation=(
        "J. Liu, S. Song, C. Liu, Y. Li, Y. Hu. A Benchmark Dataset and Comparison Study for Multi-Modal "
        "Human Action Analytics. ACM TOMM 16(2), 2020"
    ),
    name=re.compile(r"A([0-9]{2})N([0-9]{2})-([LMR])"),
    example="A01N01-L",
    split_file=re.compile(r"cross[-_ ]?(subject|view)[-_ ]?v2\.txt", re.IGNORECASE),
    name_columns=(
        Column("script", "i4", "sequence of actions that was performed, 1 to 26"),
        Column("subject", "i4", "performer, 1 to 13"),
        _CAMERA,
    ),
)


def scan(phase: Phase, root: Path, options: ReadOptions) -> list[Source]:
    """List the videos of a phase below ``root``: a skeleton file each, with label file and split lists.

    Text files whose name is not a video's are not listed: folders hold read-me files and lists as well.
    """
    skeletons, labels, splits = _sort_files(phase, root)
    taken = set()
    sources = []
    for path, size in skeletons:
        stem = _stem(path)
        of_video = labels.get(stem, [])
        sources.append(
            Source(
                path,
                size + sum(bytes_ for _, bytes_ in of_video),
                # the lists belong to every video; their few bytes are not counted
                members=(*(label for label, _ in of_video), *splits.values()),
                # two folders may hold files of one name, but a store has one recording of a name
                recording=path.removesuffix(SUFFIX) if stem in taken else "",
            )
        )
        taken.add(stem)
    return sources


def read(phase: Phase, root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one video into its action intervals, or with ``untrimmed`` into one recording.

    Intervals that are degenerate or have nobody in them are set aside one by one.

    Raises
    ------
    FormatError
        The skeleton file is not of this format, or (unless ``untrimmed``) there is not one label file.
    """
    video = _stem(source.path)
    untrimmed = options.values["untrimmed"]
    label_path = _label_path(root, source, required=not untrimmed)
    position = parse_frames(load_text(root / source.path))
    missing = (position == 0).all(axis=-1) | ~np.isfinite(position).all(axis=-1)
    position[missing] = np.nan
    bodies = _Bodies(position, ~missing.all(axis=-1))
    name = source.recording or video
    labels = _labels(phase, root, label_path, name) if label_path else []
    found = [_interval(label, bodies, options.values["frame_base"]) for label in labels]
    columns = phase.columns(video)
    splits = _splits(phase, root, source, video, columns)
    intervals = [item for item in found if isinstance(item, Interval)]
    refused = [item for item in found if isinstance(item, Refused)]
    if untrimmed:
        columns["intervals"] = len(intervals) if label_path else -1
        rows = {INTERVAL_TABLE.name: [interval.row(name) for interval in intervals]}
        tracks = bodies.tracks(0, len(position))
        return [Clip(name, len(position), tracks, -1, columns, splits, rows), *refused]
    clips = [
        Clip(
            interval.label.name,
            interval.stop - interval.start,
            bodies.tracks(interval.start, interval.stop),
            interval.label.label,
            {**columns, **interval.columns()},
            splits,
        )
        for interval in intervals
    ]
    return [*clips, *refused]


def configure(phase: Phase, root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset as the options make it, with where its splits come from.

    Raises
    ------
    FormatError
        A split list below ``root`` is damaged: nothing is read rather than split wrongly.
    """
    lists = _sort_files(phase, root)[2]
    for path in lists.values():
        read_split_list(root / path, phase.name, phase.example, _PARTS)
    dataset = _dataset(phase, untrimmed=options.values["untrimmed"])
    protocols = tuple(
        Protocol(protocol.name, f"cross-{word}: train and test as in {Path(lists[protocol.name]).name}")
        if protocol.name in lists
        else protocol
        for protocol, word in zip(dataset.protocols, _PROTOCOL_WORDS, strict=True)
    )
    return replace(dataset, protocols=protocols)


@dataclass(frozen=True, eq=False)
class _Bodies:
    """Both bodies through a video: (F, 2, 25, 3) positions, (F, 2) whether they are there."""

    position: NDArray[np.float32]
    present: NDArray[np.bool_]

    def tracks(self, start: int, stop: int) -> tuple[Track, ...]:
        """Return the bodies seen in frames ``start`` to ``stop`` - 1, the one seen first before the other."""
        tracks = []
        for body in range(self.present.shape[1]):
            rows = np.flatnonzero(self.present[start:stop, body])
            if len(rows):
                position = self.position[start + rows, body]
                tracks.append(Track(str(body + 1), rows.astype(np.int32), position))
        return tuple(sorted(tracks, key=lambda track: int(track.frame_index[0])))


def _interval(label: Label | Refused, bodies: _Bodies, base: str) -> Interval | Refused:
    if isinstance(label, Refused):
        return label
    interval = locate(label, len(bodies.position), base)
    if isinstance(interval, Interval) and not bodies.present[interval.start : interval.stop].any():
        found = f"no body in the frames {label.start_frame} to {label.end_frame}"
        return refuse(label.name, label.error(found, "at least one that is not all zeros"))
    return interval


def _labels(phase: Phase, root: Path, path: str, video: str) -> list[Label | Refused]:
    """Parse a label file; a line that is not one is set aside alone."""
    # what is not text cannot be a label either, and is told with its line
    lines = (root / path).read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    classes = load_facts(phase.dataset).classes
    found: list[Label | Refused] = []
    for number, line in enumerate(lines, start=1):
        if fields := line.replace(",", " ").split():
            found.append(_label(fields, path, number, f"{video}_i{number:03d}", classes))
    return found


def _label(
    fields: Sequence[str], path: str, number: int, name: str, classes: Sequence[str]
) -> Label | Refused:
    try:
        action, start, end, grade = map(frame_number, fields)
    except ValueError:
        error = FormatError(path, quote(",".join(fields)), _LABEL_GRAMMAR, number)
        return refuse(name, error)
    if not 1 <= action <= len(classes):
        return refuse(name, FormatError(path, f"the action {action}", f"1 to {len(classes)}", number))
    return Label(path, number, name, action - 1, classes[action - 1], start, end, grade)


def _label_path(root: Path, source: Source, required: bool) -> str | None:
    stem = _stem(source.path)
    paths = [member for member in source.members if _stem(member) == stem]
    if len(paths) > 1:
        raise FormatError(
            source.path,
            f"{len(paths)} label files: {', '.join(paths)}",
            "one",
            action="Move the others out of the raw folder",
        )
    if required and not paths:
        raise FormatError(
            source.path,
            "no label file",
            f"{stem}{SUFFIX} in a folder with 'label' in its name",
            action="Unpack the labels beside the skeletons, or take whole videos with --untrimmed",
        )
    return paths[0] if paths else None


def _splits(
    phase: Phase, root: Path, source: Source, video: str, columns: Mapping[str, int]
) -> dict[str, str]:
    """Parts as the lists in the raw folder say, and for a protocol without one as the protocol file does."""
    splits = load_facts(phase.dataset).splits(video, columns)
    for member in source.members:
        if protocol := _protocol(phase, member):
            splits[protocol] = read_split_list(root / member, phase.name, phase.example, _PARTS).get(
                video, ""
            )
    return splits


def _sort_files(
    phase: Phase, root: Path
) -> tuple[list[tuple[str, int]], dict[str, list[tuple[str, int]]], dict[str, str]]:
    """Return skeleton files, label files by video, and split lists by protocol, by name alone."""
    skeletons: list[tuple[str, int]] = []
    labels: dict[str, list[tuple[str, int]]] = {}
    splits: dict[str, str] = {}
    for path, size in find_files(root, SUFFIX):
        stem = _stem(path)
        if protocol := _protocol(phase, path):
            splits.setdefault(protocol, path)
        elif not phase.name.fullmatch(stem):
            continue
        elif "label" in path.rpartition("/")[0].lower():
            labels.setdefault(stem, []).append((path, size))
        else:
            skeletons.append((path, size))
    return skeletons, labels, splits


def _protocol(phase: Phase, path: str) -> str | None:
    """Return the protocol whose split list a file is, by its name."""
    named = phase.split_file.fullmatch(path.rpartition("/")[2])
    return _PROTOCOL_WORDS[named[1].lower()] if named else None


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(SUFFIX)


_LABEL_COLUMNS = tuple(
    column
    for column in INTERVAL_TABLE.columns
    if column.name in ("start_frame", "end_frame", "cut_frames", "grade", "line")
)

_OPTIONS = (
    Option("untrimmed", bool, False, "Keep whole videos; their intervals become the table 'interval'."),
    Option(
        "frame_base",
        str,
        ONE_INCLUSIVE,
        "How label files count frames: from 0 or 1, with the end frame included or not.",
        FRAME_BASES,
    ),
)


def _dataset(phase: Phase, untrimmed: bool = False) -> Dataset:
    facts = load_facts(phase.dataset)
    of_videos = Column("intervals", "i4", "action intervals of the video; -1 where there is no label file")
    return Dataset(
        name=phase.dataset,
        title=phase.title,
        skeleton="ntu25",
        licence="academic research only, by the terms of its authors (STRUCT group, Peking University)",
        citation=phase.citation,
        homepage="https://www.icst.pku.edu.cn/struct/Projects/PKUMMD.html",
        # nominal: the files carry no time stamps
        frame_rate=FRAME_RATE,
        classes=facts.classes,
        columns=(*phase.name_columns, *((of_videos,) if untrimmed else _LABEL_COLUMNS)),
        protocols=facts.protocols,
        missing="a joint at exactly (0, 0, 0) in the raw file, or not finite; an absent body is all zeros",
        # The raw axes are the canonical ones, as with NTU RGB+D: the sensor is the same.
        options=_OPTIONS,
        tables=(INTERVAL_TABLE,) if untrimmed else (),
        cleaning="sgn",
    )


def _reader(phase: Phase) -> Reader:
    own = (f"*-[lmr]*{SUFFIX}",)
    return Reader(_dataset(phase), partial(scan, phase), partial(read, phase), partial(configure, phase), own)


PKU1 = _reader(PHASE_1)
PKU2 = _reader(PHASE_2)
