"""Ingest: raw sources to a published store; parallel, resumable, the same bytes every time.

plan -> worker processes parse batches of sources and spool their frames -> one writer takes the rows of the
table in plan order, through a bounded window, and so learns where each frame goes -> workers encode whole
shards -> the writer puts them in their places and adds a line to the journal -> the finished store is renamed
into place. ``OUT.partial/`` holds the unfinished store and its journal; nothing half-written has the final
name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skelconv.ingest.auto import AutoExecutor
from skelconv.ingest.journal import Entry, Journal, JournalError, Note
from skelconv.ingest.part import RECORD
from skelconv.ingest.plan import IngestPlan
from skelconv.ingest.pooled import PooledShards, make_work, pickled
from skelconv.ingest.worker import Parsed as Parsed
from skelconv.ingest.worker import Prepared, parse_and_prepare
from skelconv.ingest.worker import parse_batch as parse_batch
from skelconv.store.info import Provenance, SetAside, StoreInfo
from skelconv.store.placing import InlineShards, Shards
from skelconv.store.prepare import Preparation, PreparedClip
from skelconv.store.publish import Partial, delete, lock_partial
from skelconv.store.text import UnstorableTextError, printable
from skelconv.store.writer import DamagedPartialError, DuplicateRecordingError, StoreWriter, WriteOptions
from skelformats.errors import SkelconvError
from skelformats.raw_root import prepare, shown
from skelformats.reader import Source

BATCH_BYTES = 4_000_000
BATCH_SOURCES = 64
WINDOW_PER_WORKER = 3
"""Batches in flight a worker: enough to keep it busy, few enough to bound the memory."""

Advance = Callable[[int, int], None]


class IngestError(SkelconvError):
    """An ingest had to stop; what it wrote is kept, and the same command resumes it."""


@dataclass(frozen=True)
class Summary:
    """What an ingest did.

    ``resumed_at`` is the number of sources that an earlier run had finished, 0 for a fresh run. ``bytes``
    and ``seconds`` are of this run alone.
    """

    info: StoreInfo
    seconds: float
    bytes: int
    resumed_at: int

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Sources, and single recordings of sources, that could not be read."""
        return self.info.provenance.set_aside

    def describe(self, out: Path) -> str:
        """Say what was done, what was set aside and why, and what to do next."""
        made = self.info.provenance
        rate = self.bytes / 1e6 / max(self.seconds, 1e-9)
        lines = [
            f"{out}: {made.describe()}",
            f"{self.bytes / 1e6:,.1f} MB read in {self.seconds:,.1f} s, {rate:,.1f} MB/s"
            + (
                f"; the first {self.resumed_at:,} sources were read by an earlier run" * bool(self.resumed_at)
            ),
        ]
        if made.empty:
            names = ", ".join(made.empty[:5]) + (", ..." if len(made.empty) > 5 else "")
            lines.append(f"recordings without any body: {len(made.empty):,} ({names})")
        lines += [left.describe() for left in made.not_taken]
        for protocol, count in made.leakage.items():
            if count:
                lines.append(
                    f"leakage: {count:,} test sequences of {protocol} also stand in its training set "
                    f"(equal digests): skelconv.open({str(out)!r}).leaked({protocol!r}) marks them"
                )
        lines.append(f"next: skelconv verify {out}")
        return "\n".join(lines)


def ingest(
    plan: IngestPlan,
    out: str | Path,
    executor: Executor | None = None,
    workers: int = 1,
    overwrite: bool = False,
    strict: bool = False,
    advance: Advance | None = None,
) -> Summary:
    """Carry out ``plan`` and publish the store as ``out``.

    Parameters
    ----------
    executor
        Where sources are parsed: any `concurrent.futures.Executor`; None parses in this process.
    workers
        How many tasks the executor runs at once; bounds what is in flight. An `AutoExecutor` knows itself.
    overwrite
        Replace a store of that name, and throw away an unfinished one.
    strict
        Stop at the first source that cannot be read, instead of setting it aside.
    advance
        Called as (sources done, bytes done) for progress, with the steps since the last call.

    Raises
    ------
    StoreError
        ``out`` exists, or what an earlier run left is damaged or of another plan, or there is no room.
    StoreLockedError
        Another process writes ``out``.
    IngestError
        A worker died, nothing could be stored, or, with ``strict``, a source could not be read.
    """
    options = plan.write_options()  # refused before anything is written
    with lock_partial(Path(out), overwrite) as partial:
        pool = None if executor is None else _Pool(executor, max(1, workers))
        try:
            run = _Run(plan, options, partial, strict, pool)
        except (JournalError, DamagedPartialError):
            # an interrupted --overwrite resumes like any other run, where that is possible
            if not overwrite:
                raise
            partial.clear()
            run = _Run(plan, options, partial, strict, pool)
        try:
            return _carry_out(run, pool, advance)
        except BrokenProcessPool as error:
            raise IngestError(
                "a worker process died, perhaps for want of memory. What was written is kept: run the same "
                "command again to resume, with fewer --workers if memory was short"
            ) from error
        finally:
            run.close()


