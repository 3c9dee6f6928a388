"""A pretraining step against a plain reading of the paper's method: images a second, memory, share of the
peak.

    python benchmarks/pretrain_step.py                                  # small models, on the CPU
    python benchmarks/pretrain_step.py --device cuda                    # ViT-S, ViT-B, ViT-L on 224 x 224
    python benchmarks/pretrain_step.py --device cuda --models vit_base --batch 256 --compile
    python benchmarks/pretrain_step.py --models ucla_small_cpu --objectives mae

The plain reading makes each image by itself on the CPU, hands it over through torch's DataLoader, attends
with two products and a softmax, and lets AdamW go from parameter to parameter; on a card under autocast,
as MAE's code does. Both have the same sizes, batch, masks and augmentation. Each way runs in a process of
its own, all in turn, round after round, and the best round of each counts, because other work on the
machine only ever slows one down. On a CPU with one thread, seconds are those of the processor.

`of peak` is the model's products (`torch.utils.flop_counter`) a second over those of a large square product
in the same run and precision, and, where the card is known, over its data sheet. A name of a shipped
recipe in place of a preset takes model, batch and images from it; on a CPU those are also run "by no rule":
fused attention, an AdamW that is not fused, memory handed back to the system, in float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from pretrain_throughput import AUGMENT, generate, on_device
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from skelformats.skeleton import load_skeleton
from skeltrain.allocator import keep_memory
from skeltrain.data.augment import rotation
from skeltrain.data.collate import ImageCollator
from skeltrain.data.images import Images, Statistics
from skeltrain.data.loader import SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.distributed import autocast, describe_device, pick_device, precision_on
from skeltrain.engine import build_optimizer
from skeltrain.recipe import Optim
from skeltrain.recipe_file import load_recipe, recipe_names
from skeltrain.sections import ImageData
from skeltrain.tasks.pretrain import Model, PretrainRecipe, PretrainTask, build_model

ON_CARD, ON_CPU = ("vit_small", "vit_base", "vit_large"), ("vit_micro", "ucla_small_cpu")

#: Dense bfloat16 products, TFLOP/s, of NVIDIA's data sheets (A100 2021, H100 and H200 SXM 2023, B200 2024).
DATA_SHEET = {"A100": 312.0, "H100": 989.0, "H200": 989.0, "B200": 2250.0}


@dataclass(frozen=True)
class Way:
    """One thing to measure, in a process of its own.

    Attributes
    ----------
    workers
        Of torch's DataLoader, in the plain reading.
    plain
        The plain reading; else skeltrain.
    kept
        Whether freed memory stays in the process (`skeltrain.allocator`).
    """

    name: str
    recipe: PretrainRecipe
    device: str
    threads: int
    workers: int
    plain: bool = False
    kept: bool = True


@dataclass(frozen=True)
class Told:
    """What a worker says of a round: seconds of a step, of its data alone, peak memory in MB, FLOPs of a
    step.
    """

    step: float
    data: float
    memory: float
    flops: float


class PlainImages(Dataset[Tensor]):
    """Each sample augmented, encoded and normalised by itself."""

    def __init__(self, recipe: PretrainRecipe, samples: Any, statistics: Statistics) -> None:
        offsets = samples.offsets
        rows = torch.from_numpy(samples.position)
        self._clips = [rows[a:b] for a, b in pairwise(offsets)]
        skeleton = load_skeleton("ntu25")
        self._order, self._mirror = list(skeleton.column_order), list(skeleton.mirror)
        self._augment, size = recipe.augment, recipe.data.image_size
        self._size = (size, size) if isinstance(size, int) else size
        self._mean = torch.tensor(statistics.mean)[:, None, None]
        self._std = torch.tensor(statistics.std)[:, None, None]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Tensor:
        clip, settings = self._clips[number], self._augment
        if torch.rand(()) < settings.flip:
            clip = clip[:, self._mirror] * torch.tensor([-1.0, 1.0, 1.0])
        angles = (2 * torch.rand(1, 3) - 1) * torch.tensor(settings.rotate)
        low, high = settings.scale
        clip = clip @ rotation(angles)[0].T * (low + (high - low) * torch.rand(()))
        clip = clip + (2 * torch.rand(3) - 1) * settings.translate
        if torch.rand(()) < settings.noise_probability:
            clip = clip + torch.randn_like(clip) * settings.noise
        image = clip[:, self._order].permute(2, 0, 1)[None]
        image = functional.interpolate(image, self._size, mode="bilinear", align_corners=False)[0]
        return (image - self._mean) / self._std


def plain_step(
    way: Way, samples: Any, statistics: Statistics
) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Return what gets the next batch, and what learns from it, in the plain reading."""
    recipe, device = way.recipe, torch.device(way.device)
    data = PlainImages(recipe, samples, statistics)
    loader: DataLoader[Tensor] = DataLoader(
        data,
        recipe.optim.batch,
        shuffle=True,
        num_workers=way.workers,
        drop_last=True,
        pin_memory=device.type == "cuda",
        persistent_workers=way.workers > 0,
    )

    def forever() -> Iterator[Tensor]:
        while True:
            yield from loader

    batches = forever()
    model = build_model(recipe).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.optim.peak_lr, foreach=False)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    def learn(image: Tensor) -> None:
        with autocast(device, recipe.precision):
            loss = model(image.to(device, non_blocking=True)).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return lambda: next(batches), learn


