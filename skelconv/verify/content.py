"""The values' part of `skelconv.verify`: the table in itself, and each sequence against its row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.backends import ArrayReader, Backend, open_array
from skelconv.store.digest import motion_digests
from skelconv.store.info import StoreError
from skelconv.store.location import Location, Metadata
from skelconv.store.store import PARTS, Store
from skelconv.verify.findings import Findings, Progress

BLOCK_FRAMES = 16_384
"""Frames that are read and checked at a time."""


def check_table(store: Store, findings: Findings) -> bool:
    """Check the table in itself; returns whether its sequences can be read."""
    table, info = store.to_frame(), store.info
    start, length = table["start"].to_numpy(), table["length"].to_numpy()
    ends = np.cumsum(length, dtype=np.int64)
    contiguous = np.array_equal(start, ends - length) and (ends[-1] if len(ends) else 0) == store.frames
    findings.expect(
        contiguous,
        "table",
        "table: found sequences that overlap, leave gaps or do not end with the frames, expected each to "
        f"start where the one before ends, {store.frames} frames in all",
    )
    findings.expect(
        bool((length > 0).all()), "table", "table: found a sequence without frames, expected one or more"
    )
    for name in table.index[table.index.duplicated()]:
        findings.add("ids", f"table: found the id {name!r} again, expected ids that are unique")
    _check_labels(table, info.classes, findings)
    for protocol in info.protocols:
        column = table[schema.split_column(protocol)]
        for name, part in column[~column.isin([*PARTS, ""])].items():
            findings.add(
                "splits", f"{name}: found the split {part!r} of {protocol}, expected train, test, val or ''"
            )
    for column_name in ("recording_length", "source", "label"):
        spread = table.groupby("recording")[column_name].nunique()
        for name in spread.index[spread > 1]:
            findings.add("table", f"recording {name}: found several values of {column_name}, expected one")
    made = info.provenance
    found = (len(store), len(store.recording_names()), store.frames)
    findings.expect(
        found == (made.sequences, made.recordings, made.frames),
        "table",
        f"found {found[0]} sequences, {found[1]} recordings, {found[2]} frames; expected {made.sequences}, "
        f"{made.recordings}, {made.frames} as the provenance records",
    )
    inside = (start >= 0) & (length >= 0) & (start + length <= store.frames)
    return bool(inside.all())


def check_content(
    store: Store, location: Location, metadata: Metadata, findings: Findings, progress: Progress
) -> None:
    """Check each sequence's values; one in a damaged chunk is left out, the byte part reports it."""
    names = [n for n in (schema.POSITION, schema.FRAME_INDEX, schema.CONFIDENCE) if n in store.arrays]
    how: Backend = "zarr" if location.folder is None else "direct"
    readers = {name: open_array(location, name, metadata.arrays[name], how) for name in names}
    for name, expected in (("joint", store.skeleton.names), ("axis", store.info.axes.names)):
        try:
            labels = tuple(store.array(name).tolist())
        except StoreError:
            continue  # the byte part reports it
        findings.expect(labels == expected, "labels", f"array {name}: found {labels}, expected {expected}")
    states = store.info.confidence.states if store.info.confidence else {}
    frame_bytes = 4 * math.prod(metadata.arrays[schema.POSITION]["shape"][1:])
    table = store.to_frame()[["start", "length", "recording_length", "digest"]]
    with progress(len(table), "sequences", store.frames * frame_bytes) as advance:
        for first, last in _blocks(table["length"].to_numpy()):
            rows = table.iloc[first:last]
            for part in _readable(rows, readers, findings):
                _check_block(part, states, findings)
            advance(len(rows), int(rows["length"].sum()) * frame_bytes)


@dataclass(frozen=True, eq=False)
class _Block:
    """Sequences that follow one another: their rows of the table, and their (F, ...) values by array."""

    rows: pd.DataFrame
    values: Mapping[str, NDArray[Any]]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(N,) first frame of each sequence within the block."""
        start = self.rows["start"].to_numpy()
        return start - start[0]

    def any(self, odd: NDArray[np.bool_]) -> list[int]:
        """Numbers of the sequences in which a frame, (F,) bool, is odd."""
        return np.flatnonzero(np.logical_or.reduceat(odd, self.starts)).tolist()


def _blocks(lengths: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of sequences of about `BLOCK_FRAMES` frames together."""
    ends, first = np.cumsum(lengths, dtype=np.int64), 0
    while first < len(lengths):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + BLOCK_FRAMES, "right")))
        yield first, last
        first = last


