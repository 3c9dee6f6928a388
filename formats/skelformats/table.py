"""Tables of poses: csv, tsv or Parquet, a row a joint or a row a frame, also DeepLabCut's and SLEAP's.

A file is a recording, unless it has a column that names recordings. `skelformats.table_columns` says how the
columns are told. A folder that ``skelconv export`` wrote says itself what is in it (`skelformats.exported`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelformats import csv_text
from skelformats.errors import FormatError, SkelconvError
from skelformats.exported import export_source, find_export, read_export, refuse_options
from skelformats.files import list_sources
from skelformats.keypoints import recording_name
from skelformats.own_data import CITATION, GIVEN_LICENCE, LICENCE, UNIT, UP, Description, unit_of
from skelformats.parquet_file import read_parquet
from skelformats.reader import Clip, Column, Dataset, Option, Reader, ReadOptions, Source, Track
from skelformats.skeleton import load_skeleton
from skelformats.table_columns import Found, find_columns, match_joints, read_names

SUFFIXES = (".csv", ".tsv", ".parquet")
PARTS = ("train", "test", "val", "")
SOLE = "0"
"""Body of a recording that names none."""


@dataclass(frozen=True, eq=False)
class _Table:
    """A file's rows, and what its columns are."""

    rows: pd.DataFrame
    found: Found


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List the tables below ``root``; an export is one source."""
    if source := export_source(root):
        return [source]
    return sorted(
        (source for suffix in SUFFIXES for source in list_sources(root, suffix)),
        key=lambda source: source.path,
    )


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Describe the tables: axes, confidence, columns and splits as in the first, classes of all.

    Raises
    ------
    SkelconvError
        No layout is given, or there is no such layout, unit or axis; or something is told that an export says
        itself.
    FormatError
        The first table has no positions, or a table that cannot be read hides its classes.
    """
    if export := find_export(root):
        refuse_options(root, options, TABLE.dataset.options)
        return export.dataset
    sources = options.wanted(scan(root, options))
    newest = max((int((root / source.path).stat().st_mtime_ns) for source in sources), default=0)
    return _configure(
        root, tuple(source.path for source in sources), tuple(sorted(options.values.items())), newest
    )


@lru_cache(maxsize=4)
def _configure(
    root: Path, paths: tuple[str, ...], values: tuple[tuple[str, Any], ...], newest: int
) -> Dataset:
    chosen = dict(values)
    if not chosen["skeleton"]:
        raise SkelconvError(
            "found no --skeleton, expected the joint layout of the tables: skelconv skeletons lists them, "
            "and a TOML file of your own is one too"
        )
    if not paths:
        return _described(chosen, 3, False, (), {}, ())
    first = _open(root / paths[0], chosen)
    classes = tuple(name for name in str(chosen["classes"]).split(",") if name)
    return _described(
        chosen,
        first.found.axes,
        first.found.confidence,
        _columns(first),
        dict.fromkeys(first.found.splits, "as the tables have it"),
        classes or _classes(root, paths, chosen),
    )


