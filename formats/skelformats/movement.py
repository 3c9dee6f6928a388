"""Poses as the ``movement`` package keeps them: netCDF-4 files, one a recording.

A file is an xarray Dataset with ``position`` (time, space, keypoints, individuals) and ``confidence`` (time,
keypoints, individuals), and the attributes ``ds_type``, ``time_unit``, ``fps`` and ``source_software``
(movement's guide, "The movement datasets"). What ``skelconv export --to movement`` writes also says what else
the store held, so nothing has to be told again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError, SkelconvError
from skelformats.exported import described_folder, refuse_options
from skelformats.files import list_sources
from skelformats.hdf5 import DAMAGED, read_hdf5
from skelformats.keypoints import recording_name
from skelformats.own_data import CITATION, GIVEN_LICENCE, LICENCE, UNIT, UP, Description, unit_of
from skelformats.reader import Clip, Column, Dataset, Option, Reader, ReadOptions, Source, Track
from skelformats.skeleton import load_skeleton
from skelformats.table_columns import match_joints, read_names

EXPECTED = "a netCDF-4 file of poses as movement writes them"
ROW = "skelconv"
"""Attribute in which an export keeps what movement has no place for, as JSON."""
OBSERVED = "observed"
"""Variable (time, individuals) of an export: whether a body was there, perhaps without any joint."""

_MOST_BYTES = 2**33
_MOST_NAMES = 100_000
_LONGEST_ATTRIBUTE = 16_000_000
_NEAR = 0.02
"""How far a time may be from that of a whole frame, in frames."""
_NO_COORDINATE = b"This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True, eq=False)
class _Poses:
    """A file: (T, S, K, I) float32 positions, (T, K, I) confidences, (T,) numbers of frames, names."""

    position: NDArray[np.float32]
    confidence: NDArray[np.float32]
    observed: NDArray[np.bool_]
    frame: NDArray[np.int64]
    keypoints: list[str]
    individuals: list[str]
    frame_rate: float | None
    software: str
    row: Mapping[str, Any]


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every ``.nc`` file below ``root``, by name and size."""
    return list_sources(root, ".nc")


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Describe the files as the first one that can be read has it, or as the export says.

    Raises
    ------
    SkelconvError
        No layout is given, or there is no such layout, unit or axis; or something is told that an export says
        itself.
    """
    described = described_folder(root)
    if described is not None:
        refuse_options(root, options, MOVEMENT.dataset.options)
        return replace(described[0], name="movement")
    chosen = options.values
    if not chosen["skeleton"]:
        raise SkelconvError(
            "found no --skeleton, expected the joint layout of the keypoints: skelconv skeletons lists them, "
            "and a TOML file of your own is one too"
        )
    sources = options.wanted(scan(root, options))
    newest = max((int((root / source.path).stat().st_mtime_ns) for source in sources), default=0)
    axes, confidence, rate = _first(root, tuple(source.path for source in sources), newest)
    return Description(
        chosen["skeleton"],
        axes,
        unit_of(chosen["unit"], axes),
        chosen["up"],
        chosen["frame_rate"] or rate,
        columns=(Column("source_software", "string", "software that found the poses, as the file says"),),
        confidence=confidence,
        name="movement",
        title="poses of movement (netCDF)",
        licence=chosen["licence"],
        citation=chosen["citation"],
    ).dataset()


@lru_cache(maxsize=4)
def _first(root: Path, paths: tuple[str, ...], newest: int) -> tuple[int, bool, float | None]:
    """Return axes, whether there is a confidence, and the frame rate of the first file that can be read."""
    for path in paths:
        try:
            poses = _load(root / path)
        except FormatError:
            continue  # it is set aside by name when it is read
        return poses.position.shape[1], bool(np.isfinite(poses.confidence).any()), poses.frame_rate
    return 2, True, None


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Read the recording of one file, each individual a sequence.

    Raises
    ------
    FormatError
        The file is not of this form or not like the first one, or its keypoints are not those of the layout.
    """
    path = root / source.path
    dataset, poses = configure(root, options), _load(path)
    if poses.position.shape[1] != len(dataset.axes):
        raise FormatError(
            path, f"{poses.position.shape[1]} axes", f"the {len(dataset.axes)} of the first file"
        )
    _check_rate(path, poses.frame_rate, dataset.frame_rate, bool(options.values["frame_rate"]))
    skeleton = load_skeleton(dataset.skeleton)
    names = read_names(options.values["columns"])
    joints = match_joints(path, poses.keypoints, skeleton, names, bool(options.values["partial"]))
    given = [poses.keypoints.index(name) for name in joints]
    bodies = (
        _row(path, poses, dataset)
        if poses.row
        else [(name, {"source_software": poses.software}) for name in poses.individuals]
    )
    tracks = []
    for number, (body, columns) in enumerate(bodies):
        seen = poses.observed[:, number]
        position = np.full((int(seen.sum()), len(skeleton), len(dataset.axes)), np.nan, np.float32)
        position[:, list(joints.values())] = poses.position[seen][..., given, number].transpose(0, 2, 1)
        position[~np.isfinite(position).all(axis=-1)] = np.nan
        confidence = None
        if dataset.confidence is not None:
            confidence = np.zeros(position.shape[:2], dataset.confidence.dtype)
            sure = poses.confidence[seen][:, given, number]
            confidence[:, list(joints.values())] = sure if poses.row else np.nan_to_num(sure)
        if seen.any():
            frame = poses.frame[seen].astype(np.int32)
            tracks.append(Track(body, frame, position, confidence, {}, columns))
    length = int(poses.frame[-1]) + 1 if len(poses.frame) else 0
    if not poses.row:
        return [Clip(recording_name(source.path), length, tuple(tracks), -1, {}, {})]
    row = poses.row
    return [Clip(row["recording"], length, tuple(tracks), row["label"], {}, dict(row["splits"]))]


