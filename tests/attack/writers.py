"""Two writers of one output at once; and a disk that fills up."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.attack.commands import files, ingest_words, need, raw_files, run, start
from tests.attack.registry import Outcome, attack

DELAYS = 100
DISKS_MB = (1, 2)


@attack("two ingests at once")
def two_ingests(folder: Path, scale: float, seed: int) -> Outcome:
    """Start the same ingest twice, the second after a random delay."""
    rng = random.Random(seed)
    raw = raw_files(folder, 60)
    began = time.monotonic()
    need(*ingest_words(raw, folder / "wanted.zarr"))
    seconds = time.monotonic() - began
    reference = files(folder / "wanted.zarr")
    tries, held, refused = max(1, round(DELAYS * scale)), 0, 0
    for number in range(tries):
        out = folder / f"{number}.zarr"
        first = start(*ingest_words(raw, out))
        time.sleep(rng.uniform(0, seconds))
        second = start(*ingest_words(raw, out, *(["--overwrite"] if number % 2 else [])))
        ends = [first.finish(), second.finish()]
        codes = sorted(code for code, _ in ends)
        refused += codes == [0, 2]
        clean = codes in ([0, 0], [0, 2]) and not any("Traceback" in said for _, said in ends)
        held += clean and files(out) == reference and not out.with_name(f"{number}.zarr.partial").exists()
    return Outcome(tries, held, f"the published store is the reference; {refused} times one was refused")


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of so many MB, or None where none can be mounted here."""
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@attack("full disk")
def full_disk(folder: Path, scale: float, seed: int) -> Outcome:
    """Ingest onto disks that are too small, then make room, and run the same command again."""
    raw = raw_files(folder, 300)
    wanted = folder / "wanted.zarr"
    need(*ingest_words(raw, wanted))
    reference = files(wanted)
    tries = held = 0
    for megabytes in DISKS_MB:
        with _small_disk(folder / f"disk{megabytes}", megabytes) as disk:
            if disk is None:
                return Outcome(0, 0, "skipped: no tmpfs can be mounted here (it takes root)")
            out = disk / "out.zarr"
            code, said = run(*ingest_words(raw, out))
            if code == 0:
                continue  # it was large enough
            tries += 1
            clean = code == 2 and str(disk) in said and "Traceback" not in said and not out.exists()
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            held += clean and run(*ingest_words(raw, out))[0] == 0 and files(out) == reference
    return Outcome(tries, held, "one sentence with the path, and the rerun gives the same bytes")
