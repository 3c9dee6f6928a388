"""Training: SIGKILL at random instants, and checkpoints that are damaged or made to hurt."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch

from skelformats.errors import SkelconvError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.recipe_file import load_recipe, read_recipe
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe
from tests.attack.registry import Outcome, attack
from tests.skeltrain.conftest import write_tiny

KILLS, FLIPS, EDITS = 6, 200, 60
RECIPE = """
task: pretrain
device: cpu
data: {protocol: half, image_size: 32}
augment: {flip: 0.5, rotate: 0.3, noise: 0.01}
model:
  {preset: vit_micro, patch_size: 8, embed_dim: 16, depth: 1, num_heads: 2, decoder_dim: 16,
   decoder_depth: 1}
optim: {blr: 1.0e-2, batch: 8, epochs: 12, warmup: 1}
log: {every: 1, tensorboard: false}
"""
VALUES: tuple[Any, ...] = (None, True, -1, 2**70, 0.5, "", "x", "../x", [], [None], {}, {"x": {}}, "\ud800")


def _finished(folder: Path, epochs: int) -> Path:
    """A run folder of so many epochs, and the store beside it."""
    # sums in another number of threads are rounded in another order
    torch.set_num_threads(1)
    store = folder / "tiny.zarr"
    if not store.exists():
        write_tiny(store)
    recipe = read_recipe(RECIPE, "recipe", PretrainRecipe)
    optim = recipe.optim.model_copy(update={"epochs": epochs})
    data = recipe.data.model_copy(update={"store": str(store)})
    out = folder / f"run{epochs}"
    run_recipe(recipe.model_copy(update={"optim": optim, "data": data}), out=out)
    return out


@attack("kill train")
def kill_training(folder: Path, scale: float, seed: int) -> Outcome:
    """Kill a run anywhere, and rerun it with --resume: the weights are those of a run left alone."""
    rng = random.Random(seed)
    whole = _finished(folder, 12)
    words = [
        *(
            sys.executable,
            "-c",
            "from skeltrain.cli import main; main()",
            "train",
            str(whole / "recipe.yaml"),
        ),
        *("--out", str(folder / "cut"), "--resume"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    expected = load_checkpoint(RunFolder(whole).last)["model"]
    tries, held, kills = max(1, round(KILLS * scale)), 0, 0
    for _ in range(tries):
        shutil.rmtree(folder / "cut", ignore_errors=True)
        for _ in range(3):
            process = subprocess.Popen(words, env=environment, stdout=-3, stderr=-3)
            metrics = RunFolder(folder / "cut").metrics
            while process.poll() is None and not metrics.exists():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        ended = subprocess.run(words, env=environment, capture_output=True, check=False)
        found = load_checkpoint(RunFolder(folder / "cut").last)["model"] if not ended.returncode else {}
        held += found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)
    return Outcome(tries, held, f"the same weights bit for bit after a rerun; {kills} kills")


@attack("bit flips, checkpoints")
def flip_checkpoints(folder: Path, scale: float, seed: int) -> Outcome:
    """Flip one bit anywhere in a checkpoint: it is refused, or what it holds is what was written."""
    rng = random.Random(seed)
    last = RunFolder(_finished(folder, 1)).last
    whole, expected = last.read_bytes(), load_checkpoint(last)
    tries, held, refused = max(1, round(FLIPS * scale)), 0, 0
    for _ in range(tries):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        last.write_bytes(damaged)
        try:
            found = load_checkpoint(last)
        except SkelconvError:
            refused += 1
            held += 1
        except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
            click.echo(f"    {type(error).__name__}: {error}")
        else:
            same = all(torch.equal(found["model"][k], v) for k, v in expected["model"].items())
            held += same and found["metadata"] == expected["metadata"]
    last.write_bytes(whole)
    return Outcome(
        tries, held, f"{refused} refused with a sentence, in the others nothing that is read changed"
    )


@attack("hostile checkpoints")
def hostile_checkpoints(folder: Path, scale: float, seed: int) -> Outcome:
    """Put a strange value at a random place of the metadata or the progress, then resume."""
    rng = random.Random(seed)
    run = _finished(folder, 1)
    last = RunFolder(run).last
    whole = last.read_bytes()
    RunFolder(run).checkpoints.joinpath("best.pt").unlink(missing_ok=True)
    recipe = load_recipe(run / "recipe.yaml", PretrainRecipe)
    tries, held, refused = max(1, round(EDITS * scale)), 0, 0
    for _ in range(tries):
        RunFolder(run).checkpoints.joinpath("best.pt").unlink(missing_ok=True)
        last.write_bytes(whole)
        content = torch.load(last, weights_only=True)
        parent, key = rng.choice(
            list(_places({k: content[k] for k in ("metadata", "progress", "processes")}))
        )
        parent[key] = rng.choice(VALUES)
        torch.save(content, last)
        try:
            run_recipe(recipe, out=run, resume=True)
        except SkelconvError:
            refused += 1
            held += 1
        except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
            click.echo(f"    {type(error).__name__} with {parent[key]!r} as {key!r}: {error}")
        else:
            held += 1
    return Outcome(tries, held, f"{refused} refused with a sentence, the others go on")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) at any depth."""
    keys = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]
