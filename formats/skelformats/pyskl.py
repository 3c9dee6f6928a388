"""pyskl pickles (also those of mmaction2): poses of a whole action dataset in one file, with its splits.

``{"split": {"xsub_train": [names], "xsub_val": ...}, "annotations": [{"frame_dir": name, "label": int,
"total_frames": T, "keypoint": (M, T, 17, 2), "keypoint_score": (M, T, 17), "img_shape": (h, w)}]}``
(pyskl, tools/data/README.md). 2D files are float16, mostly, and cast to float32 before anything else. 3D
files (``*_3danno.pkl``) have (M, T, 25, 3) and no scores: Kinect v2 joints in metres, as in NTU RGB+D. The
list of annotations may stand alone, as mmaction2's custom files have it, and so may one annotation, as
``ntu_pose_extraction.py`` of both projects writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.keypoints import SCORE
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
from skelformats.safe_pickle import load_pickle

MAX_BYTES = 16 * 2**30
"""Largest file that is taken; the 2D pickle of NTU RGB+D 120 has 2.4 GB."""

MAX_CLASSES = 10_000
"""Labels from here on are taken for damage; the largest set in this form, Kinetics-700, has 700 classes."""

EXPECTED = (
    "pyskl annotations: a dict with 'split' and 'annotations', a list of annotations, or one annotation"
)

_PARTS: Mapping[str, tuple[str, str]] = {
    **{
        f"{protocol}_{part}": (protocol, kept)
        for protocol in ("xsub", "xview", "xset")
        # pyskl calls the official test sets val
        for part, kept in (("train", "train"), ("val", "test"), ("test", "test"))
    },
    **{part: ("split", part) for part in ("train", "val", "test")},
    **{f"{part}{n}": (f"split{n}", part) for n in (1, 2, 3) for part in ("train", "val", "test")},
}
"""Protocol and part that each key of ``split`` means."""

_PROTOCOLS = (
    Protocol("xsub", "cross-subject, of the NTU files"),
    Protocol("xview", "cross-view, of the NTU RGB+D 60 files"),
    Protocol("xset", "cross-setup, of the NTU RGB+D 120 files"),
    Protocol("split", "train, val and test, of files with one split"),
    *(Protocol(f"split{n}", f"split {n} of 3, of UCF101 and HMDB51 files") for n in (1, 2, 3)),
)


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset as 2D or 3D, with the names of the classes.

    The files hold no names of classes. Those of NTU RGB+D are known; others are called by their numbers.
    """
    names = [PurePosixPath(source.path).name for source in scan(root, options)]
    classes = _named_classes(names) or tuple(map(str, range(_most_classes(root, options))))
    dataset = replace(PYSKL.dataset, classes=classes)
    if not _is_3d(options, names[0] if names else ""):
        return dataset
    return replace(
        dataset,
        skeleton="ntu25",
        unit="m",
        axes=("x", "y", "z"),
        axis_convention="right-handed, +y up",
        confidence=None,
        missing="a joint at exactly (0, 0, 0)",
    )


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every pickle below ``root``, by name and size."""
    return [Source(path, size) for path, size in find_files(root, ".pkl")]


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one file: a recording for each annotation, one that is bad set aside alone.

    Raises
    ------
    FormatError
        The file is not such a pickle, or names anything but arrays and plain data.
    """
    path = root / source.path
    content = load_pickle(path, max_bytes=MAX_BYTES)
    annotations = _annotations(content)
    if annotations is None:
        raise FormatError(path, f"a {type(content).__name__} without a list 'annotations'", EXPECTED)
    parts = _parts(path, content.get("split") if isinstance(content, dict) else None)
    names = [PurePosixPath(source.path).name for source in scan(root, options)]
    is_3d = _is_3d(options, names[0])
    classes = len(_named_classes(names)) or MAX_CLASSES
    clips: list[Clip | Refused] = []
    seen: set[str] = set()
    for number, annotation in enumerate(annotations):
        name = annotation.get("frame_dir") if isinstance(annotation, dict) else None
        if not isinstance(name, str) or not name:
            raise FormatError(path, f"annotation {number} without a 'frame_dir'", EXPECTED)
        try:
            if name in seen:
                raise FormatError(path, f"the frame_dir {name!r} a second time", "a name for each annotation")
            clips.append(_clip(path, name, annotation, parts, is_3d, classes))
        except FormatError as error:
            reason = FormatError(source.path, error.found, error.expected, action=error.action)
            clips.append(Refused(name, str(reason)))
        seen.add(name)
    return clips


