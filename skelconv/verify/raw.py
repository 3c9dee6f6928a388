"""The last part of `skelconv.verify`: every source read again and compared with the store, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.ingest.ingest import parse_batch
from skelconv.ingest.plan import make_plan
from skelconv.store import schema
from skelconv.store.canonical import canonical_positions
from skelconv.store.digest import plan_digest
from skelconv.store.store import Store
from skelconv.store.table import SideRows
from skelconv.store.text import UnstorableTextError, check_text, printable
from skelconv.verify.findings import Findings, Progress
from skelformats.errors import UnknownNameError
from skelformats.raw_open import open_raw
from skelformats.raw_root import prepare, shown
from skelformats.reader import AxisMap, Clip, Dataset, Option, Track, find_reader


def check_raw(store: Store, raw: Sequence[Path], findings: Findings, progress: Progress) -> None:
    """Read every source below ``raw`` as the store's provenance says, and compare.

    Positions are compared after the axis map and the rounding that the store records; a NaN equals a NaN.

    Raises
    ------
    PlanError, UnknownNameError
        ``raw`` holds no source of the dataset, or its reader is not installed.
    """
    made = store.info.provenance
    output = None if store.folder is None else store.folder.absolute()
    plan = make_plan(
        store.info.dataset.name,
        open_raw(raw, output),
        made.tool,
        made.options.get("with", store.info.extras),
        _typed(store.info.dataset.name, made.options.get("options", {})),
        made.options.get("limit"),
    )
    findings.expect(
        plan_digest(plan.sources, made.options) == made.digest,
        "sources",
        f"{shown(plan.root)}: found other sources than those of the store (names or sizes), expected the "
        f"{made.sources} that it records",
    )
    aside = {(item.source, item.recording) for item in made.set_aside}
    compare = _Comparison(store, plan.dataset_info, findings)
    prepare(plan.root, (name for source in plan.sources for name in (source.path, *source.members)))
    with progress(len(plan.sources), "sources", plan.size) as advance:
        for source in plan.sources:
            parsed = parse_batch(plan.dataset, plan.root, [source], plan.options)[0]
            if parsed.problem is not None and (printable(source.path), None) not in aside:
                findings.add("sources", f"{parsed.problem}. The store holds it")
            for refused in parsed.refused:
                if (source.path, refused.recording) not in aside:
                    findings.add("sources", f"{refused.reason}. The store holds {refused.recording}")
            for clip in parsed.clips:
                path = printable(source.path)
                left_out = not aside.isdisjoint({(path, None), (path, printable(clip.recording))})
                # of a recording that its source gives twice, the second one was set aside
                left_out = left_out and not compare.is_first(clip, source.path)
                if left_out and not _is_storable(clip, source.path):
                    continue
                compare.clip(clip, source.path, left_out)
            findings.checked["sources"] += 1
            advance(1, source.size)
    for name in store.names:
        if name not in compare.seen:
            findings.add("sources", f"{name}: found in the store only, expected it in a source")
    compare.side_tables()


class _Comparison:
    """Compares clips with the store's sequences, and remembers which of them occurred."""

    def __init__(self, store: Store, dataset: Dataset, findings: Findings) -> None:
        self.seen: set[str] = set()
        self._store = store
        self._dtypes = store.to_frame().dtypes
        self._side_rows = SideRows(dataset.tables)
        self._findings = findings
        self._axis_map: AxisMap = store.info.axes.axis_map()

    def is_first(self, clip: Clip, source: str) -> bool:
        """Whether the store holds this recording from this source, and it has not been compared yet."""
        name = f"{clip.recording}_b0"
        stored = name in self._store and name not in self.seen
        return stored and self._store[name].row["source"] == source

    def clip(self, clip: Clip, source: str, set_aside: bool) -> None:
        """Compare one recording; one of a source that was set aside must not be in the store from it."""
        if clip.tracks and not set_aside:
            for table, rows in clip.tables.items():
                for cells in rows:
                    self._side_rows.append(table, cells)
        for number, track in enumerate(clip.tracks):
            name = f"{clip.recording}_b{number}"
            if name not in self._store:
                problem = "found in its source only, expected it in the store"
                if set_aside:
                    problem = "found a source that can be read, expected it to fail as it did before"
                self._findings.add("sources", f"{source}, {name}: {problem}")
            elif not set_aside:
                self.seen.add(name)
                for problem in self._differences(name, clip, track, source):
                    self._findings.add("sources", f"{source}, {name}: {problem}")

    def side_tables(self) -> None:
        """Compare the side tables with the rows that the recordings gave, once all were compared."""
        for table in self._side_rows.tables:
            for column, values in self._side_rows.columns(table.name):
                name = f"{table.name}_{column.name}"
                dtype = object if column.dtype == "string" else np.dtype(column.dtype)
                wanted = np.asarray(values, dtype).reshape(len(values), *column.shape)
                try:
                    stored = self._store.array(name)
                except UnknownNameError:
                    self._findings.add("sources", f"found no array {name}, expected the sources' values")
                    continue
                self._findings.expect(
                    _same(stored, wanted),
                    "sources",
                    f"side table {table.name}: found another {column.name} in {len(stored)} rows, expected "
                    f"the {len(wanted)} values of the sources",
                )

    def _differences(self, name: str, clip: Clip, track: Track, source: str) -> list[str]:
        stored = self._store.sequence(name)
        position = canonical_positions(track.position, self._axis_map, self._store.info.precision)
        pairs: dict[str, tuple[NDArray[Any], NDArray[Any] | None]] = {
            schema.POSITION: (stored.position, position),
            schema.FRAME_INDEX: (stored.frame_index, track.frame_index),
            **{extra: (values, track.extras.get(extra)) for extra, values in stored.extras.items()},
        }
        if stored.confidence is not None:
            pairs[schema.CONFIDENCE] = (stored.confidence, track.confidence)
        cells = {
            "recording": clip.recording,
            "recording_length": clip.length,
            "source": source,
            "body": track.body,
            "label": clip.label,
            **clip.columns,
            **track.columns,
            **{schema.split_column(protocol): part for protocol, part in clip.splits.items()},
        }
        return [
            *(
                f"found another {what}, expected the source's"
                for what, pair in pairs.items()
                if not _same(*pair)
            ),
            *(
                f"found {column} {stored.row.get(column)!r}, expected {value!r} as in the source"
                for column, value in cells.items()
                if not _same_cell(stored.row.get(column), value, self._dtypes.get(column))
            ),
        ]


