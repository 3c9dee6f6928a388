"""3DPW: ``sequenceFiles/{train,validation,test}/<sequence>.pkl``, one or two people in a video.

Python 2 pickles of a dict with a list entry a person (the dataset's readme): ``jointPositions`` (N, 72), 24
SMPL joints in metres of the world; ``poses`` (N, 72), ``trans`` (N, 3), ``betas``, ``genders``; ``poses2d``
(N, 3, 18) detections; ``campose_valid`` (N,) whether the person's pose fits the picture; and ``cam_poses``
(N, 4, 4) from world to camera, ``cam_intrinsics`` (3, 3). All at 30 Hz, a row an image. The world is
right-handed, +y up: nothing is turned.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.coco_json import subset_of
from skelformats.errors import FormatError
from skelformats.files import list_sources
from skelformats.protocols import load_facts
from skelformats.reader import (
    Clip,
    Column,
    Confidence,
    Dataset,
    Extra,
    Reader,
    ReadOptions,
    Source,
    Track,
    Value,
)
from skelformats.safe_pickle import load_pickle
from skelformats.skeleton import load_skeleton

JOINTS, BETAS, KEYPOINTS = 24, 10, 18

KEYPOINT_NAMES = (
    "nose",
    "neck",
    *(f"right_{joint}" for joint in ("shoulder", "elbow", "wrist")),
    *(f"left_{joint}" for joint in ("shoulder", "elbow", "wrist")),
    *(f"right_{joint}" for joint in ("hip", "knee", "ankle")),
    *(f"left_{joint}" for joint in ("hip", "knee", "ankle")),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
"""The 18 detected joints, in OpenPose's COCO order."""

GENDERS = {"m": "male", "f": "female"}
EXPECTED = "a 3DPW sequence file: a dict with 'sequence', 'jointPositions', 'campose_valid', ..."

_FACTS = load_facts("pw3d")
_SUBSETS = ("train", "validation", "test")
_LARGEST_METRES = 1e5


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every pickle below ``root``, by name and size."""
    return list_sources(root, ".pkl")


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one video.

    Raises
    ------
    FormatError
        The file is not such a pickle, or names anything but arrays and plain data.
    """
    path = root / source.path
    content = load_pickle(path)
    if not isinstance(content, dict) or "jointPositions" not in content:
        raise FormatError(path, f"a {type(content).__name__} without 'jointPositions'", EXPECTED)
    people = _people(path, content, "jointPositions")
    if not people:
        raise FormatError(path, "nobody in 'jointPositions'", "one or two people")
    frames = len(people[0]) if isinstance(people[0], np.ndarray) and people[0].ndim else 0
    if not frames:
        raise FormatError(path, "'jointPositions' without frames", EXPECTED)
    cameras = _array(path, "cam_poses", content.get("cam_poses"), (frames, 4, 4))
    name = PurePosixPath(source.path).stem
    tracks = tuple(
        _track(path, content, person, frames, cameras, options.extras) for person in range(len(people))
    )
    subset = subset_of(source.path, _SUBSETS)
    columns: dict[str, Value | NDArray[Any]] = {
        "subset": subset,
        "intrinsics": _array(path, "cam_intrinsics", content.get("cam_intrinsics"), (3, 3)),
    }
    return [Clip(name, frames, tracks, -1, columns, _FACTS.splits(name, {"subset": subset}))]


