"""What an ingest will take, before it begins: `estimate` reads and stores some of the sources.

The sources are sorted by size and cut into groups of equally many. One of each group goes through the reader
and the codec, and stands for the bytes of its group.
"""

from __future__ import annotations

import itertools
import math
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from google_crc32c import value as crc32c
from numcodecs import blosc

from skelconv.ingest.ingest import IngestError, ingest, parse_batch
from skelconv.ingest.plan import IngestPlan
from skelconv.store import schema
from skelconv.store.info import StoreError
from skelconv.store.store import open_store
from skelformats.raw_root import packed_bytes, prepare
from skelformats.reader import Source
from skelformats.scratch import Scratch

SAMPLED = 16
"""Sources that are read, at most."""

SAMPLED_BYTES = 300_000_000
"""Bytes after which no further source is read."""

GROWTH = 10
"""A store takes less than so many times the bytes of its sources (a take that four cameras see becomes four):
where there is so much room, nothing has to be sampled."""

_INDEX_BYTES = 16
_CHECKSUM_BYTES = 4


NO_ESTIMATE = "no estimate: none of the sources that were tried gives anything to store"


@dataclass(frozen=True)
class Estimate:
    """What an ingest is expected to take.

    Attributes
    ----------
    sampled
        Sources that were read for it.
    frames
        Frames of all bodies.
    store_bytes
        Size of the store.
    unpacked_bytes
        What is unpacked of compressed tars while it runs.
    parse_seconds, write_seconds
        Seconds of one processor to read the sources, and to store what they hold.
    worker_bytes
        Memory that a process takes which reads the largest of the sampled sources.
    """

    sampled: int
    frames: int
    store_bytes: int
    unpacked_bytes: int
    parse_seconds: float
    write_seconds: float
    worker_bytes: int

    def describe(self, workers: int) -> str:
        """Say it in one line, the time for a number of worker processes."""
        seconds = (self.parse_seconds + self.write_seconds) / max(workers, 1)
        unpacked = f", and {_size(self.unpacked_bytes)} while it runs" if self.unpacked_bytes else ""
        return (
            f"estimated from {self.sampled} sources: {self.frames:,} frames, a store of "
            f"{_size(self.store_bytes)}{unpacked}, about {_duration(seconds)} with --workers {workers}, "
            f"{_size(self.worker_bytes)} of memory a process"
        )


def estimate(plan: IngestPlan, out: Path) -> Estimate | None:
    """Read and store some sources of a plan, and say what all will take; None where none of them can be read.

    What is written for it, beside ``out``, goes again.

    Raises
    ------
    SkelconvError
        As `skelconv.ingest.ingest.ingest`, but for single sources that cannot be read.
    """
    groups = _groups(plan.sources)
    chosen = tuple(source for source, _ in groups)
    prepare(plan.root, (name for source in chosen for name in (source.path, *source.members)))
    parse_batch(plan.dataset, plan.root, chosen[:1], plan.options)  # compiles what has to be
    parts = [_part(plan, source, group_bytes) for source, group_bytes in groups]
    frames, rows = (sum(getattr(part, what) * part.times for part in parts) for what in ("frames", "rows"))
    scratch = Scratch(out)
    store = scratch.folder / "sample.zarr"
    sample = replace(plan, sources=tuple(sorted(chosen, key=lambda source: source.path)), limit=None)
    try:
        made = ingest(sample, store).info.provenance
    except IngestError:
        return None
    encode = _encode_seconds(store, plan.shard_frames)
    result = Estimate(
        sampled=len(chosen),
        frames=round(frames),
        store_bytes=_store_bytes(
            store, made.frames, frames / made.frames, rows / made.sequences, plan.shard_frames
        ),
        unpacked_bytes=_unpacked(plan),
        parse_seconds=sum(part.seconds * part.times for part in parts),
        write_seconds=encode * frames,
        worker_bytes=_peak(),
    )
    shutil.rmtree(store)
    return result


@dataclass(frozen=True)
class _Part:
    """A sampled source: what it holds, the seconds that reading it took, and how often its group has it."""

    frames: int
    rows: int
    seconds: float
    times: float


