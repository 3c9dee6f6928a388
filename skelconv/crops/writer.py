"""The crop store while it is being written, and the journal that lets an interrupted run go on.

The bytes of all crops, one after another, are cut into shards whatever crop they belong to. After each whole
shard a line says which block of frames was being cut, and how many bytes came before it: a rerun cuts that
block again and leaves out the bytes that are on disk, which are the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.digest import file_digest
from skelconv.store.info import StoreError
from skelconv.store.publish import Partial, remove, sync
from skelconv.store.store import Store
from skelformats.reader import Column

FORMAT_VERSION = 1
ATTRIBUTE = "skelconv_crops"
CHUNK_BYTES = 1 << 16
SLAB = 8192
"""Crops whose poses are in memory at once when a store is finished."""

_OF_SEQUENCE = {"start", "length", "sequence", "frame_index"}


class CropJournalError(StoreError):
    """What an interrupted run left is damaged, or of another plan."""


class Row(NamedTuple):
    """One crop: sequence, position in it, place among the bytes, box in the picture, the picture's size."""

    sequence: int
    position: int
    frame: int
    start: int
    length: int
    box: tuple[float, float, float, float]
    size: tuple[int, int]


class Note(NamedTuple):
    """A frame that is set aside, and why."""

    sequence: str
    frame: int
    reason: str


