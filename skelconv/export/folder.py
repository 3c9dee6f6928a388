"""Folders of Parquet or CSV files: the table, the frames in long form, every side table.

``sequences``, ``frames`` and one file a side table, ``about.json`` with what the store says of itself and
``skeleton.toml`` with its layout: enough for ``skelconv ingest table`` to make the store again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from skelconv.derive.contents import stored_dataset
from skelconv.export.csv_cells import COLUMNS, dtype_of, escaped
from skelconv.export.forms import ExportForm
from skelconv.export.frames import LongForm, long_form, long_frames
from skelconv.export.place import ABOUT, Exported, written_aside
from skelconv.extras import need
from skelconv.store.store import Store
from skelformats.exported import DESCRIBED, LAYOUT
from skelformats.skeleton import skeleton_toml

Dtypes = dict[str, str]
"""Columns of a file and their dtypes."""

WriteTable = Callable[[Path, pd.DataFrame], Dtypes]
WriteFrames = Callable[[Path, Iterator[pd.DataFrame]], tuple[int, Dtypes]]

SEQUENCES, FRAMES = "sequences", "frames"


def export_parquet(store: Store, path: str | Path, overwrite: bool = False) -> Exported:
    """Write a store as a folder of Parquet files; columns of arrays become lists.

    ``frames.parquet`` has a row group for each million rows or so of whole sequences, with statistics, so a
    reader that filters by ``sequence`` skips the others.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false.
    MissingExtraError
        pyarrow is not installed.
    """
    need("pyarrow", "parquet")
    return _export(store, Path(path), overwrite, "parquet", _table_to_parquet, _frames_to_parquet)


def export_csv(store: Store, path: str | Path, overwrite: bool = False) -> Exported:
    """Write a store as a folder of CSV files; an array becomes a column for each of its values.

    Missing values are empty. Numbers have as many digits as it takes to read them back exactly. Text that a
    spreadsheet would run is escaped (`skelconv.export.csv_cells`); `skelconv.export.read_csv` reads all of it
    back as it was.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false.
    """
    return _export(store, Path(path), overwrite, "csv", _table_to_csv, _frames_to_csv)


def _export(
    store: Store, path: Path, overwrite: bool, suffix: str, table: WriteTable, frames: WriteFrames
) -> Exported:
    form: LongForm = long_form(store)
    with written_aside(path, overwrite) as partial:
        partial.mkdir()
        columns = {SEQUENCES: table(partial / f"{SEQUENCES}.{suffix}", _with_arrays(store))}
        rows, columns[FRAMES] = frames(partial / f"{FRAMES}.{suffix}", long_frames(store, form))
        counts = {SEQUENCES: len(store), "rows of frames": rows}
        for name in store.info.tables:
            side = store.table(name)
            columns[name] = table(partial / f"{name}.{suffix}", side)
            counts[f"rows of {name}"] = len(side)
        described = _described(store, form)
        about = {**store.info.to_attributes(), COLUMNS: columns, DESCRIBED: described}
        (partial / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        (partial / LAYOUT).write_text(skeleton_toml(store.skeleton), encoding="utf-8")
    return Exported(path, counts, left_out=form.left_out)


def _described(store: Store, form: LongForm) -> dict[str, Any]:
    """Describe the columns, the optional arrays that are in ``frames``, and the side tables."""
    dataset = stored_dataset(store)
    kept = {array for array, _ in form.columns.values()}
    return {
        "cleaning": dataset.cleaning,
        "columns": [asdict(column) for column in dataset.columns],
        "extras": [asdict(extra) for extra in dataset.extras if extra.name in kept],
        "tables": [asdict(table) for table in dataset.tables],
    }


def _with_arrays(store: Store) -> pd.DataFrame:
    """Return the table with the id as a column, and the columns of arrays as objects."""
    table = store.to_frame().reset_index()
    for name in store.array_columns:
        rows = np.empty(len(table), object)
        rows[:] = list(store.array(name))
        table[name] = rows
    return table


def _table_to_parquet(path: Path, table: pd.DataFrame) -> Dtypes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        str(name): pa.array([_listed(cell) for cell in values] if values.dtype == object else values)
        for name, values in table.items()
    }
    written = pa.table(columns)
    pq.write_table(written, path, compression="zstd")
    return {field.name: str(field.type) for field in written.schema}


def _frames_to_parquet(path: Path, blocks: Iterator[pd.DataFrame]) -> tuple[int, Dtypes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, rows, dtypes = None, 0, {}
    try:
        for block in blocks:
            table = pa.Table.from_pandas(block, preserve_index=False)
            # a block's own ids and joints are its dictionary; the file's schema says text
            table = table.cast(_schema(table.schema))
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
                dtypes = {field.name: str(field.type) for field in table.schema}
            writer.write_table(table, row_group_size=max(1, len(table)))
            rows += len(table)
    finally:
        if writer is not None:
            writer.close()
    return rows, dtypes


def _schema(schema: Any) -> Any:
    import pyarrow as pa

    text = [
        pa.field(field.name, pa.string()) if pa.types.is_dictionary(field.type) else field for field in schema
    ]
    return pa.schema(text)


def _listed(cell: Any) -> Any:
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


def _table_to_csv(path: Path, table: pd.DataFrame) -> Dtypes:
    columns: dict[str, Any] = {}
    for name, values in table.items():
        first = values.iloc[0] if len(values) else None
        if not isinstance(first, np.ndarray):
            columns[str(name)] = values
            continue
        for index in np.ndindex(first.shape):
            label = "_".join(map(str, (name, *index)))
            columns[label] = [cell[index] for cell in values]
    flat = pd.DataFrame(columns)
    escaped(flat).to_csv(path, index=False, lineterminator="\n")
    return {str(name): dtype_of(values) for name, values in flat.items()}


def _frames_to_csv(path: Path, blocks: Iterator[pd.DataFrame]) -> tuple[int, Dtypes]:
    rows, dtypes = 0, {}
    with path.open("w", encoding="utf-8", newline="") as handle:
        for block in blocks:
            escaped(block).to_csv(handle, index=False, header=rows == 0, lineterminator="\n")
            dtypes = {str(name): dtype_of(values) for name, values in block.items()}
            rows += len(block)
    return rows, dtypes


PARQUET = ExportForm(
    name="parquet",
    title="folder of Parquet files",
    write=lambda store, path, how: export_parquet(store, path, how.overwrite),
)
CSV = ExportForm(
    name="csv",
    title="folder of CSV files",
    write=lambda store, path, how: export_csv(store, path, how.overwrite),
)
