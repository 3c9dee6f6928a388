"""Skeleton-to-Image encoding: time of every way to do it, as a multiple of copying the images once.

    python benchmarks/s2i.py [--sequences 512] [--rounds 9] [--threads N]

Sequences have 30 to 300 frames of 25 joints; images are 3 x 224 x 224 float32. All ways run in one process,
in turn, round after round; the smallest time of each counts. Outputs are written into one array that exists
already, wherever a library allows it. With a CUDA device the torch form is timed there as well.
"""

# ruff: noqa: E402  (the libraries read the number of BLAS threads when they are imported)

from __future__ import annotations

import argparse
import os
import platform

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # small matrix products collapse with more threads than free cores

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from skelconv.ingest.executors import default_workers
from skelconv.s2i import S2IPlan, aligned_images, encode, make_plan
from skelformats.skeleton import load_skeleton
from skeltrain.data.encode import S2IEncoder

Work = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Data:
    """A ragged batch: (R, 25, 3) rows, the same with joints in column order, and (N + 1,) offsets."""

    position: NDArray[np.float32]
    ordered: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def sequence(self, n: int) -> NDArray[np.float32]:
        """Sequence ``n`` in column order, (T, 25, 3)."""
        return self.ordered[self.offsets[n] : self.offsets[n + 1]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=default_workers())
    options = parser.parse_args()
    cv2.setNumThreads(0)
    plan = make_plan(load_skeleton("ntu25"))
    data = make_data(options.sequences, plan)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    megabytes = 12 * options.sequences * plan.size[0] * plan.size[1] / 1e6
    print(f"{options.sequences} sequences, {len(data.position)} frames -> {megabytes:.0f} MB of images")
    for threads in sorted({1, options.threads}):
        report(measure(data, plan, threads, options.rounds), options.sequences, threads)
    if torch.cuda.is_available():
        report_cuda(data, plan, options.rounds)