def our_step(
    way: Way, data: Images, statistics: Statistics
) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Return what gets the next batch, and what learns from it, as `skeltrain pretrain` does."""
    recipe, device = way.recipe, torch.device(way.device)
    sampler = EpochSampler(np.arange(len(data)), recipe.optim.batch, drop_last=True)
    loader = SampleLoader(sampler, ImageCollator(data, statistics, recipe.augment))

    def forever() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from loader.epoch(epoch)
            epoch += 1

    batches = forever()
    task = PretrainTask(build_model(recipe)).to(device).train()
    optimizer = build_optimizer(task, recipe.optim)
    if recipe.compile:
        task.compile()

    def learn(batch: Any) -> None:
        with autocast(device, recipe.precision):
            loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return lambda: next(batches), learn


def count(recipe: PretrainRecipe, device: torch.device) -> float:
    """FLOPs of the products of one step's forward and backward pass."""
    model: nn.Module = build_model(recipe).to(device)
    size = recipe.data.image_size
    rows, columns = (size, size) if isinstance(size, int) else size
    image = torch.randn(2, recipe.data.channels, rows, columns, device=device)
    with FlopCounterMode(display=False) as counter:
        model(image).loss.backward()
    return counter.get_total_flops() / 2 * recipe.optim.batch


def work(way: Way, pipe: Connection, steps: int) -> None:
    """Measure a round of ``steps`` steps whenever asked."""
    device = torch.device(way.device)
    torch.set_num_threads(way.threads)
    if way.kept:
        keep_memory()
    samples = generate(max(512, way.recipe.optim.batch))
    home = torch.device("cpu") if way.plain else device
    data = Images([on_device(samples, home)], way.recipe.data)
    statistics = data.sets[0].statistics(np.arange(64))
    flops = count(way.recipe, device)
    get, learn = plain_step(way, samples, statistics) if way.plain else our_step(way, data, statistics)
    on_card = device.type == "cuda"
    clock = time.process_time if not on_card and way.threads == 1 and not way.workers else time.perf_counter

    def timed(run: Callable[[], Any]) -> float:
        wait(device)
        began = clock()
        for _ in range(steps):
            run()
        wait(device)
        return (clock() - began) / steps

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    while pipe.recv():
        whole, alone = timed(lambda: learn(get())), timed(get)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        memory = torch.cuda.max_memory_allocated(device) / 2**20 if on_card else now
        pipe.send(Told(whole, alone, memory, flops))


