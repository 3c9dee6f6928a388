"""A pool of spawned processes that Ctrl-C does not reach: their parent alone hears it, and ends them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


class ShieldedPool(ProcessPoolExecutor):
    """A process pool whose workers are started with the interrupt blocked.

    A terminal sends Ctrl-C to every process at once, and a worker that is still importing would end with a
    traceback of its own. The pool starts its workers at `submit`.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call, as `concurrent.futures.Executor.submit`."""
        with _blocked_interrupt():
            return super().submit(fn, *args, **kwargs)

    def kill_workers(self) -> None:
        """End the workers at once, in the middle of what they do: nobody will read it."""
        for process in list((self._processes or {}).values()):
            process.kill()


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Hold SIGINT back; processes that are started meanwhile never get it. Where masks are unknown, do
    nothing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
