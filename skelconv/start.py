"""Where ``skelconv`` begins: it hears Ctrl-C from here on, while all else is still being imported.

Nothing may be imported here that takes time: what comes before `end_on_interrupt` cannot be interrupted in
order.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def main() -> None:
    """Entry point of the console script, and of ``python -m skelconv``."""
    end_on_interrupt()
    from skelconv.cli.main import main as run_verbs

    run_verbs()


def end_on_interrupt() -> None:
    """Let Ctrl-C end the process with one line and code 130, as long as there is nothing to be saved.

    `skelconv.cli.command.run` takes over when everything is imported. Where Ctrl-C is ignored, as in a
    background job of a script, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    # only the main thread may: elsewhere whoever runs the thread decides what a signal means
    with suppress(ValueError):
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os.write(2, b"\nInterrupted.\n")
    # half-imported libraries may not end in order
    os._exit(130)
