"""How fast PKU-MMD skeleton files are parsed, from a file's bytes to arrays, on one core.

    python benchmarks/pku_parse.py [FILE]

Measures in one run, on FILE (default: a real sample beside the project, if any) and on a generated
video, each figure the best of several passes with the file in the page cache: `parse_frames`, the whole
`Reader.read`, `numpy.loadtxt`, and splitting the text into words for `numpy.array`, as published readers do.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.synth import Settings
from skelconv.synth.pku import make_video
from skelformats.pku import PKU2
from skelformats.pku_text import parse_frames
from skelformats.text import load_text

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "pku" / "A10N08-L.txt"


def main() -> None:
    """Print the table for a real and for a generated file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--passes", type=int, default=10, help="passes over the file (default 10)")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one core")
    with tempfile.TemporaryDirectory() as folder:
        truth, files = make_video("pku2", 0, 0, Settings(frames=(250, 250)))
        generated = Path(folder) / f"{truth.name}.txt"
        generated.write_bytes(next(iter(files.values())))
        for path in (arguments.file, generated):
            if path.is_file():
                measure(path, arguments.passes)
            else:
                print(f"no real file: {path} does not exist")


def measure(path: Path, passes: int) -> None:
    """Print MB/s of every way to read a file, and its ratio to `numpy.loadtxt`."""
    options = PKU2.options(untrimmed=True)
    (source,) = (found for found in PKU2.scan(path.parent, options) if found.path == path.name)
    tasks: dict[str, Callable[[], Any]] = {
        "numpy.loadtxt": lambda: np.loadtxt(path),
        "split, numpy.array": lambda: np.array(path.read_text().split(), np.float64),
        "skelconv, parse_frames": lambda: parse_frames(load_text(path)),
        "skelconv, Reader.read": lambda: PKU2.read(path.parent, source, options),
    }
    want = np.loadtxt(path).astype(np.float32)
    np.testing.assert_array_equal(parse_frames(load_text(path)).reshape(want.shape), want)
    seconds = dict.fromkeys(tasks, float("inf"))
    # the tasks take turns, so that a machine that is busy for a while slows down all of them
    for _ in range(passes):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    megabytes = path.stat().st_size / 1e6
    print(f"\n{path.name}: {len(want)} frames, {megabytes:.1f} MB")
    for name, fast in seconds.items():
        print(f"  {name:24} {megabytes / fast:8.0f} MB/s {seconds['numpy.loadtxt'] / fast:8.1f} x")


if __name__ == "__main__":
    main()
