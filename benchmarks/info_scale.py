"""`skelconv info` and `skelconv verify` on a store of many recordings: whole commands, start-up included.

    .venv/bin/python benchmarks/info_scale.py --recordings 100000

The recordings are short (10 frames of 25 joints): what is measured is the cost of a row of the table, a
digest and a split, not of a byte. The goal is 5 s for each beyond the start-up, at 100,000 recordings.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Track, find_reader

SKELCONV = (sys.executable, "-c", "from skelconv.cli.main import main; main()")
FRAMES = 10


def clips(count: int) -> Iterator[tuple[str, Clip]]:
    """Yield recordings of one body, half of them in the training set, one in a hundred leaked."""
    dataset = find_reader("ntu120").dataset
    rng = np.random.default_rng(0)
    columns = {column.name: "" if column.dtype == "string" else 0 for column in dataset.columns}
    motions = rng.normal(size=(count, FRAMES, 25, 3)).astype(np.float32)
    motions[100::100] = motions[: len(motions[100::100])]
    for number in range(count):
        frames = np.arange(FRAMES, dtype=np.int32)
        states = np.full((FRAMES, 25), 2, np.uint8)
        splits = {p.name: "train" if number < count // 2 else "test" for p in dataset.protocols}
        name = f"take{number:07d}"
        track = Track(str(number), frames, motions[number], states)
        yield f"{name}.skeleton", Clip(name, FRAMES, (track,), number % 120, columns, splits)


def timed(name: str, *words: object) -> None:
    """Run a skelconv command; print its seconds by the clock and by the processor."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*SKELCONV, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:24} {time.perf_counter() - began:6.2f} {used:10.2f}")


def main() -> None:
    """Write the store, run the commands, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "many.zarr")
        made = Provenance(tool="benchmark", command="info_scale", sources=options.recordings)
        began = time.perf_counter()
        write_store(store, find_reader("ntu120").dataset, clips(options.recordings), made)
        print(f"{options.recordings:,} recordings written in {time.perf_counter() - began:.1f} s")
        print(f"{'command':24} {'s':>6} {'s of CPU':>10}")
        timed("start-up", "--version")
        timed("info", "info", store)
        timed("verify", "verify", store, "--quiet")


if __name__ == "__main__":
    main()
