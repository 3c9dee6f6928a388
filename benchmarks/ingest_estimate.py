"""How far the estimate of ``skelconv ingest --dry-run`` is from the store that comes out.

python benchmarks/ingest_estimate.py [--recordings N] [DATASET ...]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from skelconv.ingest.estimate import estimate
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.report.summary import folder_bytes
from skelconv.synth import Settings, synthesize

GOAL = 0.25
DATASETS = ("ntu120", "pku1", "ucla", "toyota", "coco", "openpose", "alphapose", "posetrack", "pyskl")


def main() -> None:
    """Generate, estimate, ingest, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--recordings", type=int, default=200)
    asked = parser.parse_args()
    print("| set | sources | sampled | store MB | estimated | off by | frames off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for dataset in asked.datasets:
        with tempfile.TemporaryDirectory() as folder:
            raw, out = Path(folder, "raw"), Path(folder, "out.zarr")
            synthesize(dataset, raw, asked.recordings, settings=Settings(frames=(30, 300)))
            plan = make_plan(dataset, raw, "benchmark")
            expected = estimate(plan, out)
            made = ingest(plan, out).info.provenance
            if expected is None:
                raise SystemExit(f"{dataset}: no estimate")
            size = folder_bytes(out)
            off, frames = expected.store_bytes / size - 1, expected.frames / made.frames - 1
            worst = max(worst, abs(off))
            print(
                f"| {dataset} | {len(plan.sources)} | {expected.sampled} | {size / 1e6:.2f} "
                f"| {expected.store_bytes / 1e6:.2f} | {off:+.1%} | {frames:+.1%} |",
                flush=True,
            )
    print(f"\nfurthest off: {worst:.1%}, goal {GOAL:.0%}")


if __name__ == "__main__":
    main()
