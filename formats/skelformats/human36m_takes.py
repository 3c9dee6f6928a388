"""From the poses of a Human3.6M take to recordings: cameras, pixels, detections, and a take's table row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.h36m_cameras import (
    CAMERA_TABLE,
    CAMERAS,
    Cameras,
    builtin_cameras,
    project,
    read_metadata,
    to_camera,
)
from skelformats.human36m_files import (
    JOINTS,
    Take,
    by_take,
    layout_of_set,
    named_take,
    read_cdf,
    read_detections,
    read_hourglass,
    read_positions,
    set_of_file,
)
from skelformats.protocols import load_facts
from skelformats.reader import Clip, ReadOptions, Refused, Source, Track, Value
from skelformats.skeleton import load_skeleton, match_joints

BODY = "0"
"""The format has one person and no body ids."""

MOST = 1e9
"""Largest coordinate that is taken for one, in the unit of the file."""

CAMERA_PROTOCOL = "frontal"
"""The protocol that picks a camera: it has no meaning in the world."""

_FACTS = load_facts("h36m")
_TAKES: Mapping[str, list[list[int]]] = _FACTS.others["takes"]
_LEAVES_OUT: Mapping[str, list[str]] = _FACTS.others["leaves_out"]
_FLAWS = {(flaw["take"], flaw["camera"]): flaw["kind"] for flaw in _FACTS.others["flaw"]}


class TakeReader:
    """Makes recordings of one source's poses, with what its member files add."""

    def __init__(self, root: Path, source: Source, options: ReadOptions) -> None:
        self._root = root
        self._source = source
        self._in_world = options.values["space"] == "world"
        self._extras = options.extras
        self._joints = match_joints(load_skeleton("h36m32"), load_skeleton(f"h36m{options.values['joints']}"))
        members = source.members
        self._pixel_files = by_take([(member, 0) for member in members if member.endswith(".cdf")])
        self._hourglass_files = by_take([(member, 0) for member in members if member.endswith(".h5")])
        self._detections = next((member for member in members if member.endswith(".npz")), "")
        metadata = next((member for member in members if member.endswith(".xml")), "")
        self._cameras: Cameras = self._member(metadata, read_metadata) if metadata else builtin_cameras()

    def clips(self, take: Take, position: NDArray[Any], unit: float = 1.0) -> Iterator[Clip]:
        """Yield the take as its file has it, or, where that is the world's frame, as asked for.

        Parameters
        ----------
        position
            (T, 32, 3) in the frame of the take's camera, or of the world where it has none.
        unit
            Millimetres in one unit of ``position``.

        Raises
        ------
        FormatError
            A coordinate is beyond anything that could have been measured; or a member file is bad.
        """
        position = _plausible(position, f"{self._source.path}, {take.name}")
        if take.camera or self._in_world:
            yield self._clip(take, position)
            return
        for number in CAMERAS:
            camera = self._cameras[take.subject, number]
            yield self._clip(take.seen_by(number), to_camera(position, camera, unit))

    def npz_clips(self, subject: str) -> Iterator[Clip | Refused]:
        """Yield the takes of ``subject`` (S1) in VideoPose3D's file; a bad one is refused alone."""
        source = self._source.path
        takes = read_positions(self._root / source).get(subject, {})
        for name, values in sorted(takes.items(), key=lambda item: str(item[0])):
            where = f"{source}, {subject} {name!r}"
            try:
                take = named_take(int(subject[1:]), str(name), where)
                position = _checked(values, (JOINTS, 3), where)
                clips = list(self.clips(take, position, unit=1000.0))
            except FormatError as error:
                yield Refused(f"{subject}_{name}".replace(" ", "_"), str(error))
            else:
                yield from clips

    def _clip(self, take: Take, position: NDArray[Any]) -> Clip:
        frames = len(position)
        extras: dict[str, NDArray[Any]] = {}
        if "pixel" in self._extras:
            extras["pixel"] = self._pixels(take, position)[:, self._joints]
        if "detection" in self._extras:
            extras["detection"] = self._detected(take, frames)
        track = Track(
            BODY,
            np.arange(frames, dtype=np.int32),
            position[:, self._joints].astype(np.float32),
            extras=extras,
        )
        columns: dict[str, Value] = {
            "subject": take.subject,
            "camera": take.camera,
            "take": take.number,
            "subaction": subaction(take),
            "flaw": flaw(take),
        }
        standing = (take.camera,) if take.camera else CAMERAS
        rows = [self._cameras[take.subject, number].row() for number in standing]
        return Clip(
            take.recording,
            frames,
            (track,),
            take.label,
            columns,
            splits(take),
            {CAMERA_TABLE.name: rows},
        )

    def _pixels(self, take: Take, position: NDArray[Any]) -> NDArray[np.float32]:
        """(T, 32, 2) where the dataset's own 2D file puts the joints, or else the camera model does."""
        if take.key in self._pixel_files:
            member, _ = self._pixel_files[take.key]
            return _fit(self._member(member, lambda path: read_cdf(path, 2)), len(position))
        return _fit(project(position, self._cameras[take.subject, take.camera]), len(position))

    def _detected(self, take: Take, frames: int) -> NDArray[np.float32]:
        """(T, K, 2) pixels of the detector, NaN where it has none."""
        if self._detections:
            joints = len(load_skeleton(layout_of_set(set_of_file(self._detections))))
            by_subject = self._member(self._detections, read_detections)
            return _fit(_of_take(by_subject, take, joints, self._detections), frames)
        if take.key in self._hourglass_files:
            return _fit(self._member(self._hourglass_files[take.key][0], read_hourglass), frames)
        return np.full((frames, len(load_skeleton("mpii16")), 2), np.nan, np.float32)

    def _member(self, member: str, reader: Callable[[Path], Any]) -> Any:
        """Read a file that belongs to the source; an error says which."""
        try:
            return reader(self._root / member)
        except FormatError as error:
            found = f"in {member} {error.found}"
            raise FormatError(self._source.path, found, error.expected, action=error.action) from error


