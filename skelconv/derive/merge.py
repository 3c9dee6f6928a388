"""Merging stores of one joint layout into one; the order in which they are named does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skelconv.derive.contents import kept_derivation, stored_clips, stored_dataset
from skelconv.derive.schema_union import (
    Classes,
    fill_row,
    union_classes,
    union_columns,
    union_protocols,
    union_tables,
)
from skelconv.store import schema
from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.store import Store
from skelconv.store.table import plain
from skelconv.store.writer import WriteOptions, write_store
from skelformats.reader import AxisMap, Clip, Dataset, SideTable, Track

SHOWN = 5
"""Names that stand in two stores, of which so many are shown."""


class MergeError(StoreError):
    """Stores that do not go together; says what differs and what to do."""


@dataclass(frozen=True)
class Merged:
    """What a merge made; ``left_out`` names arrays that not every store had, and why they are lost."""

    info: StoreInfo
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One of the stores, with what its values must be changed by."""

    store: Store
    dataset: Dataset
    classes: Classes
    prefix: str

    @property
    def name(self) -> str:
        return self.store.info.dataset.name

    def number(self, label: int, where: str) -> int:
        """Return a label as the merged store counts it."""
        try:
            return self.classes(label)
        except StoreError as error:
            raise MergeError(f"{self.store.path}, {where}: {error}") from error


def merge_stores(
    stores: Sequence[Store],
    path: str | Path,
    prefix: bool = False,
    overwrite: bool = False,
    shard_frames: int = schema.SHARD_FRAMES,
) -> Merged:
    """Write the sequences of several stores as one.

    Layout, axes and unit must be the same. Stores go in the order of their datasets' names, then of their
    first sources, so the bytes do not depend on the order of ``stores``. Classes are united by name, columns
    and side tables too: what a store has not is the column's fill value. Datasets that differ add a column
    ``dataset``, frame rates that differ a column ``frame_rate``. Confidence and optional arrays stay where
    every store has them alike.

    Parameters
    ----------
    prefix
        Put the dataset's name and ``_`` in front of every recording, for datasets whose names collide.

    Raises
    ------
    MergeError
        Fewer than two stores, or they differ in layout, axes, unit or cleaning, or a recording is in two.
    StoreError
        ``path`` exists and ``overwrite`` is false.
    """
    if len(stores) < 2:
        raise MergeError(f"found {len(stores)} store, expected two or more to merge")
    stores = sorted(stores, key=_place)
    _check_alike(stores)
    _check_names(stores, prefix)
    described = [stored_dataset(store) for store in stores]
    classes, maps = union_classes([dataset.classes for dataset in described])
    parts = [
        _Part(store, dataset, renumber, f"{dataset.name}_" if prefix else "")
        for store, dataset, renumber in zip(stores, described, maps, strict=True)
    ]
    united, left_out = _schema_union(parts, classes)
    info = write_store(
        path,
        united,
        _clips(parts, united),
        _provenance(parts, left_out),
        [extra.name for extra in united.extras],
        shard_frames,
        overwrite,
        WriteOptions(
            stores[0].skeleton,
            precision=max((s.info.precision for s in stores if s.info.precision is not None), default=None),
            canonical=True,
        ),
    )
    return Merged(info, left_out)


def _place(store: Store) -> tuple[str, str, str]:
    return store.info.dataset.name, str(store.to_frame()["source"].min()), min(store.names, default="")


def _check_alike(stores: Sequence[Store]) -> None:
    """Refuse stores whose positions do not mean the same."""
    first = stores[0]
    for store in stores[1:]:
        mine, other = first.skeleton, store.skeleton
        if replace(mine, title="", source="") != replace(other, title="", source=""):
            raise MergeError(
                f"{store.path}: found the layout {other.name} of {len(other)} joints, expected {mine.name} "
                f"of {len(mine)} as in {first.path}. Run `skelconv remap` first, to one layout for all"
            )
        for what, expected in _facts(first).items():
            found = _facts(store)[what]
            if found != expected:
                raise MergeError(
                    f"{store.path}: found {what} {found}, expected {expected} as in {first.path}. "
                    "Merge stores that were made in the same way"
                )


def _facts(store: Store) -> dict[str, str]:
    info = store.info
    return {
        "axes": f"{','.join(info.axes.names)} ({info.axes.convention})",
        "the unit": info.unit,
        "the cleaning chain": str(kept_derivation(info.provenance).get("chain", "none")),
    }


def _check_names(stores: Sequence[Store], prefix: bool) -> None:
    """Refuse recordings that stand in two stores: their sequences would have the same ids."""
    seen: dict[str, Store] = {}
    for store in stores:
        front = f"{store.info.dataset.name}_" if prefix else ""
        names = [front + name for name in store.recording_names()]
        twice = [name for name in names if name in seen]
        if twice:
            earlier = seen[twice[0]]
            more = f" and {len(twice) - SHOWN:,} more" if len(twice) > SHOWN else ""
            differ = earlier.info.dataset.name != store.info.dataset.name
            raise MergeError(
                f"{store.path}: found the recordings {', '.join(twice[:SHOWN])}{more} again, expected new "
                f"names; {earlier.path} holds them already. "
                + (
                    "Add --prefix to put the dataset in front of every name"
                    if differ
                    else "Leave one of the two stores out"
                )
            )
        seen.update(dict.fromkeys(names, store))


