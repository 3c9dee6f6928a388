"""Throughput of pretraining: data path alone, encoder alone, whole steps; by precision and compilation.

    python benchmarks/pretrain_throughput.py                               # on a card when there is one
    python benchmarks/pretrain_throughput.py --device cpu --preset vit_micro --image-size 64 --patch-size 8
    python benchmarks/pretrain_throughput.py --store ntu120.zarr --preset vit_base --batch 512 --compile

Everything is measured in one run, the ways taking turns; the best round of each counts, because other work on
the machine only ever slows one down. The data path matters as far as it is slower than the step without it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from skelconv.clean.samples import Samples, pack_samples
from skelconv.store.store import open_store
from skelformats.skeleton import load_skeleton
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.frames import Frames
from skeltrain.data.images import Images
from skeltrain.data.loader import SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.data.samples import SampleSet
from skeltrain.distributed import autocast, describe_device, pick_device
from skeltrain.engine import build_optimizer
from skeltrain.models.encoder import features
from skeltrain.recipe import Optim
from skeltrain.sections import Augment, ImageData
from skeltrain.tasks.pretrain import Model, PretrainRecipe, PretrainTask, build_model

AUGMENT = Augment(
    flip=0.5, rotate=(0.3, 0.3, 0.3), scale=(0.9, 1.1), translate=0.1, noise=0.01, noise_probability=0.5
)
Work = Callable[[], object]


def generate(count: int, seed: int = 0) -> Samples:
    """Make NTU-like samples: 30 to 300 rows of 25 joints."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(30, 301, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = int(offsets[-1])
    next_row = np.minimum(np.arange(rows) + 1, np.repeat(offsets[1:] - 1, lengths))
    table = pd.DataFrame({"label": rng.integers(0, 120, count)})
    position = rng.standard_normal((rows, 25, 3), np.float32)
    return Samples(position, offsets, next_row, table, load_skeleton("ntu25"), (), "none", "none", [])


def on_device(samples: Samples, device: torch.device) -> SampleSet:
    """Put packed samples on a device."""
    return SampleSet(
        Frames(samples.position, device, samples.next_row),
        samples.offsets[:-1],
        np.diff(samples.offsets),
        samples.table,
        samples.skeleton,
        scaling=samples.scaling,
    )


def steps(recipe: PretrainRecipe, batch: ImageBatch, device: torch.device, compiled: bool) -> Work:
    """One optimiser step on a batch that is ready."""
    task = PretrainTask(build_model(recipe)).to(device).train()
    optimizer = build_optimizer(task, recipe.optim)
    if compiled:
        task.compile()

    def step() -> None:
        with autocast(device, recipe.precision):
            loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ways(
    recipe: PretrainRecipe, data: Images, device: torch.device, precisions: list[str], compiled: bool
) -> dict[str, Work]:
    """Name everything that is measured."""
    index = np.arange(len(data), dtype=np.int64)
    statistics = data.sets[0].statistics(index)
    sampler = EpochSampler(index, recipe.optim.batch, drop_last=True)
    plain = SampleLoader(sampler, ImageCollator(data, statistics, Augment()))
    augmented = SampleLoader(sampler, ImageCollator(data, statistics, AUGMENT))
    batch = next(plain.epoch(0))

    def data_path(batches: SampleLoader[ImageBatch]) -> Work:
        state = {"epoch": 0}

        def work() -> None:
            state["epoch"] += 1
            next(batches.epoch(state["epoch"]))

        return work

    encoder = build_model(recipe).encoder.to(device).eval()
    found: dict[str, Work] = {
        "data path, plain": data_path(plain),
        "data path, augmented": data_path(augmented),
        "S2I encoding alone": lambda: data.images(batch.micro.own),
    }

    def encode(precision: str) -> Work:
        def work() -> None:
            with torch.no_grad(), autocast(device, precision):
                features(encoder, batch.image)

        return work

    for precision in precisions:
        found[f"features, whole image, {precision}"] = encode(precision)
        found[f"step, {precision}"] = steps(
            recipe.model_copy(update={"precision": precision}), batch, device, False
        )
        if compiled:
            found[f"step, {precision}, compiled"] = steps(
                recipe.model_copy(update={"precision": precision}), batch, device, True
            )
    last = precisions[-1]
    whole = steps(recipe.model_copy(update={"precision": last}), batch, device, compiled)
    draw = data_path(augmented)

    def both() -> None:
        draw()
        whole()

    found[f"data path, augmented + step, {last}{', compiled' if compiled else ''}"] = both
    return found


def measure(works: dict[str, Work], device: torch.device, rounds: int) -> dict[str, float]:
    """Seconds of each, best of some rounds in turn, after two to warm up."""
    best = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 2):
        for name, work in works.items():
            finish(device)
            began = time.perf_counter()
            work()
            finish(device)
            if turn >= 2:
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def finish(device: torch.device) -> None:
    """Wait for a card."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="sequence store; generated sequences when absent")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--preset", default="vit_small")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--patch-size", type=int, default=None)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", default="fp32,bf16", help="separated by commas")
    parser.add_argument(
        "--compile", action="store_true", help="also measure compiled steps (minutes to compile)"
    )
    given = parser.parse_args()
    device = torch.device(pick_device(given.device))
    recipe = PretrainRecipe(
        data=ImageData(image_size=given.image_size),
        model=Model(preset=given.preset, patch_size=given.patch_size),
        optim=Optim(batch=given.batch),
    )
    samples = (
        pack_samples(open_store(given.store), final_scaling=False)
        if given.store
        else generate(max(512, given.batch))
    )
    data = Images([on_device(samples, device)], recipe.data)
    rows = len(samples.position) / len(samples)
    print(f"{describe_device(device)}, {len(samples)} samples of {rows:.0f} rows on average")
    print(f"{given.preset}, {given.image_size} x {given.image_size}, batch {given.batch}\n")
    works = ways(recipe, data, device, given.precisions.split(","), given.compile)
    times = measure(works, device, given.rounds)
    step = min(seconds for name, seconds in times.items() if name.startswith("step"))
    print(f"{'':<52}{'ms':>10}{'samples/s':>12}{'of fastest step':>18}")
    for name, seconds in times.items():
        print(f"{name:<52}{1e3 * seconds:>10.1f}{given.batch / seconds:>12.0f}{seconds / step:>17.1%}")
    if device.type == "cuda":
        print(f"\npeak memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
