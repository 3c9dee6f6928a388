"""A store's frames in long form, a row a joint: what data frames, spreadsheets and R take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.store import Store

BLOCK_ROWS = 1_000_000
"""Rows a block: whole sequences, so that a block (a row group) is found by the sequence's id."""


@dataclass(frozen=True)
class LongForm:
    """How a store's arrays along frame become columns.

    Attributes
    ----------
    columns
        Column to (array, index along its last axis), in order; the index is None for one value a joint.
    left_out
        Arrays that have no value a joint.
    """

    columns: dict[str, tuple[str, int | None]]
    left_out: tuple[str, ...]


def long_form(store: Store) -> LongForm:
    """Plan the columns: axes of the position, confidence, and optional arrays with a value a joint."""
    columns: dict[str, tuple[str, int | None]] = {
        axis: (schema.POSITION, number) for number, axis in enumerate(store.info.axes.names)
    }
    if schema.CONFIDENCE in store.arrays:
        columns[schema.CONFIDENCE] = (schema.CONFIDENCE, None)
    left_out = []
    for name in store.info.extras:
        dims = tuple(store.metadata(name)["dimension_names"])
        if dims == ("frame", "joint"):
            columns[name] = (name, None)
        elif len(dims) == 3 and dims[:2] == ("frame", "joint"):
            labels = store.array(dims[2]).tolist()
            columns |= {f"{name}_{label}": (name, number) for number, label in enumerate(labels)}
        else:
            left_out.append(name)
    return LongForm(columns, tuple(left_out))


def long_frames(store: Store, form: LongForm, rows: int = BLOCK_ROWS) -> Iterator[pd.DataFrame]:
    """Yield blocks of whole sequences in store order: ``sequence``, ``frame``, ``joint``, and the values.

    ``frame`` is the number of the frame in its recording. Ids and joints are categories.
    """
    table = store.to_frame()
    starts, lengths = table["start"].to_numpy(), table["length"].to_numpy()
    joints = len(store.skeleton)
    first = 0
    while first < len(table):
        stop, size = first, 0
        while stop < len(table) and (stop == first or size + int(lengths[stop]) * joints <= rows):
            size += int(lengths[stop]) * joints
            stop += 1
        low, high = int(starts[first]), int(starts[stop - 1] + lengths[stop - 1])
        yield _block(store, form, low, high, table.index[first:stop], lengths[first:stop])
        first = stop


def _block(
    store: Store, form: LongForm, low: int, high: int, ids: pd.Index[Any], lengths: NDArray[np.int32]
) -> pd.DataFrame:
    joints = len(store.skeleton)
    arrays = {name: store.read(low, high, name) for name in {array for array, _ in form.columns.values()}}
    codes = np.repeat(np.arange(len(ids), dtype=np.int32), lengths)
    columns: dict[str, Any] = {
        "sequence": pd.Categorical.from_codes(np.repeat(codes, joints), ids.astype(str)),
        "frame": np.repeat(store.read(low, high, schema.FRAME_INDEX), joints),
        "joint": pd.Categorical.from_codes(
            np.tile(np.arange(joints, dtype=np.int16), high - low), pd.Index(store.skeleton.names)
        ),
    }
    for column, (array, number) in form.columns.items():
        values = arrays[array]
        columns[column] = (values if number is None else values[..., number]).reshape(-1)
    return pd.DataFrame(columns)
