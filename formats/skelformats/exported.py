"""What ``skelconv export --to csv`` and ``--to parquet`` write, read back: `find_export`, `read_export`.

``about.json`` says what the store held, so nothing has to be told again. The frames of the whole export
are in memory while they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelformats import csv_text
from skelformats.errors import FormatError, SkelconvError
from skelformats.files import find_files
from skelformats.parquet_file import read_parquet
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Confidence,
    Dataset,
    Extra,
    Option,
    Protocol,
    ReadOptions,
    SideTable,
    Source,
    Track,
)
from skelformats.skeleton import Skeleton, load_skeleton

ABOUT, LAYOUT = "about.json", "skeleton.toml"
DESCRIBED = "described"
"""Key of ``about.json`` with the columns, optional arrays and side tables of the store."""
SEQUENCES, FRAMES = "sequences", "frames"
SUFFIXES = (".csv", ".parquet")
ORIGINAL = Column("raw_source", "string", "raw file of the exported store that the sequence came from")

_TYPES: Mapping[str, Literal["string", "i4", "i8", "f4", "f8"]] = {
    "string": "string",
    "i4": "i4",
    "i8": "i8",
    "f4": "f4",
    "f8": "f8",
}
_EXPECTED = "what skelconv export writes. Export the store again"
_KEYS = ("sequence", "frame", "joint")


@dataclass(frozen=True)
class Export:
    """An export: its folder, the form of its files, and what it holds.

    ``original`` is the column of ``sequences`` with the raw files of the store: of a store that was an export
    itself, those of the first one.
    """

    folder: Path
    suffix: str
    dataset: Dataset
    skeleton: Skeleton
    original: str

    def file(self, name: str) -> Path:
        """Path of the file of a table."""
        return self.folder / f"{name}{self.suffix}"


def find_export(folder: Path) -> Export | None:
    """Return the export that a folder is, or None.

    Raises
    ------
    FormatError
        Its ``about.json`` is damaged.
    """
    try:
        changed = (folder / ABOUT).stat().st_mtime_ns
    except OSError:
        return None
    return _find(folder, changed)


@lru_cache(maxsize=4)
def _find(folder: Path, changed: int) -> Export | None:
    suffix = next((suffix for suffix in SUFFIXES if (folder / f"{FRAMES}{suffix}").is_file()), None)
    described = None if suffix is None else described_folder(folder)
    if suffix is None or described is None:
        return None
    return Export(folder, suffix, *described)


def described_folder(folder: Path) -> tuple[Dataset, Skeleton, str] | None:
    """Return what the ``about.json`` of an export describes: dataset, layout, column of the raw files.

    None where there is no such file, or it is an earlier version's, whose tables are like any other's.

    Raises
    ------
    FormatError
        It is damaged.
    """
    path = folder / ABOUT
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(path, f"text that is not JSON ({error})", _EXPECTED) from error
    if not isinstance(about, dict) or DESCRIBED not in about:
        return None
    try:
        skeleton = Skeleton.from_dict(about["skeleton"], where=str(path))
        dataset = _dataset(about, _layout(folder, skeleton))
        own = {column["name"] for column in about[DESCRIBED]["columns"]}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(path, f"no description of a store ({error!r})", _EXPECTED) from error
    return dataset, skeleton, ORIGINAL.name if ORIGINAL.name in own else "source"


def refuse_options(folder: Path, options: ReadOptions, known: Sequence[Option]) -> None:
    """Raise `SkelconvError` where a user tells what an export says itself."""
    defaults = {option.name: option.default for option in known}
    told = [name for name, value in options.values.items() if value != defaults[name]]
    if told:
        raise SkelconvError(
            f"{folder}: found --{told[0].replace('_', '-')}, expected no such option: it was written by "
            "skelconv export, and says itself what it holds"
        )


def export_source(folder: Path) -> Source | None:
    """Return the one source that an export is, by the names of its files: frames, with the others as
    members.
    """
    for suffix in SUFFIXES:
        files = dict(find_files(folder, suffix)) | dict(find_files(folder, ".json"))
        frames = f"{FRAMES}{suffix}"
        if {frames, ABOUT, f"{SEQUENCES}{suffix}"} <= set(files):
            members = tuple(name for name in sorted(files) if name != frames and "/" not in name)
            return Source(frames, sum(files[name] for name in (frames, *members)), members)
    return None


def read_export(export: Export) -> list[Clip]:
    """Read every recording, as it stood in the store.

    Raises
    ------
    FormatError
        A file is damaged, or the tables do not belong together.
    """
    dataset = export.dataset
    rows = _read_table(export, SEQUENCES, _sequence_columns(export))
    path = export.file(SEQUENCES)
    ids = rows["sequence"]
    rows[ORIGINAL.name] = rows[export.original]
    if len(set(ids)) != len(ids):
        raise FormatError(path, f"a sequence twice in {path.name}", "each once")
    frames = _Frames.read(export, ids)
    recordings: dict[str, list[int]] = {}
    for row, recording in enumerate(rows["recording"]):
        recordings.setdefault(recording, []).append(row)
    side: dict[str, list[dict[str, Any]]] = {}
    for table in dataset.tables:
        cells = _read_table(export, table.name, table.columns)
        count = len(next(iter(cells.values()), ()))
        side[table.name] = [{name: values[row] for name, values in cells.items()} for row in range(count)]
    clips = []
    for recording, numbers in recordings.items():
        tracks = tuple(track for row in numbers if (track := frames.track(row, rows, dataset)) is not None)
        first = numbers[0]
        splits = {split.name: rows[f"split_{split.name}"][first] for split in dataset.protocols}
        length, label = rows["recording_length"][first], rows["label"][first]
        last = max((int(track.frame_index[-1]) for track in tracks), default=-1)
        if last >= length:
            raise FormatError(
                path,
                f"{recording} of {length} frames in {path.name}",
                f"the {last + 1} that it has in frames",
            )
        if not -1 <= label < len(dataset.classes):
            raise FormatError(path, f"the label {label} of {recording}", f"-1 to {len(dataset.classes) - 1}")
        clips.append(Clip(recording, length, tracks, label, {}, splits, side))
        side = {}
    return clips


def _sequence_columns(export: Export) -> tuple[Column, ...]:
    text = ("sequence", "recording", "body", export.original)
    splits = (f"split_{split.name}" for split in export.dataset.protocols)
    return (
        *(Column(name, "string", "") for name in (*text, *splits)),
        *(Column(name, "i4", "") for name in ("recording_length", "label")),
        *(column for column in export.dataset.columns if column.name != ORIGINAL.name),
    )


@dataclass(frozen=True, eq=False)
class _Frames:
    """The rows of ``frames``, sorted by sequence, frame and joint; where each sequence's begin and end."""

    path: Path
    skeleton: Skeleton
    values: Mapping[str, NDArray[Any]]
    frame: NDArray[np.int64]
    joint: NDArray[np.int64]
    bounds: NDArray[np.int64]

    @classmethod
    def read(cls, export: Export, ids: list[str]) -> _Frames:
        path = export.file(FRAMES)
        wanted = {name: dtype for name, dtype in _frame_columns(export.dataset)}
        table = _frames_file(export, list(wanted))
        place = {name: number for number, name in enumerate(ids)}
        sequence = _numbered(
            path, table["sequence"], place, f"the sequences of {export.file(SEQUENCES).name}", export
        )
        joints = {name: number for number, name in enumerate(export.skeleton.names)}
        joint = _numbered(path, table["joint"], joints, f"the joints of {export.skeleton.name}", export)
        frame = _whole(path, table["frame"])
        keys = np.stack([sequence, frame, joint])
        steps = np.diff(keys, axis=1)
        rising = (steps[0] > 0) | ((steps[0] == 0) & ((steps[1] > 0) | ((steps[1] == 0) & (steps[2] > 0))))
        order: Any = slice(None)
        if not rising.all():
            order = np.lexsort(keys[::-1])
            if (np.diff(keys[:, order], axis=1) == 0).all(axis=0).any():
                raise FormatError(path, "a joint twice in a frame", "each once a sequence")
        values = {name: _cells(path, table[name], name, dtype)[order] for name, dtype in wanted.items()}
        bounds = np.searchsorted(sequence[order], np.arange(len(ids) + 1))
        return cls(path, export.skeleton, values, frame[order], joint[order], bounds)

    def track(self, row: int, rows: Mapping[str, Any], dataset: Dataset) -> Track | None:
        """Return a sequence, or None where no frame of it is left."""
        at = slice(int(self.bounds[row]), int(self.bounds[row + 1]))
        frame, line = np.unique(self.frame[at], return_inverse=True)
        if not len(frame):
            return None
        joint = self.joint[at]

        def filled(names: list[str], dtype: str, empty: Any) -> NDArray[Any]:
            made = np.full((len(frame), len(self.skeleton), len(names)), empty, dtype)
            for number, name in enumerate(names):
                made[line, joint, number] = self.values[name][at]
            return made

        position = filled(list(dataset.axes), "f4", np.nan)
        position[~np.isfinite(position).all(axis=-1)] = np.nan
        confidence = None
        if dataset.confidence is not None:
            confidence = filled(["confidence"], dataset.confidence.dtype, 0)[..., 0]
        extras = {}
        for extra in dataset.extras:
            made = filled(_extra_columns(extra), extra.dtype, np.nan if extra.dtype[0] == "f" else 0)
            extras[extra.name] = made if len(extra.dims) == 2 else made[..., 0]
        columns = {column.name: rows[column.name][row] for column in dataset.columns}
        return Track(rows["body"][row], frame.astype(np.int32), position, confidence, extras, columns)