def _part(plan: IngestPlan, source: Source, group_bytes: int) -> _Part:
    began = time.perf_counter()
    (parsed,) = parse_batch(plan.dataset, plan.root, [source], plan.options)
    seconds = time.perf_counter() - began
    tracks = [track for clip in parsed.clips for track in clip.tracks]
    frames = sum(len(track.frame_index) for track in tracks)
    return _Part(frames, len(tracks), seconds, group_bytes / max(source.size, 1))


def refuse_what_does_not_fit(plan: IngestPlan, out: Path, found: Estimate | None = None) -> None:
    """Raise `StoreError`, with the numbers, where the disk has no room for the store.

    Sources are sampled only where room is not plenty. What an interrupted run has written already counts as
    room.
    """
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free + _written(out)
    unpacked = _unpacked(plan)
    if found is None:
        if free > GROWTH * plan.size + unpacked:
            return
        found = estimate(plan, out)
    if found is not None and found.store_bytes + unpacked > free:
        more = f" and {_size(unpacked)} to unpack archives into" if unpacked else ""
        raise StoreError(
            f"{out}: found {_size(free)} free in {folder}, expected about {_size(found.store_bytes)} for the "
            f"store{more}. Make room, choose another disk, or take fewer sources with --limit"
        )


def _groups(sources: Sequence[Source]) -> list[tuple[Source, int]]:
    """Return the sources to sample, each with the bytes of the sources that it stands for."""
    ordered = sorted(sources, key=lambda source: (source.size, source.path))
    count = min(SAMPLED, len(ordered))
    edges = [len(ordered) * n // count for n in range(count + 1)]
    chosen: list[tuple[Source, int]] = []
    taken = 0
    for first, last in itertools.pairwise(edges):
        group = ordered[first:last]
        # of the last group the largest: memory depends on it
        source = group[-1] if last == len(ordered) else group[len(group) // 2]
        group_bytes = sum(each.size for each in group)
        if chosen and taken + source.size > SAMPLED_BYTES:
            before, its_bytes = chosen[-1]
            chosen[-1] = before, its_bytes + group_bytes
            continue
        taken += source.size
        chosen.append((source, group_bytes))
    return chosen


def _store_bytes(store: Path, sampled: int, frame_times: float, row_times: float, shard_frames: int) -> int:
    """Scale what a small store takes: arrays along frames, the table, and what is there in any store."""
    total = 0.0
    for array in store.iterdir():
        if array.is_file():
            total += array.stat().st_size
            continue
        metadata = array / "zarr.json"
        size = sum(file.stat().st_size for file in array.rglob("*") if file.is_file())
        fixed = metadata.stat().st_size
        dim = (orjson.loads(metadata.read_bytes()).get("dimension_names") or [""])[0]
        if dim == "frame":
            index = _INDEX_BYTES * math.ceil(shard_frames / schema.CHUNK_FRAMES) + _CHECKSUM_BYTES
            now, then = (math.ceil(sampled * times / shard_frames) for times in (1, frame_times))
            total += fixed + (size - fixed - index * now) * frame_times + index * then
        else:
            total += fixed + (size - fixed) * (row_times if dim == "sequence" else 1)
    return round(total)


def _encode_seconds(store: Path, shard_frames: int) -> float:
    """Return the seconds that the codec takes for a frame of everything that is stored of one."""
    opened = open_store(store)
    seconds = 0.0
    for name in opened.arrays:
        values = opened.array(name)[: 16 * schema.CHUNK_FRAMES]
        if not len(values) or len(values) != min(opened.frames, 16 * schema.CHUNK_FRAMES):
            continue
        chunks = [
            np.ascontiguousarray(values[at : at + schema.CHUNK_FRAMES])
            for at in range(0, len(values), schema.CHUNK_FRAMES)
        ]
        began = time.perf_counter()
        for chunk in chunks:
            crc32c(blosc.compress(chunk, b"lz4", 5, 1))
        seconds += (time.perf_counter() - began) / len(values)
    return seconds


def _unpacked(plan: IngestPlan) -> int:
    return packed_bytes(plan.root, (name for s in plan.sources for name in (s.path, *s.members)))


def _written(out: Path) -> int:
    store = out.with_name(out.name + ".partial") / "store"
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


def _peak() -> int:
    """Return the most memory, in bytes, that this process has taken."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