def _schema_union(parts: Sequence[_Part], classes: tuple[str, ...]) -> tuple[Dataset, tuple[str, ...]]:
    """Describe the merged store, and say what is left out of it."""
    described = [part.dataset for part in parts]
    first, names = described[0], sorted({dataset.name for dataset in described})
    rates = {dataset.frame_rate for dataset in described}
    extras = [e for e in first.extras if all(e in dataset.extras for dataset in described)]
    alike = all(dataset.confidence == first.confidence for dataset in described)
    lost = sorted({e.name for dataset in described for e in dataset.extras} - {e.name for e in extras})
    left_out = [f"{name}: not every store has it in the same form" for name in lost]
    if not alike:
        left_out.insert(0, f"{schema.CONFIDENCE}: not every store has it in the same form")
    added = [("dataset", len(names) > 1), ("frame_rate", len(rates) > 1)]
    united = replace(
        first,
        title=_joined(described, "title"),
        licence=_joined(described, "licence"),
        citation=_joined(described, "citation"),
        homepage=_joined(described, "homepage"),
        missing=_joined(described, "missing"),
        generated=_joined(described, "generated"),
        name="+".join(sorted({part for name in names for part in name.split("+")})),
        frame_rate=rates.pop() if len(rates) == 1 else None,
        classes=classes,
        columns=union_columns(
            [(str(part.store.path), part.dataset.columns) for part in parts], [n for n, add in added if add]
        ),
        protocols=union_protocols(described),
        axis_map=_axis_map(described),
        confidence=first.confidence if alike else None,
        extras=tuple(extras),
        tables=union_tables([(str(part.store.path), part.dataset.tables) for part in parts]),
        # datasets that are cleaned differently have no published chain in common
        cleaning=first.cleaning if len({dataset.cleaning for dataset in described}) == 1 else "metric",
    )
    return united, tuple(left_out)


def _joined(described: Sequence[Dataset], field: str) -> str:
    """Return the one text, or each with its dataset's name."""
    texts = dict.fromkeys((dataset.name, str(getattr(dataset, field))) for dataset in described)
    if len({text for _, text in texts}) == 1:
        return next(text for _, text in texts)
    return "; ".join(f"{name}: {text}" for name, text in texts if text)


def _axis_map(described: Sequence[Dataset]) -> AxisMap:
    """Return the one map; where they differ the identity, since each store's own is in the provenance."""
    maps = {dataset.axis_map for dataset in described}
    axes = len(described[0].axes)
    return maps.pop() if len(maps) == 1 else AxisMap(tuple(range(axes)), (1,) * axes)


def _clips(parts: Sequence[_Part], united: Dataset) -> Iterator[tuple[str, Clip]]:
    extras = {extra.name for extra in united.extras}
    splits = {protocol.name: "" for protocol in united.protocols}
    written: dict[str, set[str]] = {table.name: set() for table in united.tables}
    for part in parts:
        given = {"dataset": part.name, "frame_rate": part.store.info.frame_rate}
        for source, clip in stored_clips(part.store, part.dataset):
            tracks = tuple(
                Track(
                    track.body,
                    track.frame_index,
                    track.position,
                    None if united.confidence is None else track.confidence,
                    {name: values for name, values in track.extras.items() if name in extras},
                    fill_row(united.columns, track.columns, given),
                )
                for track in clip.tracks
            )
            tables = {
                table.name: _new_rows(table, clip, part, written[table.name]) for table in united.tables
            }
            yield (
                source,
                replace(
                    clip,
                    recording=part.prefix + clip.recording,
                    tracks=tracks,
                    label=part.number(clip.label, f"recording {clip.recording}"),
                    splits={**splits, **clip.splits},
                    tables=tables,
                ),
            )
        # rows may repeat within a store, but what an earlier store has told is not told again
        for table in united.tables:
            written[table.name] |= {_key(row) for row in _rows(table, part)}


def _new_rows(table: SideTable, clip: Clip, part: _Part, known: set[str]) -> list[dict[str, Any]]:
    if table.name not in clip.tables:
        return []
    rows = [_translated(table, row, part) for row in clip.tables[table.name]]
    return [row for row in rows if _key(row) not in known]


def _rows(table: SideTable, part: _Part) -> list[dict[str, Any]]:
    if table.name not in part.store.info.tables:
        return []
    records = part.store.table(table.name).to_dict("records")
    return [_translated(table, {str(k): v for k, v in record.items()}, part) for record in records]


def _translated(table: SideTable, row: Any, part: _Part) -> dict[str, Any]:
    """Bring a row to the columns, class numbers and recording names of the merged store."""
    cells = fill_row(table.columns, row, {})
    if "label" in row:
        cells["label"] = part.number(int(row["label"]), f"side table {table.name}")
    if "recording" in row:
        cells["recording"] = f"{part.prefix}{row['recording']}"
    return cells


def _key(row: dict[str, Any]) -> str:
    return repr([(name, plain(value)) for name, value in row.items()])


def _provenance(parts: Sequence[_Part], left_out: Sequence[str]) -> Provenance:
    made = [part.store.info.provenance for part in parts]
    digest = hashlib.sha256("\n".join(one.digest for one in made).encode()).hexdigest()
    return Provenance(
        tool=made[0].tool,
        command="skelconv merge OUT STORE..." + (" --prefix" if parts[0].prefix else ""),
        sources=sum(one.sources for one in made),
        digest=f"sha256:{digest}",
        set_aside=tuple(item for one in made for item in one.set_aside),
        empty=tuple(part.prefix + name for part in parts for name in part.store.info.provenance.empty),
        derived_from={
            **kept_derivation(made[0]),
            "left_out": list(left_out),
            "merge": [
                {
                    "dataset": part.store.info.dataset.model_dump(mode="json"),
                    "axes": part.store.info.axes.model_dump(mode="json"),
                    "frame_rate": part.store.info.frame_rate,
                    "precision": part.store.info.precision,
                    "provenance": part.store.info.provenance.model_dump(
                        mode="json", exclude={"set_aside", "empty"}
                    ),
                }
                for part in parts
            ],
        },
    )
