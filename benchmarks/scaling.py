"""Several processes against one: the same losses, and what is gained or lost in time.

    python benchmarks/scaling.py                                   # two processes, and two nodes, on this CPU
    python benchmarks/scaling.py --device cuda --processes 1 2 4 8 --recipe s2i_mae_ntu --epochs 2
    python benchmarks/scaling.py --store ntu120.zarr --recipe s2i_small_cpu

``optim.batch`` counts the samples of a step over all processes, so that of one process is, for each of two, a
batch twice its own. Each way trains the same few epochs from the same seed, through torchrun, in a folder
that holds a ``train.py`` and a ``formats/`` of its own; two nodes are two launches on this machine that
meet at localhost, by rendezvous and by fixed ranks (docs/several-machines.md). A ratio of losses is the
largest over all steps. Seconds are those of the steps after the first epoch.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@dataclass(frozen=True)
class Way:
    """A launch: its name, and the options of torchrun for each node; none for a process without torchrun."""

    name: str
    nodes: tuple[tuple[str, ...], ...]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ways(processes: list[int]) -> list[Way]:
    """Return the launches to compare; the first is one process."""
    found = [Way("1 process", ((),))]
    several = [count for count in processes if count > 1]
    found += [Way(f"{n} processes", (("--standalone", "--nproc-per-node", str(n)),)) for n in several]
    pair = ("--nnodes", "2", "--nproc-per-node", "1")
    meet = ("--rdzv-backend", "c10d", "--rdzv-id", "scaling", "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    found.append(Way("2 nodes, rendezvous", ((*pair, *meet), (*pair, *meet))))
    fixed = ("--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    ranks = tuple((*pair, "--node-rank", str(rank), *fixed) for rank in range(2))
    found.append(Way("2 nodes, fixed ranks", ranks))
    return found


def launch(way: Way, words: list[str], folder: Path, threads: int) -> None:
    """Run a way to its end; raises RuntimeError with what it said where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    program = [str(BIN / "skeltrain"), *words]
    running = []
    for options in way.nodes:
        command = [*TORCHRUN, *options, "--no-python", *program] if options else program
        running.append(
            subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate()[1] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{way.name}:\n" + "\n".join(told))


def read(run: Path) -> tuple[list[float], float]:
    """Return the losses of a run, and its seconds after the first epoch."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [float(row["seconds"]) for row in rows if float(row["epoch"]) <= 1]
    return [float(row["loss"]) for row in rows], float(rows[-1]["seconds"]) - first[-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="a store with the split xsub; a generated one by default")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--recordings", type=int, default=200, help="of the generated store")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text("raise SystemExit('a file of the user, not of skeltrain')\n")
        (folder / "formats").mkdir()
        (folder / "formats" / "__init__.py").write_text("raise SystemExit('nor is this')\n")
        store = given.store.resolve() if given.store else folder / "store.zarr"
        if given.store is None:
            made = [str(BIN / "skelconv"), "synth", "ntu120", "raw", "--recordings", str(given.recordings)]
            subprocess.run([*made, "--seed", "0"], cwd=folder, check=True, capture_output=True)
            ingest = [str(BIN / "skelconv"), "ingest", "ntu120", "raw", str(store), "--quiet"]
            subprocess.run(ingest, cwd=folder, check=True, capture_output=True)
        settings = (f"optim.epochs={given.epochs}", "optim.warmup=1", "log.every=1", "log.tensorboard=false")
        words = ["train", given.recipe, "--store", str(store), "--device", given.device]
        words += [word for setting in (*settings, "data.protocol=xsub") for word in ("--set", setting)]
        print(f"{given.recipe}, {given.epochs} epochs, {given.threads} threads a process")
        print(f"{'':<24}{'s':>8}{'speed':>8}{'steps':>8}{'largest difference of a loss':>32}")
        base: tuple[list[float], float] | None = None
        for number, way in enumerate(ways(given.processes)):
            launch(way, [*words, "--out", str(folder / f"run{number}")], folder, given.threads)
            losses, seconds = read(folder / f"run{number}")
            base = base or (losses, seconds)
            off = max(abs(a / b - 1) for a, b in zip(losses, base[0], strict=True))
            print(
                f"{way.name:<24}{seconds:>8.2f}{base[1] / seconds:>8.2f}{len(losses):>8}{off:>32.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
