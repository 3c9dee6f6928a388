"""The sequence table while it is being written: one list a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skelconv.store.prepare import plain as plain
from skelconv.store.schema import BASE_COLUMNS, split_column
from skelformats.reader import Column, Dataset, SideTable

NAME = Column("sequence", "string", "unique id of the sequence: <recording>_b<body>")


def table_columns(dataset: Dataset) -> tuple[Column, ...]:
    """Every column of a dataset's sequence table in store order, the id first and the splits last."""
    splits = tuple(
        Column(split_column(p.name), "string", f"{p.description}: train, test, val or empty")
        for p in dataset.protocols
    )
    return (NAME, *BASE_COLUMNS, *dataset.columns, *splits)


class Table:
    """Rows in the order of appending.

    A row is a list of values in the order of ``columns``; it is plain data (arrays as nested lists), so the
    journal can hold it.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._at = {column.name: number for number, column in enumerate(self.columns)}
        self._rows: list[list[Any]] = []
        self._row_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def append(self, row: Sequence[Any]) -> None:
        """Add a row; its id must be new."""
        name = str(row[0])
        if name in self._row_of:
            raise ValueError(f"the id {name!r} stands in the table already")
        if len(row) != len(self.columns):
            raise ValueError(f"found {len(row)} cells in the row {name!r}, expected {len(self.columns)}")
        self._row_of[name] = len(self._rows)
        self._rows.append(list(row))

    def find(self, name: str) -> int | None:
        """Row number of the sequence called ``name``, or None."""
        return self._row_of.get(name)

    def value(self, row: int, column: str) -> Any:
        """One cell."""
        return self._rows[row][self._at[column]]

    def set(self, row: int, column: str, value: Any) -> None:
        """Change one cell."""
        self._rows[row][self._at[column]] = value

    def column(self, name: str) -> list[Any]:
        """All values of one column."""
        at = self._at[name]
        return [row[at] for row in self._rows]

    def rows(self, start: int) -> list[list[Any]]:
        """Rows from ``start`` on, as plain lists."""
        return [list(row) for row in self._rows[start:]]

    def leakage(self, protocols: Sequence[str]) -> dict[str, int]:
        """Count, for each protocol, the test sequences whose motion also occurs in its training set."""
        digests = np.array(self.column("digest"), dtype=str)
        counts = {}
        for protocol in protocols:
            part = np.array(self.column(split_column(protocol)), dtype=str)
            leaked = np.isin(digests[part == "test"], digests[part == "train"])
            counts[protocol] = int(leaked.sum())
        return counts


class SideRows:
    """The side tables of a dataset while they are being written: rows as plain lists, repeated keys once."""

    def __init__(self, tables: Sequence[SideTable]) -> None:
        self.tables = tuple(tables)
        self._rows: dict[str, list[list[Any]]] = {table.name: [] for table in tables}
        self._keys: dict[str, set[str]] = {table.name: set() for table in tables}

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to the table ``name``, unless one of its key stands there."""
        self.append_cells(name, [plain(row[column.name]) for column in self._table(name).columns])

    def append_cells(self, name: str, cells: list[Any]) -> None:
        """Add a row, as plain cells in the order of the columns, unless one of its key stands there."""
        self._add(self._table(name), cells)

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {name: len(rows) for name, rows in self._rows.items()}

    def rows(self, start: Mapping[str, int], stop: Mapping[str, int]) -> dict[str, list[list[Any]]]:
        """Return the rows between two `sizes`, by table, as plain lists."""
        return {name: rows[start[name] : stop[name]] for name, rows in self._rows.items()}

    def restore(self, rows: Mapping[str, Sequence[list[Any]]]) -> None:
        """Add rows that `rows` gave."""
        for name, listed in rows.items():
            for row in listed:
                self._add(self._table(name), row)

    def _table(self, name: str) -> SideTable:
        return next(table for table in self.tables if table.name == name)

    def _add(self, table: SideTable, cells: list[Any]) -> None:
        if table.key:
            of_key = [
                cell for cell, column in zip(cells, table.columns, strict=True) if column.name in table.key
            ]
            key = json.dumps(of_key)
            if key in self._keys[table.name]:
                return
            self._keys[table.name].add(key)
        self._rows[table.name].append(cells)

    def columns(self, name: str) -> list[tuple[Column, list[Any]]]:
        """Return each column of a table with its values."""
        table = self._table(name)
        values = zip(*self._rows[name], strict=True) if self._rows[name] else ((),) * len(table.columns)
        return [(column, list(cells)) for column, cells in zip(table.columns, values, strict=True)]
