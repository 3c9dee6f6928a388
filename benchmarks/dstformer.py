"""DSTformer against a plain reading of the MotionBERT paper: time and peak memory, forward and training step.

    python benchmarks/dstformer.py [--model lite|base] [--batch 1 4] [--rounds 2] [--threads N] [--bf16]
    python benchmarks/dstformer.py --prune 81 --ours    # with pruning to 81 frames after the first blocks

The plain reading attends with two matrix products and a softmax, moves joints and frames about for it, and
puts the two streams side by side to weigh them. Clips have 243 frames of 17 joints; a training step is
forward, the losses of pretraining, backward and AdamW. Each way runs in a process of its own, all in turn,
round after round; the smallest time of each counts, and the largest memory. Seconds of the processor, with
the system's work for it, hardly depend on what else the machine does.

On a CPU a large part of a plain training step is the operating system handing out and taking back the memory
of activations. Settings of glibc's allocator, read when a process starts, end that; this command sets them
for the ways that say so. With a CUDA device its ways are timed as well, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skeltrain.losses import motion as losses
from skeltrain.models.dstformer import MLP, NORM_EPS, DSTformer

FRAMES, JOINTS = 243, 17
MODELS = {"lite": {"dim_feat": 256, "mlp_ratio": 4}, "base": {"dim_feat": 512, "mlp_ratio": 2}}
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**30),
}
"""Keep freed memory in the process: no mmap for large blocks, no return at the end of the heap."""


@dataclass(frozen=True)
class Way:
    """One thing to measure."""

    name: str
    network: str
    kept: bool
    precision: str = "fp32"
    compiled: bool = False
    prune: bool = False


@dataclass(frozen=True)
class Best:
    """Least seconds by the clock and of the processor, and most memory, GiB, of a way."""

    seconds: float = float("inf")
    processor: float = float("inf")
    peak: float = 0.0

    def with_(self, seconds: float, processor: float, peak: float) -> Best:
        """Return the best of this and another measurement."""
        return Best(min(self.seconds, seconds), min(self.processor, processor), max(self.peak, peak))


CPU_WAYS = (
    Way("plain reading", "plain", False),
    Way("plain reading, memory kept", "plain", True),
    Way("DSTformer, memory kept", "ours", True),
    Way("DSTformer, memory kept, bf16", "ours", True, "bf16"),
    Way("DSTformer pruned, memory kept", "ours", True, prune=True),
)
CUDA_WAYS = (
    Way("plain reading", "plain", False),
    Way("DSTformer", "ours", False),
    Way("plain reading, bf16", "plain", False, "bf16"),
    Way("DSTformer, bf16", "ours", False, "bf16"),
    Way("DSTformer pruned", "ours", False, prune=True),
    Way("DSTformer pruned, bf16", "ours", False, "bf16", prune=True),
)


class PlainAttention(nn.Module):
    """Multi-head attention over the last axis but one."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, L, C) of the same."""
        N, L, C = x.shape
        query, key, value = self.qkv(x).reshape(N, L, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        share = (query @ key.transpose(-2, -1) * (C // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((share @ value).transpose(1, 2).reshape(N, L, C))


class PlainBlock(nn.Module):
    """Spatial and temporal attention with their MLPs, in either order."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, order: str) -> None:
        super().__init__()
        self.order = order
        self.norm1_s, self.norm1_t, self.norm2_s, self.norm2_t = (
            nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(4)
        )
        self.attn_s, self.attn_t = PlainAttention(dim, heads), PlainAttention(dim, heads)
        self.mlp_s, self.mlp_t = MLP(dim, int(dim * mlp_ratio)), MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, C) of the same."""
        B, T, J, C = x.shape
        for part in self.order:
            if part == "s":
                x = x + self.attn_s(self.norm1_s(x).reshape(B * T, J, C)).reshape(B, T, J, C)
                x = x + self.mlp_s(self.norm2_s(x))
            else:
                turned = self.norm1_t(x).transpose(1, 2).reshape(B * J, T, C)
                x = x + self.attn_t(turned).reshape(B, J, T, C).transpose(1, 2)
                x = x + self.mlp_t(self.norm2_t(x))
        return x


class PlainDSTformer(nn.Module):
    """The network as the paper describes it, under the same names, so that it takes the same weights."""

    def __init__(self, dim_feat: int, mlp_ratio: float, dim_rep: int = 512, depth: int = 5) -> None:
        super().__init__()
        self.joints_embed = nn.Linear(3, dim_feat)
        self.temp_embed = nn.Parameter(torch.zeros(1, FRAMES, 1, dim_feat))
        self.pos_embed = nn.Parameter(torch.zeros(1, JOINTS, dim_feat))
        self.blocks_st = nn.ModuleList(PlainBlock(dim_feat, 8, mlp_ratio, "st") for _ in range(depth))
        self.blocks_ts = nn.ModuleList(PlainBlock(dim_feat, 8, mlp_ratio, "ts") for _ in range(depth))
        self.ts_attn = nn.ModuleList(nn.Linear(2 * dim_feat, 2) for _ in range(depth))
        self.norm = nn.LayerNorm(dim_feat, eps=NORM_EPS)
        self.pre_logits = nn.Sequential()
        self.pre_logits.fc = nn.Linear(dim_feat, dim_rep)
        self.head = nn.Linear(dim_rep, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, 3) of (B, T, J, 3)."""
        x = self.joints_embed(x) + self.pos_embed[:, None] + self.temp_embed[:, : x.shape[1]]
        for st, ts, fuse in zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True):
            a, b = st(x), ts(x)
            share = fuse(torch.cat([a, b], dim=-1)).softmax(dim=-1)
            x = a * share[..., :1] + b * share[..., 1:]
        return self.head(self.pre_logits(self.norm(x)).tanh())


def build(way: Way, model: str, device: str, kept: int | None = None) -> nn.Module:
    """Return the network of a way; all have the same weights. Pruned ones go on with ``kept`` frames."""
    torch.manual_seed(0)
    prune = {"after": 1, "frames": kept} if way.prune and kept is not None else None
    network: nn.Module = DSTformer(**MODELS[model], prune=prune)
    if way.network == "plain":
        plain = PlainDSTformer(**MODELS[model])
        plain.load_state_dict(network.state_dict())
        network = plain
    network.to(device)
    if way.compiled:
        network.compile()
    return network


def works(
    way: Way, model: str, batch: int, device: str, kept: int | None = None
) -> dict[str, Callable[[], object]]:
    """Return what is measured of a way."""
    network = build(way, model, device, kept)
    generator = torch.Generator().manual_seed(1)
    x, target = (torch.randn(batch, FRAMES, JOINTS, 3, generator=generator).to(device) for _ in range(2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4, weight_decay=0.01)

    def precision() -> AbstractContextManager[object]:
        return torch.autocast(device, torch.bfloat16) if way.precision == "bf16" else nullcontext()

    def forward() -> None:
        with torch.no_grad(), precision():
            network(x)

    def step() -> None:
        with precision():
            pred = network(x)
        loss = losses.mpjpe(pred, target) + 0.5 * losses.n_mpjpe(pred, target)
        (loss + 20 * losses.velocity(pred, target)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"forward": forward, "training step": step}


def check(model: str) -> None:
    """Make sure that both networks compute the same, on a short clip."""
    x = torch.randn(1, 27, JOINTS, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (build(way, model, "cpu")(x) for way in (CPU_WAYS[0], CPU_WAYS[2]))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def worker(way: Way, options: argparse.Namespace) -> None:
    """Measure one way in this process and print the result: once to warm up, once for the time."""
    torch.set_num_threads(options.threads)
    run = works(way, options.model, options.batch[0], "cpu", options.prune)[options.work[0]]
    run()
    began, used = time.perf_counter(), time.process_time()
    run()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak}))


def in_its_own_process(way: int, options: argparse.Namespace, batch: int, work: str) -> dict[str, float]:
    """Run `worker` with or without the allocator's settings."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    if CPU_WAYS[way].kept:
        environment |= ALLOCATOR
    arguments = ["--worker", str(way), "--batch", str(batch), "--work", work, "--model", options.model]
    if options.prune is not None:
        arguments += ["--prune", str(options.prune)]
    command = [sys.executable, __file__, *arguments, "--threads", str(options.threads)]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


def cpu(options: argparse.Namespace) -> None:
    """Measure all ways on the CPU and print a table for each batch and work."""
    for batch in options.batch:
        for work in options.work or ("forward", "training step"):
            ways = [way for way in chosen(CPU_WAYS, options) if options.bf16 or way.precision == "fp32"]
            best = {way.name: Best() for way in ways}
            for _ in range(options.rounds):
                for way in ways:
                    found = in_its_own_process(CPU_WAYS.index(way), options, batch, work)
                    best[way.name] = best[way.name].with_(**found)
            report(f"{work}, batch {batch}", best, batch)


def cuda(options: argparse.Namespace) -> None:
    """Measure all ways on the first CUDA device, in turn."""
    print(f"\n{torch.cuda.get_device_name()}")
    for batch in options.batch:
        ways = chosen(cuda_ways(options.compile), options)
        ready = {way.name: works(way, options.model, batch, "cuda", options.prune) for way in ways}
        for work in options.work or ("forward", "training step"):
            best = {name: Best() for name in ready}
            for turn in range(2 + 5 * options.rounds):
                for name, what in ready.items():
                    torch.cuda.synchronize()
                    base = torch.cuda.memory_allocated()
                    torch.cuda.reset_peak_memory_stats()
                    began = time.perf_counter()
                    what[work]()
                    torch.cuda.synchronize()
                    spent = time.perf_counter() - began
                    used = (torch.cuda.max_memory_allocated() - base) / 2**30
                    if turn >= 2:
                        best[name] = best[name].with_(spent, float("inf"), used)
            report(f"{work}, batch {batch}", best, batch)


def chosen(ways: Iterable[Way], options: argparse.Namespace) -> list[Way]:
    """Return the ways that the options ask for: pruned ones with ``--prune``, plain ones unless left out."""
    return [
        way
        for way in ways
        if (options.prune is not None or not way.prune) and not (options.ours and way.network == "plain")
    ]


def cuda_ways(compiled: bool) -> Iterator[Way]:
    """Yield the ways, and ours compiled."""
    yield from CUDA_WAYS
    if compiled:
        for way in CUDA_WAYS:
            if way.network == "ours" and not way.prune:
                yield Way(f"{way.name}, compiled", way.network, way.kept, way.precision, compiled=True)


def report(title: str, best: dict[str, Best], batch: int) -> None:
    """Print one table; the first way is what the others are measured against."""
    first = next(iter(best.values()))
    columns = [("ms", 10), ("clips/s", 9), ("times", 8), ("peak GiB", 10)]
    processor = first.processor < float("inf")
    columns += [("CPU s", 9), ("times", 8)] if processor else []
    print(f"\n{title}\n  {'':<34}" + "".join(f"{name:>{width}}" for name, width in columns))
    for name, b in best.items():
        line = f"{1e3 * b.seconds:>10.1f}{batch / b.seconds:>9.2f}{first.seconds / b.seconds:>8.2f}"
        line += f"{b.peak:>10.2f}"
        line += f"{b.processor:>9.2f}{first.processor / b.processor:>8.2f}" if processor else ""
        print(f"  {name:<34}{line}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(MODELS), default="lite")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--work", choices=("forward", "training step"), nargs="+")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="on the CPU too; slow without avx512_bf16")
    parser.add_argument("--compile", action="store_true", help="on a card, ours compiled as well")
    parser.add_argument("--prune", type=int, metavar="FRAMES", help="also with so many frames kept of 243")
    parser.add_argument("--ours", action="store_true", help="leave the plain reading out")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        worker(CPU_WAYS[options.worker], options)
        return
    check(options.model)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads")
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, model {options.model}", flush=True)
    cpu(options)
    if torch.cuda.is_available():
        cuda(options)


if __name__ == "__main__":
    main()
