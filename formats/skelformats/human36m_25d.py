"""Human3.6M as MotionBERT trains and tests on it: ``h36m_sh_conf_cam_source_final.pkl``.

``{"train": {...}, "test": {...}}``, each with arrays over the frames of all videos, one after another:
``joint3d_image`` (N, 17, 3), the 2.5D pose: x and y in pixels without distortion, and the depth relative to
the root in the same unit; ``joint_2d`` (N, 17, 2) and ``confidence`` (N, 17), an hourglass's joints in the
order of h36m17; ``camera_name`` and ``source`` (N); ``action`` (N); and of the test part ``2.5d_factor`` (N),
millimetres a pixel, and ``joints_2.5d_image`` (N, 17, 3), the true pose in millimetres (MotionBERT,
lib/data/datareader_h36m.py). The official factors can be had nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.h36m_cameras import CAMERAS
from skelformats.human36m import FRAME_RATE, H36M
from skelformats.protocols import load_facts
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Dataset,
    Extra,
    Protocol,
    Reader,
    ReadOptions,
    Refused,
    Source,
    Track,
    Value,
)
from skelformats.safe_pickle import load_pickle
from skelformats.skeleton import load_skeleton

MAX_BYTES = 16 * 2**30
"""Largest file that is taken."""

PARTS = ("train", "test")

WIDTH = 1000
TALL = 1002
TALL_CAMERAS = ("54138969", "60457274")
"""Cameras whose pictures MotionBERT normalises as 1000 x 1002; those of the others are square."""

DRIFT = ("s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01")
"""Recordings of S9, in all cameras, whose poses drift (MotionBERT, train.py)."""

EXPECTED = "a pickle of MotionBERT: a dict with 'train' and 'test', each with joint3d_image, source, ..."

FACTOR, TRUTH, DETECTION, SCORE = "factor", "truth", "detection", "detection_score"

_FACTS = load_facts("h36m")
_RENAMED: Mapping[str, str] = {**_FACTS.others["renamed"], "WalkingTogether": "WalkTogether"}
_NAME = re.compile(r"s_(\d{2})_act_(\d{2})_subact_(\d{2})_ca_(\d{2})")
_FIRST_ACTION = 2
"""Official number of the first class; 1 is a take of all of them."""

_JOINTS = 17


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every pickle below ``root``, by name and size."""
    return [Source(path, size) for path, size in find_files(root, ".pkl")]


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    """Parse one file: a recording for each video, one that is bad set aside alone.

    Raises
    ------
    FormatError
        The file is not such a pickle, or names anything but arrays and plain data.
    """
    path = root / source.path
    content = load_pickle(path, max_bytes=MAX_BYTES)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in PARTS):
        found = f"a {type(content).__name__} without the dicts 'train' and 'test'"
        raise FormatError(path, found, EXPECTED)
    clips: list[Clip | Refused] = []
    seen: set[str] = set()
    for part in PARTS:
        arrays = _arrays(path, part, content[part], options)
        for name, rows in _videos(_names(path, part, content[part], "source")):
            if name in seen:
                reason = f"found the source {name!r} a second time, expected each video in one piece"
                clips.append(Refused(name, f"{source.path}: {reason}"))
                continue
            seen.add(name)
            clips.append(_clip(source.path, part, name, rows, arrays))
    return clips


class _Arrays:
    """The arrays of a part, all with a row a frame; what the options did not ask for is None."""

    def __init__(self, values: Mapping[str, NDArray[Any] | None], texts: Mapping[str, NDArray[Any]]) -> None:
        self.values = values
        self.texts = texts


def _arrays(path: Path, part: str, content: Mapping[str, Any], options: ReadOptions) -> _Arrays:
    names = _names(path, part, content, "source")
    count = len(names)
    texts = {"camera_name": _names(path, part, content, "camera_name", count)}
    if "action" in content:
        texts["action"] = _names(path, part, content, "action", count)
    values: dict[str, NDArray[Any] | None] = {
        "joint3d_image": _floats(path, part, content, "joint3d_image", (count, _JOINTS, 3))
    }
    assert values["joint3d_image"] is not None
    for extra, key, shape in (
        (DETECTION, "joint_2d", (count, _JOINTS, 2)),
        (SCORE, "confidence", (count, _JOINTS)),
        (FACTOR, "2.5d_factor", (count,)),
        (TRUTH, "joints_2.5d_image", (count, _JOINTS, 3)),
    ):
        if extra in options.extras:
            # the training part has neither factors nor truth
            values[extra] = _floats(path, part, content, key, shape) if key in content else None
    return _Arrays(values, texts)


