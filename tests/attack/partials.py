"""What an interrupted ingest left, damaged at random: never a wrong store, never a traceback."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from tests.attack.commands import files, ingest_words, need, raw_files, run, start
from tests.attack.registry import Outcome, attack

DAMAGES = 24
SHARDS = 6
"""Shards that the interrupted run has written."""


@attack("damaged partial folder")
def damaged_partial(folder: Path, scale: float, seed: int) -> Outcome:
    """Flip, cut, empty, zero or delete one file of the partial folder; resume, and start over."""
    rng = random.Random(seed)
    raw = raw_files(folder)
    wanted = folder / "wanted.zarr"
    need(*ingest_words(raw, wanted))
    reference = files(wanted)
    kept = _interrupted(raw, folder / "out.zarr")
    tries, held, resumed, refused = max(1, round(DAMAGES * scale)), 0, 0, 0
    for number in range(tries):
        out = folder / f"{number}.zarr"
        partial = Path(shutil.copytree(kept, folder / f"{number}.zarr.partial"))
        _damage(rng.choice(sorted(f for f in partial.rglob("*") if f.is_file() and f.name != "lock")), rng)
        code, said = run(*ingest_words(raw, out))
        if code == 2:
            whole = "--overwrite" in said and not out.exists() and "Traceback" not in said
            refused += whole
            code, said = run(*ingest_words(raw, out, "--overwrite"))
        else:
            whole, resumed = True, resumed + 1
        held += whole and code == 0 and files(out) == reference
    return Outcome(
        tries,
        held,
        f"{resumed} resumed to the same bytes, {refused} refused with what to do, then --overwrite",
    )


def _interrupted(raw: Path, out: Path) -> Path:
    """The partial folder of an ingest that was killed after a few shards."""
    partial = out.with_name(out.name + ".partial")
    journal = partial / "journal.jsonl"
    child = start(*ingest_words(raw, out))
    while not child.ended() and not (journal.exists() and journal.read_bytes().count(b"\n") > SHARDS):
        time.sleep(0.002)
    child.kill()
    if not journal.exists():
        raise RuntimeError("the ingest ended before it could be killed")
    return partial


def _damage(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    kind = rng.choice(("flip", "cut", "empty", "zero", "delete", "noise"))
    if kind == "delete":
        file.unlink()
        return
    if kind == "flip" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        content = content[: rng.randrange(len(content) + 1)]
    elif kind == "empty":
        content = bytearray()
    elif kind == "zero":
        content = bytearray(len(content))
    else:
        content = bytearray(rng.randbytes(len(content)))
    file.write_bytes(content)
