"""SIGKILL at random instants of every verb that writes; run again, each gives what an unharmed run gives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skelconv.store.publish import remove
from tests.attack.commands import files, ingest_words, need, raw_files, run, start
from tests.attack.registry import Outcome, attack

KILLS = 8
"""Kills a verb at scale 1."""

Words = Callable[[Path], tuple[object, ...]]


def _kill_and_rerun(folder: Path, words: Words, tries: int, rng: random.Random) -> Outcome:
    """Kill a command anywhere between its start and its end; compare what comes of running it again."""
    # the same name each time, since some stores record the command that made them
    out = folder / "out"
    began = time.monotonic()
    need(*words(out))
    seconds = time.monotonic() - began
    reference = files(out)
    held = published = 0
    for _ in range(tries):
        remove(out)
        child = start(*words(out))
        if not child.ended(seconds * rng.uniform(0.02, 1)):
            child.kill()
        published += out.exists()
        if out.exists():
            whole = files(out) == reference
        else:
            whole = run(*words(out))[0] == 0 and files(out) == reference
            whole = whole and not out.with_name(out.name + ".partial").exists()
        held += whole
    return Outcome(tries, held, f"the same bytes after a rerun; {published} were published already")


def _register(verb: str, make: Callable[[Path], Words]) -> None:
    def kill(folder: Path, scale: float, seed: int) -> Outcome:
        return _kill_and_rerun(
            folder, make(folder), max(1, round(KILLS * scale)), random.Random(f"{seed}{verb}")
        )

    attack(f"kill {verb}")(kill)


def _store(folder: Path) -> Path:
    """A store for the verbs that read one; made once a folder."""
    out = folder / "source.zarr"
    need(*ingest_words(raw_files(folder), out))
    return out


def _from_store(*words: object) -> Callable[[Path], Words]:
    """Words of a verb that takes STORE and OUT."""

    def make(folder: Path) -> Words:
        verb, *rest = words
        return partial(lambda store, out: (verb, store, out, *rest), _store(folder))

    return make


def _ingest(folder: Path) -> Words:
    return partial(ingest_words, raw_files(folder))


def _ingest_by_workers(folder: Path) -> Words:
    raw = raw_files(folder)
    return lambda out: ingest_words(raw, out, "-j", 2)


def _merge(folder: Path) -> Words:
    parts = []
    for number, half in enumerate((raw_files(folder / "a", 60), raw_files(folder / "b", 120))):
        if number:  # what the first holds already
            for file in sorted(half.iterdir()):
                if (folder / "a" / "raw" / file.name).exists():
                    file.unlink()
        parts.append(folder / f"part{number}.zarr")
        need(*ingest_words(half, parts[-1]))
    return lambda out: ("merge", out, *parts)


_register("ingest", _ingest)
_register("ingest by workers", _ingest_by_workers)
_register("s2i", _from_store("s2i", "--format", "ucla20", "--size", 32, "--quiet"))
_register("clean", _from_store("clean", "--chain", "metric"))
_register("merge", _merge)
_register("remap", _from_store("remap", "--format", "ucla20"))
_register("export", _from_store("export", "--to", "csv"))
_register("synth", lambda folder: lambda out: ("synth", "ucla", out, "--recordings", 60, "--quiet"))
