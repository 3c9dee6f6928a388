"""How many workers an ingest gets where nobody says: decided by the rate of its first batches.

Workers take about a second to start and only then save anything, so that a folder which one process reads in
a few seconds is read quickest by that process alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from typing import Any

from skelconv.ingest.executors import default_workers, open_executor

START_SECONDS = 1.5
"""What the start of a worker costs until it has parsed its first source, imports included, about: 1.0 s of
processor time for a reader with compiled kernels, 0.3 s for others, more where the processors are busy.
"""

PROBE_SECONDS = 0.4
"""How long batches are timed before it is decided."""


class AutoExecutor(Executor):
    """Runs tasks in this process, until it is worth while to start workers for those that are left.

    Parameters
    ----------
    limit
        Workers at most.
    start
        Starts as many workers and returns their executor.
    say
        Is told what was decided, and why.
    clock
        Seconds, as `time.perf_counter` counts them.
    """

    def __init__(
        self,
        limit: int,
        start: Callable[[int], Executor],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._limit = limit
        self._start = start
        self._say = say
        self._clock = clock
        self._pool: Executor | None = None
        self._decided = False
        # when the first batch was done, which compiles and loads what the others find ready; its end in bytes
        self._from: tuple[float, int] | None = None
        self.width = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task here and now, or have a worker run it."""
        if self._pool is not None:
            return self._pool.submit(fn, *args, **kwargs)
        done = Future[Any]()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            done.set_exception(error)
        return done

    def consider(self, done: int, left: int) -> None:
        """Decide, if there is enough to go by: ``done`` bytes of sources are read, ``left`` are to come."""
        if self._decided or not done:
            return
        now = self._clock()
        if self._from is None:
            self._from = (now, done)
            return
        seconds, read = now - self._from[0], done - self._from[1]
        if read and (seconds >= PROBE_SECONDS or not left):
            self._decide(read / max(seconds, 1e-9), left)

    def _decide(self, rate: float, left: int) -> None:
        self._decided = True
        seconds = left / rate
        workers = workers_for(seconds, self._limit)
        found = f"one process reads {rate / 1e6:,.0f} MB/s, which leaves {seconds:,.0f} s"
        if not workers:
            self._say(f"workers: none; {found}")
            return
        self._say(f"workers: {workers}; {found}")
        self._pool = self._start(workers)
        self.width = workers


def workers_for(seconds: float, limit: int) -> int:
    """Return how many workers to start for what one process would do in ``seconds``; 0 for none.

    None where starting them takes longer than they save, and no more than have a start's worth to do each.
    """
    if limit < 2 or START_SECONDS + seconds / limit >= seconds:
        return 0
    return max(2, min(limit, math.ceil(seconds / START_SECONDS)))


@contextmanager
def open_auto(say: Callable[[str], None]) -> Iterator[AutoExecutor]:
    """Yield an `AutoExecutor` for the processors of this process; ends the workers that it started."""
    with ExitStack() as started:
        yield AutoExecutor(
            default_workers(), lambda workers: _started(started.enter_context(open_executor(workers))), say
        )


def _started(found: tuple[Executor | None, int]) -> Executor:
    executor, _ = found
    if executor is None:
        raise ValueError("found no workers, expected at least one")
    return executor
