"""Training gives the numbers that it gave before: loss curves, weights and probes kept in
tests/golden/curves.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from skelconv.cli.command import run
from skelconv.cli.main import cli
from skeltrain.checkpoint import load_checkpoint
from skeltrain.recipe_file import Override, load_recipe
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "curves" / "curves.json").read_text())
SHORT = ("optim.epochs=3", "optim.warmup=1", "log.every=1", "log.tensorboard=false", "device=cpu")
ELSEWHERE = 2e-3
"""Relative difference of losses on another processor, where sums are taken in another order."""


def same_processor() -> bool:
    """Whether sums are taken in the order in which they were: same vector instructions, same torch."""
    made = GOLDEN["processor"]
    return bool(
        torch.backends.cpu.get_cpu_capability() == made["capability"]
        and torch.__version__ == made["torch"]
        and platform.machine() == "x86_64"
        and Path("/proc/cpuinfo").exists()
        and made["name"] in Path("/proc/cpuinfo").read_text()
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("curves")
    found = {}
    for dataset, count in (("ntu120", 120), ("ucla", 60)):
        raw, found[dataset] = folder / f"raw_{dataset}", folder / f"{dataset}.zarr"
        skelconv("synth", dataset, raw, "--recordings", count, "--seed", 0)
        skelconv("ingest", dataset, raw, found[dataset], "--quiet")
    return found


def skelconv(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert end.value.code == 0


def recipe(name: str, store: Path, *settings: str) -> PretrainRecipe:
    overrides = [Override.parse(text) for text in (*SHORT, f"data.store={store}", *settings)]
    return load_recipe(name, PretrainRecipe, overrides)


def compare(out: Path, name: str) -> None:
    golden = GOLDEN[name]
    with RunFolder(out).metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["lr"] for row in rows] == golden["lr"]
    losses = [row["loss"] for row in rows]
    if not same_processor():
        assert list(map(float, losses)) == pytest.approx(list(map(float, golden["loss"])), rel=ELSEWHERE)
        return
    assert losses == golden["loss"]
    model = load_checkpoint(RunFolder(out).last)["model"]
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(model):
        digest.update(key.encode())
        digest.update(model[key].contiguous().numpy().tobytes())
    assert digest.hexdigest() == golden["weights"]


def compare_probe(report: dict[str, Any], name: str) -> None:
    for arm, seeds in GOLDEN[name]["probe"].items():
        for found, golden in zip(report["encoders"][arm]["seeds"], seeds, strict=True):
            assert found["loss"] == pytest.approx(golden["loss"], rel=0 if same_processor() else 0.05)
            if same_processor():
                assert {key: found[key] for key in golden} == golden


def test_the_demo_and_its_probe(stores: dict[str, Path], tmp_path: Path) -> None:
    run_recipe(recipe("demo", stores["ntu120"]), out=tmp_path)
    compare(tmp_path, "demo")
    settings = ("optim.epochs=5", "optim.warmup=1", "seeds=[0, 1]", "untrained=true", "device=cpu")
    probe = load_recipe("demo_linprobe", ProbeRecipe, map(Override.parse, settings))
    compare_probe(run_probe(probe, tmp_path), "demo")


def test_ucla_and_its_augmented_probe(stores: dict[str, Path], tmp_path: Path) -> None:
    as_then = ("precision=fp32", "model.attention=fused", "optim.fused=false")
    settings = ("optim.epochs=2", "data.image_size=56", "optim.batch=16", *as_then)
    run_recipe(recipe("ucla_small_cpu", stores["ucla"], *settings), out=tmp_path)
    compare(tmp_path, "ucla")
    short = ("optim.epochs=3", "optim.warmup=1", "optim.batch=16", "precision=fp32", "device=cpu")
    probe = load_recipe("ucla_small_linprobe", ProbeRecipe, map(Override.parse, short))
    compare_probe(run_probe(probe, tmp_path), "ucla")


def test_the_demo_on_two_processes(stores: dict[str, Path], tmp_path: Path) -> None:
    settings = [word for text in (*SHORT, "optim.accum=2") for word in ("--set", text)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("--no-python", str(Path(sys.executable).with_name("skeltrain")), "train", "demo"),
            *("--store", str(stores["ntu120"]), "--out", str(tmp_path), *settings),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    compare(tmp_path, "two")