def _described(
    chosen: Mapping[str, Any],
    axes: int,
    confidence: bool,
    columns: Sequence[Column],
    splits: Mapping[str, str],
    classes: Sequence[str],
) -> Dataset:
    unit = unit_of(chosen["unit"], axes)
    return Description(
        chosen["skeleton"],
        axes,
        unit,
        chosen["up"],
        chosen["frame_rate"] or None,
        classes,
        columns,
        splits,
        confidence,
        name="table",
        title="tables of poses",
        licence=chosen["licence"],
        citation=chosen["citation"],
    ).dataset()


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Read the recordings of one table.

    Raises
    ------
    FormatError
        It is not like the first one, or its joints are not those of the layout, or a joint comes twice.
    """
    dataset, path = configure(root, options), root / source.path
    if export := find_export(root):
        return read_export(export)
    table = _open(path, options.values)
    found = table.found
    here = (found.axes, found.confidence, set(found.splits))
    first = (len(dataset.axes), dataset.confidence is not None, {p.name for p in dataset.protocols})
    if here != first:
        raise FormatError(
            path,
            f"{here[0]} axes, {'a' if here[1] else 'no'} confidence, splits {sorted(here[2])}",
            f"what the first table has: {first[0]} axes, {'a' if first[1] else 'no'} confidence, splits "
            f"{sorted(first[2])}",
        )
    name = recording_name(source.path)
    column = found.roles.get("recording")
    if column is None:
        return [_clip(path, name, table.rows, table, dataset, options)]
    groups = table.rows.groupby(table.rows[column].astype(str), sort=False)
    return [_clip(path, str(key), rows, table, dataset, options) for key, rows in groups]


def _clip(
    path: Path, recording: str, rows: pd.DataFrame, table: _Table, dataset: Dataset, options: ReadOptions
) -> Clip:
    found = table.found
    body = found.roles.get("body")
    groups = [(SOLE, rows)] if body is None else rows.groupby(rows[body].astype(str), sort=False)
    tracks = [_track(path, str(key), part, table, dataset, options) for key, part in groups]
    tracks = [track for track in tracks if len(track.frame_index)]
    length = 1 + max((int(track.frame_index[-1]) for track in tracks), default=-1)
    splits = {name: _one(path, recording, rows, column) for name, column in found.splits.items()}
    for name, part in splits.items():
        if part not in PARTS:
            raise FormatError(path, f"the part {part!r} of {name}", "train, test, val or nothing")
    return Clip(recording, length, tuple(tracks), _label(path, recording, rows, found, dataset), {}, splits)


def _track(
    path: Path, body: str, rows: pd.DataFrame, table: _Table, dataset: Dataset, options: ReadOptions
) -> Track:
    found, skeleton = table.found, load_skeleton(dataset.skeleton)
    names = read_names(options.values["columns"])
    axes = dataset.axes
    numbers = _frames(path, rows, found)
    frame, at = np.unique(numbers, return_inverse=True)
    position = np.full((len(frame), len(skeleton), len(axes)), np.nan, np.float32)
    confidence = np.zeros(position.shape[:2], np.float32)
    if found.long:
        given = rows[found.roles["joint"]].astype(str)
        wanted = match_joints(
            path, list(dict.fromkeys(given)), skeleton, names, bool(options.values["partial"])
        )
        joint = given.map(wanted).to_numpy(np.float64, na_value=np.nan)
        kept = ~np.isnan(joint)
        places = np.stack([at[kept], joint[kept].astype(np.int64)])
        _expect_once(path, places, frame, skeleton.names)
        for number, axis in enumerate(axes):
            position[places[0], places[1], number] = _numbers(path, rows, found.values["", axis])[kept]
        if dataset.confidence is not None:
            confidence[places[0], places[1]] = _numbers(path, rows, found.values["", "confidence"])[kept]
    else:
        given_joints = list(dict.fromkeys(joint for joint, _ in found.values))
        wanted = match_joints(path, given_joints, skeleton, names, bool(options.values["partial"]))
        _expect_once(path, np.stack([at, np.zeros_like(at)]), frame, ("the frame",))
        for name, number in wanted.items():
            for which, axis in enumerate(axes):
                if (name, axis) not in found.values:
                    raise FormatError(
                        path, f"no column of {axis} for the joint {name!r}", "all axes of every joint"
                    )
                position[at, number, which] = _numbers(path, rows, found.values[name, axis])
            if (name, "confidence") in found.values:
                confidence[at, number] = _numbers(path, rows, found.values[name, "confidence"])
    position[~np.isfinite(position).all(axis=-1)] = np.nan
    seen = np.isfinite(position).any(axis=(1, 2))
    columns = {column.name: _cell(path, body, rows, column) for column in dataset.columns}
    return Track(
        body,
        frame[seen].astype(np.int32),
        position[seen],
        None if dataset.confidence is None else np.nan_to_num(confidence[seen]),
        {},
        columns,
    )


def _frames(path: Path, rows: pd.DataFrame, found: Found) -> NDArray[np.int64]:
    column = found.roles.get("frame")
    if column is None:
        if found.long:
            raise FormatError(
                path, "no column of frames", "one called frame, or named in the file of --columns"
            )
        return np.arange(len(rows))
    values = _numbers(path, rows, column, np.float64)
    odd = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0) | (values > 2**31 - 2)
    if odd.any():
        at = int(odd.argmax())
        raise FormatError(
            path, f"the frame {rows[column].iloc[at]} in row {at + 1}", "whole numbers from 0 on"
        )
    return values.astype(np.int64)


def _expect_once(
    path: Path, places: NDArray[np.int64], frame: NDArray[np.int64], names: Sequence[str]
) -> None:
    code = places[0] * len(names) + places[1]
    values, counts = np.unique(code, return_counts=True)
    if (counts > 1).any():
        twice = int(values[counts.argmax()])
        raise FormatError(
            path,
            f"{names[twice % len(names)]} {counts.max()} times in frame {frame[twice // len(names)]}",
            "it once a body",
            action="Where a table has several people, a column must tell them apart: body, person or track",
        )


def _numbers(path: Path, rows: pd.DataFrame, column: str, dtype: type = np.float32) -> NDArray[Any]:
    values = pd.to_numeric(rows[column], errors="coerce")
    odd = values.isna() & rows[column].notna() & (rows[column].astype(str).str.strip() != "")
    if odd.any():
        at = int(odd.to_numpy().argmax())
        raise FormatError(
            path, f"{rows[column].iloc[at]!r} in column {column}, row {at + 1}", "a number or nothing"
        )
    return values.to_numpy(dtype, na_value=np.nan)


def _columns(table: _Table) -> tuple[Column, ...]:
    """Columns that have one value a body of a recording become columns of the store; others are not poses."""
    keys = [
        table.rows[column].astype(str)
        for role, column in table.found.roles.items()
        if role in ("recording", "body")
    ]
    columns = []
    for name in table.found.others:
        values = table.rows[name]
        counts = (
            values.groupby(keys).nunique(dropna=False) if keys else pd.Series([values.nunique(dropna=False)])
        )
        if counts.max() > 1:
            continue
        number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        whole = number and pd.api.types.is_integer_dtype(values)
        columns.append(Column(name, "i8" if whole else "f8" if number else "string", "as the table has it"))
    return tuple(columns)


def _cell(path: Path, body: str, rows: pd.DataFrame, column: Column) -> str | int | float:
    if column.name not in rows:
        raise FormatError(path, f"no column {column.name!r}", "the columns of the first table")
    value = _one(path, f"body {body}", rows, column.name)
    try:
        return (
            value
            if column.dtype == "string"
            else int(value)
            if column.dtype == "i8"
            else float(value or "nan")
        )
    except ValueError as error:
        raise FormatError(
            path, f"{value!r} in column {column.name}", "a number, as in the first table"
        ) from error


def _one(path: Path, whose: str, rows: pd.DataFrame, column: str) -> str:
    """Return the one value that a column has for a recording or body, as text; empty for none."""
    values = rows[column].drop_duplicates()
    if len(values) > 1:
        shown = ", ".join(map(repr, values.iloc[:3].tolist()))
        raise FormatError(path, f"{shown} in column {column} of {whose}", "one value")
    value = values.iloc[0]
    return "" if pd.isna(value) else str(value)


def _label(path: Path, recording: str, rows: pd.DataFrame, found: Found, dataset: Dataset) -> int:
    column = found.roles.get("label")
    name = "" if column is None else _one(path, recording, rows, column)
    if not name:
        return -1
    if name in dataset.classes:
        return dataset.classes.index(name)
    raise FormatError(path, f"the label {name!r} of {recording}", f"one of {', '.join(dataset.classes[:8])}")


def _classes(root: Path, paths: Sequence[str], chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of all tables, sorted: whole numbers by value, text by the alphabet."""
    names: set[str] = set()
    for path in paths:
        try:
            table = _open(root / path, chosen)
        except FormatError:
            continue  # it is set aside by name when it is read
        column = table.found.roles.get("label")
        if column is not None:
            names |= set(table.rows[column].dropna().astype(str))
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if name.isdigit() else (1, 0, name)))


