"""The sequence table while it is being written: one list a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from formats.reader import Column, Dataset
from skelconv.schema import BASE_COLUMNS, split_column

NAME = Column("sequence", "string", "unique id of the sequence: <recording>_b<body>")


def table_columns(dataset: Dataset) -> tuple[Column, ...]:
    """Every column of a dataset's sequence table in store order, the id first and the splits last."""
    splits = tuple(
        Column(split_column(p.name), "string", f"{p.description}: train, test, val or empty")
        for p in dataset.protocols
    )
    return (NAME, *BASE_COLUMNS, *dataset.columns, *splits)


class Table:
    """Rows in the order of appending, kept as columns.

    A row is a list of values in the order of ``columns``; it is plain data, so the journal can hold it.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._values: dict[str, list[Any]] = {column.name: [] for column in columns}
        self._row_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def append(self, row: Sequence[Any]) -> None:
        """Add a row; its id must be new."""
        for column, value in zip(self.columns, row, strict=True):
            self._values[column.name].append(value)
        name = str(row[0])
        if name in self._row_of:
            raise ValueError(f"the id {name!r} stands in the table already")
        self._row_of[name] = len(self._row_of)

    def find(self, name: str) -> int | None:
        """Row number of the sequence called ``name``, or None."""
        return self._row_of.get(name)

    def value(self, row: int, column: str) -> Any:
        """One cell."""
        return self._values[column][row]

    def column(self, name: str) -> list[Any]:
        """All values of one column."""
        return self._values[name]

    def rows(self, start: int) -> list[list[Any]]:
        """Rows from ``start`` on, as plain lists."""
        return [list(row) for row in zip(*(values[start:] for values in self._values.values()), strict=True)]

    def leakage(self, protocols: Sequence[str]) -> dict[str, int]:
        """Count, for each protocol, the test sequences whose motion also occurs in its training set."""
        digests = np.array(self._values["digest"], dtype=str)
        counts = {}
        for protocol in protocols:
            part = np.array(self._values[split_column(protocol)], dtype=str)
            leaked = np.isin(digests[part == "test"], digests[part == "train"])
            counts[protocol] = int(leaked.sum())
        return counts