def _check_rate(path: Path, found: float | None, first: float | None, asked: bool) -> None:
    """Raise `FormatError` where a file has another frame rate than the first one, and the user gives none."""
    if found is not None and first is not None and not asked and not np.isclose(found, first):
        raise FormatError(path, f"{found:g} frames a second", f"{first:g}, as in the first file")


def _row(path: Path, poses: _Poses, dataset: Dataset) -> list[tuple[str, dict[str, Any]]]:
    """Return each body and its columns as an export wrote them."""
    row, found = poses.row, []
    try:
        if not isinstance(row["recording"], str) or not -1 <= int(row["label"]) < len(dataset.classes):
            raise ValueError(f"label {row['label']!r:.40} of {row['recording']!r:.40}")
        if set(row["splits"]) != {split.name for split in dataset.protocols}:
            raise ValueError(f"splits {sorted(row['splits'])}")
        if len(row["bodies"]) != len(poses.individuals):
            raise ValueError(f"{len(row['bodies'])} bodies")
        for body in row["bodies"]:
            columns = {column.name: _cell(body["columns"][column.name], column) for column in dataset.columns}
            found.append((str(body["body"]), columns))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(
            path, f"the attribute {ROW!r} with {error}", "what skelconv export writes. Export the store again"
        ) from error
    return found


def _cell(value: Any, column: Column) -> Any:
    if column.shape:
        dtype: Any = object if column.dtype == "string" else column.dtype
        return np.array(value, dtype).reshape(column.shape)
    return str(value) if column.dtype == "string" else int(value) if column.dtype[0] == "i" else float(value)


def _load(path: Path) -> _Poses:
    """Read one file; raises `FormatError`."""
    about = _attributes(path)
    kind = about.get("ds_type", "poses")
    if kind != "poses":
        raise FormatError(path, f"a dataset of {kind!r:.40}", "one of poses, with keypoints")

    def array(name: str, dims: int, expected: str) -> NDArray[np.float32]:
        values = read_hdf5(
            path, name, lambda shape, dtype: len(shape) == dims and dtype.kind in "fiu", expected, _MOST_BYTES
        )
        with np.errstate(over="ignore"):
            return values.astype(np.float32)

    position = array("position", 4, "numbers of position (time, space, keypoints, individuals)")
    keypoints = _names(path, "keypoints", "keypoint")
    individuals = _names(path, "individuals", "individual")
    frames, axes = position.shape[:2]
    if position.shape[2:] != (len(keypoints), len(individuals)) or axes not in (2, 3):
        raise FormatError(
            path,
            f"position of shape {position.shape}",
            f"(time, 2 or 3, {len(keypoints)} keypoints, {len(individuals)} individuals)",
        )
    confidence = array("confidence", 3, "numbers of confidence (time, keypoints, individuals)")
    if confidence.shape != (frames, *position.shape[2:]):
        raise FormatError(path, f"confidence of shape {confidence.shape}", f"{(frames, *position.shape[2:])}")
    whole = np.isfinite(position).all(axis=1)
    observed: NDArray[np.bool_] = np.any(whole, axis=1)
    if OBSERVED in about["names"]:
        observed = array(OBSERVED, 2, "numbers of observed (time, individuals)") > 0
        if observed.shape != (frames, len(individuals)):
            raise FormatError(path, f"observed of shape {observed.shape}", f"{(frames, len(individuals))}")
    rate = about.get("fps")
    rate = float(rate) if isinstance(rate, int | float | np.number) and rate > 0 else None
    return _Poses(
        position,
        confidence,
        observed,
        _frames(path, frames, about, rate),
        keypoints,
        individuals,
        rate,
        str(about.get("source_software", "")),
        _told(path, about),
    )