def _frames_file(export: Export, values: list[str]) -> pd.DataFrame:
    path = export.file(FRAMES)
    if export.suffix == ".parquet":
        table = read_parquet(path)
    else:
        numbers = [_escaped(name) for name in (*values, "frame")]
        how: dict[str, Any] = {"keep_default_na": False, "na_values": {name: [""] for name in numbers}}
        table = _read_csv(path, dtype={"sequence": "category", "joint": "category"}, **how)
        table = table.rename(columns={_escaped(name): name for name in values})
    lacking = [name for name in (*_KEYS, *values) if name not in table]
    if lacking:
        raise FormatError(path, f"no column {lacking[0]!r}", _EXPECTED)
    return table


def _frame_columns(dataset: Dataset) -> Iterator[tuple[str, str]]:
    yield from ((axis, "f4") for axis in dataset.axes)
    if dataset.confidence is not None:
        yield "confidence", dataset.confidence.dtype
    for extra in dataset.extras:
        yield from ((name, extra.dtype) for name in _extra_columns(extra))


def _extra_columns(extra: Extra) -> list[str]:
    return (
        [extra.name]
        if len(extra.dims) == 1
        else [f"{extra.name}_{label}" for label in extra.labels[extra.dims[1]]]
    )


def _numbered(
    path: Path, cells: pd.Series[Any], known: Mapping[str, int], what: str, export: Export
) -> NDArray[np.int64]:
    """Return the number of each cell's name; raises `FormatError` for one that is not known."""
    values = cells.astype("category")
    plain = _unescaped if export.suffix == ".csv" else str
    names = [plain(str(name)) for name in values.cat.categories]
    odd = next((name for name in names if name not in known), None)
    if odd is not None or values.isna().any():
        raise FormatError(path, f"the {cells.name} {odd!r:.60}", what)
    numbers = np.array([known[name] for name in names], np.int64)
    return numbers[values.cat.codes.to_numpy()] if len(names) else np.zeros(len(cells), np.int64)


