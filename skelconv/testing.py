"""Checks for those who add a dataset: `check_reader` tries a reader on a folder of its raw files.

It is meant for a test of the reader's own package, on a few small genuine files. What it checks is what
docs/adding-a-dataset.md promises of a reader, and what ingest relies on.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from skelconv.clean.chains import find_chain
from skelconv.store.schema import BASE_COLUMNS, split_column
from skelformats.errors import FormatError, SkelconvError
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Refused, Source, Track
from skelformats.skeleton import load_skeleton

PARTS = ("train", "test", "val", "")
_NUMBERS: Mapping[str, tuple[type, ...]] = {
    "i4": (int, np.integer),
    "i8": (int, np.integer),
    "f4": (int, float, np.number),
    "f8": (int, float, np.number),
}
_DAMAGED_SOURCES = 3


class ReaderError(SkelconvError, AssertionError):
    """A reader does not do what is expected of every reader; the text says which source, and what."""


@dataclass(frozen=True)
class Checked:
    """What `check_reader` went through.

    ``refused`` counts recordings that were set aside alone; ``damaged`` the damaged copies that were tried.
    """

    sources: int
    recordings: int
    tracks: int
    frames: int
    refused: int
    damaged: int


def check_reader(
    reader: Reader,
    folder: str | Path,
    options: ReadOptions | None = None,
    damaged: int = 100,
    seed: int = 0,
) -> Checked:
    """Try a reader on a folder of raw files that it should be able to read.

    Checked are the dataset's description; that ``scan`` is sorted, repeatable, goes by names and sizes alone
    and stays in the folder; that ``read`` gives the same twice, with shapes, dtypes, frame numbers, labels,
    splits, columns and tables as the dataset says; and that damaged copies of a source are read or refused
    with `FormatError`, nothing else.

    Parameters
    ----------
    options
        What to ask of the reader; by default its options' defaults, and no optional arrays.
    damaged
        How many damaged copies to try, of the smallest sources.
    seed
        Of the damage.

    Raises
    ------
    ReaderError
        The reader does something else, on the first thing that is found.
    """
    root = Path(folder)
    asked = options or reader.options()
    dataset = reader.dataset_of(root, asked)
    joints = _check_dataset(reader, dataset)
    sources = _check_scan(reader, root, asked)
    checker = _Clips(dataset, joints, asked)
    refused = 0
    for source in sources:
        first, second = (_read(reader, root, source, asked) for _ in range(2))
        _require(_same(first, second), source.path, "another result at the second reading", "the same")
        for found in first:
            if isinstance(found, Refused):
                refused += 1
            else:
                checker.check(source.path, found)
    _require(bool(checker.names), str(root), "no recording", "files that the reader can read")
    tried = _check_damage(reader, root, sources, asked, damaged, np.random.default_rng(seed))
    return Checked(len(sources), len(checker.names), checker.tracks, checker.frames, refused, tried)


def _require(holds: bool, where: str, found: str, expected: str) -> None:
    if not holds:
        raise ReaderError(f"{where}: found {found}, expected {expected}")


def _check_dataset(reader: Reader, dataset: Dataset) -> int:
    """Check a dataset's description; return the number of its joints."""
    where = f"dataset {dataset.name}"
    _require(dataset.name == reader.name, where, "another name", f"{reader.name!r}, that of the reader")
    find_chain(dataset.cleaning)
    names = [column.name for column in (*BASE_COLUMNS, *dataset.columns)]
    names += [split_column(protocol.name) for protocol in dataset.protocols]
    twice = sorted({name for name in names if names.count(name) > 1})
    _require(
        not twice,
        where,
        f"the column names {twice} twice",
        "names of their own, and not those of every store",
    )
    _require(len(set(dataset.classes)) == len(dataset.classes), where, "a class name twice", "each once")
    axes = len(dataset.axes)
    order, sign = dataset.axis_map.order[:axes], dataset.axis_map.sign[:axes]
    _require(
        axes in (2, 3) and sorted(order) == list(range(axes)) and set(sign) <= {-1, 1},
        where,
        f"axes {dataset.axes} with the map {dataset.axis_map}",
        "two or three axes, in an order and with signs",
    )
    return len(load_skeleton(dataset.skeleton))


