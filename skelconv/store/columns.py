"""A DataFrame as columns of a store: every column an array along one dimension, named by the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import zarr

from skelconv.store import schema
from skelformats.reader import Column


def write_frame(group: zarr.Group, table: pd.DataFrame, dim: str, describe: Callable[[str], str]) -> None:
    """Write the index of a table as labels of ``dim``, and each of its columns as an array along it.

    Parameters
    ----------
    describe
        Gives the description of a column, by its name.
    """
    schema.write_labels(group, dim, [str(name) for name in table.index])
    for name in map(str, table.columns):
        values = table[name]
        column = Column(name, stored_dtype(values), describe(name))
        schema.write_column(group, column, plain_values(values, column.dtype), dim)


def stored_dtype(values: pd.Series[Any]) -> Literal["string", "i4", "i8", "f4", "f8"]:
    """Return the dtype in which a store holds the values of a column."""
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "i4" if pd.api.types.is_bool_dtype(values) else "string"
    if pd.api.types.is_float_dtype(values):
        return "f8" if values.dtype == np.float64 else "f4"
    present = values.dropna()
    bounds = np.iinfo(np.int32)
    return "i4" if present.between(bounds.min, bounds.max).all() else "i8"


def plain_values(values: pd.Series[Any], dtype: str) -> list[Any]:
    """Cells as plain Python values; absent ones as the sequence store writes them."""
    absent: Any = {"string": "", "f4": float("nan"), "f8": float("nan")}.get(dtype, -1)
    kind: Any = {"string": str, "f4": float, "f8": float}.get(dtype, int)
    return [absent if pd.isna(value) else kind(value) for value in values]
