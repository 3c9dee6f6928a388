"""Whole shards encoded by workers: the writer says which frames they hold, and puts them in their places.

Frames lie in spool files below a folder of this run, ``OUT.partial/work-<digits>/``. A worker writes a shard
below it too, and the writer renames it into the store: what a worker of a killed run still writes can never
get into the store of a later one.
"""

from __future__ import annotations

import pickle
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Generic, TypeVar

from skelconv.ingest.worker import Piece, encode_shard
from skelconv.store.frames import Frames, Spool, SpooledFrames
from skelconv.store.prepare import Preparation
from skelconv.store.publish import delete, sync

WORK = "work-"
AHEAD = 2
"""Shards beyond one a worker that wait to be encoded, before no more frames are taken."""

Noted = TypeVar("Noted")


class PooledShards(Generic[Noted]):
    """Has the workers of an executor encode shards; these must see the files of this process.

    Parameters
    ----------
    store
        Folder of the unpublished store.
    work
        Folder of this run, where the spool files lie (`make_work`).
    how
        The pickled `Preparation` of the store's writer.
    width
        Gives the number of tasks that the executor runs at once.
    note
        Called when a shard is full: what ``record`` is to say of it.
    record
        Called with that and the digests of the shard's files, by array, after it is on disk; in the order
        of the shards.
    """

    def __init__(
        self,
        store: Path,
        work: Path,
        how: bytes,
        executor: Executor,
        width: Callable[[], int],
        note: Callable[[], Noted],
        record: Callable[[Noted, dict[str, str]], None],
    ) -> None:
        preparation: Preparation = pickle.loads(how)
        self._arrays = preparation.arrays
        self._store = store
        self._work = work
        self._how = how
        self._executor = executor
        self._width = width
        self._note = note
        self._record = record
        self._pieces: list[Piece] = []
        self._encoding: deque[tuple[int, Future[dict[str, str]], Noted | None]] = deque()
        # the last shard that needs each spool file, in the order of the files
        self._needed: dict[Path, int] = {}
        self._newest: tuple[Spool, int] | None = None
        self._made: set[Path] = set()
        self._placing = False

    def add(self, frames: Frames, start: int, stop: int, shard: int) -> None:
        """Note which frames come next."""
        if not isinstance(frames, SpooledFrames):
            raise TypeError(f"found {type(frames).__name__}, expected frames in a spool file")
        first, last = frames.first + start, frames.first + stop
        before = self._pieces[-1] if self._pieces else None
        if before is not None and before.spool is frames.spool and before.stop == first:
            self._pieces[-1] = Piece(before.spool, before.start, last)
        else:
            self._pieces.append(Piece(frames.spool, first, last))
        if self._newest is None or self._newest[0] is not frames.spool or self._newest[1] != shard:
            self._newest = (frames.spool, shard)
            self._needed[frames.spool.path] = shard
        while self._encoding and self._encoding[0][1].done():
            self._place()

    def full(self, shard: int, last: bool) -> None:
        """Have the shard encoded; waits where too many are being encoded."""
        pieces, self._pieces = self._pieces, []
        noted = None if last else self._note()
        task = self._executor.submit(encode_shard, self._work / str(shard), self._how, pieces)
        self._encoding.append((shard, task, noted))
        while len(self._encoding) > self._width() + AHEAD:
            self._place()

    def drain(self) -> None:
        """Wait until every shard is in its place."""
        while self._encoding:
            self._place()

    def stop(self) -> None:
        """Call back what can be, wait for the rest, keep what is done in order; for runs that end early."""
        wait([task for _, task, _ in self._encoding if not task.cancel()])
        # one that was being put in its place when the run ended is not recorded, nor may a later one be
        while self._encoding and not self._placing:
            task = self._encoding[0][1]
            if task.cancelled() or task.exception() is not None:
                break
            self._place()
        self._encoding.clear()

    def _place(self) -> None:
        """Put the first of the shards that are being encoded in its place, and record it."""
        self._placing = True
        shard, task, noted = self._encoding.popleft()
        digests = task.result()
        for array in self._arrays:
            folder = self._store / array.name / "c"
            if folder not in self._made:
                folder.mkdir(exist_ok=True)
                sync(folder.parent)
                sync(self._store)
                self._made.add(folder)
            (self._work / str(shard) / array.name).rename(folder / str(shard))
            sync(folder)
        (self._work / str(shard)).rmdir()
        if noted is not None:
            self._record(noted, digests)
        # the newest file may hold frames that have not come yet
        for file in list(self._needed)[:-1]:
            if self._needed[file] > shard:
                break
            file.unlink()
            del self._needed[file]
        self._placing = False


def make_work(partial: Path) -> Path:
    """Make the folder of this run below a partial folder, and remove those of earlier ones."""
    for left in partial.glob(f"{WORK}*"):
        delete(left)
    work = partial / f"{WORK}{secrets.token_hex(8)}"
    work.mkdir()
    return work


def pickled(how: Preparation) -> bytes:
    """Return a preparation as workers take it: pickled once a run, not once a task."""
    return pickle.dumps(how, pickle.HIGHEST_PROTOCOL)
