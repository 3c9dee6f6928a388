"""Checks of a store's metadata before anything relies on it: stores come from strangers.

Each refusal is one sentence: which array, what was found, what was expected.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skelconv.store import schema
from skelconv.store.chunk_layout import UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError

LARGEST = 2**62
"""No dimension and no array has so many elements."""

_LARGE_BYTES = 2**30
_LARGEST_RATIO = 10_000
"""An array of more than `_LARGE_BYTES` in so few bytes of files is a bomb: blosc expands at most 255-fold."""

_FILES = 10_000
"""Chunk files of an array that are looked at when a store is opened; later ones when they are read."""

_MOST_ABSENT = 1_000
"""Files that may be lost of an array that has every chunk: more are a shape that was never written."""

_REQUIRED = {
    schema.POSITION: ("frame", "joint", "axis"),
    schema.FRAME_INDEX: ("frame",),
    "joint": ("joint",),
    "axis": ("axis",),
    "sequence": ("sequence",),
    **{column.name: ("sequence",) for column in schema.BASE_COLUMNS},
}

_REMEDY = "Fetch or ingest the store again"


def check_node(name: Any, node: Any, where: str) -> None:
    """Check the metadata of one array for what everything else takes for granted.

    Raises
    ------
    StoreError
        The name leads out of the store, or the shape, the names of the dimensions or the attributes are not
        such.
    """

    def expect(holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise StoreError(f"{where}, array {str(name)!r}: found {found}, expected {expected}. {_REMEDY}")

    plain = isinstance(name, str) and not set(name) & set("/\\\0") and name not in ("", ".", "..")
    expect(plain, "a name that is not that of a folder", "an array directly below the root")
    shape, dims = node.get("shape"), node.get("dimension_names")
    sizes = isinstance(shape, list | tuple) and all(type(size) is int and size >= 0 for size in shape)
    expect(sizes, f"the shape {shape!r}", "a list of sizes")
    expect(math.prod(map(int, shape)) < LARGEST, f"the shape {shape!r}", f"fewer than {LARGEST} elements")
    kind = node.get("data_type")
    expect(isinstance(kind, str | dict), f"the data type {kind!r}", "its name")
    chunk = _within(node, "chunk_grid", "configuration", "chunk_shape")
    rows = not isinstance(chunk, list | tuple) or all(type(size) is int and size > 0 for size in chunk)
    expect(rows, f"the chunk shape {chunk!r}", "sizes above 0")
    named = dims is None or (
        isinstance(dims, list | tuple)
        and len(dims) == len(shape)
        and all(dim is None or isinstance(dim, str) for dim in dims)
    )
    expect(named, f"the dimension names {dims!r}", f"{len(shape)} names")
    expect(isinstance(node.get("attributes") or {}, dict), "attributes that are not an object", "an object")


def check_files(folder: Path, name: str, node: Mapping[str, Any], where: str) -> bool:
    """Check that a local array's files are files, and as many bytes as its shape needs at the least.

    Returns whether its layout is one that the direct reader knows; the others are for zarr to judge.

    Raises
    ------
    StoreError
        A chunk or shard is a pipe, a folder or a device, or the array is far larger than what is stored.
    """
    try:
        layout = parse_layout(node, name)
    except UnknownLayoutError:
        return False
    stored = absent = 0
    for number in range(min(layout.files, _FILES)):
        file = folder / name / layout.key(number)
        try:
            found = file.stat()
        except OSError:
            absent += 1  # one by one they are told when they are read
            continue
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"{file}: found something that is not a file, expected a shard or chunk. {_REMEDY}"
            )
        stored += found.st_size
    size = math.prod(layout.shape) * (1 if layout.text else layout.dtype.itemsize)
    bomb = size > _LARGE_BYTES and size > _LARGEST_RATIO * stored
    if bomb or (layout.complete and absent > _MOST_ABSENT):
        raise StoreError(
            f"{where}, array {name}: found the shape {layout.shape} in {stored:,} bytes of files, expected "
            f"about as much as that needs. {_REMEDY}"
        )
    return True


def check_roles(arrays: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Check that the arrays of every sequence store are there, along their dimensions, and agree in length.

    Raises
    ------
    StoreError
        One is not.
    """
    if absent := [name for name in _REQUIRED if name not in arrays]:
        raise StoreError(
            f"{where}: found no array {', '.join(absent)}, expected every array of docs/store.md. {_REMEDY}"
        )
    for name, dims in _REQUIRED.items():
        found = tuple(arrays[name].get("dimension_names") or ())
        if found != dims:
            raise StoreError(
                f"{where}: found the array {name} along {found}, expected it along {dims}. {_REMEDY}"
            )
    for dim in ("frame", "sequence"):
        sizes = {
            node["shape"][0]: name
            for name, node in arrays.items()
            if (node.get("dimension_names") or (None,))[0] == dim
        }
        if len(sizes) > 1:
            shown = ", ".join(f"{size:,} in {name}" for size, name in sizes.items())
            raise StoreError(
                f"{where}: found lengths of {dim} that differ ({shown}), expected one. {_REMEDY}"
            )


def _within(node: Any, *keys: str) -> Any:
    """Return what lies below ``keys``, None where there is nothing."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node