def _check_scan(reader: Reader, root: Path, options: ReadOptions) -> list[Source]:
    """Check what ``scan`` lists, and that it goes by names and sizes; return it."""
    sources = reader.scan(root, options)
    paths = [source.path for source in sources]
    _require(bool(sources), str(root), "no source", "at least one")
    _require(paths == sorted(paths), str(root), "sources in another order", "sorted by path")
    _require(len(set(paths)) == len(paths), str(root), "a source's path twice", "each once")
    _require(reader.scan(root, options) == sources, str(root), "another list at the second scan", "the same")
    for source in sources:
        for path in (source.path, *source.members):
            place = PurePosixPath(path)
            inside = not place.is_absolute() and ".." not in place.parts and "\\" not in path
            inside = inside and (root / path).resolve().is_relative_to(root.resolve())
            _require(inside, path, "a path that leaves the folder", "one below it, with forward slashes")
            _require((root / path).is_file(), path, "no such file", "a file that is there")
        sizes = [(root / path).stat().st_size for path in (source.path, *source.members)]
        fits = sizes[0] <= source.size <= sum(sizes)
        _require(fits, source.path, f"{source.size} bytes", f"{sizes[0]}, or up to {sum(sizes)} with members")
    with tempfile.TemporaryDirectory() as made:
        hollow = Path(made) / "raw"
        shutil.copytree(root, hollow)
        for source in sources:
            for path in (source.path, *source.members):
                _hollow(hollow / path)
        again = reader.scan(hollow, options)
    _require(again == sources, str(root), "another list where the files are zeros", "one by names and sizes")
    return sources


def _hollow(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size)


def _read(reader: Reader, root: Path, source: Source, options: ReadOptions) -> list[Clip | Refused]:
    try:
        return list(reader.read(root, source, options))
    except FormatError as error:
        raise ReaderError(f"{source.path}: it was refused: {error}") from error


class _Clips:
    """Checks recordings one by one, and counts them."""

    def __init__(self, dataset: Dataset, joints: int, options: ReadOptions) -> None:
        self.dataset = dataset
        self.joints = joints
        self.options = options
        self.names: set[str] = set()
        self.tracks = self.frames = 0

    def check(self, path: str, clip: Clip) -> None:
        """Check a recording; raises `ReaderError`."""
        where = f"{path}, recording {clip.recording!r}"
        _require(bool(clip.recording) and clip.recording not in self.names, where, "this name", "a new one")
        self.names.add(clip.recording)
        most = len(self.dataset.classes)
        _require(-1 <= clip.label < max(most, 1), where, f"the label {clip.label}", f"-1 to {most - 1}")
        protocols = [protocol.name for protocol in self.dataset.protocols]
        _require(set(clip.splits) == set(protocols), where, f"splits {sorted(clip.splits)}", f"{protocols}")
        odd = set(clip.splits.values()) - set(PARTS)
        _require(not odd, where, f"the parts {sorted(odd)} of a split", f"one of {PARTS}")
        tables = {table.name: table for table in self.dataset.tables}
        _require(set(clip.tables) <= set(tables), where, f"tables {sorted(clip.tables)}", f"{sorted(tables)}")
        for name, rows in clip.tables.items():
            for row in rows:
                self._check_row(f"{where}, table {name}", tables[name].columns, row)
        bodies = [track.body for track in clip.tracks]
        _require(len(set(bodies)) == len(bodies), where, f"the bodies {bodies}", "each once")
        for track in clip.tracks:
            self._check_track(f"{where}, body {track.body!r}", clip, track)
        if not clip.tracks:
            declared = {column.name for column in self.dataset.columns}
            odd = set(clip.columns) - declared
            _require(not odd, where, f"the columns {sorted(odd)}", f"of {sorted(declared)}")

    def _check_track(self, where: str, clip: Clip, track: Track) -> None:
        position, frames = track.position, track.frame_index
        count = len(frames)
        axes = len(self.dataset.axes)
        self.tracks += 1
        self.frames += count
        _array(where, "frame_index", frames, (count,), "int32")
        _require(count > 0, where, "no frames", "at least one, or no track")
        _require(
            bool((np.diff(frames) > 0).all()), where, "frame numbers that do not increase", "strictly so"
        )
        last = int(frames[-1])
        _require(
            frames[0] >= 0 and last < clip.length,
            where,
            f"frames to {last}",
            f"0 to {clip.length - 1}, its length",
        )
        _array(where, "position", position, (count, self.joints, axes), "float32")
        missing = np.isnan(position)
        _require(
            not np.isinf(position).any(), where, "infinite positions", "numbers, or NaN for a missing joint"
        )
        _require(
            bool((missing.all(axis=-1) == missing.any(axis=-1)).all()),
            where,
            "a joint that is NaN in some axes",
            "NaN in all of them, or in none",
        )
        confidence = self.dataset.confidence
        if confidence is None:
            _require(track.confidence is None, where, "a confidence", "none, as the dataset has none")
        else:
            _require(track.confidence is not None, where, "no confidence", "one, as the dataset has it")
            kind = str(np.dtype(confidence.dtype))
            _array(where, "confidence", np.asarray(track.confidence), (count, self.joints), kind)
            states = set(np.unique(np.asarray(track.confidence)).tolist()) if confidence.states else set()
            _require(
                states <= set(confidence.states), where, f"the states {states}", f"{dict(confidence.states)}"
            )
        wanted = {*self.options.extras, *self.dataset.always}
        _require(set(track.extras) == wanted, where, f"arrays {sorted(track.extras)}", f"{sorted(wanted)}")
        for name, values in track.extras.items():
            extra = self.dataset.extra(name)
            tail = tuple(self.joints if dim == "joint" else len(extra.labels[dim]) for dim in extra.dims)
            _array(where, name, values, (count, *tail), str(np.dtype(extra.dtype)))
        self._check_row(where, self.dataset.columns, {**clip.columns, **track.columns})

    def _check_row(self, where: str, columns: Sequence[Column], row: Mapping[str, Any]) -> None:
        names = {column.name for column in columns}
        _require(set(row) == names, where, f"the columns {sorted(row)}", f"{sorted(names)}")
        for column in columns:
            value = row[column.name]
            if column.shape:
                shape = np.shape(value)
                _require(shape == column.shape, where, f"{column.name} of shape {shape}", f"{column.shape}")
                continue
            kinds = _NUMBERS.get(column.dtype, (str,))
            fits = isinstance(value, kinds) and not isinstance(value, bool)
            _require(fits, where, f"{column.name} {value!r:.40}", f"a value of the dtype {column.dtype}")