def _annotations(content: Any) -> list[Any] | None:
    """Return the annotations of a file in any of its three forms; None where it has none of them."""
    if isinstance(content, dict) and "keypoint" in content:
        return [content]
    if isinstance(content, list):
        return content if content and isinstance(content[0], dict) else None
    found = content.get("annotations") if isinstance(content, dict) else None
    return found if isinstance(found, list) else None


def _is_3d(options: ReadOptions, name: str) -> bool:
    asked = options.values.get("dimensions", "auto")
    return "3d" in name.lower() if asked == "auto" else asked == "3"


def _named_classes(names: list[str]) -> tuple[str, ...]:
    """Return the class names of the dataset that all the files' names begin with, if they are known."""
    for dataset in ("ntu60", "ntu120"):
        if names and all(name.startswith(f"{dataset}_") for name in names):
            return load_facts(dataset).classes
    return ()


def _most_classes(root: Path, options: ReadOptions) -> int:
    """Return the number of classes: one more than the largest label of all files that can be read."""
    most = -1
    for source in scan(root, options):
        try:
            content = load_pickle(root / source.path, max_bytes=MAX_BYTES)
        except FormatError:
            continue  # `read` will say so
        for annotation in _annotations(content) or ():
            label = annotation.get("label", -1) if isinstance(annotation, dict) else -1
            most = max(most, int(label) if _is_label(label, MAX_CLASSES) else -1)
    return most + 1


def _is_label(label: Any, classes: int) -> bool:
    return isinstance(label, int | np.integer) and not isinstance(label, bool) and -1 <= int(label) < classes


def _parts(path: Path, split: Any) -> dict[str, dict[str, str]]:
    """Return, for each recording that ``split`` names, its part of each protocol."""
    if split is None:
        return {}
    if not isinstance(split, dict):
        raise FormatError(path, f"'split' of type {type(split).__name__}", "a dict of lists of names")
    found: dict[str, dict[str, str]] = {}
    for key, names in split.items():
        if key not in _PARTS:
            raise FormatError(path, f"the split {key!r:.40}", "one of " + ", ".join(_PARTS))
        if not isinstance(names, list | tuple | set | np.ndarray):
            raise FormatError(path, f"the split {key!r} of type {type(names).__name__}", "a list of names")
        protocol, part = _PARTS[key]
        for name in names:
            found.setdefault(str(name), {})[protocol] = part
    return found


