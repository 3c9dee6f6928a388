"""Alignment: the triplet loss against eigenvalue and singular value solvers, the rate of exact retrieval, and
crops decoded a second against crops that a model takes.

    python benchmarks/alignment.py [--batch 180] [--rounds 7] [--rows 150000 1000000] [--threads 1]

The first table times one loss of 180 anchors and 179 negatives each, 32,400 triplets, forward and backward:
the eigenvalue alone, from three cosines, and the whole loss, from embeddings of 512 numbers. The second
table times the 10 nearest of many unit vectors. All ways of a table run in one process, in turn; the smallest
time of each counts (SVD runs once). Faiss is compared where it is installed (pip install faiss-cpu); where
there is a CUDA device, everything is timed there as well. The last table decodes drawn crops as training
does, by one thread and by several, beside training steps of a small HRNet (on CUDA also the paper's,
bfloat16).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skelconv.crops.cut import CROP_HEIGHT, CROP_WIDTH, JPEG_QUALITY
from skelconv.view.figures import PinholeCamera, draw_figures
from skelformats.skeleton import load_skeleton
from skeltrain.data.crop_images import decode
from skeltrain.losses.alignment import gram_infonce, largest_eigenvalue, sample_negatives, triplet_infonce
from skeltrain.metrics.retrieval import retrieve
from skeltrain.models.image_encoder import ImageEncoder

WIDTH = 512
SIDES = (CROP_HEIGHT, CROP_WIDTH)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, nargs="*", default=[150_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads, "
        f"load {load:.1f}, torch {torch.__version__}"
    )
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        eigenvalues(options.batch, options.rounds, torch.device(device))
        losses(options.batch, options.rounds, torch.device(device))
    crops(options.rounds)
    for rows in options.rows:
        for device in devices:
            retrieval(rows, options.queries, torch.device(device))


def eigenvalues(batch: int, rounds: int, device: torch.device) -> None:
    """The largest eigenvalue alone, with its gradient."""
    unit = [torch.nn.functional.normalize(x, dim=1) for x in embeddings(batch, device)]
    negatives = sample_negatives(batch, batch, torch.Generator().manual_seed(0)).to(device)
    i, j, k = negatives.unbind(-1)
    a, b, c = (
        torch.nn.Parameter((unit[m] @ unit[n].T)[p, q].detach())
        for m, n, p, q in ((0, 1, i, j), (0, 2, i, k), (1, 2, j, k))
    )
    one = torch.ones_like(a)

    def closed() -> None:
        largest_eigenvalue(a, b, c).sum().backward()

    def naive() -> None:
        p, q = a * a + b * b + c * c, a * b * c
        root = (p / 3).sqrt()
        (1 + 2 * root * torch.cos(torch.arccos(q / root**3) / 3)).sum().backward()

    def eigvalsh() -> None:
        gram = torch.stack([one, a, b, a, one, c, b, c, one], dim=-1).unflatten(-1, (3, 3))
        torch.linalg.eigvalsh(gram)[..., -1].sum().backward()

    ways = {
        "closed form (largest_eigenvalue)": closed,
        "naive closed form, float32; NaN at r = 1": naive,
        "torch.linalg.eigvalsh, float32": eigvalsh,
    }
    title = f"largest eigenvalue of {a.numel():,} Gram matrices, forward and backward, {device.type}"
    report(title, timed(ways, rounds, device))


def losses(batch: int, rounds: int, device: torch.device) -> None:
    """The triplet loss from embeddings."""
    towers = [x.requires_grad_() for x in embeddings(batch, device)]
    negatives = sample_negatives(batch, batch - 1, torch.Generator().manual_seed(0)).to(device)
    anchors = torch.arange(batch, device=device)[:, None, None].expand(batch, 1, 3)
    chosen = torch.cat([anchors, negatives], dim=1)

    def by_svd() -> Tensor:
        unit = [torch.nn.functional.normalize(x, dim=1) for x in towers]
        stacked = torch.stack([x[chosen[..., m]] for m, x in enumerate(unit)], dim=-2)
        logits = torch.linalg.svdvals(stacked)[..., 0] ** 2 / 0.2
        return (logits.logsumexp(dim=1) - logits[:, 0]).mean()

    def closed() -> Tensor:
        return triplet_infonce(*towers, negatives, 0.2)

    def by_eigenvalues() -> Tensor:
        return gram_infonce(towers, negatives, 0.2)

    ways = {
        "closed form (triplet_infonce)": closed,
        "eigvalsh of Gram matrices (gram_infonce)": by_eigenvalues,
        "svdvals of stacked embeddings": by_svd,
    }
    if abs(by_eigenvalues().item() - closed().item()) > 1e-4:
        raise SystemExit("the closed form and the eigenvalue solver differ")
    runs = {name: (lambda way=way: way().backward()) for name, way in ways.items()}
    slow = {name: run for name, run in runs.items() if name.startswith("svd")}
    times = timed({name: run for name, run in runs.items() if name not in slow}, rounds, device)
    times |= timed(slow, 1, device, warm_up=False)
    report(f"triplet loss of {batch * batch:,} triplets, forward and backward, {device.type}", times)


def crops(rounds: int) -> None:
    """Crops a second: decoded, and taken by the model."""
    jpegs = drawn_crops(64)

    def decoded(workers: int) -> float:
        with ThreadPoolExecutor(workers) as pool:
            began = time.perf_counter()
            for _ in pool.map(lambda jpeg: decode(jpeg, SIDES), jpegs * 4):
                pass
            return len(jpegs) * 4 / (time.perf_counter() - began)

    def taken(name: str, device: torch.device, batch: int) -> float:
        model = ImageEncoder(name, WIDTH).to(device).train()
        picture = torch.randint(0, 255, (batch, 3, *SIDES), dtype=torch.uint8, device=device)

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                model(picture).float().square().mean().backward()

        seconds = timed({name: step}, min(rounds, 3), device)[name]
        return batch / seconds

    print("\ncrops of 192 x 256 a second")

    def say(what: str, rate: float) -> None:
        print(f"  {what:<44}{rate:>10,.1f}")

    for workers in (1, 4):
        say(f"decoded, {workers} threads", max(decoded(workers) for _ in range(min(rounds, 3))))
    say("hrnet_w18_small, training, cpu", taken("hrnet_w18_small", torch.device("cpu"), 8))
    if torch.cuda.is_available():
        for name in ("hrnet_w32", "hrnet_w48"):
            say(f"{name}, training, cuda", taken(name, torch.device("cuda"), 180))


def drawn_crops(count: int) -> list[bytes]:
    """JPEG files of figures with joints at random places, which are as hard to decode as any."""
    skeleton = load_skeleton("h36m17")
    rest = np.random.default_rng(0).normal(0, 0.25, (count, len(skeleton), 3)) + np.array((0, 0.9, 0))
    camera = PinholeCamera.looking_at((0, 0.9, 0), (0.4, 1.2, 3.2), 300.0, (CROP_WIDTH, CROP_HEIGHT))
    found = []
    for pose in rest:
        buffer = io.BytesIO()
        Image.fromarray(draw_figures([pose], skeleton, camera).image).save(
            buffer, "JPEG", quality=JPEG_QUALITY
        )
        found.append(buffer.getvalue())
    return found


def retrieval(rows: int, queries: int, device: torch.device) -> None:
    """The ten nearest of a gallery, and whether all ways find the same first one."""
    generator = torch.Generator().manual_seed(0)
    # walks, as frames of videos are: neighbours are near duplicates
    takes = torch.randn(-(-rows // 1000), WIDTH, generator=generator)
    gallery = torch.empty(rows, WIDTH)
    for take, start in enumerate(range(0, rows, 1000)):
        part = gallery[start : start + 1000]
        part.copy_(takes[take] + 0.02 * torch.randn(part.shape, generator=generator).cumsum(0))
    gallery /= gallery.norm(dim=1, keepdim=True)
    query = gallery[torch.randint(rows, (queries,), generator=generator)]
    query = query + 0.01 * torch.randn(query.shape, generator=generator)
    query /= query.norm(dim=1, keepdim=True)
    found: dict[str, Tensor] = {}
    there = query.to(device), gallery.to(device)

    def ours() -> None:
        found["retrieve, float32 gallery"] = retrieve(*there, 10).indices[:, 0].cpu()

    half = there[1].half()

    def ours_half() -> None:
        found["retrieve, float16 gallery"] = retrieve(there[0], half, 10).indices[:, 0].cpu()

    ways: dict[str, Callable[[], None]] = {
        "retrieve, float32 gallery": ours,
        "retrieve, float16 gallery": ours_half,
    }
    if device.type == "cpu" and importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(WIDTH)
        index.add(gallery.numpy())

        def flat() -> None:
            found["faiss IndexFlatIP"] = torch.from_numpy(index.search(query.numpy(), 10)[1][:, 0])

        ways["faiss IndexFlatIP"] = flat
    times = timed(ways, 2, device)
    title = f"10 nearest of {rows:,} for {queries} queries, {device.type}"
    report(title, times)
    exact = found["retrieve, float32 gallery"]
    for name, seconds in times.items():
        same = float((found[name] == exact).double().mean())
        print(f"  {name:<44}{queries / seconds:>10,.0f} queries/s   first match as exact: {same:.1%}")
    if "faiss IndexFlatIP" not in ways and device.type == "cpu":
        print("  faiss is not installed: pip install faiss-cpu to compare")


def embeddings(batch: int, device: torch.device) -> list[Tensor]:
    """Three modalities, half aligned."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(batch, WIDTH, generator=generator)
    return [(base + torch.randn(batch, WIDTH, generator=generator)).to(device) for _ in range(3)]


def timed(
    ways: dict[str, Callable[[], None]], rounds: int, device: torch.device, warm_up: bool = True
) -> dict[str, float]:
    """Run all ways in turn, ``rounds`` times, after one to warm up; the smallest time of each.

    On the CPU with one thread it is the thread's own time, which other jobs of the machine hardly change.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    best = dict.fromkeys(ways, float("inf"))
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, way in ways.items():
            began = clock()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                best[name] = min(best[name], clock() - began)
    return best


def report(title: str, times: dict[str, float]) -> None:
    """Print one table, ratios against its first row."""
    floor = next(iter(times.values()))
    print(f"\n{title}\n  {'':<44}{'ms':>10}{'ratio':>8}")
    for name, seconds in times.items():
        print(f"  {name:<44}{1e3 * seconds:>10.2f}{seconds / floor:>8.1f}")


if __name__ == "__main__":
    main()
