"""Where the time of an ingest goes, and what that lets further cores give, on generated NTU recordings.

    .venv/bin/python benchmarks/ingest_scaling.py --recordings 500 --copies 24

Three things, in one run:

- an ingest in one process, in seconds of processor time: what `--workers 0` costs;
- the same ingest cut into the tasks of workers and what is left for the writer, run one after another in this
  process, everything that passes between them pickled and unpickled: seconds of processor time of each part,
  and the speed-up that they allow on 1 to 16 cores: before + max(writer, (writer + workers) / cores) + after;
- real runs on one and on two cores: by the clock, the quickest of a few, with and without the start of the
  workers; and in processor time of each process, which says what two cores with nothing else to do would
  take. On a machine that others use the clock says little.

Recordings are generated once and then linked under further names, so that the disk holds them once.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import pickle
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from skelconv.ingest.executors import open_executor
from skelconv.ingest.ingest import ingest
from skelconv.ingest.journal import Journal
from skelconv.ingest.plan import IngestPlan, make_plan
from skelconv.ingest.worker import encode_shard, parse_and_prepare, parse_batch
from skelconv.store.publish import Partial
from skelconv.store.writer import StoreWriter
from skelconv.synth.folder import synthesize

CORES = (1, 2, 4, 8, 10, 16)
SHARD = 16_384
PARSE, ENCODE, PIPE = "workers: parse, prepare, spool", "workers: encode, checksums, write", "workers: pipes"
BEFORE, ROWS, SEND, JOURNAL, AFTER = (
    "before: look for sources",
    "writer: rows, order, places",
    "writer: pipes",
    "writer: journal",
    "after: table, metadata, publish",
)


class Clock:
    """Seconds of processor time of this process, by what it was spent on."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._within: list[str] = []
        self._last = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block for a part."""
        self._turn()
        self._within.append(name)
        try:
            yield
        finally:
            self._turn()
            self._within.pop()

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose time is counted for a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return call(*args, **kwargs)

        return timed

    def _turn(self) -> None:
        now = time.process_time()
        if self._within:
            self.spent[self._within[-1]] += now - self._last
        self._last = now


class InTurn(ThreadPoolExecutor):
    """Runs each task when it is submitted, in this thread, after a way through pickle; counts the time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1)
        self.clock = clock

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task."""
        clock, done = self.clock, Future[Any]()
        with clock.part(SEND):
            sent = pickle.dumps((args, kwargs))
        with clock.part(PIPE):
            args, kwargs = pickle.loads(sent)
        with clock.part({parse_and_prepare: PARSE, encode_shard: ENCODE}[fn]):
            result = fn(*args, **kwargs)
        with clock.part(PIPE):
            sent = pickle.dumps(result)
        with clock.part(SEND):
            done.set_result(pickle.loads(sent))
        return done


def linked(raw: Path, recordings: int, copies: int) -> None:
    """Generate recordings, and link each under further names."""
    synthesize("ntu120", raw, recordings)
    for file in sorted(raw.rglob("*.skeleton")):
        start, replication, end = re.fullmatch(r"(.*R)(\d{3})(A.*)", file.name).groups()  # type: ignore[union-attr]
        for copy in range(1, copies):
            os.link(file, file.with_name(f"{start}{int(replication) + 10 * copy:03d}{end}"))


def same(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = sorted(f.relative_to(left) for f in left.rglob("*") if f.is_file())
    others = sorted(f.relative_to(right) for f in right.rglob("*") if f.is_file())
    return names == others and all(filecmp.cmp(left / n, right / n, shallow=False) for n in names)


def parts(raw: Path, folder: Path) -> None:
    """Print where the time goes, and what that allows."""
    clock = Clock()
    with clock.part(BEFORE):
        plan = plan_of(raw)
    began = time.process_time()
    ingest(plan, folder / "alone.zarr")
    alone = time.process_time() - began + clock.spent[BEFORE]
    kept = Journal.record, StoreWriter.finish, Partial.publish
    Journal.record = clock.counted(JOURNAL, Journal.record)  # type: ignore[method-assign]
    StoreWriter.finish = clock.counted(AFTER, StoreWriter.finish)  # type: ignore[method-assign]
    Partial.publish = clock.counted(AFTER, Partial.publish)  # type: ignore[method-assign]
    try:
        with InTurn(clock) as executor, clock.part(ROWS):
            ingest(plan, folder / "parts.zarr", executor, 1)
    finally:
        Journal.record, StoreWriter.finish, Partial.publish = kept  # type: ignore[method-assign]
    print(f"{'part, seconds of processor time':36} {'s':>7} {'of one process':>15}")
    print(f"{'one process (--workers 0), whole':36} {alone:7.2f} {'100.0 %':>15}")
    for name in (BEFORE, PARSE, ENCODE, PIPE, ROWS, SEND, JOURNAL, AFTER):
        print(f"{name:36} {clock.spent[name]:7.2f} {clock.spent[name] / alone:15.1%}")
    spent = clock.spent
    writer = spent[ROWS] + spent[SEND] + spent[JOURNAL]
    ends = spent[BEFORE] + spent[AFTER]
    workers = spent[PARSE] + spent[ENCODE] + spent[PIPE]
    print(f"{'only the writer can do':36} {writer + ends:7.2f} {(writer + ends) / alone:15.1%}")
    print(
        "modelled, to one process: "
        + ", ".join(
            f"{cores} cores {alone / (ends + max(writer, (writer + workers) / cores)):.1f} x"
            for cores in CORES
        )
    )
    print(f"the same bytes: {same(folder / 'alone.zarr', folder / 'parts.zarr')}")


def real(raw: Path, folder: Path, rounds: int) -> None:
    """Print what one and two cores take, by the clock and in processor time."""
    plan = plan_of(raw)
    cores = sorted(os.sched_getaffinity(0))
    runs: dict[int, list[tuple[float, float, list[float]]]] = {0: [], 2: []}
    for number in range(rounds):
        for workers in runs:
            os.sched_setaffinity(0, cores[: max(1, workers)])
            began = time.perf_counter()
            with open_executor(workers) as (executor, width):
                if executor is not None:
                    asked = plan.dataset, plan.root, plan.sources[:1], plan.options
                    for task in [executor.submit(parse_batch, *asked) for _ in range(4 * width)]:
                        task.result()
                before, started = used(), time.perf_counter()
                ingest(plan, folder / f"real{number}w{workers}.zarr", executor, width)
                ended = time.perf_counter()
                spent = [after - earlier for after, earlier in zip(used(), before, strict=True)]
            runs[workers].append((ended - began, ended - started, spent))
    os.sched_setaffinity(0, cores)
    alone = min(seconds for _, seconds, _ in runs[0])
    print(f"by the clock, the quickest of {rounds}: one process on one core {alone:.2f} s")
    two, whole = min(seconds for _, seconds, _ in runs[2]), min(seconds for seconds, _, _ in runs[2])
    print(f"    two workers on two cores {two:.2f} s ({alone / two:.2f} x); with their start {whole:.2f} s")
    alone = min(spent[0] for _, _, spent in runs[0])
    writer, *by_worker = min((spent for _, _, spent in runs[2]), key=sum)
    total, shown = writer + sum(by_worker), " + ".join(f"{one:.2f}" for one in by_worker)
    print(
        f"processor time, the least of {rounds}: one process {alone:.2f} s; "
        f"writer {writer:.2f} s, workers {shown} s"
    )
    print(f"    two cores with nothing else to do: {total / 2:.2f} s ({alone / (total / 2):.2f} x)")


def used() -> list[float]:
    """Seconds of processor time of this process, and of each of its workers."""
    family = [psutil.Process(), *psutil.Process().children()]
    times = [member.cpu_times() for member in family if "resource_tracker" not in " ".join(member.cmdline())]
    return [one.user + one.system for one in times]


def plan_of(raw: Path) -> IngestPlan:
    """Plan the ingest."""
    return make_plan("ntu120", raw, "benchmark", shard_frames=SHARD)


def main() -> None:
    """Generate, take apart, run; print the parts, the model and the real runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--copies", type=int, default=24, help="names under which each recording stands")
    parser.add_argument("--rounds", type=int, default=3, help="real runs of each kind; 0 for none")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        raw = folder / "raw"
        linked(raw, options.recordings, options.copies)
        files = [file.stat().st_size for file in raw.rglob("*.skeleton")]
        print(f"{len(files)} recordings, {sum(files) / 1e6:.0f} MB")
        # compile and load what the first run would, so that it is not counted
        ingest(make_plan("ntu120", raw, "benchmark", limit=20), folder / "first.zarr")
        parts(raw, folder)
        if options.rounds:
            real(raw, folder, options.rounds)


if __name__ == "__main__":
    main()
