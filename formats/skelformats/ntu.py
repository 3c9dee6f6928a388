"""NTU RGB+D 60 and 120: one ``.skeleton`` file of Kinect v2 text a recording.

A name is ``SsssCcccPpppRrrrAaaa.skeleton``: setup, camera, subject, replication and action. The grammar of
the text is in `skelformats.ntu_text`; docs/datasets/ntu.md says what is kept and what is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.ntu_text import HEADER, HEADER_FIELDS, Bodies, parse_bodies
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Column, Confidence, Dataset, Extra, Reader, ReadOptions, Source, Track
from skelformats.text import load_text, quote

SUFFIX = ".skeleton"
NAME = re.compile(r"S([0-9]{3})C([0-9]{3})P([0-9]{3})R([0-9]{3})A([0-9]{3})")
OWN = ("*.skeleton", "*.skeleton.*")
NTU60_SETUPS = range(1, 18)
NTU60_ACTIONS = range(1, 61)


def scan_ntu60(root: Path, options: ReadOptions) -> list[Source]:
    """List the ``.skeleton`` files below ``root`` that belong to NTU RGB+D 60.

    Files of NTU RGB+D 120 beside them are not part of it; files whose name says nothing are listed, so that
    `read_ntu60` can say what is wrong with them.
    """
    return [source for source in _scan(root) if _in_ntu60(source)]


def scan_ntu120(root: Path, options: ReadOptions) -> list[Source]:
    """List all ``.skeleton`` files below ``root``: NTU RGB+D 120 includes NTU RGB+D 60."""
    return list(_scan(root))


def read_ntu60(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one file of NTU RGB+D 60; raises `FormatError`."""
    return [_read("ntu60", root, source, options)]