def _floats(
    path: Path, part: str, content: Mapping[str, Any], key: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    array = content.get(key)
    if isinstance(array, list):
        array = np.asarray(array) if all(isinstance(one, np.ndarray | float) for one in array) else None
    found = getattr(array, "shape", type(content.get(key)).__name__)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise FormatError(path, f"{part}/{key} {found}", f"an array of numbers of shape {shape}")
    if key == "joint_2d" and array.ndim == 3 and array.shape[2] > 2:
        array = array[:, :, :2]
    if key == "confidence" and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.shape != shape:
        raise FormatError(path, f"{part}/{key} of shape {found}", f"an array of numbers of shape {shape}")
    return array


def _names(
    path: Path, part: str, content: Mapping[str, Any], key: str, count: int | None = None
) -> NDArray[Any]:
    values = content.get(key)
    expected = "a text for each frame" if count is None else f"{count} texts, one for each frame"
    if not isinstance(values, list | tuple | np.ndarray):
        raise FormatError(path, f"{part}/{key} of type {type(values).__name__}", expected)
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = np.char.decode(values, "latin-1")
    names = np.asarray(values, dtype=object)
    if names.ndim != 1 or (count is not None and len(names) != count):
        raise FormatError(path, f"{part}/{key} of shape {names.shape}", expected)
    return names


def _videos(names: NDArray[Any]) -> Iterator[tuple[str, slice]]:
    """Yield each stretch of frames of one name."""
    if not len(names):
        return
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    for start, stop in pairwise(edges):
        yield str(names[start]), slice(start, stop)


def _clip(where: str, part: str, name: str, rows: slice, arrays: _Arrays) -> Clip | Refused:
    named = _NAME.fullmatch(name)
    camera = str(arrays.texts["camera_name"][rows][0])
    if named is None or camera not in map(str, CAMERAS):
        found = f"the source {name!r:.60} in the camera {camera!r:.20}"
        reason = FormatError(where, found, "one such as s_09_act_05_subact_02_ca_01, and its camera's id")
        return Refused(name, str(reason))
    subject, action, subaction = (int(named[n]) for n in (1, 2, 3))
    position = _placed(arrays.values["joint3d_image"], rows)
    extras: dict[str, NDArray[Any]] = {}
    for extra, values in arrays.values.items():
        if extra != "joint3d_image":
            shape = (len(position), *_EXTRA_SHAPES[extra])
            given = np.full(shape, np.nan, np.float32) if values is None else _placed(values, rows)
            extras[extra] = given
    columns: dict[str, Value | NDArray[Any]] = {
        "subject": subject,
        "camera": int(camera),
        "subaction": subaction,
        "width": WIDTH,
        "height": TALL if camera in TALL_CAMERAS else WIDTH,
        "flaw": "drift" if name.startswith(DRIFT) else "",
    }
    index = np.arange(len(position), dtype=np.int32)
    return Clip(
        recording=name,
        length=len(position),
        tracks=(Track("0", index, position, extras=extras),),
        label=_label(arrays.texts.get("action"), rows, action),
        columns=columns,
        splits={"xsub": part},
    )


def _label(actions: NDArray[Any] | None, rows: slice, number: int) -> int:
    """Return the class by its name in the file, or where that is of no class by the number of the source."""
    if actions is not None:
        name = str(actions[rows][0])
        name = _RENAMED.get(name, name)
        if name in _FACTS.classes:
            return _FACTS.classes.index(name)
    label = number - _FIRST_ACTION
    return label if 0 <= label < len(_FACTS.classes) else -1


def _placed(values: NDArray[Any] | None, rows: slice) -> NDArray[np.float32]:
    assert values is not None
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is as bad as not finite
        return np.ascontiguousarray(values[rows], dtype=np.float32)


_EXTRA_SHAPES: Mapping[str, tuple[int, ...]] = {
    DETECTION: (_JOINTS, 2),
    SCORE: (_JOINTS,),
    FACTOR: (),
    TRUTH: (_JOINTS, 3),
}

_JOINT_NAMES: Sequence[str] = load_skeleton("h36m17").names

H36M25D = Reader(
    dataset=Dataset(
        name="h36m25d",
        title="Human3.6M in 2.5D, MotionBERT's pickle",
        skeleton="h36m17",
        licence=H36M.dataset.licence,
        citation=(
            "W. Zhu, X. Ma, Z. Liu, L. Liu, W. Wu, Y. Wang. MotionBERT: A Unified Perspective on Learning "
            "Human Motion Representations. ICCV 2023; the poses: " + H36M.dataset.citation
        ),
        homepage="https://github.com/Walter0807/MotionBERT/blob/main/docs/pose3d.md",
        frame_rate=FRAME_RATE,
        classes=_FACTS.classes,
        columns=(
            Column("subject", "i4", "subject, 1 to 11"),
            Column("camera", "i4", "id of the camera"),
            Column("subaction", "i4", "official number within the class, 1 or 2"),
            Column("width", "i4", "columns of the picture, as MotionBERT normalises", unit="px"),
            Column("height", "i4", "rows of the picture, as MotionBERT normalises", unit="px"),
            Column("flaw", "string", "drift: poses drift, and evaluations leave the recording out"),
        ),
        protocols=(Protocol("xsub", "the file's own parts: S1, 5, 6, 7, 8 train, S9, 11 test"),),
        missing="never: every joint of every frame has a position",
        unit="px",
        axis_convention="+x left, +y up, +z ahead of the camera; pixels, the depth relative to the root",
        axis_map=AxisMap((0, 1, 2), (-1, -1, 1)),
        extras=(
            Extra(
                DETECTION,
                ("detection_joint", "pixel_axis"),
                {"detection_joint": tuple(_JOINT_NAMES), "pixel_axis": ("x", "y")},
                "f4",
                "px",
                "joints as a stacked hourglass found them",
            ),
            Extra(
                SCORE,
                ("joint",),
                {},
                "f4",
                "1",
                "the hourglass's score of each joint; NaN where the file has none",
            ),
            Extra(FACTOR, (), {}, "f4", "mm/px", "millimetres a pixel; NaN in the training part"),
            Extra(
                TRUTH,
                ("joint", "picture_axis"),
                {"picture_axis": ("x", "y", "z")},
                "f4",
                "mm",
                "the pose that errors are measured against; NaN in the training part",
            ),
        ),
    ),
    scan=scan,
    read=read,
)