def _attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a file that are asked for, and under ``names`` what it holds."""
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Any] = {}
            for name in ("ds_type", "fps", "time_unit", "source_software", ROW):
                if name in file.attrs and file.attrs.get_id(name).get_storage_size() <= _LONGEST_ATTRIBUTE:
                    value = file.attrs[name]
                    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
                    found[name] = value.decode() if isinstance(value, bytes) else value
            dims = [
                name
                for name in file
                if name in ("time", "keypoints", "individuals", "keypoint", "individual")
                and not bytes(file[name].attrs.get("NAME", b"")).startswith(_NO_COORDINATE)
            ]
            return {**found, "names": [name for name in file if name == OBSERVED], "coordinates": dims}
    except DAMAGED as error:
        with path.open("rb") as stream:
            classic = stream.read(3) == b"CDF"
        raise FormatError(
            path,
            "a file of netCDF 3" if classic else f"a file that HDF5 cannot read ({str(error)[:200]})",
            EXPECTED,
            action='Save it with to_netcdf(..., engine="h5netcdf")'
            if classic
            else "It may be cut off; fetch it again",
        ) from error


def _names(path: Path, *known: str) -> list[str]:
    """Return the labels of a dimension by the first of its names that is there."""
    problem: FormatError | None = None
    for name in known:
        try:
            labels = read_hdf5(
                path,
                name,
                lambda shape, dtype: len(shape) == 1 and shape[0] <= _MOST_NAMES and dtype.kind in "OS",
                f"names along {name}",
                _MOST_BYTES,
            )
        except FormatError as error:
            problem = problem or error
            continue
        try:
            names = [label.decode() if isinstance(label, bytes) else str(label) for label in labels.tolist()]
        except UnicodeDecodeError as error:
            raise FormatError(path, f"{name} that are not text ({error})", "names as UTF-8") from error
        if len(set(names)) != len(names):
            raise FormatError(path, f"one of the {name} twice", "each once")
        return names
    raise problem or FormatError(path, "no names", EXPECTED)


def _frames(path: Path, count: int, about: Mapping[str, Any], rate: float | None) -> NDArray[np.int64]:
    """Return the frames' numbers, from times in frames or seconds."""
    if "time" not in about["coordinates"]:
        return np.arange(count)
    time = read_hdf5(
        path,
        "time",
        lambda shape, dtype: shape == (count,) and dtype.kind in "fiu",
        f"{count} times",
        _MOST_BYTES,
    ).astype(np.float64)
    unit = about.get("time_unit", "seconds" if rate else "frames")
    if unit == "seconds":
        if rate is None:
            raise FormatError(path, "times in seconds and no fps", "the attribute fps: frames a second")
        time = time * rate
    with np.errstate(invalid="ignore"):
        number = np.round(time)
        fits = (np.abs(time - number) < _NEAR).all() and (np.diff(number) > 0).all()
    if not fits or (count and not (number[0] >= 0 and number[-1] < 2**31 - 1)):
        raise FormatError(
            path, f"times that are not those of frames, in {unit!r:.20}", "rising whole frames from 0 on"
        )
    return number.astype(np.int64)


def _told(path: Path, about: Mapping[str, Any]) -> Mapping[str, Any]:
    text = about.get(ROW)
    if text is None:
        return {}
    try:
        row = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(path, f"the attribute {ROW!r}, which is not JSON ({error})", EXPECTED) from error
    if not isinstance(row, dict):
        raise FormatError(path, f"the attribute {ROW!r} of type {type(row).__name__}", "an object")
    return row


MOVEMENT = Reader(
    dataset=Dataset(
        name="movement",
        title="poses of movement (netCDF)",
        skeleton="coco17",
        licence=GIVEN_LICENCE,
        citation="",
        homepage="https://movement.neuroinformatics.dev",
        frame_rate=None,
        classes=(),
        columns=(Column("source_software", "string", "software that found the poses, as the file says"),),
        protocols=(),
        missing="NaN",
        options=(
            Option(
                "skeleton", str, "", "Joint layout of the keypoints: its name, or a TOML file of your own."
            ),
            UNIT,
            UP,
            Option("frame_rate", float, 0.0, "Frames a second; 0 for what the first file says."),
            Option("columns", Path, None, "TOML file that names keypoints (docs/own-data.md)."),
            Option("partial", bool, False, "Store joints of the layout that the files lack as missing."),
            LICENCE,
            CITATION,
        ),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
