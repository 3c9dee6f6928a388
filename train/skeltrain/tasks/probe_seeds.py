"""Several probes of one encoder: under several seeds, beside random encoders, with one report."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from torch import nn

from skeltrain.checkpoint import versions
from skeltrain.distributed import World, describe_device, join_world, require_single_process
from skeltrain.engine import Evaluation, Evaluator, fit
from skeltrain.loggers import CSVLogger
from skeltrain.recipe_file import to_plain
from skeltrain.run import run_of
from skeltrain.tasks.probe import (
    EncodedSplits,
    ProbeInput,
    ProbeRecipe,
    build_job,
    describe_input,
    encode_splits,
    load_encoder,
    open_input,
    open_parent,
    random_encoder,
    score_neighbours,
)
from skeltrain.tasks.registry import Log


def run_probe(
    recipe: ProbeRecipe, where: Path, out: Path | None = None, log: Log = lambda line: None
) -> dict[str, Any]:
    """Probe a pretrained encoder, and an untrained one if asked, under every seed of the recipe.

    Parameters
    ----------
    where
        A run folder or a checkpoint.
    out
        Folder for ``probe.json`` and the tables ``probe/*.csv``; the run folder of the checkpoint by default.
    log
        Takes lines for the user.

    Returns
    -------
    What ``probe.json`` holds (docs/recipes/probe.md).

    Raises
    ------
    SkelconvError
        Of the kind that fits: no checkpoint, no store, no such protocol, a part without labels.
    """
    require_single_process("a probe")
    began = time.perf_counter()
    with join_world(recipe.device) as world:
        parent = open_parent(where, world)
        target = out if out is not None else run_of(parent.path)
        found = open_input(recipe, parent)
        log(describe_input(found))
        (target / "probe").mkdir(parents=True, exist_ok=True)
        trained = encode_splits(found, recipe, load_encoder(parent.checkpoint))
        arms: dict[str, Callable[[int], EncodedSplits]] = {"trained": lambda seed: trained}
        if recipe.untrained:
            arms["untrained"] = lambda seed: encode_splits(
                found, recipe, random_encoder(parent.checkpoint, seed)
            )
        encoders = {}
        for arm, make in arms.items():
            seeds = []
            for seed in recipe.seeds:
                table = target / "probe" / f"{arm}_seed{seed}.csv"
                scores = probe_once(found, make(seed), recipe.model_copy(update={"seed": seed}), table)
                log(f"{arm}, seed {seed}: top-1 {scores['top1']:.2%}, best {scores['top1_best']:.2%}")
                seeds.append({"seed": seed, **scores})
            encoders[arm] = summarise(seeds)
        progress = parent.checkpoint["progress"]
        report = {
            "checkpoint": str(parent.path),
            "pretrained_epochs": progress["epoch"],
            "pretrained_seconds": progress["seconds"],
            "data": describe_data(found),
            "encoders": encoders,
            "recipe": to_plain(recipe.model_copy(update={"data": found.data})),
            "pretrain_recipe": parent.metadata["recipe"],
            "seconds": time.perf_counter() - began,
            "machine": machine(world),
            "versions": versions(),
        }
    aside = target / "probe.json.partial"
    aside.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    aside.replace(target / "probe.json")
    return report


def probe_once(
    found: ProbeInput, splits: EncodedSplits, recipe: ProbeRecipe, table: Path
) -> dict[str, float]:
    """Train a head on an encoder under the recipe's seed, write its curve to ``table``, return its scores."""
    job = build_job(recipe, found, splits)
    (evaluator,) = job.evaluators
    best = {"top1_best": 0.0}

    def evaluate(module: nn.Module) -> Evaluation:
        evaluation = evaluator.run(module)
        best["top1_best"] = max(best["top1_best"], evaluation.metrics["top1"])
        return evaluation

    logger = CSVLogger(table)
    watched = replace(job, evaluators=[Evaluator(evaluator.name, evaluate)])
    outcome = fit(watched, found.parent.world, [logger])
    logger.close()
    if outcome.interrupted:
        # seconds long, so there is nothing to resume
        raise KeyboardInterrupt
    return {**outcome.metrics, **best, **score_neighbours(found, splits)}


def summarise(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (null for a single one)."""
    names = [name for name in seeds[0] if name != "seed"]
    values = {name: np.array([scores[name] for scores in seeds]) for name in names}
    return {
        "seeds": seeds,
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else None for name, v in values.items()},
    }


def describe_data(found: ProbeInput) -> dict[str, Any]:
    """Return what the accuracies are to be compared with."""
    counts = found.recordings.label.bincount(minlength=found.classes)
    return {
        **found.data.model_dump(),
        "stream": found.source.images.sets[0].stream,
        "classes": int((counts > 0).sum()),
        "train_samples": len(found.train),
        "test_samples": len(found.recordings),
        "leaked": int(found.recordings.leaked.sum()),
        # of those that occur in the test part: a store may hold few of its dataset's classes
        "chance": 1 / int((counts > 0).sum()),
        "majority": float(counts.max() / counts.sum()),
    }


def machine(world: World) -> dict[str, Any]:
    """Say what a probe ran on."""
    return {
        **describe_device(world.device),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }
