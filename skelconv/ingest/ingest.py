"""Ingest: raw sources to a published store; parallel, resumable, the same bytes every time.

plan -> worker processes parse batches of sources -> results are taken in plan order through a bounded
window -> one writer fills whole shards and adds a line to the journal -> the finished store is renamed into
place. ``OUT.partial/`` holds the unfinished store and its journal; nothing half-written has the final name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from skelconv.ingest.journal import Entry, Journal, JournalError, Note
from skelconv.ingest.plan import IngestPlan
from skelconv.store.info import Provenance, SetAside, StoreInfo
from skelconv.store.publish import Partial, lock_partial
from skelconv.store.text import UnstorableTextError, printable
from skelconv.store.writer import DamagedPartialError, DuplicateRecordingError, StoreWriter, WriteOptions
from skelformats.errors import FormatError, SkelconvError
from skelformats.raw_root import prepare, release, shown
from skelformats.reader import Clip, ReadOptions, Refused, Source, find_reader

BATCH_BYTES = 4_000_000
BATCH_SOURCES = 64
WINDOW_PER_WORKER = 3
"""Batches in flight a worker: enough to keep it busy, few enough to bound the memory."""

Advance = Callable[[int, int], None]


class IngestError(SkelconvError):
    """An ingest had to stop; what it wrote is kept, and the same command resumes it."""


@dataclass(frozen=True)
class Parsed:
    """What a worker sends back for one source: its recordings, or why there are none.

    ``refused`` are recordings of the source that are set aside though the others are not.
    """

    clips: tuple[Clip, ...] = ()
    problem: str | None = None
    line: int | None = None
    refused: tuple[Refused, ...] = ()


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
        How many tasks the executor runs at once; bounds what is in flight.
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
        try:
            run = _Run(plan, options, partial, strict)
        except (JournalError, DamagedPartialError):
            # an interrupted --overwrite resumes like any other run, where that is possible
            if not overwrite:
                raise
            partial.clear()
            run = _Run(plan, options, partial, strict)
        return _carry_out(run, executor, workers, advance)


def _carry_out(run: _Run, executor: Executor | None, workers: int, advance: Advance | None) -> Summary:
    plan, began = run.plan, time.perf_counter()
    done, todo = plan.sources[: run.resumed_at], plan.sources[run.resumed_at :]
    if advance is not None and done:
        advance(len(done), sum(source.size for source in done))
    prepare(plan.root, (name for source in todo for name in (source.path, *source.members)))
    for source, parsed in _parse_in_order(plan, todo, executor, workers):
        run.take(parsed)
        if advance is not None:
            advance(1, source.size)
    info = run.publish()
    return Summary(info, time.perf_counter() - began, sum(source.size for source in todo), len(done))


def parse_batch(dataset: str, root: Path, sources: Sequence[Source], options: ReadOptions) -> list[Parsed]:
    """Parse sources in a worker; never raises for what a source holds."""
    reader = find_reader(dataset)
    parsed = []
    for source in sources:
        release(root)
        try:
            found = reader.read(root, source, options)
        except FormatError as error:
            relative = FormatError(source.path, error.found, error.expected, error.line, error.action)
            parsed.append(Parsed(problem=str(relative), line=error.line))
        except OSError as error:
            parsed.append(
                Parsed(problem=f"{source.path}: {error.strerror or error}, expected a readable file")
            )
        else:
            clips = tuple(item for item in found if isinstance(item, Clip))
            parsed.append(Parsed(clips, refused=tuple(item for item in found if isinstance(item, Refused))))
    return parsed


class _Run:
    """One run of an ingest: the writer, the journal, and what was set aside so far."""

    def __init__(self, plan: IngestPlan, options: WriteOptions, partial: Partial, strict: bool) -> None:
        self.plan = plan
        self._partial = partial
        self._strict = strict
        self._journal = Journal(partial.journal)
        progress = self._journal.begin(plan)
        self.resumed_at = self._at = self._recorded_at = progress.source
        self._recorded_rows = len(progress.rows)
        self._notes = list(progress.notes)
        self._writer = StoreWriter(
            partial.store, plan.dataset_info, options, progress.begun(), self._record_shard
        )
        self._recorded_side = self._finished_side = self._writer.side_rows.sizes()

    def take(self, parsed: Parsed) -> None:
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
            if not clip.tracks:
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
        if not len(self._writer.table):
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

    def _record_shard(self, digests: dict[str, str]) -> None:
        """Write down what is new up to the source being read, which will be read again after a crash."""
        table = self._writer.table
        notes = [note for note in self._notes if self._recorded_at <= note.source < self._at]
        side = self._writer.side_rows.rows(self._recorded_side, self._finished_side)
        stamps = self.plan.stamps[self._recorded_at : self._at + 1]
        rows = table.rows(self._recorded_rows)
        self._journal.record(Entry(digests, self._at, stamps, rows, side, notes))
        self._recorded_side = self._finished_side
        self._recorded_rows = len(table)
        self._recorded_at = self._at


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


def _parse_in_order(
    plan: IngestPlan, sources: Sequence[Source], executor: Executor | None, workers: int
) -> Iterator[tuple[Source, Parsed]]:
    """Yield each source with what came of it, in plan order, with a bounded number in flight."""
    if executor is None:
        for source in sources:
            yield source, parse_batch(plan.dataset, plan.root, [source], plan.options)[0]
        return
    window = max(1, workers) * WINDOW_PER_WORKER
    batches = _batches(sources)
    waiting: deque[tuple[list[Source], Future[list[Parsed]]]] = deque()
    try:
        while True:
            while len(waiting) < window and (batch := next(batches, None)) is not None:
                task = executor.submit(parse_batch, plan.dataset, plan.root, batch, plan.options)
                waiting.append((batch, task))
            if not waiting:
                return
            batch, task = waiting.popleft()
            yield from zip(batch, task.result(), strict=True)
    except BrokenProcessPool as error:
        raise IngestError(
            "a worker process died, perhaps for want of memory. What was written is kept: run the same "
            "command again to resume, with fewer --workers if memory was short"
        ) from error
    finally:
        for _, task in waiting:
            task.cancel()
