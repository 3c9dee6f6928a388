"""Where work runs: in this process, in spawned processes, or on a dask cluster; all behind one interface."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from multiprocessing.connection import wait

from skelconv.extras import install_command
from skelconv.ingest.pool import ShieldedPool
from skelformats.errors import SkelconvError

GRACE_SECONDS = 5.0
"""How long a worker outlives SIGTERM, so that its parent hears it first and ends the pool in order."""


class SchedulerError(SkelconvError):
    """No dask cluster can be used as asked."""


@contextmanager
def open_executor(workers: int, scheduler: str | None = None) -> Iterator[tuple[Executor | None, int]]:
    """Yield an executor and the number of tasks it runs at once; (None, 1) when work runs inline.

    Parameters
    ----------
    workers
        Processes to spawn; 0 runs in this process, which a debugger can follow.
    scheduler
        Address of a dask scheduler, such as ``tcp://host:8786``; its workers are used instead.

    Raises
    ------
    SchedulerError
        dask.distributed is not installed, or the scheduler does not answer or has no workers.
    """
    if scheduler is not None:
        with _dask_executor(scheduler) as found:
            yield found
    elif workers == 0:
        yield None, 1
    else:
        # spawned, not forked: the parent has threads (numba, zarr) that a fork would copy half-alive
        context = multiprocessing.get_context("spawn")
        pool = ShieldedPool(workers, mp_context=context, initializer=_follow_parent)
        try:
            yield pool, workers
        except KeyboardInterrupt:
            pool.kill_workers()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise SchedulerError(
            f"--scheduler needs dask.distributed, which is not installed. Run: {install_command('cluster')}"
        ) from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise SchedulerError(
            f"{address}: found no dask scheduler ({error}), expected one, such as tcp://host:8786"
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise SchedulerError(f"{address}: found a scheduler without workers, expected at least one")
        yield client.get_executor(pure=False), threads


def _follow_parent() -> None:
    """Make a worker leave signals to its parent, and end when its parent is gone.

    Batch systems send SIGTERM to every process of a job: a worker that ended at once would be taken for a
    broken one before the parent had heard the signal itself. It must end in the end, since a pool that breaks
    ends its workers so.

    A worker of a killed parent would wait for its next task for ever, since it holds both ends of the queue.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_later(number: int, frame: object) -> None:
    # in a thread: ended here, a result that is being sent would stay half-sent, and its reader wait for ever
    timer = threading.Timer(GRACE_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
