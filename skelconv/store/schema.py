"""The sequence store's format, version 1: names, codecs and the few ways in which arrays are written.

docs/store.md is the specification; the constants here are what it says. Everything that touches zarr's
own API for creating arrays is in this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from skelformats.reader import Column

FORMAT_VERSION = 1
ATTRIBUTE = "skelconv"
"""The root attribute that holds everything about a store that is not an array."""

CHUNK_FRAMES = 256
SHARD_FRAMES = 65_536
TABLE_CHUNK_ROWS = 65_536

POSITION = "position"
CONFIDENCE = "confidence"
FRAME_INDEX = "frame_index"

StoreKind = Literal["sequences", "s2i"]

BASE_COLUMNS = (
    Column("start", "i8", "first frame of the sequence along the dimension `frame`"),
    Column("length", "i4", "number of observed frames of the sequence"),
    Column("recording", "string", "recording that the sequence belongs to; its bodies share it"),
    Column("recording_length", "i4", "frames in the recording, those without any body included"),
    Column("source", "string", "raw file, by its path relative to the raw root"),
    Column("body", "string", "the source's own id of the body"),
    Column("label", "i4", "class, counted from 0; -1 where the source gives none"),
    Column("action", "string", "name of the class"),
    Column("digest", "string", "BLAKE2b-64 of the raw positions: equal digests are equal motions"),
)
"""Columns of every sequence store, before the dataset's own and the split columns."""

COLUMN_FILL: dict[str, Any] = {"string": "", "i4": -1, "i8": -1, "f4": float("nan"), "f8": float("nan")}


def split_column(protocol: str) -> str:
    """Name of the table column that holds a protocol's split."""
    return f"split_{protocol}"


def codecs(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Compressors of a numeric array: blosc lz4 with byte shuffle, then crc32c.

    Without the checksum most flipped bits pass unseen (store measurements, section 2).
    """
    shuffle: Literal["shuffle", "noshuffle"] = "shuffle" if dtype.itemsize > 1 else "noshuffle"
    return (BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=dtype.itemsize), Crc32cCodec())


def create_frame_array(
    group: zarr.Group,
    name: str,
    frames: int,
    tail: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
    shard_frames: int = SHARD_FRAMES,
    leading: str = "frame",
    chunk: int = CHUNK_FRAMES,
) -> zarr.Array[Any]:
    """Create an array that is long along its first dimension: (frames, *tail), chunked and sharded along it.

    ``dims`` names the dimensions after ``leading``. Missing values are NaN in float arrays, 0 in others.
    """
    kind = np.dtype(dtype)
    return group.create_array(
        name=name,
        shape=(frames, *tail),
        chunks=(chunk, *tail),
        shards=(shard_frames, *tail),
        dtype=kind,
        compressors=codecs(kind),
        fill_value=float("nan") if kind.kind == "f" else 0,
        dimension_names=(leading, *dims),
        attributes=dict(attributes),
    )


def write_labels(group: zarr.Group, dim: str, labels: Sequence[str]) -> None:
    """Write the coordinate of a short dimension (joint, axis, ...), so that xarray selects by name."""
    write_column(group, Column(dim, "string", f"label of each {dim}"), labels, dim)


def write_column(
    group: zarr.Group,
    column: Column,
    values: Sequence[Any] | NDArray[Any],
    dim: str,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write one column of a table, (rows, *column.shape), with its description as ``long_name``."""
    rows = len(values)
    unit = {"units": column.unit} if column.unit else {}
    numeric = column.dtype != "string"
    dtype = np.dtype(column.dtype) if numeric else None
    array = group.create_array(
        name=column.name,
        shape=(rows, *column.shape),
        chunks=(max(1, min(rows, TABLE_CHUNK_ROWS)), *column.shape),
        dtype=dtype if dtype is not None else "string",
        # shuffling has no meaning for variable-length text
        compressors=codecs(dtype) if dtype is not None else codecs(np.dtype("u1")),
        fill_value=COLUMN_FILL[column.dtype],
        dimension_names=(dim, *column.dims),
        attributes={"long_name": column.description, **unit, **(attributes or {})},
        # an interrupted finish may have left the column behind
        overwrite=True,
    )
    if rows:
        array[:] = np.asarray(values, dtype=dtype if dtype is not None else object).reshape(array.shape)


def consolidate(path: Path) -> None:
    """Gather all metadata into the root, once, when a store is complete.

    zarr warns that consolidated metadata is not part of the v3 specification; a store that carries it opens
    without any warning for its readers, which is why the warning is answered here and nowhere else.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(str(path), zarr_format=3)
