"""Fused against explicit attention, forward and backward, at the sizes that S2I images lead to.

    python benchmarks/attention.py                     # on the CPU, in float32 and bfloat16
    python benchmarks/attention.py --device cuda --rounds 50
    python benchmarks/attention.py --threads 1 --sizes 26x4x32 197x12x64

A size is tokens x heads x width of a head. Both ways take turns and the best round of each counts, because
other work on the machine only ever slows one down. ``rule`` is what `skeltrain.models.attention` chooses.
The last lines are whole forward and backward passes of a masked autoencoder on 40 x 20 pixels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from skeltrain.models.attention import attend, is_fused_faster
from skeltrain.models.mae import build_mae

#: A small encoder on 40 x 20 pixels: visible patches, all; vit_micro on 64 x 64; ViT-S, ViT-B on 224 x 224.
SIZES = ("7x4x32", "26x4x32", "65x3x32", "50x6x64", "197x6x64", "50x12x64", "197x16x32")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def step(query: Tensor, key: Tensor, value: Tensor, fused: bool) -> Callable[[], None]:
    """One forward and one backward pass."""

    def run() -> None:
        attend(query, key, value, fused).square().sum().backward()
        query.grad = key.grad = value.grad = None

    return run


def model_step(choice: str, dtype: torch.dtype, batch: int, device: torch.device) -> Callable[[], None]:
    """Forward and backward pass of a small masked autoencoder: 25 patches of 8 x 4 pixels."""
    model = build_mae("vit_micro", attention=choice, image_size=(40, 20), patch_size=(8, 4), channels=12)
    model.to(device)
    image = torch.randn(batch, 12, 40, 20, device=device)

    def run() -> None:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = model(image).loss
        loss.backward()
        model.zero_grad(set_to_none=True)

    return run


def best(ways: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Shortest time of each way, in milliseconds."""
    times = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 2):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:  # the first two warm up
                times[name] = min(times[name], 1e3 * (time.perf_counter() - began))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="TOKENSxHEADSxWIDTH")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    print(f"{device}, {given.threads} threads, batch {given.batch}, torch {torch.__version__}")
    print(f"{'size':>10} {'':>5} {'fused ms':>9} {'explicit ms':>12} {'fused/explicit':>15}  rule")
    for size in given.sizes:
        tokens, heads, width = map(int, size.split("x"))
        for name, dtype in DTYPES.items():
            made = torch.randn(3, given.batch, heads, tokens, width, device=device).to(dtype)
            q, k, v = (part.requires_grad_() for part in made)
            ways = {way: step(q, k, v, way == "fused") for way in ("fused", "explicit")}
            times = best(ways, given.rounds, device)
            ratio = times["fused"] / times["explicit"]
            rule = "fused" if is_fused_faster(device, dtype, tokens) else "explicit"
            print(
                f"{size:>10} {name:>5} {times['fused']:9.2f} {times['explicit']:12.2f} {ratio:15.2f}  {rule}"
            )
    for name, dtype in DTYPES.items():
        steps = {choice: model_step(choice, dtype, given.batch, device) for choice in ("fused", "auto")}
        times = best(steps, given.rounds, device)
        shown = ", ".join(f"{choice} {time:.1f} ms" for choice, time in times.items())
        print(f"vit_micro on 40 x 20, {name}: {shown}, {times['fused'] / times['auto']:.2f} times as fast")


if __name__ == "__main__":
    main()