def make_data(count: int, plan: S2IPlan) -> Data:
    """Random walks of some metres."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(30, 301, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    position = np.cumsum(rng.normal(0, 0.01, (offsets[-1], 25, 3)), axis=0).astype(np.float32)
    return Data(position, np.ascontiguousarray(position[:, plan.order]), offsets)


def measure(data: Data, plan: S2IPlan, threads: int, rounds: int) -> dict[str, float]:
    """Smallest time in seconds of each way, with ``threads`` threads."""
    count = len(data.offsets) - 1
    images = aligned_images(count, plan)
    source = aligned_images(count, plan)
    source[:] = 1
    torch.set_num_threads(threads)
    with ThreadPoolExecutor(threads) as pool:

        def in_parts(work: Work) -> Callable[[], None]:
            edges = np.linspace(0, count, 4 * threads + 1).astype(int).tolist() if threads > 1 else [0, count]
            return lambda: list(pool.map(work, edges[:-1], edges[1:])) and None

        ways = {
            "memcpy of the images": in_parts(lambda a, b: np.copyto(images[a:b], source[a:b])),
            "write-only fill": in_parts(lambda a, b: images[a:b].fill(1)),
            "skelconv kernel": lambda: encode(data.position, data.offsets, plan, images, threads),
            **{name: in_parts(work) for name, work in per_sequence(data, plan, images).items()},
            **torch_ways(data, plan),
        }
        check(ways, images, data, plan)
        return timed(ways, rounds)


def per_sequence(data: Data, plan: S2IPlan, images: NDArray[np.float32]) -> dict[str, Work]:
    """Ways that take one sequence after another: each works on sequences a to b."""
    rows, columns = plan.size
    hwc = images.reshape(-1).reshape(len(images), rows, columns, 3)
    in_joints = dense(plan.weights_joint(), len(plan.order)).T.copy()

    def cv2_hwc(a: int, b: int) -> None:
        for n in range(a, b):
            cv2.resize(data.sequence(n), (columns, rows), dst=hwc[n], interpolation=cv2.INTER_LINEAR)

    def matmuls(a: int, b: int) -> None:
        for n in range(a, b):
            sequence = data.sequence(n)
            in_time = dense(plan.weights_time(len(sequence)), len(sequence))
            np.matmul(in_time @ sequence.transpose(2, 0, 1), in_joints, out=images[n])

    return {"cv2.resize, HWC view": cv2_hwc, "numpy, two matmuls": matmuls}


def torch_ways(data: Data, plan: S2IPlan) -> dict[str, Callable[[], object]]:
    """Ways that allocate their output themselves; the ragged form in blocks of 64 sequences."""
    ordered, position = torch.from_numpy(data.ordered), torch.from_numpy(data.position)
    offsets = torch.from_numpy(data.offsets)
    encoder = S2IEncoder(plan)
    count = len(offsets) - 1

    def interpolate() -> None:
        for n in range(count):
            sequence = ordered[offsets[n] : offsets[n + 1]].permute(2, 0, 1)[None]
            functional.interpolate(sequence, plan.size, mode="bilinear", align_corners=False)

    def ragged() -> None:
        for first in range(0, count, 64):
            part = offsets[first : first + 65]
            encoder.encode_on_device(position[part[0] : part[-1]], part - part[0])

    return {"torch interpolate, per sequence": interpolate, "torch ragged form (CPU)": ragged}


def dense(
    weights: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], count: int
) -> NDArray[np.float32]:
    """Write interpolation weights out as a (points, count) matrix."""
    lower, upper, weight = weights
    matrix = np.zeros((len(lower), count), np.float32)
    rows = np.arange(len(lower))
    matrix[rows, lower] = 1 - weight
    matrix[rows, upper] += weight.astype(np.float32)
    return matrix


def check(
    ways: dict[str, Callable[[], object]], images: NDArray[np.float32], data: Data, plan: S2IPlan
) -> None:
    """Make sure that those who write into ``images`` write the same."""
    expected = encode(data.position[: data.offsets[2]], data.offsets[:3], plan)
    for name in ("skelconv kernel", "numpy, two matmuls", "cv2.resize, HWC view"):
        ways[name]()
        found = images[:2]
        if name.startswith("cv2"):
            found = images.reshape(-1)[: found.size].reshape(2, *plan.size, 3).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run all ways in turn, ``rounds`` times; the smallest time of each."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def report(times: dict[str, float], count: int, threads: int) -> None:
    """Print one table."""
    floor = times["memcpy of the images"]
    print(f"\n{threads} thread{'s' if threads > 1 else ''}")
    print(f"  {'':<34}{'ms':>8}{'x memcpy':>10}{'images/s':>11}")
    for name, seconds in times.items():
        print(f"  {name:<34}{1e3 * seconds:>8.1f}{seconds / floor:>10.2f}{count / seconds:>11,.0f}")


def report_cuda(data: Data, plan: S2IPlan, rounds: int) -> None:
    """Time the torch form on the device, positions there already, and the copy of its images as the floor."""
    encoder = S2IEncoder(plan).cuda()
    position, offsets = torch.from_numpy(data.position).cuda(), torch.from_numpy(data.offsets).cuda()
    images = encoder(position, offsets)
    target = torch.empty_like(images)
    compiled = torch.compile(encoder)
    host = images.cpu()

    def finished(work: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            work()
            torch.cuda.synchronize()

        return run

    ways = {
        "memcpy of the images": finished(lambda: target.copy_(images)),
        "torch ragged form": finished(lambda: encoder(position, offsets)),
        "torch ragged form, compiled": finished(lambda: compiled(position, offsets)),
        "positions to the device": finished(lambda: torch.from_numpy(data.position).cuda()),
        "images to the device": finished(lambda: target.copy_(host)),
    }
    times = timed(ways, rounds)
    print(f"\n{torch.cuda.get_device_name()}")
    report(times, len(images), 1)


if __name__ == "__main__":
    main()