def _clip(
    path: Path,
    name: str,
    annotation: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, str]],
    is_3d: bool,
    classes: int,
) -> Clip:
    joints, axes = (25, 3) if is_3d else (17, 2)
    keypoint = annotation.get("keypoint")
    expected = f"'keypoint' of shape (people, frames, {joints}, {axes})"
    if (
        not isinstance(keypoint, np.ndarray)
        or keypoint.dtype.kind not in "fiu"
        or keypoint.ndim != 4
        or keypoint.shape[2:] != (joints, axes)
        or not keypoint.shape[1]
    ):
        what = getattr(keypoint, "shape", None)
        other = "Add --dimensions 2" if is_3d else "Add --dimensions 3"
        is_other = what is not None and len(what) == 4 and what[2:] == ((17, 2) if is_3d else (25, 3))
        raise FormatError(
            path,
            f"in {name} 'keypoint' of "
            + (f"type {type(keypoint).__name__}" if what is None else f"shape {what}"),
            expected,
            action=f"{other}, or ingest files of 2D and of 3D poses separately" if is_other else None,
        )
    length = keypoint.shape[1]
    if (total := annotation.get("total_frames", length)) != length:
        raise FormatError(path, f"in {name} {length} frames", f"{total!r:.20}, its 'total_frames'")
    score = None if is_3d else _score(path, name, annotation.get("keypoint_score"), keypoint.shape[:3])
    tracks = [
        track
        for person in range(len(keypoint))
        if (track := _track(person, keypoint[person], None if score is None else score[person])) is not None
    ]
    height, width = _shape(path, name, annotation.get("img_shape"))
    splits = {protocol.name: "" for protocol in _PROTOCOLS} | dict(parts.get(name, {}))
    label = annotation.get("label", -1)
    if not _is_label(label, classes):
        expected = f"a whole number from 0 to {classes - 1}"
        raise FormatError(path, f"in {name} the label {label!r:.40}", expected)
    return Clip(name, length, tuple(tracks), int(label), {"width": width, "height": height}, splits)


def _track(person: int, keypoint: NDArray[Any], score: NDArray[np.float32] | None) -> Track | None:
    """Return one person's frames; those whose joints are all zeros only pad the array."""
    with np.errstate(over="ignore"):  # beyond float32 is as bad as not finite: a missing joint
        position = keypoint.astype(np.float32)
    zero = (position == 0).all(axis=-1)
    if score is not None:
        zero &= score == 0
    present = np.flatnonzero(~zero.all(axis=-1))
    if not len(present):
        return None
    position[zero] = np.nan
    return Track(
        str(person),
        present.astype(np.int32),
        position[present],
        None if score is None else score[present],
    )


def _score(path: Path, name: str, score: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not isinstance(score, np.ndarray) or score.dtype.kind not in "fiu" or score.shape != shape:
        found = getattr(score, "shape", type(score).__name__)
        raise FormatError(path, f"in {name} 'keypoint_score' {found}", f"an array of shape {shape}")
    with np.errstate(over="ignore"):
        return score.astype(np.float32)


def _shape(path: Path, name: str, shape: Any) -> tuple[int, int]:
    """Return (height, width) of the video, -1 where the file does not tell."""
    if shape is None:
        return -1, -1
    values = list(shape) if isinstance(shape, list | tuple | np.ndarray) else []
    if len(values) != 2 or not all(isinstance(v, int | np.integer) and 0 < v < 2**31 for v in values):
        raise FormatError(path, f"in {name} 'img_shape' {shape!r:.40}", "height and width in pixels")
    return int(values[0]), int(values[1])


PYSKL = Reader(
    dataset=Dataset(
        name="pyskl",
        title="pyskl and mmaction2 pickles, 2D or 3D",
        skeleton="coco17",
        licence="Apache-2.0 (pyskl); the poses are under the terms of the dataset they were made from",
        citation=(
            "H. Duan, J. Wang, K. Chen, D. Lin. PYSKL: Towards Good Practices for Skeleton Action "
            "Recognition. MM 2022"
        ),
        homepage="https://github.com/kennymckormick/pyskl/tree/main/tools/data",
        # the pickles do not tell
        frame_rate=None,
        classes=(),
        columns=(
            Column("width", "i4", "pixels across the video, -1 where the file does not tell", unit="px"),
            Column("height", "i4", "pixels down the video, -1 where the file does not tell", unit="px"),
        ),
        protocols=_PROTOCOLS,
        missing="a joint at exactly (0, 0) of score 0",
        unit="px",
        axes=("x", "y"),
        axis_convention="pixels, +y down",
        confidence=SCORE,
        options=(
            Option(
                "dimensions",
                str,
                "auto",
                "2 or 3 axes; auto takes files with 3d in their names for 3D, as in ntu60_3danno.pkl.",
                ("auto", "2", "3"),
            ),
        ),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
