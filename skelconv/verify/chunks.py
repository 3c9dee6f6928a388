"""The byte part of `skelconv.verify`: every chunk of every array against its checksum, and decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skelconv.store.chunk_layout import ABSENT, UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError
from skelconv.store.location import Metadata
from skelconv.store.shards import DirectArray, ShardFile
from skelconv.verify.findings import Findings, Progress


def check_chunks(folder: Path, metadata: Metadata, findings: Findings, progress: Progress) -> set[str]:
    """Check and decode every chunk; returns the names of the arrays in which something is damaged."""
    arrays = {}
    for name, node in metadata.arrays.items():
        try:
            arrays[name] = DirectArray(folder / name, parse_layout(node, name), verify=True)
        except UnknownLayoutError:
            continue  # the structural part reports it
    work = [(name, number) for name, array in arrays.items() for number in range(array.layout.files)]
    sizes = {key: _size(arrays[key[0]].path(key[1])) for key in work}
    damaged = set()
    with progress(len(work), "files", sum(sizes.values())) as advance:
        for name, number in work:
            problems = _file_problems(arrays[name], number, findings)
            for problem in problems:
                findings.add("damage", problem)
            if problems:
                damaged.add(name)
            findings.checked["bytes"] += sizes[name, number]
            advance(1, sizes[name, number])
    return damaged


def _file_problems(array: DirectArray, number: int, findings: Findings) -> list[str]:
    """Check one chunk or shard file; every byte of it belongs to a chunk, a checksum or the index."""
    layout = array.layout
    try:
        file = array.file(number)
    except StoreError as error:
        return [str(error)]
    if file.data is None:
        findings.checked["absent files"] += 1
        return []
    findings.checked["files"] += 1
    problems = []
    first = number * layout.chunks_a_file
    for chunk in range(first, first + layout.chunks_a_file):
        if file.payload(chunk - first) is None:
            if layout.complete and chunk < layout.chunks:
                problems.append(f"{array.path(number)}: found no chunk {chunk}, expected every one stored")
            continue
        findings.checked["chunks"] += 1
        if chunk >= layout.chunks:
            problems.append(
                f"{array.path(number)}: found chunk {chunk} beyond the array's end, expected none"
            )
            continue
        try:
            array.chunk(chunk)
        except StoreError as error:
            problems.append(str(error))
    if layout.shard is not None and not _is_tight(file, layout.index_bytes):
        problems.append(
            f"{array.path(number)}: found bytes that belong to no chunk or to two, expected the chunks one "
            "after another and the index behind them"
        )
    return problems


def _is_tight(file: ShardFile, index_bytes: int) -> bool:
    """Whether the chunks of a shard follow one another from its first byte up to its index."""
    extents = file.index[~(file.index == ABSENT).all(axis=1)].astype(np.int64)
    starts, sizes = extents[np.argsort(extents[:, 0])].T
    ends = np.cumsum(sizes)
    total = len(file.data) if file.data is not None else 0
    return np.array_equal(starts, ends - sizes) and sizes.sum() + index_bytes == total


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
