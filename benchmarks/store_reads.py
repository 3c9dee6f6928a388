"""Random reads of whole sequences from a store, and its size, against what else one could keep them in.

    .venv/bin/python benchmarks/store_reads.py --sequences 4000

``store[i].position`` is the user's call: a sequence by its number, all that comes with it. The other
readers are given the range of frames: ``read`` is the back-end alone, and zarr's API, zarr with zarrs'
pipeline and tensorstore open the same store. The last two are measured where they are installed (``pip
install tensorstore zarrs``).

Every reader gives the positions of the same sequences in the same random order, as arrays of its own; their
values are compared first. Rounds are interleaved and the best round of each counts, so that what else runs on
the machine disturbs all alike. Time is the processor's, of all threads of the process, with the page cache
warm: trust the ratios. Readers with threads of their own are also given by the clock.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import zarr

from skelconv.report.summary import folder_bytes
from skelconv.store.info import Provenance
from skelconv.store.store import open_store
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Dataset, Track

DATASET = Dataset(
    name="benchmark",
    title="Generated motion",
    skeleton="ntu25",
    licence="none",
    citation="none",
    homepage="none",
    frame_rate=30.0,
    classes=("any",),
    columns=(),
    protocols=(),
    missing="never",
)
Read = Callable[[int], np.ndarray]
SLOW = ("zarr API", "zarr, zarrs' pipeline", "tensorstore")
"""Readers that do a tenth of the reads of a round."""


def clips(count: int) -> Iterator[tuple[str, Clip]]:
    """Smooth motion of 25 joints for 30 to 300 frames, with 3 mm of jitter, as a Kinect v2 has."""
    rng = np.random.default_rng(0)
    for number in range(count):
        frames = np.arange(rng.integers(30, 301), dtype=np.int32)
        phase, tempo, reach = rng.uniform((0, 0.5, 0.1), (6.3, 3, 0.6), (25, 3, 3)).transpose(2, 0, 1)
        motion = reach * np.sin(phase + tempo * frames[:, None, None] / 30) + rng.uniform(-1, 4, 3)
        position = (motion + rng.normal(0, 0.003, motion.shape)).astype(np.float32)
        yield f"{number}.txt", Clip(f"c{number:06d}", len(frames), (Track("0", frames, position),), 0, {}, {})


def make(folder: Path, count: int) -> tuple[dict[str, Read], dict[str, int], float]:
    """Write the sequences in every form; returns readers, bytes on disk, and seconds to load the pickle."""
    store, npy, pkl, h5 = (folder / name for name in ("store.zarr", "all.npy", "all.pkl", "all.h5"))
    write_store(store, DATASET, clips(count), Provenance(tool="benchmark", command="store_reads"))
    opened = open_store(store)
    position = opened.load()["position"]
    table = opened.to_frame()
    starts, stops = table["start"].to_numpy(), (table["start"] + table["length"]).to_numpy()
    np.save(npy, position)
    samples = [
        {"name": n, "keypoint": position[a:b]} for n, a, b in zip(opened.names, starts, stops, strict=True)
    ]
    pkl.write_bytes(pickle.dumps(samples, protocol=5))
    with h5py.File(h5, "w") as file:
        file.create_dataset("position", data=position, chunks=(256, 25, 3), compression="lzf", shuffle=True)
    sizes = {"store": folder_bytes(store), "npy": npy.stat().st_size, "pickle": pkl.stat().st_size}
    sizes["h5py lzf"] = h5.stat().st_size
    del samples, position, opened
    began = time.perf_counter()
    loaded = pickle.loads(pkl.read_bytes())
    seconds = time.perf_counter() - began
    direct, resident = open_store(store, "direct"), open_store(store, "resident")
    mapped = np.load(npy, mmap_mode="r")
    dataset = h5py.File(h5)["position"]
    bounds = list(zip(starts.tolist(), stops.tolist(), strict=True))
    resident.load()
    readers: dict[str, Read] = {
        **zarr_readers(store, bounds),
        "h5py lzf": lambda i: dataset[slice(*bounds[i])],
        "direct, store[i].position": lambda i: direct[i].position,
        "direct, read": lambda i: direct.read(*bounds[i]),
        "resident, store[i].position": lambda i: resident[i].position,
        "resident, read": lambda i: resident.read(*bounds[i]),
        "np.memmap": lambda i: np.array(mapped[slice(*bounds[i])]),
        "pickle, loaded": lambda i: loaded[i]["keypoint"].copy(),
    }
    return readers, sizes, seconds


def zarr_readers(store: Path, bounds: list[tuple[int, int]]) -> dict[str, Read]:
    """Other libraries' readers of the store itself, each of the array opened once."""
    plain = zarr.open_array(store, path="position", mode="r")
    readers: dict[str, Read] = {"zarr API": lambda i: np.asarray(plain[slice(*bounds[i])])}
    if importlib.util.find_spec("zarrs") is not None:
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            compiled = zarr.open_array(store, path="position", mode="r")
        readers["zarr, zarrs' pipeline"] = lambda i: np.asarray(compiled[slice(*bounds[i])])
    if importlib.util.find_spec("tensorstore") is not None:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store}/position/"}}
        other = tensorstore.open(spec, open=True, read=True).result()
        readers["tensorstore"] = lambda i: other[slice(*bounds[i])].read().result()
    return readers


def rates(readers: dict[str, Read], count: int, rounds: int, reads: int) -> dict[str, tuple[float, float]]:
    """Sequences a second of each reader, by the processor and by the clock; the best of ``rounds`` rounds."""
    best = dict.fromkeys(readers, (0.0, 0.0))
    for number in range(rounds):
        order = np.random.default_rng(number).integers(0, count, reads).tolist()
        for name, read in readers.items():
            part = order[: max(50, reads // 10)] if name in SLOW else order
            began, clock = time.process_time(), time.perf_counter()
            for i in part:
                read(i)
            taken, passed = time.process_time() - began, time.perf_counter() - clock
            best[name] = (max(best[name][0], len(part) / taken), max(best[name][1], len(part) / passed))
    return best


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=4000, help="sequences of 30 to 300 frames [4000]")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, best counts [5]")
    parser.add_argument(
        "--reads", type=int, default=2000, help="reads a round; readers of zarr do a tenth [2000]"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        readers, sizes, seconds = make(Path(folder), chosen.sequences)
        for i in range(0, chosen.sequences, max(1, chosen.sequences // 100)):
            expected = readers["np.memmap"](i).tobytes()
            wrong = [name for name, read in readers.items() if read(i).tobytes() != expected]
            if wrong:
                raise SystemExit(f"sequence {i}: {', '.join(wrong)} differ from np.memmap")
        found = rates(readers, chosen.sequences, chosen.rounds, chosen.reads)
    print(f"{'reader':30}{'sequences/s':>12}{'by the clock':>14}{'to zarr API':>13}{'to memmap':>11}")
    slow, fast = found["zarr API"][0], found["np.memmap"][0]
    for name, (rate, clock) in found.items():
        print(f"{name:30}{rate:12,.0f}{clock:14,.0f}{rate / slow:12.1f}x{rate / fast:10.2f}x")
    print(
        f"\npickle: {seconds:.2f} s to load before its first read, and all of it in every process's memory\n"
    )
    print(f"{'on disk':16}{'MB':>12}{'to npy':>13}")
    for name, size in sizes.items():
        print(f"{name:16}{size / 1e6:12.1f}{size / sizes['npy']:12.3f}x")


if __name__ == "__main__":
    main()