def read_ntu120(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one file of NTU RGB+D 120; raises `FormatError`."""
    return [_read("ntu120", root, source, options)]


def _scan(root: Path) -> Iterator[Source]:
    taken = set()
    for path, size in find_files(root, SUFFIX):
        stem = _stem(path)
        # two folders may hold files of one name, but a store has one recording of a name
        yield Source(path, size, recording=path.removesuffix(SUFFIX) if stem in taken else "")
        taken.add(stem)


def _in_ntu60(source: Source) -> bool:
    named = NAME.fullmatch(_stem(source.path))
    return named is None or (int(named[1]) in NTU60_SETUPS and int(named[5]) in NTU60_ACTIONS)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(SUFFIX)


def _read(dataset: str, root: Path, source: Source, options: ReadOptions) -> Clip:
    path = root / source.path
    stem = _stem(source.path)
    named = NAME.fullmatch(stem)
    if named is None:
        raise FormatError(
            path,
            f"the file name {quote(stem + SUFFIX)}",
            f"SsssCcccPpppRrrrAaaa{SUFFIX}, as S001C002P003R002A013{SUFFIX}",
            action="Give the file its original name, or move it away",
        )
    setup, camera, subject, replication, action = map(int, named.groups())
    facts = load_facts(dataset)
    columns = {
        "subject": subject,
        "camera": camera,
        "setup": setup,
        "replication": replication,
        "listed_missing": int(stem in facts.left_out),
    }
    bodies = parse_bodies(load_text(path), ("position", *options.extras))
    return Clip(
        recording=source.recording or stem,
        length=bodies.frames,
        tracks=_tracks(bodies),
        label=action - 1 if action <= len(facts.classes) else -1,
        columns=columns,
        splits=facts.splits(stem, columns),
    )


def _tracks(bodies: Bodies) -> tuple[Track, ...]:
    """Sort the rows by body, in the order in which the bodies appear.

    A body that stands twice in one frame becomes a second track, ``ID#2``, since nothing says which of the
    two continues the first.
    """
    rows_of: dict[int | str, list[int]] = {}
    for row, identity in enumerate(bodies.identity):
        rows_of.setdefault(identity, []).append(row)
    tracks = []
    for identity, listed in rows_of.items():
        rows = np.array(listed)
        frames = bodies.frame[rows]
        if (frames[1:] > frames[:-1]).all():
            tracks.append((rows, str(identity)))
            continue
        nth = np.arange(len(rows)) - np.searchsorted(frames, frames)
        tracks += [
            (rows[nth == n], f"{identity}#{n + 1}" if n else str(identity)) for n in range(nth.max() + 1)
        ]
    tracks.sort(key=lambda track: track[0][0])
    return tuple(_track(bodies, body, rows) for rows, body in tracks)


def _track(bodies: Bodies, body: str, rows: NDArray[np.intp]) -> Track:
    blocks = {name: block[rows] for name, block in bodies.blocks.items()}
    return Track(body, bodies.frame[rows], blocks.pop("position"), bodies.tracking[rows], blocks)


_KINECT_EXTRAS = (
    Extra("color", ("joint", "color_axis"), {"color_axis": ("x", "y")}, "f4", "px", "in the 1920x1080 image"),
    Extra("depth", ("joint", "depth_axis"), {"depth_axis": ("x", "y")}, "f4", "px", "in the 512x424 image"),
    Extra(
        "orientation",
        ("joint", "quaternion"),
        {"quaternion": ("w", "x", "y", "z")},
        "f4",
        "1",
        "unit quaternion of the bone that ends in the joint; all 0 for the seven joints at the ends",
    ),
    Extra(
        HEADER,
        ("body_field",),
        {"body_field": HEADER_FIELDS},
        "f4",
        "1",
        "what the Kinect says of the whole body: clipping, hands, lean and tracking",
    ),
)


def _dataset(name: str, title: str, citation: str, subjects: int, setups: int) -> Dataset:
    facts = load_facts(name)
    return Dataset(
        name=name,
        title=title,
        skeleton="ntu25",
        licence="ROSE Lab terms of use: academic research only, no redistribution",
        citation=citation,
        homepage="https://rose1.ntu.edu.sg/dataset/actionRecognition/",
        # nominal: the files carry no time stamps
        frame_rate=30.0,
        classes=facts.classes,
        columns=(
            Column("subject", "i4", f"performer, 1 to {subjects}"),
            Column("camera", "i4", "camera, 1 to 3; the same take is seen by all three"),
            Column("setup", "i4", f"place and height of the cameras, 1 to {setups}"),
            Column("replication", "i4", "first or second performance of the action"),
            Column("listed_missing", "i4", "1 where the authors list the skeleton as missing or incomplete"),
        ),
        protocols=facts.protocols,
        missing="a joint at exactly (0, 0, 0) in the raw file, or NaN",
        # The raw axes are the canonical ones: right-handed, +y up; z points away from the camera, and x
        # towards its left.
        confidence=Confidence(
            "u1", "Kinect's tracking state of the joint", {0: "not tracked", 1: "inferred", 2: "tracked"}
        ),
        extras=_KINECT_EXTRAS,
        cleaning="sgn",
    )


NTU60 = Reader(
    _dataset(
        "ntu60",
        "NTU RGB+D 60",
        "A. Shahroudy, J. Liu, T.-T. Ng, G. Wang. NTU RGB+D: A Large Scale Dataset for 3D Human Activity "
        "Analysis. CVPR 2016",
        subjects=40,
        setups=17,
    ),
    scan_ntu60,
    read_ntu60,
    own=OWN,
)

NTU120 = Reader(
    _dataset(
        "ntu120",
        "NTU RGB+D 120",
        "J. Liu, A. Shahroudy, M. Perez, G. Wang, L.-Y. Duan, A. C. Kot. NTU RGB+D 120: A Large-Scale "
        "Benchmark for 3D Human Activity Understanding. TPAMI 42(10), 2020",
        subjects=106,
        setups=32,
    ),
    scan_ntu120,
    read_ntu120,
    own=OWN,
)
