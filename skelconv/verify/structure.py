"""The structural part of `skelconv.verify`: metadata, dimensions, dtypes, layout, stray files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from skelconv.store import schema
from skelconv.store.cells import side_columns
from skelconv.store.chunk_layout import UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError, StoreInfo
from skelconv.store.location import METADATA, Metadata, array_files
from skelconv.verify.findings import Findings


def check_structure(folder: Path | None, metadata: Metadata, info: StoreInfo, findings: Findings) -> bool:
    """Check every array's metadata against the format; returns whether all of them can be read."""
    if folder is not None:
        _check_consolidated(folder, metadata, findings)
    expected = _expected(metadata.arrays, info)
    readable = True
    for name, node in metadata.arrays.items():
        findings.checked["arrays"] += 1
        problems = _layout_problems(node, name)
        if name in expected:
            problems += _shape_problems(node, *expected[name])
        else:
            problems += _role_problems(node, name, info)
        for problem in problems:
            findings.add("structure", f"array {name}: {problem}")
        readable = readable and not problems
    for name in (*info.extras, *(schema.split_column(protocol) for protocol in info.protocols)):
        if name not in metadata.arrays:
            findings.add("structure", f"found no array {name}, expected it from the root attributes")
            readable = False
    readable = _check_dimensions(metadata.arrays, findings) and readable
    for table in info.tables:
        if not side_columns(table, metadata.arrays):
            findings.add(
                "structure", f"found no array {table}_..., expected columns of the side table {table}"
            )
            readable = False
    if folder is not None:
        _check_files(folder, metadata, findings)
    return readable


def _check_consolidated(folder: Path, metadata: Metadata, findings: Findings) -> None:
    try:
        own = array_files(folder)
    except StoreError as error:
        findings.add("structure", str(error))
        return
    root = orjson.loads((folder / METADATA).read_bytes())
    if not root.get("consolidated_metadata"):
        findings.add("structure", f"{folder / METADATA}: found no consolidated metadata, expected it")
    for name in sorted({*own, *metadata.arrays}):
        findings.expect(
            _settled(own.get(name)) == _settled(metadata.arrays.get(name)),
            "structure",
            f"array {name}: found other metadata in its zarr.json than in the root's, expected the same",
        )


def _settled(node: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata without what may be left out."""
    return {key: value for key, value in (node or {}).items() if value not in (None, [], {})}


def _expected(
    arrays: Mapping[str, Mapping[str, Any]], info: StoreInfo
) -> dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Dtype, dimensions and shape that the format fixes, by array."""
    frames = int(arrays[schema.POSITION]["shape"][0])
    rows = int(arrays["sequence"]["shape"][0])
    joints, axes = len(info.layout()), len(info.axes.names)
    fixed = {
        schema.POSITION: ("float32", ("frame", "joint", "axis"), (frames, joints, axes)),
        schema.FRAME_INDEX: ("int32", ("frame",), (frames,)),
        "joint": ("string", ("joint",), (joints,)),
        "axis": ("string", ("axis",), (axes,)),
        "sequence": ("string", ("sequence",), (rows,)),
    }
    if info.confidence is not None:
        fixed[schema.CONFIDENCE] = (
            schema.type_name(info.confidence.dtype),
            ("frame", "joint"),
            (frames, joints),
        )
    for column in schema.BASE_COLUMNS:
        fixed[column.name] = (schema.type_name(column.dtype), ("sequence",), (rows,))
    for protocol in info.protocols:
        fixed[schema.split_column(protocol)] = ("string", ("sequence",), (rows,))
    return fixed


def _role_problems(node: Mapping[str, Any], name: str, info: StoreInfo) -> list[str]:
    """Check an array that only some stores have: an optional one, a column, a side table's, or labels."""
    dims = tuple(node.get("dimension_names") or ())
    kind = node.get("data_type")
    leading = dims[0] if dims else None
    if leading == "frame":
        known = name in info.extras
        return [] if known else ["found an array along frame, expected it among the root's extras"]
    if leading == "sequence" or (leading in info.tables and name.startswith(f"{leading}_")):
        return (
            []
            if kind in schema.COLUMN_TYPE_NAMES
            else [f"found a column of {kind}, expected {', '.join(schema.COLUMN_TYPE_NAMES)}"]
        )
    if dims == (name,) and kind == "string":
        return []
    return [
        f"found an array along {', '.join(map(str, dims)) or 'nothing'}, expected a column, an optional "
        "array, a side table that the root attributes name, or labels"
    ]


def _check_dimensions(arrays: Mapping[str, Mapping[str, Any]], findings: Findings) -> bool:
    """Check that arrays that share a dimension agree in its length."""
    sizes: dict[str, dict[int, str]] = {}
    for name, node in arrays.items():
        for dim, size in zip(node.get("dimension_names") or (), node.get("shape") or (), strict=False):
            if dim is not None:
                sizes.setdefault(dim, {}).setdefault(int(size), name)
    for dim, found in sizes.items():
        if len(found) > 1:
            shown = ", ".join(f"{size} in {name}" for size, name in found.items())
            findings.add("structure", f"dimension {dim}: found lengths {shown}, expected one")
    return all(len(found) == 1 for found in sizes.values())


def _layout_problems(node: Mapping[str, Any], name: str) -> list[str]:
    try:
        layout = parse_layout(node, name)
    except UnknownLayoutError as error:
        return [str(error)]
    problems = []
    if not layout.checksum:
        problems.append("found no crc32c in its codecs, expected it as the last")
    if layout.shard is not None and not layout.index_checksum:
        problems.append("found no crc32c in the codecs of its shard index, expected it as the last")
    dims = node.get("dimension_names")
    if dims and dims[0] == "frame":
        if layout.shard is None:
            problems.append("found no shards, expected the codec sharding_indexed")
        if not (np.isnan(layout.fill) if layout.dtype.kind == "f" else layout.fill == 0):
            problems.append(f"found the fill value {layout.fill}, expected NaN for floats and 0 for integers")
    if not dims or len(dims) != len(layout.shape) or None in dims:
        problems.append(f"found dimension names {dims}, expected one for each dimension")
    return problems


def _shape_problems(
    node: Mapping[str, Any], dtype: str, dims: tuple[str, ...], shape: tuple[int, ...]
) -> list[str]:
    found = (node.get("data_type"), tuple(node.get("dimension_names") or ()), tuple(node.get("shape") or ()))
    if found == (dtype, dims, shape):
        return []
    return [f"found {found[0]} {found[1]} {found[2]}, expected {dtype} {dims} {shape}"]


def _check_files(folder: Path, metadata: Metadata, findings: Findings) -> None:
    """Look for files that belong to no array: leftovers, or chunks beyond an array's end."""
    known = {METADATA}
    for name, node in metadata.arrays.items():
        known.add(f"{name}/{METADATA}")
        try:
            layout = parse_layout(node, name)
        except UnknownLayoutError:
            continue
        known.update(f"{name}/{layout.key(number)}" for number in range(layout.files))
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in known:
            findings.add("files", f"{file}: found a file that belongs to no array, expected none")
