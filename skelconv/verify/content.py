"""The values' part of `skelconv.verify`: the table in itself, and each sequence against its row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.backends import open_array
from skelconv.store.digest import motion_digest
from skelconv.store.info import StoreError
from skelconv.store.location import Location, Metadata
from skelconv.store.store import PARTS, Store
from skelconv.verify.findings import Findings, Progress


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
    readers = {
        name: open_array(location, name, metadata.arrays[name], "direct", verify=True) for name in names
    }
    labels = {
        name: tuple(open_array(location, name, metadata.arrays[name]).read_all())
        for name in ("joint", "axis")
    }
    for name, expected in (("joint", store.skeleton.names), ("axis", store.info.axes.names)):
        findings.expect(
            labels[name] == expected, "labels", f"array {name}: found {labels[name]}, expected {expected}"
        )
    states = store.info.confidence.states if store.info.confidence else {}
    frame_bytes = 4 * int(np.prod(metadata.arrays[schema.POSITION]["shape"][1:]))
    table = store.to_frame()[["start", "length", "recording_length", "digest"]]
    with progress(len(table), "sequences", store.frames * frame_bytes) as advance:
        for name, start, length, frames, digest in table.itertuples():
            advance(1, length * frame_bytes)
            try:
                values = {array: reader.read(start, start + length) for array, reader in readers.items()}
            except StoreError:
                findings.checked["unreadable sequences"] += 1
                continue
            findings.checked["sequences"] += 1
            findings.checked["frames"] += length
            problems = [
                *_position_problems(values[schema.POSITION], digest, findings),
                *_frame_index_problems(values[schema.FRAME_INDEX], frames),
                *_confidence_problems(values.get(schema.CONFIDENCE), states),
            ]
            for problem in problems:
                findings.add("values", f"{name}: {problem}")


def _check_labels(table: pd.DataFrame, classes: tuple[str, ...], findings: Findings) -> None:
    known = dict(enumerate(classes)) | {-1: ""}
    for name, label, action in table[["label", "action"]].itertuples():
        if known.get(label) != action:
            findings.add(
                "labels",
                f"{name}: found label {label} with action {action!r}, expected a label from -1 to "
                f"{len(classes) - 1} with the name of its class",
            )


def _position_problems(position: NDArray[np.float32], digest: str, findings: Findings) -> list[str]:
    missing = np.isnan(position)
    joint = missing.all(axis=-1)
    findings.checked["joints"] += joint.size
    findings.checked["missing joints"] += int(joint.sum())
    problems = []
    if (found := motion_digest(position)) != digest:
        problems.append(f"found positions of digest {found}, expected {digest}")
    if not np.array_equal(joint, missing.any(axis=-1)):
        problems.append("found a joint with some axes NaN, expected all or none")
    if np.isinf(position).any():
        problems.append("found an infinite position, expected numbers, or NaN for a missing joint")
    return problems


def _frame_index_problems(frame_index: NDArray[np.int32], recording_length: int) -> list[str]:
    problems = []
    if (np.diff(frame_index) <= 0).any():
        problems.append("found frame numbers that do not increase, expected each above the one before")
    if len(frame_index) and not 0 <= frame_index.min() <= frame_index.max() < recording_length:
        problems.append(
            f"found frame numbers {frame_index.min()} to {frame_index.max()}, expected them within the "
            f"recording's {recording_length} frames"
        )
    return problems


def _confidence_problems(confidence: NDArray[Any] | None, states: dict[int, str]) -> list[str]:
    if confidence is None or not states:
        return []
    strange = sorted(set(np.unique(confidence).tolist()) - set(states))
    return [f"found tracking states {strange}, expected some of {sorted(states)}"] if strange else []