def _whole(path: Path, cells: pd.Series[Any]) -> NDArray[np.int64]:
    values = _cells(path, cells, "frame", "f8")
    odd = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0) | (values > 2**31 - 2)
    if odd.any():
        raise FormatError(path, f"the frame {cells.iloc[int(odd.argmax())]}", "whole numbers from 0 on")
    return values.astype(np.int64)


def _cells(path: Path, cells: pd.Series[Any], name: str, dtype: str) -> NDArray[Any]:
    """Return a column of numbers in its dtype."""
    try:
        values = pd.to_numeric(cells).to_numpy()
        if dtype[0] in "iu" and (values.dtype.kind not in "iu" or (values.astype(dtype) != values).any()):
            raise ValueError("not all of it whole numbers")
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(
            path, f"the column {name} of {path.name} ({error})", f"numbers of the dtype {dtype}"
        ) from error


def _read_table(export: Export, name: str, columns: tuple[Column, ...]) -> dict[str, list[Any]]:
    """Return the columns of a table as lists of text, numbers or arrays."""
    path = export.file(name)
    if export.suffix == ".parquet":
        table = read_parquet(path)
    else:
        # as text first, so that text which looks like a number stays what it is
        table = _read_csv(path, dtype=str, keep_default_na=False)
    found: dict[str, list[Any]] = {}
    for column in columns:
        parts = [column.name]
        if column.shape and export.suffix == ".csv":
            parts = ["_".join(map(str, (column.name, *index))) for index in np.ndindex(column.shape)]
        if export.suffix == ".csv":
            parts = [_escaped(part) for part in parts]
        if not len(table):
            found[column.name] = []
            continue
        lacking = [part for part in parts if part not in table]
        if lacking:
            raise FormatError(path, f"no column {lacking[0]!r} in {path.name}", _EXPECTED)
        found[column.name] = _column(path, export, column, [table[part] for part in parts])
    return found


