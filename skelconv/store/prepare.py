"""A parsed recording made ready for the store: canonical positions, digests, rows of the table.

Nothing here depends on what the store holds already, so that workers can do it; what is left to the one
writer is the place of each sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.canonical import canonical_positions
from skelconv.store.digest import motion_digest
from skelconv.store.encode import CONFIDENCE, FRAME_INDEX, POSITION, FrameArray
from skelconv.store.frames import Frames, HeldFrames
from skelconv.store.text import check_text
from skelformats.reader import AxisMap, Clip, Track

START = "start"
"""The one column that only the writer knows."""


@dataclass(frozen=True)
class Preparation:
    """What a store makes of every clip: plain data, for workers.

    Attributes
    ----------
    dataset
        Name of the dataset, for messages.
    columns
        Names of the table's columns, in order.
    splits
        Name of the column of each protocol.
    tables
        Names of the columns of each side table, in order.
    classes
        Names of the classes.
    axis_map
        To canonical positions; None where they are canonical.
    precision
        As in `canonical_positions`.
    arrays
        The arrays along frame.
    """

    dataset: str
    columns: tuple[str, ...]
    splits: Mapping[str, str]
    tables: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    axis_map: AxisMap | None
    precision: float | None
    arrays: tuple[FrameArray, ...]


@dataclass(frozen=True)
class PreparedTrack:
    """A sequence: its row of the table, whose ``start`` is still to be set, and its frames."""

    row: list[Any]
    frames: Frames


@dataclass(frozen=True)
class PreparedClip:
    """A recording as a store takes it.

    ``side_rows`` are the cells of rows of side tables, by table. ``unstorable`` says why a store cannot take
    it; then the rest is empty.
    """

    recording: str
    tracks: tuple[PreparedTrack, ...]
    side_rows: Mapping[str, list[list[Any]]] = field(default_factory=dict)
    unstorable: str | None = None


def prepare(clip: Clip, source: str, how: Preparation) -> PreparedClip:
    """Make a recording that came from ``source`` ready.

    Raises
    ------
    UnstorableTextError
        A name or a cell is not text that UTF-8 can hold.
    ValueError
        The dataset promises confidence and a track has none.
    """
    check_text(clip, source)
    tracks = tuple(_prepared(clip, source, number, track, how) for number, track in enumerate(clip.tracks))
    side_rows = {
        table: [[plain(row[column]) for column in how.tables[table]] for row in rows]
        for table, rows in clip.tables.items()
    }
    return PreparedClip(clip.recording, tracks, side_rows)


def plain(value: Any) -> Any:
    """Return a cell as plain data: arrays as nested lists, numpy numbers as Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _prepared(clip: Clip, source: str, number: int, track: Track, how: Preparation) -> PreparedTrack:
    position: NDArray[np.float32] = track.position
    if how.axis_map is not None:
        position = canonical_positions(position, how.axis_map, how.precision)
    values: dict[str, NDArray[Any]] = {POSITION: position, FRAME_INDEX: track.frame_index}
    for array in how.arrays:
        if array.name == CONFIDENCE:
            if track.confidence is None:
                raise ValueError(f"{how.dataset} promises confidence, body {track.body} has none")
            values[CONFIDENCE] = track.confidence
        elif array.name not in values:
            values[array.name] = track.extras[array.name]
    cells: dict[str, Any] = {
        "sequence": f"{clip.recording}_b{number}",
        START: -1,
        "length": len(track.frame_index),
        "recording": clip.recording,
        "recording_length": clip.length,
        "source": source,
        "body": track.body,
        "label": clip.label,
        "action": how.classes[clip.label] if 0 <= clip.label < len(how.classes) else "",
        "digest": motion_digest(position),
        **clip.columns,
        **track.columns,
        **{how.splits[protocol]: part for protocol, part in clip.splits.items() if protocol in how.splits},
    }
    row = [plain(cells[name]) for name in how.columns]
    return PreparedTrack(row, HeldFrames(values, len(track.frame_index)))
