"""The files in which Human3.6M poses are kept: how they are named, which belong together, what is in them.

Three distributions are known. The official CDF files, one a take (world) or one a take and camera (mono, 2D);
the h5 files of 3d-pose-baseline; and the npz files of VideoPose3D, one for everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skelformats.cdf import read_variable
from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.h36m_cameras import CAMERAS, SUBJECTS
from skelformats.hdf5 import read_hdf5
from skelformats.protocols import load_facts
from skelformats.safe_npz import load_npz

JOINTS = 32
MAX_FRAMES = 100_000
"""Longest take that is read, half an hour; the longest of the dataset has two minutes."""

Kind = Literal["cdf", "h5", "npz"]
Key = tuple[int, str, int, int]
"""Subject, class, number of the take, camera (0 for none)."""

_FACTS = load_facts("h36m")
_RENAMED: Mapping[str, str] = _FACTS.others["renamed"]
_NAME = re.compile(r"(_?[A-Za-z]+)(?:[ _](\d))?(?:\.(" + "|".join(map(str, CAMERAS)) + r"))?")
_SUBJECT = re.compile(r"[Ss](\d{1,2})")
_FOLDERS = {"d3positions": "world", "d3positionsmono": "mono", "d2positions": "pixel"}
_HOURGLASS, _DETECTIONS = "stackedhourglass", "data_2d_h36m_"
_LAYOUTS = {"coco": "coco17", "mpii": "mpii16", "sh_": "mpii16", _HOURGLASS: "mpii16"}
_NAME_EXPECTED = "a name such as 'Directions 1.54138969', with one of the classes " + ", ".join(
    _FACTS.classes
)


@dataclass(frozen=True)
class Take:
    """One take of one subject, in one camera or (camera 0) in the world.

    ``action`` is the class under its canonical name, ``number`` that of the file's name, 0 for none.
    """

    subject: int
    action: str
    number: int
    camera: int = 0

    @property
    def name(self) -> str:
        """The take's canonical name, as 3d-pose-baseline and the image folders spell it."""
        return f"S{self.subject}_{self.action}" + (f"_{self.number}" if self.number else "")

    @property
    def recording(self) -> str:
        """The take's name, and its camera if there is one."""
        return self.name + (f".{self.camera}" if self.camera else "")

    @property
    def label(self) -> int:
        """The class as a number from 0."""
        return _FACTS.classes.index(self.action)

    @property
    def key(self) -> Key:
        """The take as a plain key."""
        return self.subject, self.action, self.number, self.camera

    def seen_by(self, camera: int) -> Take:
        """Return the take in one camera."""
        return replace(self, camera=camera)


def parse_take(path: str) -> Take:
    """Read subject, class, number and camera off a path such as ``S1/.../TakingPhoto 1.54138969.cdf``.

    Raises
    ------
    FormatError
        No folder on the way is called S1 to S11, or the file's name is not of the dataset.
    """
    place = PurePosixPath(path)
    subjects = [found[1] for part in place.parts[:-1] if (found := _SUBJECT.fullmatch(part))]
    if not subjects or int(subjects[-1]) not in SUBJECTS:
        raise FormatError(path, "no subject's folder on the way to the file", "one called S1 to S11")
    return named_take(int(subjects[-1]), place.stem, path)


def named_take(subject: int, name: str, where: str) -> Take:
    """Read a take's name, such as ``Directions 1`` or ``Directions_1.54138969``; raises `FormatError`."""
    named = _NAME.fullmatch(name)
    action = _RENAMED.get(named[1], named[1]) if named else ""
    if not named or action not in _FACTS.classes:
        raise FormatError(where, f"the name {name!r}", _NAME_EXPECTED)
    return Take(subject, action, int(named[2] or 0), int(named[3] or 0))