def _is_storable(clip: Clip, source: str) -> bool:
    try:
        check_text(clip, source)
    except UnstorableTextError:
        return False
    return True


def _same(stored: NDArray[Any], read: NDArray[Any] | None) -> bool:
    """Equal bit for bit, but for the payload of NaNs."""
    if read is None or stored.shape != read.shape:
        return False
    read = np.ascontiguousarray(read, stored.dtype)
    if stored.dtype.kind != "f":
        return np.array_equal(stored, read)
    missing = np.isnan(stored)
    bits = f"u{stored.dtype.itemsize}"
    return np.array_equal(missing, np.isnan(read)) and np.array_equal(
        stored.view(bits)[~missing], read.view(bits)[~missing]
    )


def _same_cell(stored: Any, read: Any, dtype: Any) -> bool:
    """Whether a cell holds what was read, as the column's dtype holds it."""
    if isinstance(stored, np.ndarray):
        if stored.dtype == object:
            return np.array_equal(stored, np.asarray(read, object))
        return _same(stored, np.asarray(read, stored.dtype))
    if isinstance(stored, float):
        return bool(np.array_equal(np.asarray(stored, dtype), np.asarray(read, dtype), equal_nan=True))
    return bool(stored == read)


def _typed(dataset: str, values: dict[str, Any]) -> dict[str, Any]:
    """Options as the reader takes them; the provenance holds paths as text."""
    types: dict[str, Option] = {option.name: option for option in find_reader(dataset).dataset.options}
    return {
        name: Path(value) if name in types and types[name].type is Path and value is not None else value
        for name, value in values.items()
    }
