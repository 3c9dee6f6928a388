"""Columns and cells of the table: which belong together, in what order, and how near a name is to others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema

_FEW_NAMES = 200


def side_columns(table: str, arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns of a side table, name to array, among arrays with their metadata."""
    prefix = f"{table}_"
    return {
        name.removeprefix(prefix): name
        for name, node in arrays.items()
        if name.startswith(prefix) and (node.get("dimension_names") or (None,))[0] == table
    }


def as_column(values: NDArray[Any]) -> Any:
    """Return an array's rows as a column of a DataFrame."""
    if values.ndim > 1:
        rows = np.empty(len(values), object)
        rows[:] = list(values)
        return rows
    return pd.array(values.tolist(), dtype="string") if values.dtype == object else values


def equal_cells(one: Any, other: Any) -> bool:
    """Whether two cells are the same; a NaN equals a NaN."""
    if isinstance(one, float | np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    return bool(one == other)


def column_rank(column: str) -> tuple[int, str]:
    """Sort key of columns: those of every store in their order, the dataset's own, the splits."""
    order = ["sequence", *(base.name for base in schema.BASE_COLUMNS)]
    if column in order:
        return order.index(column), ""
    return len(order) + column.startswith(schema.split_column("")), column


def near_names(name: str, names: list[str]) -> tuple[str, ...]:
    """Return all names when they are few, else those around ``name`` in the alphabet.

    Looking for the most similar among 100,000 names takes seconds; those that begin alike are next to it.
    """
    if len(names) <= _FEW_NAMES:
        return tuple(names)
    ordered = sorted(names)
    at = bisect_left(ordered, name)
    return tuple(ordered[max(0, at - _FEW_NAMES // 2) : at + _FEW_NAMES // 2])