def _readable(rows: pd.DataFrame, readers: Mapping[str, ArrayReader], findings: Findings) -> Iterator[_Block]:
    """Yield the block of ``rows``, or those of its sequences that can be read one by one."""
    start, stop = int(rows["start"].iloc[0]), int((rows["start"] + rows["length"]).iloc[-1])
    follow = (rows["start"] + rows["length"]).to_numpy()[:-1] == rows["start"].to_numpy()[1:]
    try:
        if len(rows) == 1 or (bool(follow.all()) and bool((rows["length"] > 0).all())):
            if stop > start:
                yield _Block(rows, {name: reader.read(start, stop) for name, reader in readers.items()})
            return
    except StoreError:
        if len(rows) == 1:
            findings.checked["unreadable sequences"] += 1
            return
    for number in range(len(rows)):
        yield from _readable(rows.iloc[number : number + 1], readers, findings)


def _check_block(block: _Block, states: dict[int, str], findings: Findings) -> None:
    names = block.rows.index
    findings.checked["sequences"] += len(names)
    findings.checked["frames"] += len(block.values[schema.POSITION])
    for number, problem in (
        *_position_problems(block, findings),
        *_frame_index_problems(block),
        *_confidence_problems(block, states),
    ):
        findings.add("values", f"{names[number]}: {problem}")


def _check_labels(table: pd.DataFrame, classes: tuple[str, ...], findings: Findings) -> None:
    label = table["label"].to_numpy()
    known = (label >= -1) & (label < len(classes))
    # the last one is that of -1, none
    names = np.array([*classes, ""], object)[np.where(known, label, -1)]
    wrong = ~known | (names != table["action"].to_numpy(object))
    for number in np.flatnonzero(wrong).tolist():
        findings.add(
            "labels",
            f"{table.index[number]}: found label {label[number]} with action "
            f"{table['action'].iloc[number]!r}, expected a label from -1 to {len(classes) - 1} with the name "
            "of its class",
        )


def _position_problems(block: _Block, findings: Findings) -> Iterator[tuple[int, str]]:
    position = block.values[schema.POSITION]
    found = np.array(motion_digests(position, block.starts.tolist()), object)
    digest = block.rows["digest"].to_numpy(object)
    for number in np.flatnonzero(found != digest).tolist():
        yield number, f"found positions of digest {found[number]}, expected {digest[number]}"
    findings.checked["joints"] += math.prod(position.shape[:-1])
    findings.checked["missing joints"] += 0
    if np.isfinite(position).all():
        return
    missing = np.isnan(position)
    joint = missing.all(axis=-1)
    findings.checked["missing joints"] += int(joint.sum())
    for number in block.any((joint != missing.any(axis=-1)).any(axis=-1)):
        yield number, "found a joint with some axes NaN, expected all or none"
    for number in block.any(np.isinf(position).any(axis=(1, 2))):
        yield number, "found an infinite position, expected numbers, or NaN for a missing joint"


def _frame_index_problems(block: _Block) -> Iterator[tuple[int, str]]:
    frame_index, starts = block.values[schema.FRAME_INDEX], block.starts
    falls = np.zeros(len(frame_index), bool)
    falls[1:] = np.diff(frame_index) <= 0
    falls[starts] = False  # a sequence begins anew
    for number in block.any(falls):
        yield number, "found frame numbers that do not increase, expected each above the one before"
    least, most = np.minimum.reduceat(frame_index, starts), np.maximum.reduceat(frame_index, starts)
    length = block.rows["recording_length"].to_numpy()
    for number in np.flatnonzero((least < 0) | (most >= length)).tolist():
        yield (
            number,
            f"found frame numbers {least[number]} to {most[number]}, expected them within the recording's "
            f"{length[number]} frames",
        )


def _confidence_problems(block: _Block, states: dict[int, str]) -> Iterator[tuple[int, str]]:
    confidence = block.values.get(schema.CONFIDENCE)
    if confidence is None or not states:
        return
    # a table of all 256 values is several times faster than a search
    table = np.ones(256, bool)
    table[[state for state in states if 0 <= state < 256]] = False
    odd = table[confidence] if confidence.dtype == np.uint8 else np.isin(confidence, [*states], invert=True)
    bounds = [*block.starts.tolist(), len(confidence)]
    for number in block.any(np.asarray(odd.any(axis=-1))):
        here = slice(bounds[number], bounds[number + 1])
        strange = np.unique(confidence[here][odd[here]]).tolist()
        yield number, f"found tracking states {strange}, expected some of {sorted(states)}"
