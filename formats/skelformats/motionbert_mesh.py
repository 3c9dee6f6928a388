"""MotionBERT's mesh files: ``mesh_det_h36m.pkl``, ``mesh_det_coco.pkl``, ``mesh_det_pw3d.pkl``, and those
of its refiner.

``{"train": {...}, "test": {...}}``, each with an entry a frame of every array (dataset_mesh.py and
datareader_mesh.py of the released code): ``joint_2d`` (N, 17, 2), pixels in the order of h36m17;
``confidence`` (N, 17) or (N, 17, 1); ``source`` (N), the video; ``smpl_pose`` (N, 72) axis-angle, the
root's in the camera's frame; ``smpl_shape`` (N, 10); of Human3.6M ``camera_name`` (N). The refiner's files
also have another method's ``pred_smpl_pose`` and ``pred_smpl_shape``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import list_sources
from skelformats.keypoints import SCORE
from skelformats.reader import Clip, Column, Dataset, Extra, Protocol, Reader, ReadOptions, Source, Track
from skelformats.safe_pickle import load_pickle
from skelformats.skeleton import load_skeleton

MAX_BYTES = 16 * 2**30
"""Largest file that is taken; Human3.6M's has two million frames."""

JOINTS, BETAS = 17, 10
PARTS = ("train", "test")
EXPECTED = (
    "a mesh file of MotionBERT: 'train' and 'test' with 'joint_2d', 'smpl_pose', 'smpl_shape', 'source'"
)

PICTURES: Mapping[str, tuple[int, int]] = {"coco": (640, 640), "pw3d": (1920, 1920)}
"""Width and height that the released code divides pixels by, by a word in the file's name."""

TALL_CAMERAS = ("54138969", "60457274")
"""Human3.6M's cameras whose pictures are 1000 x 1002; the others' are 1000 x 1000."""

_LARGEST = 1e6


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every pickle below ``root``, by name and size."""
    return list_sources(root, ".pkl")


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one file: a recording for each stretch of frames of one video.

    Raises
    ------
    FormatError
        The file is not such a pickle, names anything but arrays and plain data, or has no ``estimate``
        that was asked for.
    """
    path = root / source.path
    content = load_pickle(path, max_bytes=MAX_BYTES)
    if not isinstance(content, dict) or not any(isinstance(content.get(part), dict) for part in PARTS):
        raise FormatError(path, f"a {type(content).__name__} without 'train' and 'test'", EXPECTED)
    names: Counter[str] = Counter()
    clips = []
    for part in PARTS:
        fields = content.get(part)
        if fields is None:
            continue
        if not isinstance(fields, dict):
            raise FormatError(path, f"{part!r} of type {type(fields).__name__}", EXPECTED)
        clips += list(_clips(path, part, fields, names, options.extras))
    return clips


def _clips(
    path: Path, part: str, fields: Mapping[str, Any], names: Counter[str], extras: frozenset[str]
) -> Iterator[Clip]:
    joints = fields.get("joint_2d")
    frames = len(joints) if isinstance(joints, np.ndarray) and joints.ndim == 3 else 0
    if not frames:
        raise FormatError(path, f"in {part} no frames of 'joint_2d'", "an array (frames, 17, 2)")
    position = _array(path, part, fields, "joint_2d", (frames, JOINTS, None))[..., :2]
    score = _array(path, part, fields, "confidence", (frames, JOINTS))
    arrays = {
        name: _array(path, part, fields, key, shape)
        for name, (key, shape) in _FIELDS.items()
        if name in extras
        for shape in [(frames, *shape)]
    }
    source = _texts(path, part, fields, "source", frames)
    size = _sizes(path, part, fields, frames)
    edges = [0, *(np.flatnonzero(source[1:] != source[:-1]) + 1).tolist(), frames]
    for start, stop in pairwise(edges):
        name = str(source[start]).strip("/").replace("/", "__") or "video"
        names[name] += 1
        own = slice(start, stop)
        # pixels at exactly (0, 0) of score 0 are joints that were not found
        place = position[own].copy()
        place[(place == 0).all(axis=-1) & (score[own] == 0)] = np.nan
        track = Track(
            "0",
            np.arange(stop - start, dtype=np.int32),
            place,
            score[own],
            {key: values[own] for key, values in arrays.items()},
        )
        recording = name if names[name] == 1 else f"{name}_{names[name]}"
        columns: dict[str, Any] = {
            "file": PurePosixPath(path.name).stem,
            "width": int(size[start, 0]),
            "height": int(size[start, 1]),
        }
        yield Clip(recording, stop - start, (track,), -1, columns, {"official": part})


