"""A store taken apart again, into the `Dataset` and the clips that it could have been written from.

What makes a store from stores (`skelconv.derive`) changes these and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skelconv.clean import default_chain
from skelconv.store import schema
from skelconv.store.cells import side_columns
from skelconv.store.info import Provenance
from skelconv.store.recording import Recording
from skelconv.store.store import Store
from skelformats.reader import Clip, Column, Confidence, Dataset, Extra, Protocol, SideTable, Track

_OF_EVERY_STORE = frozenset({"sequence", *(column.name for column in schema.BASE_COLUMNS)})


def stored_dataset(store: Store) -> Dataset:
    """Describe what a store holds: its own columns, optional arrays and side tables, as they are stored.

    The axis map is the one that led from the raw files to the store.
    """
    info = store.info
    return Dataset(
        name=info.dataset.name,
        title=info.dataset.title,
        skeleton=store.skeleton.name,
        licence=info.dataset.licence,
        citation=info.dataset.citation,
        homepage=info.dataset.homepage,
        frame_rate=info.frame_rate,
        classes=info.classes,
        columns=_columns(store),
        protocols=tuple(Protocol(name, text) for name, text in info.protocols.items()),
        missing=info.missing,
        unit=info.unit,
        axes=info.axes.names,
        axis_convention=info.axes.convention,
        axis_map=info.axes.axis_map(),
        confidence=_confidence(store),
        extras=tuple(_extra(store, name) for name in info.extras),
        tables=tuple(_side_table(store, name, text) for name, text in info.tables.items()),
        cleaning=default_chain(info.dataset),
        generated=info.dataset.generated,
    )


def stored_clips(store: Store, dataset: Dataset) -> Iterator[tuple[str, Clip]]:
    """Yield (source, clip) of every recording in store order; side tables come with the first.

    ``dataset`` is what `stored_dataset` gave. Positions are those of the store: canonical axes.
    """
    side = stored_side_rows(store, dataset)
    for recording in store.recordings():
        yield str(recording.row["source"]), _clip(recording, dataset, side)
        side = {}


def stored_side_rows(store: Store, dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every side table, by table."""
    return {
        table.name: [
            {str(key): value for key, value in row.items()}
            for row in store.table(table.name).to_dict("records")
        ]
        for table in dataset.tables
    }


def kept_derivation(made: Provenance) -> dict[str, Any]:
    """Return what ``derived_from`` of a further store must repeat: the cleaning chain that was run."""
    return {
        key: value for key, value in (made.derived_from or {}).items() if key in ("chain", "steps", "source")
    }


def _clip(recording: Recording, dataset: Dataset, side: dict[str, list[dict[str, Any]]]) -> Clip:
    tracks = tuple(
        Track(
            body.body,
            body.frame_index,
            body.position,
            body.confidence,
            body.extras,
            {column.name: body.row[column.name] for column in dataset.columns},
        )
        for body in recording.bodies
    )
    first = recording.bodies[0].row
    splits = {split.name: str(first[schema.split_column(split.name)]) for split in dataset.protocols}
    return Clip(recording.name, recording.length, tracks, int(first["label"]), {}, splits, side)


def _columns(store: Store) -> tuple[Column, ...]:
    splits = {schema.split_column(name) for name in store.info.protocols}
    names = sorted({*store.columns, *store.array_columns} - _OF_EVERY_STORE - splits)
    return tuple(_column(store, name, name) for name in names)


def _column(store: Store, array: str, name: str) -> Column:
    node = store.metadata(array)
    attributes = node.get("attributes") or {}
    return Column(
        name,
        schema.column_type(node["data_type"]),
        str(attributes.get("long_name", "")),
        tuple(int(size) for size in node["shape"][1:]),
        tuple(node["dimension_names"][1:]),
        str(attributes.get("units", "")),
    )


def _side_table(store: Store, name: str, description: str) -> SideTable:
    # repeated keys were dropped when the rows were first written, so every row here is one to keep
    arrays = {array: store.metadata(array) for array in store.all_arrays}
    columns = sorted(side_columns(name, arrays).items())
    return SideTable(name, description, tuple(_column(store, array, column) for column, array in columns))


def _confidence(store: Store) -> Confidence | None:
    known = store.info.confidence
    if known is None:
        return None
    return Confidence("u1" if known.dtype == "u1" else "f4", known.description, known.states)


def _extra(store: Store, name: str) -> Extra:
    node = store.metadata(name)
    dims = tuple(node["dimension_names"][1:])
    attributes = node.get("attributes") or {}
    return Extra(
        name,
        dims,
        {dim: tuple(store.array(dim).tolist()) for dim in dims if dim != "joint"},
        str(store.read(0, 0, name).dtype.str.lstrip("<|=")),
        str(attributes.get("units", "")),
        str(attributes.get("long_name", "")),
    )
