"""The sequence store's format, version 1: names, codecs and the few ways in which arrays are written.

docs/store.md is the specification; the constants here are what it says. Everything that touches zarr's
own API for creating arrays is in this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.array_spec import ArrayConfigParams

from skelconv.store.encode import CHUNK_FRAMES as CHUNK_FRAMES
from skelconv.store.encode import COMPRESSOR, LEVEL, is_shuffled
from skelconv.store.encode import CONFIDENCE as CONFIDENCE
from skelconv.store.encode import FRAME_INDEX as FRAME_INDEX
from skelconv.store.encode import POSITION as POSITION
from skelconv.store.encode import SHARD_FRAMES as SHARD_FRAMES
from skelconv.store.encode import FrameArray as FrameArray
from skelconv.store.integrity import STORED, begin_seal, end_seal
from skelformats.errors import SkelconvError
from skelformats.reader import Column

FORMAT_VERSION = 1
ATTRIBUTE = "skelconv"
"""The root attribute that holds everything about a store that is not an array."""

TABLE_CHUNK_ROWS = 65_536

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

ColumnType = Literal["string", "i4", "i8", "f4", "f8"]


@dataclass(frozen=True)
class StoredType:
    """A data type of the format: its short ``code``, zarr's ``name``, what a column without a value holds.

    ``fill`` is None for a type that no column has.
    """

    code: str
    name: str
    fill: Any


_TYPES = (
    StoredType("string", "string", ""),
    StoredType("i4", "int32", -1),
    StoredType("i8", "int64", -1),
    StoredType("f4", "float32", float("nan")),
    StoredType("f8", "float64", float("nan")),
    StoredType("u1", "uint8", None),
)
"""The one table of the format's data types; every other module asks the functions below."""

COLUMN_TYPE_NAMES = tuple(kind.name for kind in _TYPES if kind.fill is not None)
"""zarr's names of the types that a column may have."""


def type_name(code: str) -> str:
    """Return zarr's name of a type: ``int32`` of ``i4``."""
    return next(kind.name for kind in _TYPES if kind.code == code)


def column_type(name: str) -> ColumnType:
    """Return the code of a column's type: ``i4`` of ``int32``; raises `SkelconvError` where none has it."""
    for kind in _TYPES:
        if kind.name == name and kind.fill is not None:
            return cast("ColumnType", kind.code)
    raise SkelconvError(f"found a column of {name}, expected one of {', '.join(COLUMN_TYPE_NAMES)}")


def column_fill(code: str) -> Any:
    """Return what a column of a type holds where it has no value."""
    return next(kind.fill for kind in _TYPES if kind.code == code)


def wider_type(one: ColumnType, other: ColumnType) -> ColumnType:
    """Return the type that holds the values of both: text where one is text, else the wider number."""
    if one == other:
        return one
    if "string" in (one, other):
        return "string"
    return "i8" if {one, other} == {"i4", "i8"} else "f8"


_EVERY_CHUNK: ArrayConfigParams = {"write_empty_chunks": True}
"""A chunk of nothing but fill value is stored too, so that an absent one is damage and not missing values."""


def split_column(protocol: str) -> str:
    """Name of the table column that holds a protocol's split."""
    return f"split_{protocol}"


def codecs(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Compressors of a numeric array: blosc lz4 with byte shuffle, then crc32c.

    Without the checksum most flipped bits pass unseen (store measurements, section 2).
    """
    shuffle: Literal["shuffle", "noshuffle"] = "shuffle" if is_shuffled(dtype) else "noshuffle"
    return (
        BloscCodec(cname=COMPRESSOR, clevel=LEVEL, shuffle=shuffle, typesize=dtype.itemsize),
        Crc32cCodec(),
    )


def create_frame_array(group: zarr.Group, array: FrameArray, frames: int = 0) -> zarr.Array[Any]:
    """Create an array of ``frames`` rows, whose chunks are all stored once they are written."""
    kind = np.dtype(array.dtype)
    return group.create_array(
        name=array.name,
        shape=(frames, *array.tail),
        chunks=(array.chunk, *array.tail),
        shards=(array.shard, *array.tail),
        dtype=kind,
        compressors=codecs(kind),
        fill_value=array.fill,
        dimension_names=(array.leading, *array.dims),
        attributes={**array.attributes, STORED: True},
        config=_EVERY_CHUNK,
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
        fill_value=column_fill(column.dtype),
        dimension_names=(dim, *column.dims),
        attributes={"long_name": column.description, **unit, **(attributes or {}), STORED: True},
        config=_EVERY_CHUNK,
        # an interrupted finish may have left the column behind
        overwrite=True,
    )
    if rows:
        array[:] = np.asarray(values, dtype=dtype if dtype is not None else object).reshape(array.shape)


def consolidate(path: Path) -> None:
    """Gather all metadata into the root and seal it with its digest, once, when a store is complete.

    zarr warns that consolidated metadata is not part of the v3 specification; a store that carries it opens
    without any warning for its readers, which is why the warning is answered here and nowhere else.
    """
    begin_seal(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(str(path), zarr_format=3)
    end_seal(path)
