"""Cells of CSV files: what a spreadsheet would run is escaped, and `read_csv` takes the escapes off again.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end may be a formula to Excel, LibreOffice
or Google Sheets, and a formula can call programs and fetch addresses (OWASP, CSV Injection). An apostrophe in
front makes it text. A text that begins with an apostrophe gets one more, so that one can always be taken off.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skelconv.export.place import ABOUT, ExportError

COLUMNS = "columns"
"""Key of ``about.json``: for each file, its columns and their dtypes; ``string`` is text."""

TEXT = "string"

_ESCAPED = re.compile(r"[=+\-@\t\r\n'\uff1d\uff0b\uff0d\uff20]")
"""First characters of what is escaped; the last four are the full-width forms of the first four."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape(text: str) -> str:
    """Return a text as a cell; plain numbers, also negative ones, stay as they are."""
    return f"'{text}" if _ESCAPED.match(text) and not _NUMBER.fullmatch(text) else text


def unescape(cell: str) -> str:
    """Return the text of a cell that `escape` made."""
    return cell.removeprefix("'")


def escaped(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the text of its cells and the names of its columns escaped."""
    changed: dict[str, Any] = {}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            changed[str(name)] = values.cat.rename_categories(escape)
        elif dtype_of(values) == TEXT:
            changed[str(name)] = values.map(escape, na_action="ignore")
    return frame.assign(**changed).rename(columns=escape)


def dtype_of(values: pd.Series[Any]) -> str:
    """Return how a column is noted in ``about.json``: ``string``, ``int64``, ``float32`` ..."""
    if isinstance(values.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        return TEXT
    return str(values.dtype)


def read_csv(folder: str | Path, name: str = "sequences") -> pd.DataFrame:
    """Read one file of a CSV export back, every value and dtype as in the store.

    Parameters
    ----------
    folder
        The export.
    name
        ``sequences``, ``frames`` or a side table.

    Raises
    ------
    ExportError
        The folder is not a CSV export, or has no such file.
    """
    folder = Path(folder)
    try:
        columns = json.loads((folder / ABOUT).read_text(encoding="utf-8"))[COLUMNS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{folder}: found no {ABOUT} of a CSV export ({error!r}), expected one. "
            "Export the store again with skelconv export --to csv"
        ) from error
    if name not in columns:
        raise ExportError(f"{folder}: found no {name}.csv, expected one of: {', '.join(columns)}")
    # as text first: pandas' own parser of numbers is not exact to the last digit in every version
    frame = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    return pd.DataFrame(
        {column: _typed(frame[escape(column)], kind) for column, kind in columns[name].items()}
    )


def _typed(cells: pd.Series[Any], dtype: str) -> Any:
    if dtype == TEXT:
        return cells.map(unescape).astype("string")
    values = cells.to_numpy(str)
    return np.where(values == "", "nan", values).astype(dtype)
