"""What the attacks share: commands, the raw files and stores that they work on, and their comparison.

Commands run in processes that a server forks off, with everything imported already: a kill then hits the work
and not the start-up, and hundreds of runs take minutes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.skelconv.raw_ucla import write_raw

TIMEOUT = 300
_PRELOAD = (
    "skelconv.cli.main", "skelconv.ingest.ingest", "skelconv.derive", "skelconv.export", "skelconv.s2i.write",
    "skelconv.synth", "skelconv.verify", "tests.attack.commands",
)  # fmt: skip
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(_PRELOAD))


class Command:
    """A skelconv command that runs in a process of its own."""

    def __init__(self, words: tuple[object, ...]) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="skelconv-attack-log-")  # noqa: SIM115 - outlives this
        self._process = _CONTEXT.Process(target=_run_command, args=(list(map(str, words)), self._log.name))
        self._process.start()

    def ended(self, seconds: float = 0) -> bool:
        """Whether it has ended, or does within so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def kill(self) -> None:
        """Send SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join()

    def finish(self) -> tuple[int, str]:
        """Wait for its end; returns its exit code, and what it said on both channels."""
        self._process.join(TIMEOUT)
        if self._process.exitcode is None:
            self.kill()
            raise RuntimeError(f"a command hung for {TIMEOUT} s")
        said = Path(self._log.name).read_text(errors="replace")
        self._log.close()
        return self._process.exitcode, said


def _run_command(words: list[str], log: str) -> None:
    from skelconv.cli.command import run as run_cli
    from skelconv.cli.main import cli

    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    for channel in (1, 2):
        os.dup2(handle, channel)
    sys.argv = ["skelconv", *words]
    run_cli(cli, words)


def start(*words: object) -> Command:
    """Start a skelconv command."""
    return Command(words)


def run(*words: object) -> tuple[int, str]:
    """Run a skelconv command to its end; returns its exit code, and what it said."""
    return Command(words).finish()


def need(*words: object) -> None:
    """Run a command that must succeed, since an attack builds on it."""
    code, said = run(*words)
    if code != 0:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {code}: {said}")


def files(path: Path) -> dict[str, str]:
    """Digest of every file of a store or a folder, by path; of a single file under the empty path."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def raw_files(folder: Path, takes: int = 120) -> Path:
    """Raw files of NW-UCLA's form: enough for a dozen shards of 256 frames."""
    write_raw(folder / "raw", takes)
    return folder / "raw"


def ingest_words(raw: Path, out: Path, *more: object) -> tuple[Any, ...]:
    """Return the words of an ingest in one process, in small shards."""
    return ("ingest", "ucla", raw, out, "-j", 0, "--shard-frames", 256, "--quiet", *more)