def subaction(take: Take) -> int:
    """Return 1 or 2, the official number of the take within its class; 0 if the table has no such take."""
    numbers = _TAKES[take.action][take.subject - 1]
    return numbers.index(take.number) + 1 if take.number in numbers else 0


def flaw(take: Take) -> str:
    """Return what is known to be wrong with a take: ``drift``, ``video``, or nothing."""
    return _FLAWS.get((take.name, 0), _FLAWS.get((take.name, take.camera), ""))


def splits(take: Take) -> dict[str, str]:
    """Return the part of each protocol; in the world there is none for the one that picks a camera."""
    row: dict[str, Value] = {"subject": take.subject, "view": f"S{take.subject}.{take.camera}"}
    parts = _FACTS.splits(take.recording, row)
    for protocol, names in _LEAVES_OUT.items():
        if take.name in names:
            parts[protocol] = ""
    if not take.camera:
        del parts[CAMERA_PROTOCOL]
    return parts


def _of_take(
    by_subject: Mapping[str, Mapping[str, Any]], take: Take, joints: int, member: str
) -> NDArray[Any]:
    """Look a take up in the detections of VideoPose3D; (0, K, 2) if it is not there."""
    for name, cameras in by_subject.get(f"S{take.subject}", {}).items():
        where = f"{member}, S{take.subject} {name!r}"
        if named_take(take.subject, str(name), where).seen_by(take.camera) != take:
            continue
        place = CAMERAS.index(take.camera)
        if not isinstance(cameras, list | tuple) or len(cameras) != len(CAMERAS):
            raise FormatError(where, f"a {type(cameras).__name__}", "a list of the four cameras")
        return _checked(cameras[place], (joints, 2), f"{where}, camera {take.camera}")
    return np.empty((0, joints, 2), np.float32)


def _checked(values: Any, shape: tuple[int, int], where: str) -> NDArray[Any]:
    """Return an array (T, *shape) of an npz file; raises `FormatError`."""
    expected = f"floating point numbers of shape (T, {shape[0]}, {shape[1]})"
    if not isinstance(values, np.ndarray):
        raise FormatError(where, f"the value {values!r:.40}", expected)
    if values.dtype.kind != "f" or values.shape[1:] != shape or not values.ndim:
        raise FormatError(where, f"an array of shape {values.shape} and dtype {values.dtype}", expected)
    return values


def _plausible(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    """Return positions as float64; raises `FormatError` for one beyond `MOST`. NaN is a missing joint."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        position = values.astype(np.float64)
    far = np.abs(position) > MOST
    if far.any():
        frame, joint, axis = np.argwhere(far)[0].tolist()
        raise FormatError(
            where,
            f"in frame {frame}, joint {joint} the coordinate {position[frame, joint, axis]}",
            "millimetres in a room",
            action="The file is damaged; fetch it again",
        )
    return position


def _fit(values: NDArray[Any], frames: int) -> NDArray[np.float32]:
    """Cut what goes beyond the poses, fill with NaN what is too short: videos and poses differ in length."""
    fitted = np.full((frames, *values.shape[1:]), np.nan, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a pixel of a point beside the camera may be anywhere
        fitted[: len(values)] = values[:frames]
    return fitted
