"""MPI-INF-3DHP: ``S1..S8/Seq1,2/annot.mat`` with ``camera.calibration``, and ``TS1..TS6/annot_data.mat``.

Training files hold cells with an entry a camera: ``annot3`` (F, 84) and ``univ_annot3``, 28 joints in
millimetres of that camera (+x right, +y down, +z ahead), the second of a skeleton scaled to one height;
``annot2`` (F, 56) pixels. Test files (HDF5) hold 17 of these joints (F, 1, 17, 3) and ``valid_frame`` (F, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.hdf5 import read_hdf5
from skelformats.mat5 import load_mat
from skelformats.protocols import load_facts
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
    SideTable,
    Source,
    Track,
    Value,
)

JOINTS, CAMERAS = 28, 14

TEST_JOINTS = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
"""The joint of mpi28 that each of the 17 of a test file is (mpii_get_joints.m, joint set relevant)."""

VIDEOS: Mapping[tuple[int, int], tuple[int, int]] = {
    **{(1, 1): (6416, 25), (1, 2): (12430, 50), (2, 1): (6502, 25), (2, 2): (6081, 25)},
    **{(3, 1): (12488, 50), (3, 2): (12283, 50), (4, 1): (6171, 25), (4, 2): (6675, 25)},
    **{(5, 1): (12820, 50), (5, 2): (12312, 50), (6, 1): (6188, 25), (6, 2): (6145, 25)},
    **{(7, 1): (6239, 25), (7, 2): (6320, 25), (8, 1): (6468, 25), (8, 2): (6054, 25)},
}
"""Frames that the videos of (subject, sequence) have, and frames a second (P-STMO, common/utils_3dhp.py)."""

EXPECTED = "S<1 to 8>/Seq<1 or 2>/annot.mat or TS<1 to 6>/annot_data.mat"
CALIBRATION = "camera.calibration"

_TRAIN = re.compile(r"(?:.*/)?S(\d)/Seq(\d)/annot\.mat")
_TEST = re.compile(r"(?:.*/)?TS(\d)/annot_data\.mat")
_MAX_FRAMES = 100_000
_LARGEST = 1e7
_FACTS = load_facts("mpi3dhp")


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List the annotation files below ``root``, each training file with its calibration."""
    calibrations = dict(find_files(root, CALIBRATION))
    sources = []
    for path, size in find_files(root, ".mat"):
        if PurePosixPath(path).name in ("annot.mat", "annot_data.mat"):
            beside = str(PurePosixPath(path).parent / CALIBRATION)
            members = (beside,) if beside in calibrations else ()
            sources.append(Source(path, size + calibrations.get(beside, 0), members))
    return sources


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one annotation file: a training file gives a recording a camera, a test file one.

    Raises
    ------
    FormatError
        The file's name or content is not of this format.
    """
    if named := _TRAIN.fullmatch(source.path):
        place = (int(named[1]), int(named[2]))
        if place in VIDEOS:
            return _read_training(root, source, place, options)
    if named := _TEST.fullmatch(source.path):
        return [_read_test(root / source.path, int(named[1]), options)]
    raise FormatError(root / source.path, f"the path {source.path!r}", EXPECTED)


def _read_training(root: Path, source: Source, place: tuple[int, int], options: ReadOptions) -> list[Clip]:
    path = root / source.path
    content = load_mat(path, ("annot2", "annot3", "univ_annot3"))
    cells = {name: _cells(path, name, content.get(name)) for name in ("annot2", "annot3", "univ_annot3")}
    if len({len(cell) for cell in cells.values()}) > 1:
        raise FormatError(path, "cells of different numbers of cameras", "one entry a camera in each")
    cameras = _calibration(root / source.members[0]) if source.members else {}
    frames, rate = VIDEOS[place]
    clips = []
    for camera in range(len(cells["annot3"])):
        arrays = {
            name: _joints(path, f"{name}{{{camera + 1}}}", cell[camera], 2 if name == "annot2" else 3)
            for name, cell in cells.items()
        }
        name = f"S{place[0]}_Seq{place[1]}_cam{camera}"
        columns: dict[str, Value | NDArray[Any]] = {
            "subset": "train",
            "subject": f"S{place[0]}",
            "session": place[1],
            "camera": camera,
            "frame_rate": float(rate),
            "video_frames": frames,
        }
        valid = np.ones(len(arrays["annot3"]), np.uint8)
        tables = {"camera": [{"recording": name, **cameras[camera]}]} if camera in cameras else {}
        clips.append(_clip(path, name, arrays, valid, columns, options, tables))
    return clips


def _read_test(path: Path, number: int, options: ReadOptions) -> Clip:
    small = {name: _hdf(path, name, (1, 17, 3)) for name in ("annot3", "univ_annot3")}
    small["annot2"] = _hdf(path, "annot2", (1, 17, 2))
    valid = _hdf(path, "valid_frame", (1,))[:, 0] != 0
    arrays = {}
    for name, values in small.items():
        arrays[name] = np.full((len(values), JOINTS, values.shape[-1]), np.nan, np.float32)
        arrays[name][:, TEST_JOINTS] = values[:, 0]
    columns: dict[str, Value | NDArray[Any]] = {
        "subset": "test",
        "subject": f"TS{number}",
        "session": 1,
        "camera": -1,
        "frame_rate": float("nan"),
        "video_frames": len(valid),
    }
    return _clip(path, f"TS{number}", arrays, valid.astype(np.uint8), columns, options, {})


def _clip(
    path: Path,
    name: str,
    arrays: Mapping[str, NDArray[np.float32]],
    valid: NDArray[np.uint8],
    columns: Mapping[str, Value | NDArray[Any]],
    options: ReadOptions,
    tables: Mapping[str, Any],
) -> Clip:
    """Return the recording of one camera: one person, in every frame."""
    frames = len(valid)
    if not frames or any(len(array) != frames for array in arrays.values()):
        counts = {key: len(array) for key, array in arrays.items()}
        raise FormatError(path, f"in {name} frames {counts}", "equally many, and at least one")
    asked = str(options.values.get("annotation", "annot3"))
    other = "univ_annot3" if asked == "annot3" else "annot3"
    extras = {"other": arrays[other], "pixels": arrays["annot2"]}
    track = Track(
        "0",
        np.arange(frames, dtype=np.int32),
        arrays[asked],
        np.repeat(valid[:, None], JOINTS, axis=1),
        {key: extras[key] for key in options.extras},
    )
    splits = _FACTS.splits(name, {"subset": str(columns["subset"])})
    return Clip(name, frames, (track,), -1, columns, splits, tables)


def _cells(path: Path, name: str, value: Any) -> list[NDArray[Any]]:
    if not isinstance(value, list) or not 1 <= len(value) <= CAMERAS:
        raise FormatError(
            path, f"no {name!r} of 1 to {CAMERAS} cameras", f"a cell {name!r} of an array a camera"
        )
    return value


def _joints(path: Path, what: str, values: NDArray[Any], axes: int) -> NDArray[np.float32]:
    """Return (F, 28, axes) float32 of an (F, 28 * axes) array."""
    if values.ndim != 2 or values.shape[1] != JOINTS * axes:
        raise FormatError(path, f"{what} of shape {values.shape}", f"(frames, {JOINTS * axes})")
    return _checked(path, what, values).reshape(len(values), JOINTS, axes)


def _checked(path: Path, what: str, values: NDArray[Any]) -> NDArray[np.float32]:
    if not (np.abs(values.astype(np.float64)) <= _LARGEST).all():
        raise FormatError(path, f"{what} with numbers beyond {_LARGEST:g}", "millimetres or pixels")
    return values.astype(np.float32)


def _hdf(path: Path, name: str, tail: tuple[int, ...]) -> NDArray[np.float32]:
    """Read an array (F, *tail) of numbers."""

    def fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        return dtype.kind in "fiu" and shape[1:] == tail and 0 < shape[0] <= _MAX_FRAMES

    expected = f"an HDF5 file with {name!r} of shape (frames, {', '.join(map(str, tail))})"
    most = _MAX_FRAMES * JOINTS * 3 * 16
    return _checked(path, name, read_hdf5(path, name, fits, expected, most))


def _calibration(path: Path) -> dict[int, dict[str, Any]]:
    """Return the cameras of a calibration file by number (Skeletool Camera Calibration File V1.0)."""
    found: dict[int, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        key, *words = line.split() or [""]
        if key == "name":
            current = found.setdefault(int(_values(path, number, words, 1)[0]), {})
        elif key == "size":
            width, height = _values(path, number, words, 2)
            current.update(width=int(width), height=int(height))
        elif key in ("intrinsic", "extrinsic"):
            current[key] = _values(path, number, words, 16).reshape(4, 4)
    for camera in found.values():
        if set(camera) != {"width", "height", "intrinsic", "extrinsic"}:
            raise FormatError(path, f"a camera with {sorted(camera)} only", "size, intrinsic and extrinsic")
        camera["intrinsic"] = camera["intrinsic"][:3, :3]
    return found


def _values(path: Path, line: int, words: list[str], count: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not (np.abs(values) <= _LARGEST).all():
        raise FormatError(path, f"{' '.join(words)!r:.60}", f"{count} finite numbers", line=line)
    return values


_XYZ = ("x", "y", "z")

MPI3DHP = Reader(
    dataset=Dataset(
        name="mpi3dhp",
        title="MPI-INF-3DHP",
        skeleton="mpi28",
        licence="non-commercial scientific research",
        citation=(
            "D. Mehta et al. Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision. "
            "3DV 2017"
        ),
        homepage="https://vcai.mpi-inf.mpg.de/3dhp-dataset/",
        # 25 or 50, see the column frame_rate
        frame_rate=None,
        classes=(),
        columns=(
            Column("subset", "string", "train or test"),
            Column("subject", "string", "S1 to S8; the test videos TS1 to TS6"),
            Column("session", "i4", "number of the sequence, 1 or 2"),
            Column("camera", "i4", "number of the camera, 0 to 13; -1 in the test set"),
            Column("frame_rate", "f4", "frames a second; NaN in the test set", unit="1/s"),
            Column("video_frames", "i4", "frames that the video has; annotations beyond have no picture"),
        ),
        protocols=_FACTS.protocols,
        missing="never in training files; test files lack 11 of the 28 joints",
        axis_convention="right-handed, +y up; the camera at the origin, +z towards it",
        # millimetres of a camera with +y down and +z ahead
        axis_map=AxisMap((0, 1, 2), (1, -1, -1), 1e-3),
        confidence=Confidence(
            "u1",
            "valid_frame of the test set, the same for all joints; training frames are all valid",
            {0: "frame not to be evaluated", 1: "valid"},
        ),
        extras=(
            Extra(
                "other",
                ("joint", "raw_axis"),
                {"raw_axis": _XYZ},
                "f4",
                "mm",
                "the annotation that --annotation does not name, raw axes (+y down)",
            ),
            Extra("pixels", ("joint", "pixel"), {"pixel": ("x", "y")}, "f4", "px", "annot2: 2D joints"),
        ),
        options=(
            Option(
                "annotation",
                str,
                "annot3",
                "annot3 has everybody's own size, univ_annot3 one height for all.",
                ("annot3", "univ_annot3"),
            ),
        ),
        tables=(
            SideTable(
                "camera",
                "cameras of the training recordings",
                (
                    Column("recording", "string", "recording that the camera took"),
                    Column("width", "i4", "pixels across", unit="px"),
                    Column("height", "i4", "pixels down", unit="px"),
                    Column("intrinsic", "f8", "camera matrix K", (3, 3), ("row", "column"), "px"),
                    Column(
                        "extrinsic",
                        "f8",
                        "from world to camera",
                        (4, 4),
                        ("matrix_row", "matrix_column"),
                        "mm",
                    ),
                ),
                key=("recording",),
            ),
        ),
    ),
    scan=scan,
    read=read,
)
