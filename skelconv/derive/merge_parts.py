"""Putting the parts of one ingest together: the bytes of one run, without reading a source again.

A chunk whose frames stand at a chunk's place in the merged store as well is moved as it is, whole shards with
it; a part whose first frame does not fall on a chunk's has its chunks decoded and encoded anew. Either way
each chunk's checksum is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from skelconv.derive.contents import stored_dataset
from skelconv.derive.merge import SHOWN, Merged, MergeError
from skelconv.ingest.executors import default_workers
from skelconv.ingest.part import RECORD
from skelconv.store.chunk_layout import DamagedChunkError
from skelconv.store.encode import FrameArray, ShardEncoder
from skelconv.store.frames import Frames
from skelconv.store.info import Provenance, StoreInfo
from skelconv.store.placing import shard_file
from skelconv.store.prepare import START, Preparation
from skelconv.store.publish import prepare_partial, sync
from skelconv.store.shards import DirectArray
from skelconv.store.store import Store
from skelconv.store.table import plain
from skelconv.store.writer import StoreWriter, WriteOptions

BLOCK_FRAMES = 8192
"""Frames that are decoded at once."""

MOST_THREADS = 8
"""Shards that are made at once: each holds its encoded chunks in memory."""


def part_record(store: Store) -> dict[str, Any] | None:
    """Return what a store says of the ingest that it is a part of; None where it is whole."""
    record = (store.info.provenance.model_extra or {}).get(RECORD)
    return record if isinstance(record, dict) else None


def merge_parts(stores: Sequence[Store], path: str | Path, overwrite: bool = False) -> Merged:
    """Write the parts of one ingest, made with ``--part i/n``, as the store that one run would have made.

    Parameters
    ----------
    stores
        All of the parts, in any order.

    Raises
    ------
    MergeError
        Parts are missing, there twice or of another ingest; a recording is in two; none has a body.
    StoreError
        ``path`` exists and ``overwrite`` is false, or a part is damaged.
    """
    stores, first = _in_order(stores)
    _refuse_repeated(stores)
    if not any(len(store) for store in stores):
        raise MergeError(f"{stores[0].path}: found no body in any part, expected at least one")
    options = WriteOptions(
        stores[0].skeleton,
        extras=stores[0].info.extras,
        shard_frames=int(first["options"]["shard_frames"]),
        precision=stores[0].info.precision,
        canonical=True,
    )
    described = stored_dataset(stores[0])
    keyed = [replace(table, key=tuple(first["keys"].get(table.name, ()))) for table in described.tables]
    with prepare_partial(Path(path), overwrite) as partial:
        writer = StoreWriter(
            partial.store, replace(described, tables=tuple(keyed)), options, shards=lambda how: _Placed()
        )
        for store in stores:
            writer.adopt(_rows(store, writer), store.frames)
            for table in keyed:
                for row in store.table(table.name).to_dict("records"):
                    writer.side_rows.append(table.name, {str(name): cell for name, cell in row.items()})
        _place_frames(stores, writer.preparation, partial.store)
        info: StoreInfo = writer.finish(_provenance(stores, first))
        partial.publish()
    return Merged(info, ())


def _in_order(stores: Sequence[Store]) -> tuple[list[Store], dict[str, Any]]:
    """Return the parts in their order, and the record of the first; refuses what is not all of one ingest."""
    records: dict[int, tuple[Store, dict[str, Any]]] = {}
    for store in stores:
        record = part_record(store)
        if record is None:
            raise MergeError(
                f"{store.path}: found a whole store, expected parts of one ingest as the others are. Merge "
                "the parts first"
            )
        if records and record["digest"] != next(iter(records.values()))[1]["digest"]:
            raise MergeError(
                f"{store.path}: found a part of another ingest than {stores[0].path}, expected parts of one: "
                "the same raw files, options and number of parts"
            )
        number = int(record["number"])
        if number in records:
            raise MergeError(
                f"{store.path}: found part {number} again, {records[number][0].path} is it already"
            )
        records[number] = store, record
    of = {int(record["of"]) for _, record in records.values()}
    if len(of) > 1:
        raise MergeError(
            f"found parts of {' and of '.join(map(str, sorted(of)))}, expected one number of parts"
        )
    total = of.pop()
    missing = [str(number) for number in range(1, total + 1) if number not in records]
    if missing:
        raise MergeError(
            f"found {len(records)} of {total} parts, expected all; missing: {', '.join(missing)}. Ingest "
            f"them with --part {missing[0]}/{total}{' and so on' * (len(missing) > 1)}"
        )
    return [records[number][0] for number in sorted(records)], records[1][1]


def _refuse_repeated(stores: Sequence[Store]) -> None:
    counts = Counter(name for store in stores for name in store.recording_names())
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        more = f" and {len(twice) - SHOWN:,} more" if len(twice) > SHOWN else ""
        raise MergeError(
            f"found the recordings {', '.join(twice[:SHOWN])}{more} in several parts, expected each once. "
            "Remove all but one of their raw files and ingest the parts again"
        )


def _rows(store: Store, writer: StoreWriter) -> Iterator[list[Any]]:
    """Yield the rows of a part's table, placed after what the writer has."""
    before = writer.frames
    columns = [[plain(cell) for cell in store.array(column.name)] for column in writer.table.columns]
    at = [column.name for column in writer.table.columns].index(START)
    columns[at] = [start + before for start in columns[at]]
    return (list(row) for row in zip(*columns, strict=True))