def _open(path: Path, values: Mapping[str, Any]) -> _Table:
    rows = _read(path)
    if not len(rows):
        raise FormatError(path, "no rows", "a table of poses")
    return _Table(
        rows, find_columns(path, [str(name) for name in rows.columns], read_names(values["columns"]))
    )


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return read_parquet(path)
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = [file.readline().rstrip("\r\n").split(separator) for _ in range(4)]
        if head[0][0].lower() == "scorer":
            return _deeplabcut(path, head)
        return csv_text.read_csv(path, sep=separator, low_memory=False)
    except UnicodeDecodeError as error:
        raise FormatError(path, f"bytes that are not text ({error})", "a table as UTF-8 text") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise FormatError(
            path, f"no table ({str(error).strip()})", "a header and rows of as many cells"
        ) from error


def _deeplabcut(path: Path, head: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Bring DeepLabCut's header of three or four rows to one row of names, and its individuals to rows."""
    several = len(head) > 1 and head[1][0].lower() == "individuals"
    rows = 4 if several else 3
    body = csv_text.read_csv(path, header=None, skiprows=rows)
    parts, coords = head[rows - 2], head[rows - 1]
    whose = head[1] if several else [SOLE] * len(parts)
    if not (len(parts) == len(coords) == len(whose) == body.shape[1]):
        raise FormatError(
            path, f"{body.shape[1]} cells a row below a header of {len(parts)}", "as many in each"
        )
    frame = body[0].to_numpy()
    # labelled images are numbered in their names
    if frame.dtype == object:
        frame = np.arange(len(body))
    tables = []
    for name in dict.fromkeys(whose[1:]):
        own = [k for k in range(1, len(parts)) if whose[k] == name]
        table = pd.DataFrame({f"{parts[k]}_{coords[k]}": body[k] for k in own})
        tables.append(table.assign(frame=frame, **({"individual": name} if several else {})))
    return pd.concat(tables, ignore_index=True)


def _options() -> Iterator[Option]:
    yield Option("skeleton", str, "", "Joint layout of the tables: its name, or a TOML file of your own.")
    yield from (UNIT, UP)
    yield Option("frame_rate", float, 0.0, "Frames a second; 0 where it is not known.")
    yield Option(
        "classes",
        str,
        "",
        "Names of the classes in the order of their numbers: sit,walk. Default: all labels, sorted.",
    )
    yield Option("columns", Path, None, "TOML file that names columns and joints (docs/own-data.md).")
    yield Option("partial", bool, False, "Store joints of the layout that the tables lack as missing.")
    yield from (LICENCE, CITATION)


TABLE = Reader(
    dataset=Dataset(
        name="table",
        title="tables of poses (csv, tsv, Parquet, DeepLabCut, SLEAP)",
        skeleton="coco17",
        licence=GIVEN_LICENCE,
        citation="",
        homepage="",
        frame_rate=None,
        classes=(),
        columns=(),
        protocols=(),
        missing="empty or NaN",
        options=tuple(_options()),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