def _column(path: Path, export: Export, column: Column, parts: list[pd.Series[Any]]) -> list[Any]:
    """Return a column's cells, plain or as arrays; in CSV each value of an array is a part."""
    csv, text = export.suffix == ".csv", column.dtype == "string"
    if text and not column.shape:
        return _texts(parts[0], csv)
    if not column.shape:
        cells = parts[0].replace("", "nan") if csv else parts[0]
        return list(_cells(path, cells, column.name, column.dtype).tolist())
    dtype: Any = object if text else column.dtype
    try:
        if csv:
            cut = [_texts(part, csv) if text else part.replace("", "nan").to_numpy(str) for part in parts]
            return [np.array(row, dtype).reshape(column.shape) for row in zip(*cut, strict=True)]
        return [np.array(cell.tolist(), dtype).reshape(column.shape) for cell in parts[0]]
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise FormatError(
            path,
            f"the column {column.name} of {path.name} ({error})",
            f"{column.shape} values of {column.dtype}",
        ) from error


def _texts(cells: pd.Series[Any], escaped: bool) -> list[str]:
    texts = ["" if pd.isna(cell) else str(cell) for cell in cells]
    return [_unescaped(text) for text in texts] if escaped else texts


def _read_csv(path: Path, **how: Any) -> pd.DataFrame:
    try:
        return csv_text.read_csv(path, low_memory=False, **how)
    except UnicodeDecodeError as error:
        raise FormatError(path, f"bytes that are not text in {path.name} ({error})", _EXPECTED) from error
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise FormatError(path, f"no table {path.name} ({str(error).strip()})", _EXPECTED) from error


def _escaped(name: str) -> str:
    """Return a name as a CSV export writes it: skelconv.export.csv_cells says why."""
    return f"'{name}" if name and name[0] in "=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20" else name


def _unescaped(cell: str) -> str:
    return cell.removeprefix("'")


def _layout(folder: Path, skeleton: Skeleton) -> str:
    """Return a name that leads to the layout, or the file beside the tables."""
    try:
        if load_skeleton(skeleton.name) == skeleton:
            return skeleton.name
    except SkelconvError:
        return str(folder / LAYOUT)
    return str(folder / LAYOUT)


def _dataset(about: Mapping[str, Any], layout: str) -> Dataset:
    described, source = about[DESCRIBED], about["dataset"]
    columns = tuple(_described_column(column) for column in described["columns"])
    if all(column.name != ORIGINAL.name for column in columns):
        columns = (*columns, ORIGINAL)
    known = about["confidence"]
    extras = tuple(
        Extra(
            str(extra["name"]),
            tuple(extra["dims"]),
            {dim: tuple(map(str, labels)) for dim, labels in extra["labels"].items()},
            str(np.dtype(extra["dtype"]).str.lstrip("<|=")),
            str(extra["unit"]),
            str(extra["description"]),
        )
        for extra in described["extras"]
    )
    return Dataset(
        name="table",
        title=str(source["title"]),
        skeleton=layout,
        licence=str(source["licence"]),
        citation=str(source["citation"]),
        homepage=str(source["homepage"]),
        frame_rate=None if about["frame_rate"] is None else float(about["frame_rate"]),
        classes=tuple(map(str, about["classes"])),
        columns=columns,
        protocols=tuple(Protocol(str(name), str(text)) for name, text in about["protocols"].items()),
        missing=str(about["missing"]),
        unit=str(about["unit"]),
        axes=tuple(map(str, about["axes"]["names"])),
        axis_convention=str(about["axes"]["convention"]),
        # what an export holds is in the axes of a store
        axis_map=AxisMap((0, 1), (1, 1)) if len(about["axes"]["names"]) == 2 else AxisMap(),
        confidence=None
        if known is None
        else Confidence(
            "u1" if known["dtype"] == "u1" else "f4",
            str(known["description"]),
            {int(state): str(meaning) for state, meaning in known["states"].items()},
        ),
        extras=extras,
        always=tuple(extra.name for extra in extras),
        tables=tuple(
            SideTable(
                str(table["name"]),
                str(table["description"]),
                tuple(_described_column(column) for column in table["columns"]),
            )
            for table in described["tables"]
        ),
        cleaning=str(described["cleaning"]),
        generated=str(source.get("generated", "")),
    )


def _described_column(column: Mapping[str, Any]) -> Column:
    return Column(
        str(column["name"]),
        _TYPES[column["dtype"]],
        str(column["description"]),
        tuple(map(int, column["shape"])),
        tuple(map(str, column["dims"])),
        str(column["unit"]),
    )
