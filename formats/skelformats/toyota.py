"""Toyota Smarthome: trimmed clips with V1.1 or V1.2 poses, and with ``--untrimmed`` the videos of TSU.

A clip is ``Activity_pPP_rRR_vVV_cCC.json`` (V1.1) or ``..._pose3d.json`` (V1.2); a TSU video is
``results_PppTttCcc_lcrnet+v3d.json`` with annotations ``PppTttCcc.csv``. The grammar of the JSON is in
`skelformats.toyota_json`; docs/datasets/toyota.md says what is kept and what is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.intervals import FRAME_BASES, INTERVAL_TABLE, ZERO_EXCLUSIVE
from skelformats.protocols import load_facts
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Dataset,
    Extra,
    Option,
    Protocol,
    Reader,
    ReadOptions,
    Refused,
    Source,
)
from skelformats.split_lists import read_split_list
from skelformats.text import quote
from skelformats.toyota_json import parse_poses
from skelformats.toyota_untrimmed import VIDEO_FILE, list_videos, read_video

SUFFIX = ".json"
CLIP = re.compile(r"([A-Za-z.]+)_p([0-9]{2})_r([0-9]{2})_v([0-9]{2})_c([0-9]{2})")
CLIP_EXAMPLE = "Walk_p03_r00_v01_c01"
_CLIP_FILE = re.compile(CLIP.pattern + r"(_pose3d)?\.json")
_LIST_FILE = re.compile(r"(train|validation|test)_(CS|CV1|CV2)\.txt", re.IGNORECASE)
_LIST_PARTS = {"train": "train", "validation": "val", "test": "test"}

V11, V12 = "v1.1", "v1.2"
TSU_FRAME_RATE = 25.0
_TURNED = AxisMap(sign=(-1, -1, 1))
"""From x to the image's right and y down: half a turn about the axis of sight."""
_LOOKED_AT = {False: 8, True: 2}
"""Files that tell whether y points up: of trimmed clips, of the far longer videos."""


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List the clips below ``root``, or with ``untrimmed`` the videos with their annotations.

    Raises
    ------
    FormatError
        There are only files of the other kind, or poses of both versions and no choice between them.
    """
    files = find_files(root, SUFFIX)
    clips = [(path, size) for path, size in files if _CLIP_FILE.fullmatch(_base(path))]
    videos = [(path, size) for path, size in files if VIDEO_FILE.fullmatch(_base(path))]
    if options.values["untrimmed"]:
        if clips and not videos:
            raise FormatError(
                root, f"{len(clips):,} trimmed clips only", "untrimmed videos", action="Omit --untrimmed"
            )
        return list_videos(root, videos)
    if videos and not clips:
        raise FormatError(
            root, f"{len(videos):,} untrimmed videos only", "trimmed clips", action="Add --untrimmed"
        )
    return _clips(root, clips, options.values["poses"])


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one clip, or one video with its annotations; raises `FormatError`."""
    if VIDEO_FILE.fullmatch(_base(source.path)):
        return read_video(root, source, options)
    return [_read_clip(root, source, options)]


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset as options and files make it: trimmed or not, which poses, which way is up.

    Raises
    ------
    FormatError
        As `scan`; or a split list below ``root`` is damaged or lacks its other half.
    """
    sources = scan(root, options)
    untrimmed = options.values["untrimmed"]
    dataset = _untrimmed_dataset() if untrimmed else _trimmed_dataset()
    if not untrimmed and sources:
        dataset = replace(dataset, title=f"{dataset.title}, poses {_version(sources[0].path).upper()}")
        dataset = replace(dataset, protocols=_protocols(root, dataset, sources[0]))
    up = options.values["y_axis"]
    if up == "down" or (up == "auto" and _points_down(root, sources, _LOOKED_AT[untrimmed])):
        return replace(dataset, axis_map=_TURNED)
    return dataset


def _clips(root: Path, files: Sequence[tuple[str, int]], version: str) -> list[Source]:
    versions = sorted({_version(path) for path, _ in files})
    if version == "auto" and len(versions) > 1:
        raise FormatError(
            root,
            "poses of V1.1 (NAME.json) and of V1.2 (NAME_pose3d.json)",
            "those of one version",
            action="Choose with --poses v1.1 or --poses v1.2",
        )
    # the lists belong to every clip; their few bytes are not counted
    lists = tuple(path for path, _ in find_files(root, ".txt") if _LIST_FILE.fullmatch(_base(path)))
    taken = set()
    sources = []
    for path, size in files:
        if version not in ("auto", _version(path)):
            continue
        clip = _base(path).removesuffix(SUFFIX).removesuffix("_pose3d")
        # two folders may hold files of one name, but a store has one recording of a name
        sources.append(Source(path, size, lists, path.removesuffix(SUFFIX) if clip in taken else ""))
        taken.add(clip)
    return sources


def _read_clip(root: Path, source: Source, options: ReadOptions) -> Clip:
    facts = load_facts("toyota")
    name = _base(source.path).removesuffix(SUFFIX).removesuffix("_pose3d")
    named = CLIP.fullmatch(name)
    activity = named[1] if named else ""
    if named is None or activity not in (*facts.classes, *facts.others["beyond_classes"]):
        raise FormatError(
            source.path,
            f"the activity {quote(activity)}",
            f"one of the {len(facts.classes)} classes: {', '.join(facts.classes)}",
            action="Give the file its original name, or move it away",
        )
    subject, repetition, video, camera = (int(number) for number in named.groups()[1:])
    cross_view = tuple(facts.others["cross_view_classes"])
    columns = {
        "subject": subject,
        "repetition": repetition,
        "video": video,
        "camera": camera,
        "label_cv": cross_view.index(activity) if activity in cross_view else -1,
    }
    label = facts.classes.index(activity) if activity in facts.classes else -1
    splits = {**facts.splits(name, columns), **_listed(root, source, name)}
    if label < 0:
        splits = dict.fromkeys(splits, "")
    elif columns["label_cv"] < 0:
        splits |= {"cv1": "", "cv2": ""}
    poses = parse_poses(root / source.path)
    return Clip(source.recording or name, poses.frames, poses.tracks(options.extras), label, columns, splits)


def _listed(root: Path, source: Source, clip: str) -> dict[str, str]:
    """Parts of a clip by the lists in the raw folder; empty for a protocol that has lists without it."""
    parts: dict[str, str] = {}
    for path in source.members:
        protocol, part = _list_of(path)
        names = read_split_list(root / path, CLIP, CLIP_EXAMPLE, {}, part)
        parts[protocol] = parts.get(protocol) or names.get(clip, "")
    return parts


def _list_of(path: str) -> tuple[str, str]:
    """Return the protocol and the part that a list is of, by its name."""
    part, protocol = _base(path).lower().removesuffix(".txt").split("_")
    return protocol, _LIST_PARTS[part]


def _protocols(root: Path, dataset: Dataset, source: Source) -> tuple[Protocol, ...]:
    """Check the lists in the raw folder, and say in the protocols which are used."""
    lists: dict[str, dict[str, str]] = {}
    for path in source.members:
        protocol, part = _list_of(path)
        if part in lists.setdefault(protocol, {}):
            raise FormatError(path, f"the {part} list of {protocol} again", f"one: {lists[protocol][part]}")
        read_split_list(root / path, CLIP, CLIP_EXAMPLE, {}, part)
        lists[protocol][part] = path
    for protocol, paths in lists.items():
        for part in ("train", "test"):
            if part not in paths:
                raise FormatError(
                    next(iter(paths.values())),
                    f"no {part} list of {protocol} beside it",
                    f"{part}_{protocol.upper()}.txt",
                    action="Add it, or move the others away to use the split that skelconv knows",
                )
    return tuple(
        Protocol(p.name, f"{p.description}; as in the lists {', '.join(map(_base, lists[p.name].values()))}")
        if p.name in lists
        else p
        for p in dataset.protocols
    )


def _points_down(root: Path, sources: Sequence[Source], count: int) -> bool:
    """Whether heads have the smaller y, by the middle of what a few files spread over the folder show."""
    heights: list[float] = []
    for source in sources[:: max(1, len(sources) // count)][:count]:
        try:
            position = parse_poses(root / source.path).position
        except (FormatError, OSError):
            continue  # it is reported when its turn comes
        height = position[:, 12, 1] - position[:, :2, 1].mean(axis=1)
        heights += height[np.isfinite(height)].tolist()
    return bool(heights) and float(np.median(heights)) < 0


def _version(path: str) -> str:
    return V12 if path.endswith(f"_pose3d{SUFFIX}") else V11


def _base(path: str) -> str:
    return path.rpartition("/")[2]


_EXTRAS = (
    Extra(
        "pose2d",
        ("joint", "pixel_axis"),
        {"pixel_axis": ("x", "y")},
        "f4",
        "px",
        "in the 640x480 image, which joints may lie outside of; NaN for a joint that was not found",
    ),
    Extra("cumscore", (), {}, "f4", "1", "LCR-Net's score of the detection (V1.1); NaN where there is none"),
)

_OPTIONS = (
    Option("untrimmed", bool, False, "Read the videos of TSU; their intervals become the table 'interval'."),
    Option("poses", str, "auto", "Which poses to read where a folder has both.", ("auto", V11, V12)),
    Option(
        "y_axis",
        str,
        "auto",
        "Which way the raw y points; auto looks whether heads are above ankles.",
        ("auto", "up", "down"),
    ),
    Option(
        "frame_base",
        str,
        ZERO_EXCLUSIVE,
        "How annotations of TSU count frames: from 0 or 1, with the end frame included or not.",
        FRAME_BASES,
    ),
)

_SUBJECT = Column("subject", "i4", "performer, 18 numbers of 2 to 25")
_CAMERA = Column("camera", "i4", "camera, 1 to 7")


def _trimmed_dataset() -> Dataset:
    facts = load_facts("toyota")
    return Dataset(
        name="toyota",
        title="Toyota Smarthome",
        skeleton="toyota13",
        licence="non-commercial research, by the licence agreement of the project page",
        citation=(
            "S. Das, R. Dai, M. Koperski, L. Minciullo, L. Garattoni, F. Bremond, G. Francesca. "
            "Toyota Smarthome: Real-World Activities of Daily Living. ICCV 2019"
        ),
        homepage="https://project.inria.fr/toyotasmarthome/",
        # 20 and 30 are both told of the videos, and the files have no time stamps
        frame_rate=None,
        classes=facts.classes,
        columns=(
            _SUBJECT,
            Column("repetition", "i4", "r of the file name: which performance in its video, from 0"),
            Column("video", "i4", "v of the file name: the video that the clip was cut from"),
            _CAMERA,
            Column("label_cv", "i4", "class among the 19 of the cross-view protocols, from 0; -1 for others"),
        ),
        protocols=facts.protocols,
        missing="a joint at exactly (0, 0, 0), or not finite; a person whose pixels are all -1 is absent",
        extras=_EXTRAS,
        options=_OPTIONS,
    )


def _untrimmed_dataset() -> Dataset:
    facts = load_facts("tsu")
    return replace(
        _trimmed_dataset(),
        title="Toyota Smarthome Untrimmed (TSU)",
        citation=(
            "R. Dai, S. Das, S. Sharma, L. Minciullo, L. Garattoni, F. Bremond, G. Francesca. Toyota "
            "Smarthome Untrimmed: Real-World Untrimmed Videos for Activity Detection. TPAMI 2022"
        ),
        # of the videos; frames of poses and of annotations count alike
        frame_rate=TSU_FRAME_RATE,
        classes=facts.classes,
        columns=(
            _SUBJECT,
            Column("video", "i4", "T of the file name: the session"),
            _CAMERA,
            Column("intervals", "i4", "annotated intervals of the video; -1 where there is no csv"),
        ),
        protocols=facts.protocols,
        tables=(INTERVAL_TABLE,),
    )


TOYOTA = Reader(_trimmed_dataset(), scan, read, configure)