@dataclass(frozen=True)
class _Stretch:
    """Frames ``start`` to ``stop`` of a part."""

    store: Store
    start: int
    stop: int


def _place_frames(stores: Sequence[Store], how: Preparation, folder: Path) -> None:
    """Write every shard of the merged store."""
    ends = list(accumulate(store.frames for store in stores))
    size = how.arrays[0].shard
    threads = min(MOST_THREADS, default_workers())
    with ThreadPoolExecutor(threads) as pool:
        made = [
            pool.submit(_write_shard, shard_file(folder, array, number), array, stretches)
            for number, stretches in enumerate(_shards(stores, ends, size))
            for array in how.arrays
        ]
        try:
            for task in made:
                task.result()
        finally:
            for task in made:
                task.cancel()
    sync(folder)


def _shards(stores: Sequence[Store], ends: Sequence[int], size: int) -> Iterator[list[_Stretch]]:
    """Yield the stretches that each shard of ``size`` frames is made of."""
    for first in range(0, ends[-1], size):
        last = min(first + size, ends[-1])
        placed = ((store, end - store.frames, end) for store, end in zip(stores, ends, strict=True))
        yield [
            _Stretch(store, max(first, begin) - begin, min(last, end) - begin)
            for store, begin, end in placed
            if begin < last and first < end
        ]


def _write_shard(path: Path, array: FrameArray, stretches: Sequence[_Stretch]) -> None:
    encoder = ShardEncoder(array)
    for stretch in stretches:
        at = stretch.start
        while at < stretch.stop:
            payload = _movable(stretch, at, array) if encoder.at_chunk else None
            if payload is not None:
                encoder.add_encoded(payload)
                at += array.chunk
                continue
            # to the next chunk's place in the merged store, or far where no chunk of this part falls on one
            upto = min(stretch.stop, at + (encoder.to_chunk or BLOCK_FRAMES))
            encoder.add(stretch.store.read(at, upto, array.name))
            at = upto
    encoder.write(path)


def _movable(stretch: _Stretch, at: int, array: FrameArray) -> memoryview | None:
    """Return the bytes of the chunk that begins at frame ``at``, if it is whole and laid out as ours."""
    reader = stretch.store.reader(array.name)
    if at % array.chunk or at + array.chunk > stretch.stop or not isinstance(reader, DirectArray):
        return None
    layout = reader.layout
    if layout.chunk != array.chunk or not (layout.blosc and layout.checksum):
        return None
    payload = reader.payload(at // array.chunk)
    if payload is not None and not layout.check(payload):
        raise DamagedChunkError(
            f"{stretch.store.path}, {array.name}, chunk {at // array.chunk}: found bytes that differ from "
            "their crc32c, expected them as written. Run `skelconv verify`, and ingest the part again"
        )
    return payload


def _provenance(stores: Sequence[Store], first: dict[str, Any]) -> Provenance:
    made = [store.info.provenance for store in stores]
    told = made[0].model_dump(mode="json")
    del told[RECORD]
    return Provenance.model_validate(
        told
        | {
            "command": first["command"],
            "options": first["options"],
            "sources": first["sources"],
            "digest": first["digest"],
            "set_aside": [item for one in made for item in one.set_aside],
            "empty": [name for one in made for name in one.empty],
        }
    )


class _Placed:
    """Frames that `_place_frames` puts in their places."""

    def add(self, frames: Frames, start: int, stop: int, shard: int) -> None:
        """Nothing is added sequence by sequence."""
        raise TypeError("found frames of a sequence, expected those of whole parts")

    def full(self, shard: int, last: bool) -> None:
        """The shard is written already."""

    def drain(self) -> None:
        """Nothing is pending."""
