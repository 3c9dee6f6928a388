"""What the attacks share: commands, the raw files and stores that they work on, and their comparison."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.skelconv.raw_ucla import write_raw

COMMAND = (sys.executable, "-c", "from skelconv.cli.main import main; main()")
TIMEOUT = 120


def start(*words: object) -> subprocess.Popen[bytes]:
    """Start a skelconv command."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )


def run(*words: object) -> tuple[int, str]:
    """Run a skelconv command to its end; returns its exit code, and what it said on both channels."""
    child = start(*words)
    out, err = child.communicate(timeout=TIMEOUT)
    return child.returncode, (out + err).decode(errors="replace")


def files(path: Path) -> dict[str, str]:
    """Digest of every file of a store or a folder, by path; of a single file under the empty path."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def raw_files(folder: Path, takes: int = 300) -> Path:
    """Raw files of NW-UCLA's form: enough for a dozen shards of 256 frames."""
    write_raw(folder / "raw", takes)
    return folder / "raw"


def ingest_words(raw: Path, out: Path, *more: object) -> tuple[object, ...]:
    """Return the words of an ingest in this process, in small shards."""
    return ("ingest", "ucla", raw, out, "-j", 0, "--shard-frames", 256, "--quiet", *more)
