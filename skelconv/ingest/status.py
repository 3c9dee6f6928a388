"""How far an ingest has come: finished, running, interrupted, failed or missing; whole, or part by part."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skelconv.ingest.slurm import marker, part_store, parts_folder, read_job
from skelconv.store.info import StoreError
from skelconv.store.publish import JOURNAL, LOCK, fcntl

State = Literal["finished", "running", "interrupted", "begun elsewhere", "failed", "missing"]


@dataclass(frozen=True)
class Status:
    """The state of one output, and what is known of it, in words."""

    state: State
    about: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.about}" if self.about else self.state


@dataclass(frozen=True)
class Report:
    """The state of an output, and of its parts by number, where it is made in parts."""

    out: Path
    whole: Status
    parts: dict[int, Status]

    @property
    def finished(self) -> bool:
        """Whether the output is there."""
        return self.whole.state == "finished"

    def describe(self) -> str:
        """Say it, and what to do next."""
        lines = [f"{self.out}: {self.whole}"]
        if not self.parts:
            if self.whole.state == "interrupted":
                lines.append("next: run the same command again; it goes on there")
            return "\n".join(lines)
        lines += [f"part {number}/{len(self.parts)}: {status}" for number, status in self.parts.items()]
        by_state: dict[str, list[str]] = {}
        for number, status in self.parts.items():
            by_state.setdefault(status.state, []).append(str(number))
        done = by_state.pop("finished", [])
        rest = "; ".join(f"{state}: {', '.join(numbers)}" for state, numbers in by_state.items())
        lines.append(f"{len(done)} of {len(self.parts)} parts finished{'; ' * bool(rest)}{rest}")
        folder = parts_folder(self.out)
        if self.finished:
            lines.append(f"{folder} is not needed any more")
        elif not {"running", "begun elsewhere"} & set(by_state):
            lines.append(f"next: bash {folder / 'submit.sh'}")
        return "\n".join(lines)


def status_of(out: Path) -> Report:
    """Look at an output and its parts.

    Raises
    ------
    StoreError
        There is nothing: no store, no unfinished one, no parts.
    ClusterError
        The account of the parts is damaged.
    """
    job = read_job(out)
    whole = _status(out)
    if job is None and whole.state == "missing":
        raise StoreError(
            f"{out}: found neither a store, nor an unfinished one ({out.name}.partial), nor parts "
            f"({parts_folder(out).name}), expected the OUT of an ingest"
        )
    parts = {} if job is None else {number: _part_status(out, number) for number in range(1, job.parts + 1)}
    return Report(out, whole, parts)


def _part_status(out: Path, number: int) -> Status:
    status = _status(part_store(out, number))
    if status.state in ("finished", "running"):
        return status
    failed, begun = marker(out, number, "failed"), marker(out, number, "begun")
    log = parts_folder(out) / "logs" / f"part-{number}.log"
    if failed.is_file():
        return Status(
            "failed", f"{failed.read_text().strip()}; {status.about or 'nothing is written'}; see {log}"
        )
    words = begun.read_text().strip() if begun.is_file() else ""
    elsewhere = re.match(r"host (\S+)", words)
    if elsewhere and elsewhere[1] != socket.gethostname():
        # whether its lock can be seen from here depends on the file system
        return Status("begun elsewhere", f"{words}; {status.about or 'nothing is written'}")
    if status.state == "missing" and words:
        return Status("interrupted", "nothing is written")
    return status


def _status(out: Path) -> Status:
    if (out / "zarr.json").is_file():
        return Status("finished")
    partial = out.with_name(out.name + ".partial")
    if not partial.is_dir():
        return Status("missing")
    owner, about = _owner(partial / LOCK), _progress(partial / JOURNAL)
    return Status("running", f"{owner}; {about}") if owner else Status("interrupted", about)


def _progress(journal: Path) -> str:
    """Say what the journal of an ingest says is on disk; it is checked when the ingest resumes, not here."""
    try:
        lines = [line for line in journal.read_bytes().split(b"\n")[:-1] if line]
        entries = [json.loads(line)[1] for line in lines]
        if len(entries) < 2:
            return "no shard is whole yet"
        total = entries[0].get("sources")
        read = f"{entries[-1]['source']:,}{f' of {total:,}' if total else ''} sources"
        return f"{read} read, {len(entries) - 1:,} whole shards"
    except FileNotFoundError:
        return "no shard is whole yet"
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{journal} is damaged; run again with --overwrite"


def _owner(lock: Path) -> str:
    """Return who holds the lock; empty where nobody does."""
    try:
        handle = os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return ""
    try:
        words = os.read(handle, 200).decode(errors="replace")
        if fcntl is None or _has_ended(words):
            return ""
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return words or "a process"
        return ""
    finally:
        os.close(handle)


def _has_ended(words: str) -> bool:
    """Whether the process that a lock names was one of this machine and is gone."""
    named = re.fullmatch(r"process (\d+) on (.*)", words)
    if named is None or named[2] != socket.gethostname():
        return False
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