class CropWriter:
    """Takes crops in plan order.

    Parameters
    ----------
    partial
        Where the unfinished store and its journal are; continued when a run of the same plan left them.
    digest
        Of the plan.
    shard_bytes
        Bytes a shard file, a multiple of `CHUNK_BYTES`.

    Attributes
    ----------
    block
        Blocks of the plan that need not be cut again.
    total
        Bytes of all crops so far.

    Raises
    ------
    CropJournalError
        The folder holds an unfinished run of another plan, or a damaged one.
    """

    def __init__(self, partial: Partial, digest: str, shard_bytes: int) -> None:
        self.rows: list[Row] = []
        self.notes: list[Note] = []
        self.block = self.total = 0
        self.store = partial.store
        self._journal = partial.journal
        self._digests: list[str] = []
        self._shard_bytes = shard_bytes
        self._shards = 0
        self._begin(digest)
        self._buffer = bytearray()
        self._group = zarr.open_group(str(self.store), mode="a", zarr_format=3)
        existing = self._group.get("jpeg")
        self._array = (
            existing
            if isinstance(existing, zarr.Array)
            else schema.create_frame_array(
                self._group,
                schema.FrameArray(
                    "jpeg",
                    (),
                    "u1",
                    (),
                    {"long_name": "JPEG files, one after another"},
                    leading="byte",
                    chunk=CHUNK_BYTES,
                    shard=shard_bytes,
                ),
            )
        )
        for leftover in self.store.rglob("*.partial"):
            leftover.unlink()
        self._mark = self._recorded = (len(self.rows), len(self.notes), self.total)

    def append(self, row: Row, jpeg: bytes) -> None:
        """Add a crop; ``row.start`` is `total`."""
        self.rows.append(row)
        on_disk = self._shards * self._shard_bytes + len(self._buffer)
        self._buffer += jpeg[max(0, on_disk - self.total) :]
        self.total += len(jpeg)
        while len(self._buffer) >= self._shard_bytes:
            self._write_shard(self._shard_bytes)
            self._record()

    def end_block(self) -> None:
        """Say that all frames of the current block are in."""
        self.block += 1
        self._mark = (len(self.rows), len(self.notes), self.total)

    def finish(self, store: Store, pixels: str, settings: Mapping[str, Any]) -> None:
        """Write the last bytes, the table, the poses and the attributes; the store is complete afterwards."""
        if self._buffer:
            self._write_shard(len(self._buffer))
        self._array.resize((self.total,))
        sequence = np.array([row.sequence for row in self.rows])
        columns = (
            (Column("start", "i8", "first byte of the crop in jpeg"), [row.start for row in self.rows]),
            (Column("length", "i4", "bytes of the crop"), [row.length for row in self.rows]),
            (
                Column("frame_index", "i4", "number of the frame in its recording"),
                [r.frame for r in self.rows],
            ),
            (
                Column(
                    "box", "f4", "left, top, right, bottom of the crop in the picture", (4,), ("edge",), "px"
                ),
                [row.box for row in self.rows],
            ),
            (
                Column("picture_size", "i4", "width and height of the picture", (2,), ("side",), "px"),
                [row.size for row in self.rows],
            ),
            (
                Column("sequence", "string", "id of the sequence in the source"),
                np.array(store.names)[sequence],
            ),
        )
        for column, values in columns:
            schema.write_column(self._group, column, values, "crop")
        for name in sorted(store.columns - _OF_SEQUENCE):
            values = store.array(name)[sequence]
            dtype: Any = values.dtype.str[1:] if values.dtype.kind in "if" else "string"
            schema.write_column(self._group, Column(name, dtype, f"{name} of the sequence"), values, "crop")
        schema.write_labels(self._group, "joint", store.skeleton.names)
        self._write_poses(store, "position2d", pixels, 2, "joints in the picture, NaN where missing", "px")
        if store.metadata(schema.POSITION)["shape"][2] == 3:
            unit = store.info.unit
            self._write_poses(store, "position3d", schema.POSITION, 3, "joints as in the source", unit)
        self._group.attrs.put(
            {
                ATTRIBUTE: {
                    "format_version": FORMAT_VERSION,
                    **settings,
                    "pixels": pixels,
                    "set_aside": [note._asdict() for note in self.notes],
                    "source": store.info.to_attributes(),
                }
            }
        )
        schema.consolidate(self.store)

    def _write_poses(self, store: Store, name: str, source: str, axes: int, meaning: str, unit: str) -> None:
        described = schema.FrameArray(
            name,
            (len(store.skeleton), axes),
            "f4",
            ("joint", f"axis{axes}"),
            {"long_name": meaning, "units": unit},
            leading="crop",
            shard=SLAB,
        )
        array = schema.create_frame_array(self._group, described, len(self.rows))
        starts = store.array("start")
        for first in range(0, len(self.rows), SLAB):
            slab = self.rows[first : first + SLAB]
            poses = np.empty((len(slab), len(store.skeleton), axes), np.float32)
            at = 0
            while at < len(slab):
                # one read for all frames of a sequence
                end = next(
                    (n for n in range(at, len(slab)) if slab[n].sequence != slab[at].sequence), len(slab)
                )
                low, high = slab[at].position, slab[end - 1].position
                start = int(starts[slab[at].sequence])
                frames = store.read(start + low, start + high + 1, source)
                poses[at:end] = frames[[row.position - low for row in slab[at:end]], :, :axes]
                at = end
            array[first : first + len(slab)] = poses

    def _write_shard(self, count: int) -> None:
        start = self._shards * self._shard_bytes
        self._array.resize((start + count,))
        values: NDArray[np.uint8] = np.frombuffer(bytes(self._buffer[:count]), np.uint8)
        self._array[start : start + count] = values
        del self._buffer[:count]
        file = self._shard(self._shards)
        sync(file)
        self._digests.append(file_digest(file))
        self._shards += 1

    def _shard(self, number: int) -> Path:
        return self.store / "jpeg" / "c" / str(number)

    def _record(self) -> None:
        rows, notes, total = self._mark
        line = {
            "block": self.block,
            "shards": self._digests,
            "total": total,
            "rows": self.rows[self._recorded[0] : rows],
            "notes": self.notes[self._recorded[1] : notes],
        }
        with self._journal.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._recorded = self._mark

    def _begin(self, digest: str) -> None:
        lines = journal_lines(self._journal)
        if not lines:
            if self.store.exists():
                remove(self.store)
            self._journal.write_text(json.dumps({"digest": digest}) + "\n")
            return
        if lines[0].get("digest") != digest:
            raise CropJournalError(
                f"{self._journal.parent}: found unfinished crops of another store, folder or pattern, "
                "expected the same ones to go on. Run the earlier command again to finish them, or add "
                "--overwrite to throw them away"
            )
        try:
            for line in lines[1:]:
                self.block, self._digests, self.total = line["block"], line["shards"], line["total"]
                self.rows += [Row._make((*row[:5], tuple(row[5]), tuple(row[6]))) for row in line["rows"]]
                self.notes += [Note(*note) for note in line["notes"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CropJournalError(
                f"{self._journal}: found a damaged line ({error}), expected what an interrupted run writes. "
                "Add --overwrite to start again"
            ) from error
        self._shards = len(self._digests)
        for number, expected in enumerate(self._digests):
            file = self._shard(number)
            if not file.is_file() or file_digest(file) != expected:
                raise CropJournalError(
                    f"{file}: found it missing or changed since it was written, expected what the journal "
                    "says. Add --overwrite to start again"
                )
        # what a torn last line left is cut off
        aside = self._journal.with_suffix(".rewrite")
        aside.write_text("".join(json.dumps(line) + "\n" for line in lines))
        aside.replace(self._journal)


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal; none where there is no file. Raises `CropJournalError` for a damaged one."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except ValueError as error:  # of decoding, too
        raise CropJournalError(
            f"{path}: found a damaged journal ({error}), expected what an interrupted run writes. Add "
            "--overwrite to start again"
        ) from error
    if not all(isinstance(line, dict) for line in lines):
        raise CropJournalError(f"{path}: found a damaged journal. Add --overwrite to start again")
    return lines