def _track(
    path: Path,
    content: Mapping[str, Any],
    person: int,
    frames: int,
    cameras: NDArray[np.float32],
    extras: frozenset[str],
) -> Track:
    def of_person(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = _people(path, content, key)
        if len(values) <= person:
            raise FormatError(path, f"{key!r} of {len(values)} people", f"at least {person + 1}")
        return _array(path, f"{key}[{person}]", values[person], shape)

    position = of_person("jointPositions", (frames, JOINTS * 3)).reshape(frames, JOINTS, 3)
    valid = of_person("campose_valid", (frames,)) != 0
    shapes = _people(path, content, "betas")
    betas = shapes[person] if person < len(shapes) else None
    if isinstance(betas, np.ndarray):
        betas = betas.reshape(-1)[:BETAS]
    arrays: dict[str, NDArray[Any]] = {}
    if "pose" in extras:
        arrays["pose"] = of_person("poses", (frames, JOINTS * 3)).reshape(frames, JOINTS, 3)
    if "translation" in extras:
        arrays["translation"] = of_person("trans", (frames, 3))
    if "keypoints" in extras:
        key = "poses2d" if "poses2d" in content else "poses2D"
        # a frame of zeros is one without a detection, and so are single joints
        detected = of_person(key, (frames, 3, KEYPOINTS)).transpose(0, 2, 1).copy()
        detected[(detected == 0).all(axis=-1)] = np.nan
        arrays["keypoints"] = detected
    if "camera" in extras:
        arrays["camera"] = cameras
    return Track(
        str(person),
        np.arange(frames, dtype=np.int32),
        position,
        np.repeat(valid[:, None], JOINTS, axis=1).astype(np.uint8),
        arrays,
        {
            "gender": _gender(path, content, person),
            "betas": _array(path, f"betas[{person}]", betas, (BETAS,)),
        },
    )


def _people(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    """Return the entries of a list that has one a person."""
    values = content.get(key)
    if not isinstance(values, list | tuple | np.ndarray) or getattr(values, "ndim", 1) == 0:
        raise FormatError(path, f"{key!r} of type {type(values).__name__}", "a list with an entry a person")
    return list(values)


def _array(path: Path, what: str, values: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a float32 array of exactly this shape, of finite numbers of moderate size."""
    found = getattr(values, "shape", None)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub" or found != shape:
        said = f"type {type(values).__name__}" if found is None else f"shape {found}"
        raise FormatError(path, f"{what!r} of {said}", f"an array of shape {shape}")
    if not (np.abs(values.astype(np.float64)) <= _LARGEST_METRES).all():
        raise FormatError(path, f"{what!r} with values beyond {_LARGEST_METRES:g}", "finite numbers")
    return values.astype(np.float32)


def _gender(path: Path, content: Mapping[str, Any], person: int) -> str:
    genders = _people(path, content, "genders" if "genders" in content else "gender")
    gender = genders[person] if person < len(genders) else None
    if not isinstance(gender, str) or gender not in GENDERS:
        raise FormatError(path, f"the gender {gender!r:.20} of person {person}", "m or f")
    return GENDERS[gender]


_XYZ = ("x", "y", "z")

PW3D = Reader(
    dataset=Dataset(
        name="pw3d",
        title="3DPW, 3D Poses in the Wild",
        skeleton="smpl24",
        licence="non-commercial scientific research, after agreeing to the licence on the site",
        citation=(
            "T. von Marcard, R. Henschel, M. J. Black, B. Rosenhahn, G. Pons-Moll. Recovering Accurate 3D "
            "Human Pose in The Wild Using IMUs and a Moving Camera. ECCV 2018"
        ),
        homepage="https://virtualhumans.mpi-inf.mpg.de/3DPW/",
        frame_rate=30.0,
        classes=(),
        columns=(
            Column("subset", "string", "folder of the file: train, validation or test"),
            Column("gender", "string", "gender of the body model"),
            Column("betas", "f4", "shape coefficients of SMPL", (BETAS,), ("beta",), "1"),
            Column("intrinsics", "f4", "camera matrix K", (3, 3), ("row", "column"), "px"),
        ),
        protocols=_FACTS.protocols,
        missing="never",
        confidence=Confidence(
            "u1",
            "campose_valid of the person's frame, the same for all joints; evaluations take valid ones",
            {0: "pose does not fit the picture", 1: "valid"},
        ),
        extras=(
            Extra(
                "pose",
                ("pose_joint", "rotation"),
                {"pose_joint": load_skeleton("smpl24").names, "rotation": _XYZ},
                "f4",
                "rad",
                "axis-angle of each joint against its parent, the root's in the world",
            ),
            Extra(
                "translation",
                ("translation_axis",),
                {"translation_axis": _XYZ},
                "f4",
                "m",
                "of the body model in the world",
            ),
            Extra(
                "keypoints",
                ("keypoint", "value"),
                {"keypoint": KEYPOINT_NAMES, "value": ("x", "y", "score")},
                "f4",
                "px",
                "2D detections that the pose was fitted with; NaN for a joint that was not detected",
            ),
            Extra(
                "camera",
                ("camera_row", "camera_column"),
                {"camera_row": ("0", "1", "2", "3"), "camera_column": ("0", "1", "2", "3")},
                "f4",
                "m",
                "homogeneous matrix from world to camera; the camera moves",
            ),
        ),
    ),
    scan=scan,
    read=read,
)