def _carry_out(run: _Run, pool: _Pool | None, advance: Advance | None) -> Summary:
    plan, began = run.plan, time.perf_counter()
    done, todo = plan.sources[: run.resumed_at], plan.sources[run.resumed_at :]
    if advance is not None and done:
        advance(len(done), sum(source.size for source in done))
    prepare(plan.root, (name for source in todo for name in (source.path, *source.members)))
    parsed_in_order: Generator[tuple[Source, Parsed | Prepared], None, None] = (
        _parse_here(plan, todo) if pool is None else _parse_in_order(run, todo, pool)
    )
    with closing(parsed_in_order):
        for source, parsed in parsed_in_order:
            run.take(parsed)
            if advance is not None:
                advance(1, source.size)
    info = run.publish()
    return Summary(info, time.perf_counter() - began, sum(source.size for source in todo), len(done))


@dataclass(frozen=True)
class _Pool:
    """Where tasks run, and how many at once."""

    executor: Executor
    workers: int

    @property
    def sees_our_files(self) -> bool:
        """Whether the workers surely read and write the files of this machine; those of a cluster may not."""
        return isinstance(self.executor, AutoExecutor | ProcessPoolExecutor | ThreadPoolExecutor)

    @property
    def width(self) -> int:
        """Tasks that run at once, now."""
        return self.executor.width if isinstance(self.executor, AutoExecutor) else self.workers

    def consider(self, done: int, left: int) -> None:
        """Let an executor that can still start workers know how far the run has come, in bytes."""
        if isinstance(self.executor, AutoExecutor):
            self.executor.consider(done, left)

    @property
    def window(self) -> int:
        """Batches in flight; one while they run in this process, which parses when it is asked to."""
        return 1 if self.width == 1 else self.width * WINDOW_PER_WORKER


