"""How fast NTU RGB+D files are parsed, from a file's bytes to arrays, on one core.

    python benchmarks/ntu_parse.py [FOLDER]

Measures in one run, on the .skeleton files of FOLDER (default: real samples that lie beside the project,
if any) and on generated ones, each figure the best of several passes with the files in the page cache:

- a dict parser: the straightforward reader that goes through the file line by line, in the manner of the
  published MATLAB and Python readers, written here from the grammar;
- skelconv: `parse_bodies` of positions alone, of every column, and the whole `Reader.read`;
- for scale: reading the bytes, reading them and counting the lines, and `float()` of nothing but the x, y
  and z, from strings that are already cut out.
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

from skelformats.ntu import NTU120
from skelformats.ntu_text import HEADER_FIELDS, parse_bodies
from skelformats.text import load_text

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "ntu"
EVERYTHING = ("position", "depth", "color", "orientation", "body")
HEADER = ("id", *HEADER_FIELDS)
JOINT = ("x", "y", "z", "depth_x", "depth_y", "color_x", "color_y", "qw", "qx", "qy", "qz", "state")


def main() -> None:
    """Print the table for real and for generated files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--passes", type=int, default=15, help="passes over the files (default 15)")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one core")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_generated(Path(folder), recordings=24, frames=90)
        parse_bodies(load_text(next(Path(folder).iterdir())))
        parse_bodies(load_text(next(Path(folder).iterdir())), EVERYTHING)
        print(f"files written and scanner ready (compiled, or loaded) in {time.perf_counter() - began:.1f} s")
        if arguments.folder.is_dir():
            measure(f"real files, {arguments.folder}", arguments.folder, arguments.passes)
        else:
            print(f"no real files: {arguments.folder} does not exist")
        measure("generated files", Path(folder), arguments.passes)


def measure(title: str, root: Path, passes: int) -> None:
    """Print MB/s of every parser, and its ratio to the dict parser."""
    options = NTU120.options()
    sources = NTU120.scan(root, options)
    paths = [root / source.path for source in sources]
    megabytes = sum(source.size for source in sources) / 1e6
    numbers = [path.read_text().split() for path in paths]
    check_equal(paths[0])
    tasks: dict[str, Callable[[int], Any]] = {
        "dict parser, line by line": lambda i: dict_parser(paths[i]),
        "skelconv, positions": lambda i: parse_bodies(load_text(paths[i])),
        "skelconv, every column": lambda i: parse_bodies(load_text(paths[i]), EVERYTHING),
        "skelconv, Reader.read": lambda i: NTU120.read(root, sources[i], options),
        "read the bytes": lambda i: paths[i].read_bytes(),
        "read and count lines": lambda i: paths[i].read_bytes().count(b"\n"),
        "float() of x, y, z alone": lambda i: [float(x) for x in numbers[i][: len(numbers[i]) // 4]],
    }
    print(f"\n{title}: {len(paths)} files, {megabytes:.1f} MB")
    seconds = best(tasks, len(paths), passes)
    slow = seconds["dict parser, line by line"]
    for name, fast in seconds.items():
        print(f"  {name:28} {megabytes / fast:8.0f} MB/s {slow / fast:8.1f} x")


def best(tasks: dict[str, Callable[[int], Any]], files: int, passes: int) -> dict[str, float]:
    """Return the seconds of each task's fastest pass over all files.

    The tasks take turns, so that a machine that is busy for a while slows down all of them.
    """
    fastest = dict.fromkeys(tasks, float("inf"))
    for _ in range(passes):
        for name, task in tasks.items():
            began = time.perf_counter()
            for i in range(files):
                task(i)
            fastest[name] = min(fastest[name], time.perf_counter() - began)
    return fastest


def dict_parser(path: Path) -> dict[str, Any]:
    """Read a file as the published readers do: a dict a frame, a body and a joint."""
    with path.open() as file:
        sequence: dict[str, Any] = {"numFrame": int(file.readline()), "frameInfo": []}
        for _ in range(sequence["numFrame"]):
            frame: dict[str, Any] = {"numBody": int(file.readline()), "bodyInfo": []}
            for _ in range(frame["numBody"]):
                body: dict[str, Any] = {
                    key: float(value) for key, value in zip(HEADER, file.readline().split(), strict=True)
                }
                body["numJoint"] = int(file.readline())
                body["jointInfo"] = [
                    {key: float(value) for key, value in zip(JOINT, file.readline().split(), strict=True)}
                    for _ in range(body["numJoint"])
                ]
                frame["bodyInfo"].append(body)
            sequence["frameInfo"].append(frame)
    return sequence


def check_equal(path: Path) -> None:
    """Make sure that both parsers read the same before they race."""
    slow = [
        [[joint[axis] for axis in "xyz"] for joint in body["jointInfo"]]
        for frame in dict_parser(path)["frameInfo"]
        for body in frame["bodyInfo"]
    ]
    np.testing.assert_array_equal(parse_bodies(load_text(path)).blocks["position"], np.float32(slow))


def write_generated(folder: Path, recordings: int, frames: int) -> None:
    """Write files with the look of real ones: 7 digits, a slow random walk, one or two bodies."""
    rng = np.random.default_rng(0)
    for k in range(recordings):
        bodies = 1 + (k % 3 == 0)
        walk = rng.normal(scale=0.01, size=(frames, bodies, 25, 11)).cumsum(axis=0)
        walk += rng.normal(size=(25, 11)) * [0.4, 0.6, 0.2, 60, 60, 150, 150, 0.5, 0.5, 0.5, 0.5]
        walk += [0.0, 0.0, 3.0, 256, 208, 976, 567, 0, 0, 0, 0]
        walk[:, :, [3, 15, 19, 21, 22, 23, 24], 7:] = 0
        lines = [str(frames)]
        for frame in walk:
            lines.append(str(bodies))
            for b, body in enumerate(frame):
                lines.append(f"{72057594037931101 + b} 0 1 1 0 0 0 {body[0, 0]:.7g} {body[0, 1]:.7g} 2")
                lines.append("25")
                lines += [" ".join(f"{value:.7g}" for value in joint) + " 2" for joint in body]
        text = "\r\n".join(lines) + "\r\n"
        (folder / f"S001C001P001R{k + 1:03}A001.skeleton").write_text(text, newline="")


if __name__ == "__main__":
    main()