def _array(where: str, what: str, values: Any, shape: tuple[int, ...], dtype: str) -> None:
    found = f"{getattr(values, 'shape', type(values).__name__)} {getattr(values, 'dtype', '')}"
    fits = isinstance(values, np.ndarray) and values.shape == shape and values.dtype == np.dtype(dtype)
    _require(fits, where, f"{what} of {found}", f"an array of shape {shape} and dtype {dtype}")


def _same(one: Any, other: Any) -> bool:
    """Whether two results of a reader are equal, arrays bit for bit."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, Clip | Track | Refused):
        return _same(vars(one), vars(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other or one != one)


def _check_damage(
    reader: Reader,
    root: Path,
    sources: Sequence[Source],
    options: ReadOptions,
    copies: int,
    rng: np.random.Generator,
) -> int:
    """Read damaged copies of the smallest sources; return how many there were."""
    small = sorted(sources, key=lambda source: source.size)[:_DAMAGED_SOURCES]
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "raw"
        shutil.copytree(root, place)
        for number in range(copies):
            source = small[number % len(small)]
            path = (source.path, *source.members)[number % (1 + len(source.members))]
            content = (place / path).read_bytes()
            kind, broken = damage(content, rng)
            (place / path).write_bytes(broken)
            try:
                with contextlib.suppress(FormatError):
                    reader.read(place, source, options)
            except Exception as error:
                found = f"{type(error).__name__} ({error})"
                raise ReaderError(
                    f"{path}, {kind} (copy {number}): found {found}, expected FormatError"
                ) from error
            (place / path).write_bytes(content)
    return copies


def damage(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done to a file, in words, and the file after it."""
    at = int(rng.integers(0, len(content) + 1))
    match int(rng.integers(0, 6)):
        case 0:
            return f"cut off at byte {at}", content[:at]
        case 1:
            size = int(rng.integers(1, 65))
            return f"with {size} zero bytes at {at}", content[:at] + bytes(size) + content[at + size :]
        case 2:
            odd = _ODD[int(rng.integers(0, len(_ODD)))]
            return f"with {odd!r} put in at {at}", content[:at] + odd + content[at:]
        case 3:
            stop = min(len(content), at + int(rng.integers(1, 200)))
            return f"without bytes {at} to {stop}", content[:at] + content[stop:]
        case 4:
            size = int(rng.integers(1, 9))
            noise = rng.bytes(size)
            return f"with {size} random bytes at {at}", content[:at] + noise + content[at + size :]
        case _:
            flipped = bytearray(content)
            for place in rng.integers(0, len(content), int(rng.integers(1, 5))) if content else ():
                flipped[place] ^= 1 << int(rng.integers(0, 8))
            return "with flipped bits", bytes(flipped)


_ODD = (
    b"",
    b"nan",
    b"-1",
    b"1e999",
    b"99999999999",
    b"[",
    b"]",
    b"{",
    b'"',
    b",",
    b"\x00",
    b"\xff\xfe",
    b"\n",
)
