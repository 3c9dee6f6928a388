"""Small tables for notebooks. Names and cells come from files of others: all of them are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

_CELL_CHARACTERS = 120
_LEFT = 'style="text-align:left"'


def table(title: str, facts: Mapping[str, Any]) -> str:
    """Return an HTML table of one fact a line, under a title."""
    lines = "".join(
        f"<tr><th {_LEFT}>{_cell(name)}</th><td {_LEFT}>{_cell(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div><b>{_cell(title)}</b><table>{lines}</table></div>"


def rows(title: str, header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return an HTML table with a header and a line for each of ``lines``."""
    head = "".join(f"<th>{_cell(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<div><b>{_cell(title)}</b><table><tr>{head}</tr>{body}</table></div>"


def short(value: Any) -> str:
    """Return a cell in few characters: an array by its shape, long text by its beginning."""
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {value.dtype}"
    text = str(value)
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 3]}..."


def _cell(value: Any) -> str:
    return escape(short(value))
