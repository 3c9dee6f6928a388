"""An orderly end: a signal asks the run to finish its step, save, and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch schedulers and torchrun send before they kill."""


@dataclass
class StopFlag:
    """Whether somebody asked the run to stop."""

    asked: bool = False


@contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """Catch the signals that ask a run to stop; a second one stops it at once, as it would have without us.

    Outside the main thread, where Python delivers no signals, nothing is caught.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        flag.asked = True
        restore()

    for number in SIGNALS:
        signal.signal(number, ask)
    try:
        yield flag
    finally:
        restore()
