"""Several probes of one encoder: under several seeds, beside random encoders, with one report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from skeltrain.checkpoint import versions
from skeltrain.distributed import join_world, require_single_process
from skeltrain.engine import Evaluation, Evaluator, fit
from skeltrain.loggers import CSVLogger
from skeltrain.recipe_file import to_plain
from skeltrain.run import run_of, write_evaluations
from skeltrain.run_folder import ABOUT, RunFolder
from skeltrain.tasks.labelled import Encoder, load_encoder, open_parent, random_encoder
from skeltrain.tasks.probe import (
    EncodedSplits,
    ProbeInput,
    ProbeRecipe,
    build_job,
    describe_input,
    encode_splits,
    open_input,
    score_neighbours,
    take_labelled,
)
from skeltrain.tasks.registry import Log
from skeltrain.tasks.seeds import describe_test, machine, summarise, write_report

REPORT = "probe.json"


def run_probe(
    recipe: ProbeRecipe, where: Path, out: Path | None = None, log: Log = lambda line: None
) -> dict[str, Any]:
    """Probe a pretrained encoder, and an untrained one if asked, under every seed of the recipe.

    Parameters
    ----------
    where
        A run folder or a checkpoint.
    out
        Folder for ``probe.json``, and below ``probe`` the curve of each probe and a folder with its scores
        and predictions; the run folder of the checkpoint by default.
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
        # the model first: what is wrong with it is said before data is read
        encoder = load_encoder(parent.checkpoint)
        found = open_input(recipe, parent)
        log(describe_input(found))
        (target / "probe").mkdir(parents=True, exist_ok=True)
        trained = encode_splits(found, recipe, encoder)
        arms: dict[str, Callable[[int], EncodedSplits]] = {"trained": lambda seed: trained}
        if recipe.untrained:
            arms["untrained"] = lambda seed: encode_splits(
                found, recipe, random_encoder(parent.checkpoint, seed)
            )
        encoders = {}
        for arm, make in arms.items():
            seeds = []
            for seed in recipe.seeds:
                start = Encoder(run=str(parent.path), random=arm == "untrained")
                own = recipe.model_copy(update={"seed": seed, "encoder": start})
                scores = probe_once(found, make(seed), own, target / "probe" / f"{arm}_seed{seed}")
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
    write_report(target / REPORT, report)
    return report


def probe_once(found: ProbeInput, splits: EncodedSplits, recipe: ProbeRecipe, out: Path) -> dict[str, float]:
    """Train a head on an encoder under the recipe's seed, and return its scores.

    Writes its curve as ``out`` with the ending ``.csv``, and into the folder ``out`` the scores
    (``evaluation.json``) and what it answered for each test recording (``predictions_test.npz``).
    """
    found, splits = take_labelled(recipe, found, splits)
    job = build_job(recipe, found, splits)
    (evaluator,) = job.evaluators
    best = {"top1_best": 0.0}

    def evaluate(module: nn.Module) -> Evaluation:
        evaluation = evaluator.run(module)
        best["top1_best"] = max(best["top1_best"], evaluation.metrics["top1"])
        return evaluation

    logger = CSVLogger(out.with_name(f"{out.name}.csv"))
    watched = replace(job, evaluators=[Evaluator(evaluator.name, evaluate)])
    outcome = fit(watched, found.parent.world, [logger])
    logger.close()
    if outcome.interrupted:
        # seconds long, so there is nothing to resume
        raise KeyboardInterrupt
    scores = {**outcome.metrics, **best, **score_neighbours(found, splits)}
    out.mkdir(exist_ok=True)
    last = replace(outcome.evaluations[evaluator.name], metrics=scores)
    write_evaluations(RunFolder(out), {evaluator.name: last}, job.metadata[ABOUT])
    return scores


def describe_data(found: ProbeInput) -> dict[str, Any]:
    """Return what the accuracies are to be compared with."""
    test = describe_test(found.recordings.label.cpu().numpy(), found.recordings.leaked.cpu().numpy())
    return {
        **found.data.model_dump(),
        "stream": found.source.images.sets[0].stream,
        "train_samples": len(found.train),
        **test,
    }
