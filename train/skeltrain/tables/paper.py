"""The S2I paper's tables: their rows, columns and figures, from ``paper.toml``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

ALL = "all"
"""The one group of a table that has none."""


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes
    ----------
    number
        In the paper; None where it is not known.
    rows, columns
        The paper's, in their order.
    figures
        Accuracy in percent by (group, row, column).
    """

    key: str
    number: int | None
    title: str
    source: str
    note: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    figures: Mapping[tuple[str, str, str], float]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.number}: {self.title}" if self.number else self.title.capitalize()

    def rows_of(self, group: str) -> tuple[str, ...]:
        """Return the rows of a group for which the paper has a figure."""
        have = {row for own, row, _ in self.figures if own == group}
        return tuple(row for row in self.rows if row in have)


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """Return every table by its key, in the paper's order."""
    text = (files("skeltrain.tables") / "paper.toml").read_text(encoding="utf-8")
    tables = {}
    for entry in tomllib.loads(text)["table"]:
        columns = entry["columns"]
        figures = {
            (group, row, column): float(value)
            for group, rows in entry.pop("paper").items()
            for row, values in rows.items()
            for column, value in zip(columns, values, strict=True)
            if not math.isnan(value)
        }
        kept = {**entry, "rows": tuple(entry["rows"]), "columns": tuple(columns)}
        tables[entry["key"]] = PaperTable(**{"number": None, **kept}, figures=figures)
    return tables
