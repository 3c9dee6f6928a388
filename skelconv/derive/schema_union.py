"""Uniting the class names, columns, splits and side tables of several stores, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skelconv.store.info import StoreError
from skelconv.store.schema import column_fill, wider_type
from skelformats.reader import Column, Dataset, Protocol, SideTable

_ADDED = {
    "dataset": Column("dataset", "string", "dataset that the sequence comes from"),
    "frame_rate": Column(
        "frame_rate", "f8", "frames a second; NaN where the dataset has no one rate", unit="Hz"
    ),
}
"""Columns that a merged store gets where its stores differ."""


@dataclass(frozen=True)
class Classes:
    """From the class numbers of one store to those of the united one; -1, none, stays."""

    numbers: tuple[int, ...]

    def __call__(self, label: int) -> int:
        """Return the number of a class in the united list; raises `StoreError` for a class there is not."""
        if label >= len(self.numbers):
            raise StoreError(
                f"found the label {label}, expected one from -1 to {len(self.numbers) - 1}, since the store "
                f"names {len(self.numbers)} classes. Run `skelconv verify` on it, and ingest it again"
            )
        return self.numbers[label] if label >= 0 else -1


def union_classes(lists: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[Classes]]:
    """Unite lists of class names, in order of first appearance; case and spaces do not tell names apart.

    Returns the united list, and for each list how its numbers change. A name that a list holds twice stays
    two classes.
    """
    united: list[str] = []
    at: dict[tuple[str, int], int] = {}
    maps = []
    for names in lists:
        seen: dict[str, int] = {}
        numbers = []
        for name in names:
            plain_name = " ".join(name.casefold().split())
            times = seen[plain_name] = seen.get(plain_name, 0) + 1
            if (plain_name, times) not in at:
                at[plain_name, times] = len(united)
                united.append(name)
            numbers.append(at[plain_name, times])
        maps.append(Classes(tuple(numbers)))
    return tuple(united), maps


def union_columns(
    stores: Sequence[tuple[str, Sequence[Column]]], added: Sequence[str] = ()
) -> tuple[Column, ...]:
    """Unite the columns of (store, columns), by name; ``added`` are columns that the union gets besides.

    Where dtypes differ the wider one is taken, and text where one of them is text.

    Raises
    ------
    StoreError
        Two columns of one name hold values of different shapes.
    """
    united: dict[str, Column] = {name: _ADDED[name] for name in added}
    where = dict.fromkeys(united, "the merged store")
    for store, columns in stores:
        for column in columns:
            known = united.setdefault(column.name, column)
            origin = where.setdefault(column.name, store)
            if (known.shape, known.dims) != (column.shape, column.dims):
                raise StoreError(
                    f"{store}: found the column {column.name!r} of shape {column.shape} {column.dims}, "
                    f"expected {known.shape} {known.dims} as in {origin}. "
                    "Ingest one of them with other options"
                )
            united[column.name] = replace(known, dtype=wider_type(known.dtype, column.dtype))
    return tuple(united[name] for name in sorted(united))


def union_protocols(datasets: Sequence[Dataset]) -> tuple[Protocol, ...]:
    """Unite official splits by name; each of them is what it was for the sequences of its own dataset."""
    texts: dict[str, dict[str, None]] = {}
    for dataset in datasets:
        for protocol in dataset.protocols:
            texts.setdefault(protocol.name, {})[protocol.description] = None
    return tuple(Protocol(name, "; ".join(found)) for name, found in texts.items())


def union_tables(stores: Sequence[tuple[str, Sequence[SideTable]]]) -> tuple[SideTable, ...]:
    """Unite side tables by name, their columns as `union_columns` does."""
    texts = {table.name: table.description for _, tables in stores for table in tables}
    return tuple(
        SideTable(
            name,
            text,
            union_columns(
                [(store, table.columns) for store, tables in stores for table in tables if table.name == name]
            ),
        )
        for name, text in sorted(texts.items())
    )


def fill_row(columns: Sequence[Column], row: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every column: that of the row, else the ``given`` one, else the fill value."""
    cells = {}
    for column in columns:
        value = row.get(column.name)
        if value is None:
            value = given.get(column.name)
        if value is None:
            fill = column_fill(column.dtype)
            value = np.full(column.shape, fill, object).tolist() if column.shape else fill
        elif column.dtype == "string" and not column.shape:
            value = str(value)
        cells[column.name] = value
    return cells