def wait(device: torch.device) -> None:
    """Wait for a card."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(ways: list[Way], rounds: int, steps: int) -> list[Told]:
    """Best of some rounds of each way, in turn, after one to warm up."""
    context = get_context("spawn")
    pipes, running = [], []
    for way in ways:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(way, theirs, steps))
        process.start()
        pipes.append(ours)
        running.append(process)
    told: list[list[Told]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for pipe, found in zip(pipes, told, strict=True):
            pipe.send(True)
            found.append(pipe.recv())
    for pipe, process in zip(pipes, running, strict=True):
        pipe.send(False)
        process.join()
    best = []
    for found in told:
        step, data = (min(getattr(one, name) for one in found[1:]) for name in ("step", "data"))
        best.append(replace(found[-1], step=step, data=data))
    return best


def peak(device: torch.device, precision: str, threads: int, rounds: int = 8) -> float:
    """FLOP/s of a large square product in a precision."""
    torch.set_num_threads(threads)
    side = 8192 if device.type == "cuda" else 1024
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    a = torch.randn(side, side, device=device).to(kind)
    clock = time.process_time if device.type == "cpu" and threads == 1 else time.perf_counter
    best = float("inf")
    for _ in range(rounds):
        wait(device)
        began = clock()
        a @ a
        wait(device)
        best = min(best, clock() - began)
    return 2 * side**3 / best


def ways_of(name: str, objective: str, given: argparse.Namespace, device: str) -> list[Way]:
    """Return what is measured of a model and an objective."""
    shipped = name in recipe_names()
    if shipped:
        recipe = load_recipe(name, PretrainRecipe)
        model = recipe.model.model_copy(update={"objective": objective})
        recipe = recipe.model_copy(update={"model": model, "augment": AUGMENT})
    else:
        batch = given.batch or (128 if device == "cuda" else 64)
        size, patch = (224, None) if device == "cuda" else (64, 8)
        recipe = PretrainRecipe(
            data=ImageData(image_size=given.image_size or size),
            model=Model(objective=objective, preset=name, patch_size=given.patch_size or patch),
            optim=Optim(batch=batch),
            augment=AUGMENT,
        )

    def with_(attention: str, precision: str, fused: bool, compiled: bool = False) -> PretrainRecipe:
        return recipe.model_copy(
            update={
                "model": recipe.model.model_copy(update={"attention": attention}),
                "optim": recipe.optim.model_copy(update={"fused": fused}),
                "precision": precision_on(torch.device(device), precision),
                "compile": compiled,
            }
        )

    shared = {"device": device, "threads": given.threads, "workers": 0}
    plain = with_("explicit", "fp16" if device == "cuda" else "fp32", fused=False)
    workers = given.workers if device == "cuda" else 0
    found = [
        Way("plain reading", plain, **{**shared, "workers": workers}, plain=True, kept=False),
        Way("skeltrain", with_("auto", "auto", fused=True), **shared),
    ]
    if given.compile:
        found.append(Way("skeltrain, compiled", with_("auto", "auto", fused=True, compiled=True), **shared))
    if shipped and device == "cpu":
        for precision in ("fp32", "bf16"):
            before = with_("fused", precision, fused=False)
            found.append(Way(f"by no rule, {precision}", before, **shared, kept=False))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", help=f"presets or recipes; {', '.join(ON_CARD)} on a card")
    parser.add_argument("--objectives", nargs="+", default=["mae", "diffmae"])
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--batch", type=int, help="of presets; recipes have their own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--workers", type=int, default=8, help="of the plain reading's DataLoader, on a card")
    parser.add_argument("--compile", action="store_true", help="also compiled (minutes to compile)")
    given = parser.parse_args()
    device = pick_device(given.device)
    on_card = device.startswith("cuda")
    described = describe_device(torch.device(device))
    print(f"{described}, torch {torch.__version__}, {given.threads} threads")
    sheet = next((v for name, v in DATA_SHEET.items() if name in str(described["device"])), None)
    head = f"{'':<46}{'images/s':>10}{'ratio':>8}{'data':>8}{'MB':>8}{'of peak':>9}"
    print(head + ("  of data sheet" if sheet else ""))
    for name in given.models or (ON_CARD if on_card else ON_CPU):
        for objective in given.objectives:
            ways = ways_of(name, objective, given, device)
            told = measure(ways, given.rounds, 4 if on_card else 1)
            for way, one in zip(ways, told, strict=True):
                rate = one.flops / one.step
                share = rate / peak(torch.device(device), way.recipe.precision, given.threads)
                name_of_way = f"{name}, {objective}: {way.name}"
                rates = f"{way.recipe.optim.batch / one.step:>10.1f}{told[0].step / one.step:>8.2f}"
                rest = f"{one.data / one.step:>8.1%}{one.memory:>8.0f}{share:>9.0%}"
                line = f"{name_of_way:<46}{rates}{rest}"
                print(line + (f"{rate / 1e12 / sheet:>15.0%}" if sheet else ""), flush=True)


if __name__ == "__main__":
    main()