class _Run:
    """One run of an ingest: the writer, the journal, and what was set aside so far."""

    def __init__(
        self, plan: IngestPlan, options: WriteOptions, partial: Partial, strict: bool, pool: _Pool | None
    ) -> None:
        self.plan = plan
        self._pool = pool
        self._pooled: PooledShards[Entry] | None = None
        self.work: Path | None = None
        self._partial = partial
        self._strict = strict
        self._journal = Journal(partial.journal)
        progress = self._journal.begin(plan)
        self.resumed_at = self._at = self._recorded_at = progress.source
        self._recorded_rows = len(progress.rows)
        self._notes = list(progress.notes)
        self._writer = StoreWriter(
            partial.store, plan.dataset_info, options, progress.begun(), shards=self._make_shards
        )
        self._recorded_side = self._finished_side = self._writer.side_rows.sizes()

    @property
    def preparation(self) -> Preparation:
        """What workers make of every recording."""
        return self._writer.preparation

    def close(self) -> None:
        """Remove what only this run needs; what was written is kept."""
        if self._pooled is not None:
            self._pooled.stop()
        if self.work is not None:
            delete(self.work)

    def take(self, parsed: Parsed | Prepared) -> None:
        """Append the next source in plan order, or set it aside."""
        source = self.plan.sources[self._at]
        if parsed.problem is not None:
            self._set_aside(parsed.problem, parsed.line)
        elif self.plan.stamp(source) != self.plan.stamps[self._at]:
            parsed = Parsed()
            self._set_aside(
                f"{source.path}: found it changed since this run began, expected raw files that stay as they "
                "are. Ingest again when they do"
            )
        for refused in parsed.refused:
            self._set_aside(refused.reason, refused.line, refused.recording)
        for clip in parsed.clips:
            if not clip.tracks and not (isinstance(clip, PreparedClip) and clip.unstorable):
                self._notes.append(Note(self._at, "empty", printable(clip.recording)))
                continue
            try:
                self._writer.append(clip, source.path)
            except (DuplicateRecordingError, UnstorableTextError) as error:
                self._set_aside(str(error), None, clip.recording if len(parsed.clips) > 1 else None)
        self._at += 1
        self._finished_side = self._writer.side_rows.sizes()

    def publish(self) -> StoreInfo:
        """Complete the store and publish it."""
        plan = self.plan
        set_aside = tuple(
            SetAside(
                source=printable(plan.sources[note.source].path),
                reason=note.text,
                line=note.line,
                recording=note.recording,
            )
            for note in self._notes
            if note.kind == "set_aside"
        )
        part: dict[str, Any] = {} if plan.part is None else {RECORD: plan.part.record(plan.dataset_info)}
        # a part may be empty: the others need not be
        if not len(self._writer.table) and not part:
            # nothing is worth keeping, and what would be kept would be in the way of another try
            self._partial.clear()
            first = set_aside[0].reason if set_aside else "no recording has a body in it"
            raise IngestError(
                f"{shown(plan.root)}: found nothing to store in {len(plan.sources)} sources, expected at "
                f"least one body; the first: {first}"
            )
        info = self._writer.finish(
            Provenance(
                tool=plan.tool,
                command=plan.command(),
                options=plan.settings(),
                sources=len(plan.sources),
                digest=plan.digest,
                set_aside=set_aside,
                not_taken=plan.not_taken,
                empty=tuple(note.text for note in self._notes if note.kind == "empty"),
                **part,
            )
        )
        self._partial.publish()
        return info

    def _set_aside(self, reason: str, line: int | None = None, recording: str | None = None) -> None:
        """Note a source that is set aside, or one ``recording`` of it."""
        if self._strict:
            what = "source" if recording is None else "recording"
            raise IngestError(
                f"{printable(reason)}. Stopped because of --strict; without it the {what} is set aside"
            )
        self._notes.append(
            Note(
                self._at,
                "set_aside",
                printable(reason),
                line,
                None if recording is None else printable(recording),
            )
        )

    def _make_shards(self, how: Preparation) -> Shards:
        if self._pool is None or not self._pool.sees_our_files:
            return InlineShards(
                self._partial.store, how.arrays, lambda digests: self._record(self._entry(), digests)
            )
        pool = self._pool
        self.work = make_work(self._partial.folder)
        self._pooled = PooledShards(
            self._partial.store,
            self.work,
            pickled(how),
            self._pool.executor,
            lambda: pool.width,
            self._entry,
            self._record,
        )
        return self._pooled

    def _record(self, entry: Entry, digests: dict[str, str]) -> None:
        self._journal.record(replace(entry, digests=digests))

    def _entry(self) -> Entry:
        """Say what is new up to the source being read, which will be read again after a crash."""
        table = self._writer.table
        notes = [note for note in self._notes if self._recorded_at <= note.source < self._at]
        side = self._writer.side_rows.rows(self._recorded_side, self._finished_side)
        stamps = self.plan.stamps[self._recorded_at : self._at + 1]
        rows = table.rows(self._recorded_rows)
        self._recorded_side = self._finished_side
        self._recorded_rows = len(table)
        self._recorded_at = self._at
        return Entry({}, self._at, stamps, rows, side, notes)


def _batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for source in sources:
        batch.append(source)
        size += source.size
        if size >= BATCH_BYTES or len(batch) >= BATCH_SOURCES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parse_here(plan: IngestPlan, sources: Sequence[Source]) -> Generator[tuple[Source, Parsed], None, None]:
    """Yield each source with what came of it."""
    for source in sources:
        yield source, parse_batch(plan.dataset, plan.root, [source], plan.options)[0]


def _parse_in_order(
    run: _Run, sources: Sequence[Source], pool: _Pool
) -> Generator[tuple[Source, Prepared], None, None]:
    """Yield each source with what came of it, in plan order, with a bounded number in flight."""
    plan, how = run.plan, pickled(run.preparation)
    batches = enumerate(_batches(sources))
    waiting: deque[tuple[list[Source], Future[list[Prepared]]]] = deque()
    read, left = 0, sum(source.size for source in sources)
    try:
        while True:
            pool.consider(read, left)
            while len(waiting) < pool.window and (found := next(batches, None)):
                number, batch = found
                spool = None if run.work is None else run.work / f"{number}.spool"
                task = pool.executor.submit(
                    parse_and_prepare, plan.dataset, plan.root, batch, plan.options, how, spool
                )
                waiting.append((batch, task))
            if not waiting:
                return
            batch, task = waiting.popleft()
            yield from zip(batch, task.result(), strict=True)
            size = sum(source.size for source in batch)
            read, left = read + size, left - size
    finally:
        # those that are running already would write into a folder that is about to go
        wait([task for _, task in waiting if not task.cancel()])
