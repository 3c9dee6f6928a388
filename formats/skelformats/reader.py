"""What a dataset reader is: `Reader`, `Source`, `Clip`, and the registry they are found through.

A reader is data (a `Dataset` that describes the distribution) and two functions, ``scan`` and ``read``.
Readers are found through the entry-point group ``skelconv.readers``, so other packages can add their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError, SkelconvError, UnknownNameError, is_text, printable
from skelformats.registry import Registry

ENTRY_POINT_GROUP = "skelconv.readers"

Value = str | int | float


@dataclass(frozen=True)
class AxisMap:
    """A signed permutation and a scale: canonical[..., a] = sign[a] * scale * raw[..., order[a]].

    Canonical axes of a 3D store are right-handed, in metres, with +y up.
    """

    order: tuple[int, ...] = (0, 1, 2)
    sign: tuple[int, ...] = (1, 1, 1)
    scale: float = 1.0

    def to_canonical(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map raw positions to canonical ones; shape (..., axis), float32 in and out."""
        if self.order == tuple(range(len(self.order))) and set(self.sign) == {1} and self.scale == 1.0:
            return raw
        factor = np.asarray(self.sign, np.float64) * self.scale
        return (raw[..., list(self.order)] * factor).astype(np.float32)

    def to_raw(self, canonical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Invert `to_canonical`."""
        factor = np.asarray(self.sign, np.float64) * self.scale
        raw = np.empty_like(canonical)
        raw[..., list(self.order)] = (canonical / factor).astype(np.float32)
        return raw


@dataclass(frozen=True)
class Column:
    """One column of the sequence table, or of a side table: its name, its dtype in the store, its meaning.

    A column may hold a small array in each row, such as body shape coefficients or a camera matrix:
    ``shape`` is the shape of one value, ``dims`` names its axes. Arrays with ``shape`` () make up the
    DataFrame; the others are read as arrays.
    """

    name: str
    dtype: Literal["string", "i4", "i8", "f4", "f8"]
    description: str
    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class SideTable:
    """Rows that belong to the dataset rather than to a sequence: action intervals, cameras, ...

    It is stored as arrays ``<name>_<column>`` along the dimension ``name``, which no column may be called.
    Rows that agree in the columns ``key`` are one row; without a key every row is kept.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extra:
    """An optional array, kept with ``--with NAME``: one value block a frame.

    ``dims`` and ``labels`` describe the axes after ``frame``; ``joint`` needs no labels.
    """

    name: str
    dims: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    dtype: str
    unit: str
    description: str


@dataclass(frozen=True)
class Confidence:
    """How sure the source is of a joint: the dtype, and the meaning of each value where they are states."""

    dtype: Literal["u1", "f4"]
    description: str
    states: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """An official split; the store keeps it as the column ``split_<name>`` (train, test, val or empty)."""

    name: str
    description: str


@dataclass(frozen=True)
class Option:
    """A choice that a reader offers; becomes a flag of ``skelconv ingest <dataset>``."""

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Everything that holds for a whole distribution and is written into the store's attributes.

    ``unit`` and ``axes`` describe the canonical values that the store holds, ``axis_map`` how they came
    from the raw ones. ``missing`` says in words how the source marks a missing joint. ``cleaning`` names the
    cleaning chain that the dataset is published with (docs/cleaning.md), ``metric`` where there is none: only
    the translation to the first pose. ``generated`` says how the files were generated, where nobody was
    recorded; ingest fills it in. ``always`` names the optional arrays that are kept without being asked for,
    which every track then has.
    """

    name: str
    title: str
    skeleton: str
    licence: str
    citation: str
    homepage: str
    frame_rate: float | None
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    protocols: tuple[Protocol, ...]
    missing: str
    unit: str = "m"
    axes: tuple[str, ...] = ("x", "y", "z")
    axis_convention: str = "right-handed, +y up"
    axis_map: AxisMap = AxisMap()
    confidence: Confidence | None = None
    extras: tuple[Extra, ...] = ()
    always: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    tables: tuple[SideTable, ...] = ()
    cleaning: str = "metric"
    generated: str = ""

    def extra(self, name: str) -> Extra:
        """Return the optional array called ``name``; raises `UnknownNameError`."""
        for extra in self.extras:
            if extra.name == name:
                return extra
        raise UnknownNameError("optional array", name, tuple(e.name for e in self.extras))


@dataclass(frozen=True)
class Source:
    """One raw file (or the few that belong together), by its path relative to the raw root.

    ``path`` uses forward slashes. ``size`` is its size in bytes, as the directory tells it, or that of
    several of its files together. ``members`` are further files that belong to it. ``recording`` is the name
    that ``scan`` gives the recording where the one in the file's own name is taken by an earlier source;
    usually empty.
    """

    path: str
    size: int
    members: tuple[str, ...] = ()
    recording: str = ""


@dataclass(frozen=True, eq=False)
class Track:
    """One body through one recording, only the frames in which it was observed.

    Attributes
    ----------
    body
        The source's own id of the body, as text; never a float.
    frame_index
        (T,) int32, strictly increasing: the frame's number in its recording.
    position
        (T, J, A) float32, raw axes and unit; a missing joint is NaN in every axis.
    confidence
        (T, J) in the dataset's confidence dtype, or None.
    extras
        The optional arrays asked for, each (T, ...).
    columns
        Values of the table's columns that differ from body to body; they win over those of the clip.
    """

    body: str
    frame_index: NDArray[np.int32]
    position: NDArray[np.float32]
    confidence: NDArray[Any] | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    columns: Mapping[str, Value | NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Clip:
    """One recording as parsed: its name, its length in frames, its tracks and its row of the table.

    ``label`` is the 0-based class, -1 for none; ``columns`` holds a value for each of the dataset's columns
    that the tracks do not give; ``splits`` one of train, test, val or empty for each protocol; ``tables``
    rows of the dataset's side tables, by table, each with a value for every column.
    """

    recording: str
    length: int
    tracks: tuple[Track, ...]
    label: int
    columns: Mapping[str, Value | NDArray[Any]]
    splits: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A recording that is set aside alone, while the others of its source are kept.

    ``reason`` is a whole message: which file (relative to the raw root), what was found, what was expected;
    ``line`` is that file's 1-based line, where it is text.
    """

    recording: str
    reason: str
    line: int | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What the user asked of a reader: optional arrays, values of the reader's own options, and one file.

    ``only`` is the one file of the raw folder that is to be read, by its path in it; empty for all.
    """

    extras: frozenset[str] = frozenset()
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    only: str = ""

    def wanted(self, sources: Iterable[Source]) -> list[Source]:
        """Return the sources that are to be read."""
        return [s for s in sources if not self.only or self.only in (s.path, *s.members)]


@dataclass(frozen=True)
class Reader:
    """A dataset's reader: found by name, used from worker processes.

    ``scan(root, options)`` lists the sources by name and size only, sorted by path; it opens no skeleton
    file. ``read(root, source, options)`` parses one source into its recordings, and raises `FormatError`; it
    may return a `Refused` in place of a recording, where only that one is bad.
    ``configure(root, options)`` gives the dataset as it comes out under these options, where layout, axes or
    columns depend on them (or on what the files are); without it they never change. All are module-level
    functions, so that a worker finds them again by the reader's name. ``own`` are patterns of names, such as
    ``*.skeleton``, of files that look like the dataset's: those that ``scan`` does not list are counted and
    named. Without any, they are the files that end like a source.
    """

    dataset: Dataset
    scan: Callable[[Path, ReadOptions], list[Source]]
    read: Callable[[Path, Source, ReadOptions], Sequence[Clip | Refused]]
    configure: Callable[[Path, ReadOptions], Dataset] | None = None
    own: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # of any package's reader: what a store cannot hold sets aside one source or recording
        object.__setattr__(self, "read", partial(_read_checked, self.read))

    def dataset_of(self, root: Path, options: ReadOptions) -> Dataset:
        """Return the dataset as it comes out of ``root`` under ``options``; raises `FormatError`."""
        return self.dataset if self.configure is None else self.configure(root, options)

    @property
    def name(self) -> str:
        """The dataset's name, as ``skelconv ingest`` takes it."""
        return self.dataset.name

    def options(self, extras: Sequence[str] = (), **values: Any) -> ReadOptions:
        """Check the optional arrays and option values asked for, fill in defaults.

        Raises
        ------
        UnknownNameError
            For an optional array or option that this dataset does not have.
        """
        for name in extras:
            self.dataset.extra(name)
        known = {option.name: option for option in self.dataset.options}
        for name in values:
            if name not in known:
                raise UnknownNameError(f"option of {self.name}", name, tuple(known))
        filled = {name: values.get(name, option.default) for name, option in known.items()}
        return ReadOptions(frozenset(extras), filled)


def _read_checked(
    read: Callable[[Path, Source, ReadOptions], Sequence[Clip | Refused]],
    root: Path,
    source: Source,
    options: ReadOptions,
) -> list[Clip | Refused]:
    """Read a source; a name that is not Unicode text sets aside the source, or the one recording of it."""
    for path in (source.path, *source.members):
        # `skelformats.files` lists such names with escapes, under which nothing is found
        if not is_text(path) or ("\\udc" in path and not (root / path).exists()):
            raise FormatError(path, "a name that is not UTF-8", "a UTF-8 name", action="Rename the file")
    return [
        found if isinstance(found, Refused) else _checked_clip(source, found)
        for found in read(root, source, options)
    ]


def _checked_clip(source: Source, clip: Clip) -> Clip | Refused:
    for what, text in _texts(clip):
        if not is_text(text):
            error = FormatError(source.path, f"the {what} {text!r}", "text that is valid Unicode")
            return Refused(printable(clip.recording), str(error))
    return clip


def _texts(clip: Clip) -> Iterator[tuple[str, str]]:
    """Yield every piece of text of a recording, with what it is."""
    yield "recording", clip.recording
    rows = [row for table in clip.tables.values() for row in table]
    for values in (clip.columns, *(track.columns for track in clip.tracks), *rows):
        for name, value in values.items():
            if isinstance(value, str):
                yield name, value
    for track in clip.tracks:
        yield "body", track.body


def reader_names() -> tuple[str, ...]:
    """Names of every installed reader, sorted."""
    return READERS.names()


def usable_readers() -> tuple[list[Reader], list[str]]:
    """Load every installed reader; return those that work, and for each other one the reason it does not."""
    readers, problems = [], []
    for name in reader_names():
        try:
            readers.append(find_reader(name))
        except SkelconvError as error:
            problems.append(str(error))
    return readers, problems


@cache
def find_reader(name: str) -> Reader:
    """Return the reader called ``name``; looking through the installed packages once takes milliseconds.

    Raises
    ------
    UnknownNameError
        No installed package offers it.
    SkelconvError
        The package that offers it cannot be imported, or offers no `Reader` of that name.
    """
    return READERS.find(name)


READERS = Registry(ENTRY_POINT_GROUP, "dataset", Reader)
"""Every installed reader, by the name of its dataset."""