@dataclass(frozen=True)
class Survey:
    """What lies below a root: (path, bytes) of each file of a kind, sorted by path.

    ``detections`` holds the files of each set of 2D detections by its name, ``metadata`` the path of
    ``metadata.xml`` or an empty string. Takes that hold all actions in one (``_ALL``) are left out.
    """

    world: Sequence[tuple[str, int]]
    mono: Sequence[tuple[str, int]]
    pixel: Sequence[tuple[str, int]]
    h5: Sequence[tuple[str, int]]
    npz: Sequence[tuple[str, int]]
    detections: Mapping[str, Sequence[tuple[str, int]]]
    metadata: str

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The distributions that are there."""
        found: dict[Kind, bool] = {
            "cdf": bool(self.world or self.mono),
            "h5": bool(self.h5),
            "npz": bool(self.npz),
        }
        return tuple(kind for kind, there in found.items() if there)


def survey(root: Path) -> Survey:
    """Look for the files of all distributions below ``root``, by name alone."""
    groups: dict[str, list[tuple[str, int]]] = {"world": [], "mono": [], "pixel": [], "h5": [], "npz": []}
    detections: dict[str, list[tuple[str, int]]] = {}
    for path, size in find_files(root, ".cdf"):
        folder = _folder(path).removeprefix("poses")
        if folder in _FOLDERS and not _is_everything(path):
            groups[_FOLDERS[folder]].append((path, size))
    for path, size in find_files(root, ".h5"):
        if _folder(path) == "3dpositions" and not _is_everything(path):
            groups["h5"].append((path, size))
        elif _folder(path).startswith(_HOURGLASS):
            detections.setdefault(set_of_file(path), []).append((path, size))
    for path, size in find_files(root, ".npz"):
        stem = PurePosixPath(path).stem
        if stem == "data_3d_h36m":
            groups["npz"].append((path, size))
        elif stem.startswith(_DETECTIONS):
            detections.setdefault(set_of_file(path), []).append((path, size))
    metadata = [path for path, _ in find_files(root, "metadata.xml")]
    return Survey(**groups, detections=detections, metadata=metadata[0] if metadata else "")


def set_of_file(path: str) -> str:
    """Return the name of the set of detections that an npz or h5 file belongs to."""
    place = PurePosixPath(path)
    return place.stem.removeprefix(_DETECTIONS) if place.suffix == ".npz" else place.parent.name


def layout_of_set(name: str) -> str:
    """Return the joint layout of a set of detections, which its name tells; most are h36m17."""
    lowered = name.lower()
    return next((layout for part, layout in _LAYOUTS.items() if part in lowered), "h36m17")


def by_take(files: Sequence[tuple[str, int]]) -> dict[Key, tuple[str, int]]:
    """Index files by the take in their name; those of other names are left out."""
    found: dict[Key, tuple[str, int]] = {}
    for path, size in files:
        try:
            found.setdefault(parse_take(path).key, (path, size))
        except FormatError:
            continue
    return found


def read_cdf(path: Path, values: int) -> NDArray[Any]:
    """Read the variable ``Pose`` of an official file: (T, 32, ``values``) float32 or float64."""
    pose = read_variable(path, "Pose", MAX_FRAMES * JOINTS * values * 8)
    # one record that holds all frames; or one frame a record
    flat = pose[0] if pose.ndim == 3 and len(pose) == 1 else pose
    if flat.ndim != 2 or flat.shape[1] != JOINTS * values or not len(flat):
        raise FormatError(
            path,
            f"the variable Pose of shape {pose.shape}",
            f"(1, T, {JOINTS * values}): {JOINTS} joints of {values} numbers in each of T frames",
        )
    return flat.reshape(-1, JOINTS, values)


def read_h5(path: Path) -> NDArray[Any]:
    """Read a world pose file of 3d-pose-baseline, (96, T) inside: (T, 32, 3) floating point."""
    flat = _read_array(path, "3D_positions", (JOINTS * 3, None))
    return np.ascontiguousarray(flat.T).reshape(-1, JOINTS, 3)


def read_hourglass(path: Path) -> NDArray[Any]:
    """Read a detection file of 3d-pose-baseline: (T, 16, 2) pixels in the order of MPII."""
    return _read_array(path, "poses", (None, 16, 2))


def _read_array(path: Path, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Read an array of floating point numbers of ``shape``, None being the frames."""

    def fits(found: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        return (
            dtype.kind == "f"
            and len(found) == len(shape)
            and all(
                0 < n <= MAX_FRAMES and wanted in (None, n) for n, wanted in zip(found, shape, strict=True)
            )
        )

    expected = f"an HDF5 file with the array {name!r} of shape {shape} (None: frames, at most {MAX_FRAMES})"
    return read_hdf5(path, name, fits, expected, MAX_FRAMES * JOINTS * 3 * 16)


def read_positions(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read ``data_3d_h36m.npz``: world poses in metres, by subject (S1) and take (Directions 1)."""
    return _read_npz(path, "positions_3d", path.stat().st_mtime_ns)


def read_detections(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read ``data_2d_h36m_*.npz``: pixels by subject and take, a list of the four cameras."""
    return _read_npz(path, "positions_2d", path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read_npz(path: Path, key: str, changed: int) -> Mapping[str, Mapping[str, Any]]:
    """Read a file once for all of its subjects; ``changed`` is its time stamp."""
    array = load_npz(path, [key])[key]
    content = array.item() if array.shape == () and array.dtype == object else None
    if not isinstance(content, dict) or not all(
        isinstance(subject, str) and isinstance(takes, dict) for subject, takes in content.items()
    ):
        raise FormatError(
            path,
            f"{key!r} of shape {array.shape} and dtype {array.dtype}",
            f"{key!r} as VideoPose3D writes it: {{subject: {{take: array}}}}",
        )
    return content


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.name.lower().replace("_", "")


def _is_everything(path: str) -> bool:
    """Whether a file is one of the ``_ALL`` takes, which repeat all others in one."""
    return PurePosixPath(path).name.startswith("_ALL")