def _array(
    path: Path, part: str, fields: Mapping[str, Any], key: str, shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    """Return a float32 array of this shape, of finite numbers of moderate size; axes of length 1 may be
    there.
    """
    values = fields.get(key)
    expected = f"an array of shape {shape}".replace("None", "2 or more")
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise FormatError(path, f"in {part} {key!r} of type {type(values).__name__}", expected)
    fixed = tuple(n for n in shape if n is not None)
    if None not in shape and values.size == int(np.prod(fixed)) and len(values) == shape[0]:
        values = values.reshape(fixed)
    if values.ndim != len(shape) or values.shape[: len(fixed)] != fixed or values.shape[-1] < 2:
        raise FormatError(path, f"in {part} {key!r} of shape {values.shape}", expected)
    if not (np.abs(values) <= _LARGEST).all():
        raise FormatError(path, f"in {part} {key!r} with values beyond {_LARGEST:g}", "finite numbers")
    return values.astype(np.float32)


def _texts(path: Path, part: str, fields: Mapping[str, Any], key: str, frames: int) -> NDArray[np.str_]:
    values = fields.get(key)
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != frames:
        raise FormatError(path, f"in {part} {key!r} that is not a name a frame", f"{frames} names")
    return np.array([str(value) for value in values])


def _sizes(path: Path, part: str, fields: Mapping[str, Any], frames: int) -> NDArray[np.int64]:
    """Return width and height (N, 2) that pixels are parts of."""
    name = path.name.lower()
    if "camera_name" in fields:
        cameras = _texts(path, part, fields, "camera_name", frames)
        tall = np.isin(cameras, TALL_CAMERAS)
        return np.stack([np.full(frames, 1000), np.where(tall, 1002, 1000)], axis=-1)
    for word, size in PICTURES.items():
        if word in name:
            return np.tile(np.array(size), (frames, 1))
    if "img_hw" in fields:
        sizes = _array(path, part, fields, "img_hw", (frames, 2))[:, ::-1]
        if (sizes >= 1).all():
            return sizes.astype(np.int64)
    raise FormatError(
        path,
        f"in {part} neither 'camera_name' nor 'img_hw'",
        "the size of the picture",
        action=f"Give the file a name with {' or '.join(PICTURES)} in it, if it is one of these",
    )


_FIELDS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "pose": ("smpl_pose", (24, 3)),
    "shape": ("smpl_shape", (BETAS,)),
    "estimate_pose": ("pred_smpl_pose", (24, 3)),
    "estimate_shape": ("pred_smpl_shape", (BETAS,)),
}


def _pose(name: str, joint: str, description: str) -> Extra:
    labels = {joint: load_skeleton("smpl24").names, "rotation": ("x", "y", "z")}
    return Extra(name, (joint, "rotation"), labels, "f4", "rad", description)


def _shape(name: str, dim: str, description: str) -> Extra:
    return Extra(name, (dim,), {dim: tuple(map(str, range(BETAS)))}, "f4", "1", description)


MOTIONBERT_MESH = Reader(
    dataset=Dataset(
        name="motionbert_mesh",
        title="MotionBERT's mesh files, 2D poses with SMPL bodies",
        skeleton="h36m17",
        licence="Apache-2.0 (MotionBERT); poses and bodies are under the terms of the datasets they are of",
        citation=(
            "W. Zhu, X. Ma, Z. Liu, L. Liu, W. Wu, Y. Wang. MotionBERT: A Unified Perspective on Learning "
            "Human Motion Representations. ICCV 2023"
        ),
        homepage="https://github.com/Walter0807/MotionBERT/blob/main/docs/mesh.md",
        frame_rate=None,
        classes=(),
        columns=(
            Column("file", "string", "name of the file, which tells the dataset"),
            Column("width", "i4", "pixels across that positions are parts of", unit="px"),
            Column("height", "i4", "pixels down that positions are parts of", unit="px"),
        ),
        protocols=(Protocol("official", "the file's own parts train and test"),),
        missing="a joint at exactly (0, 0) of score 0",
        unit="px",
        axes=("x", "y"),
        axis_convention="pixels, +y down",
        confidence=SCORE,
        extras=(
            _pose(
                "pose", "pose_joint", "axis-angle of each joint against its parent, the root's in the camera"
            ),
            _shape("shape", "beta", "shape coefficients of SMPL"),
            _pose("estimate_pose", "estimate_joint", "as pose, found by another method"),
            _shape("estimate_shape", "estimate_beta", "as shape, found by another method"),
        ),
    ),
    scan=scan,
    read=read,
)
