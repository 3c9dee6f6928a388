"""Scale of ingest: throughput, peak memory, and a kill in the middle, on generated NTU recordings.

    .venv/bin/python benchmarks/ingest_scale.py --recordings 3000

Runs the commands a user would run. Beside each rate stands the limit of the machine, measured in the same
run: the time to do no more than read the raw bytes. Memory is the proportional set size of the whole process
tree, sampled every 50 ms.
"""

from __future__ import annotations

import argparse
import filecmp
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

SKELCONV = (sys.executable, "-c", "from skelconv.cli.main import main; main()")


def tree_memory(process: psutil.Process) -> int:
    """Proportional set size of a process and its children, in bytes."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between being listed and being asked
    return total


def run(*words: object, kill_when: Callable[[], bool] | None = None) -> tuple[float, int]:
    """Run a skelconv command; return its seconds and its peak memory in bytes."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([*SKELCONV, *map(str, words)], stderr=log, stdout=log)
        watched = psutil.Process(child.pid)
        peak = 0
        while child.poll() is None:
            try:
                peak = max(peak, tree_memory(watched))
            except psutil.NoSuchProcess:
                break
            if kill_when is not None and kill_when():
                child.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        code = child.wait()
        if code != (0 if kill_when is None else -signal.SIGKILL):
            log.seek(0)
            raise SystemExit(f"{' '.join(map(str, words))} ended with {code}\n{log.read().decode()}")
    return time.perf_counter() - began, peak


def same(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = sorted(f.relative_to(left) for f in left.rglob("*") if f.is_file())
    others = sorted(f.relative_to(right) for f in right.rglob("*") if f.is_file())
    return names == others and all(filecmp.cmp(left / n, right / n, shallow=False) for n in names)


def read_all(folder: Path) -> float:
    """Seconds to read every byte below a folder and do nothing with it."""
    began = time.perf_counter()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            file.read_bytes()
    return time.perf_counter() - began


def main() -> None:
    """Generate, ingest with each number of workers, kill and resume, verify; print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=3000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        raw = folder / "raw"
        seconds, _ = run("synth", "ntu120", raw, "--recordings", options.recordings, "--seed", 0)
        size = sum(f.stat().st_size for f in raw.rglob("*") if f.is_file())
        print(f"{options.recordings} recordings, {size / 1e6:.0f} MB, written in {seconds:.1f} s")
        floor = min(read_all(raw) for _ in range(2))
        print(f"{'step':28} {'s':>7} {'MB/s':>7} {'recordings/s':>13} {'x reading':>10} {'peak MB':>8}")
        print(
            f"{'read the bytes, no more':28} {floor:7.2f} {size / 1e6 / floor:7.0f} "
            f"{options.recordings / floor:13.0f}"
        )
        for workers in options.workers:
            out = folder / f"w{workers}.zarr"
            seconds, peak = run("ingest", "ntu120", raw, out, "--workers", workers, "--shard-frames", 16384)
            print(
                f"{f'ingest, --workers {workers}':28} {seconds:7.2f} {size / 1e6 / seconds:7.0f} "
                f"{options.recordings / seconds:13.0f} {seconds / floor:10.1f} {peak / 1e6:8.0f}"
            )
        first = folder / f"w{options.workers[0]}.zarr"
        killed = folder / "killed.zarr"
        journal = killed.with_name("killed.zarr.partial") / "journal.jsonl"
        words = ("ingest", "ntu120", raw, killed, "--workers", 2, "--shard-frames", 16384)
        shards = sum(1 for _ in (first / "position" / "c").iterdir())
        half = lambda: journal.exists() and journal.read_text().count("\n") > shards // 2  # noqa: E731
        before, _ = run(*words, kill_when=half)
        after, _ = run(*words)
        print(f"killed after {before:.1f} s at half of {shards} shards, resumed in {after:.1f} s")
        others = [folder / f"w{w}.zarr" for w in options.workers[1:]]
        print(f"all stores identical: {all(same(first, other) for other in [*others, killed])}")
        seconds, peak = run("verify", first)
        print(f"{'verify':28} {seconds:7.2f} {'':7} {'':13} {'':10} {peak / 1e6:8.0f}")
        stored = sum(f.stat().st_size for f in first.rglob("*") if f.is_file())
        print(f"store: {stored / 1e6:.1f} MB, {stored / size:.3f} of the raw text")


if __name__ == "__main__":
    main()
