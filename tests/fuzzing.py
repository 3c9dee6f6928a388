"""Damaged files against every reader: how long the tests do it, and a harness that does it at length.

In the tests the fuzz targets are short; ``SKELCONV_FUZZ`` makes them so many times as long. The harness,
``python -m tests.fuzzing --mutations 50000`` (``make fuzz``), damages generated files of each dataset in a
process of its own, and prints how many it read, how many it refused, and the slowest; a crash, a hang or any
other error than `FormatError` is told with the number that repeats it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np

FACTOR = int(os.environ.get("SKELCONV_FUZZ", "1"))
HANG = 60.0
"""Seconds that one damaged copy may take."""

_FIELDS = ("at", "read", "refused", "slowest")


def examples(count: int) -> int:
    """Return the number of examples of a target that takes ``count`` in the tests."""
    return count * FACTOR


def mutate_and_read(dataset: str, raw: Path, number: int) -> bool:
    """Damage one file of a folder as ``number`` says, read it, and restore it; return whether it was read.

    ``read`` may raise `FormatError`; ``scan`` and the dataset itself, which look at split lists and
    calibrations, any error that speaks to the user.
    """
    from skelconv.testing import damage
    from skelformats.errors import FormatError, SkelconvError
    from skelformats.reader import find_reader

    reader = find_reader(dataset)
    options = reader.options()
    rng = np.random.default_rng(number)
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    path = files[int(rng.integers(0, len(files)))]
    content = path.read_bytes()
    path.write_bytes(damage(content, rng)[1])
    try:
        try:
            reader.dataset_of(raw, options)
            sources = reader.scan(raw, options)
        except SkelconvError:
            return False
        name = path.relative_to(raw).as_posix()
        touched = [source for source in sources if name in (source.path, *source.members)] or sources[:1]
        for source in touched:
            try:
                reader.read(raw, source, options)
            except FormatError:
                return False
        return True
    finally:
        path.write_bytes(content)


def _work(dataset: str, raw: Path, mutations: int, state: dict[str, Synchronized[Any]]) -> None:
    """Damage and read, keeping count in shared memory, so that it survives a crash."""
    for number in range(int(state["at"].value), mutations):
        state["at"].value = number
        begun = time.perf_counter()
        try:
            done = mutate_and_read(dataset, raw, number)
        except Exception:  # noqa: BLE001 (told, with the number that repeats it)
            sys.stderr.write(f"{dataset}, mutation {number}:\n{traceback.format_exc()}")
            sys.exit(1)
        state["read" if done else "refused"].value += 1
        state["slowest"].value = max(state["slowest"].value, time.perf_counter() - begun)
    state["at"].value = mutations


def fuzz(dataset: str, mutations: int, folder: Path) -> tuple[dict[str, float], str]:
    """Run the mutations of one dataset in a process of its own; return the counts, and what went wrong."""
    from skelconv.synth import Settings, synthesize

    raw = folder / dataset
    synthesize(dataset, raw, 3, settings=Settings(frames=(3, 4)))
    context = multiprocessing.get_context("spawn")
    state: dict[str, Any] = {name: context.Value("d", 0.0) for name in _FIELDS}
    process = context.Process(target=_work, args=(dataset, raw, mutations, state), daemon=True)
    process.start()
    problem = _watch(process, lambda: float(state["at"].value))
    shutil.rmtree(raw)
    counts = {name: float(value.value) for name, value in state.items()}
    return counts, f"{problem} at mutation {counts['at']:.0f}" if problem else ""


def _watch(process: Any, progress: Callable[[], float]) -> str:
    """Wait for a process; return what went wrong, if it hangs, crashes or fails."""
    last, since = progress(), time.monotonic()
    while process.is_alive():
        process.join(0.5)
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > HANG:
            process.kill()
            process.join()
            return f"hung for more than {HANG:.0f} s"
    if process.exitcode == 1:
        return "another error than FormatError"
    return f"crashed (exit code {process.exitcode})" if process.exitcode else ""


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Fuzz the readers asked for, or all, and print a row for each."""
    from skelconv.synth import SYNTHESIZERS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=1000, help="damaged copies a reader")
    parser.add_argument("datasets", nargs="*", help="all that can be generated, unless named")
    asked = parser.parse_args()
    # a stop from outside cleans up as an end does: the folder in memory, and the process that reads
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    memory = Path("/dev/shm")
    failures, total = 0, 0
    say("reader         mutations     read  refused   slowest  seconds  problem")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for dataset in asked.datasets or sorted(SYNTHESIZERS):
            begun = time.perf_counter()
            counts, problem = fuzz(dataset, asked.mutations, Path(folder))
            done = int(counts["read"] + counts["refused"])
            total += done
            failures += bool(problem)
            say(
                f"{dataset:14}{done:10}{counts['read']:9.0f}{counts['refused']:9.0f}"
                f"{counts['slowest']:9.2f}s{time.perf_counter() - begun:9.1f}  {problem or '-'}"
            )
    say(f"{total} damaged copies, {failures} readers with a problem")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
