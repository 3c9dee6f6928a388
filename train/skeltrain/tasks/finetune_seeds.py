"""Several fine-tunings of one encoder: under several seeds, beside training from scratch, with one report."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from skeltrain.checkpoint import find_checkpoint, load_checkpoint, versions
from skeltrain.distributed import join_world, require_single_process
from skeltrain.recipe_file import to_plain
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.finetune import FinetuneRecipe, StartingEncoder, build_finetuning
from skeltrain.tasks.labelled import PRETRAINED
from skeltrain.tasks.registry import Log
from skeltrain.tasks.seeds import describe_test, machine, summarise, write_report

REPORT = "finetune.json"


def run_finetuning(
    recipe: FinetuneRecipe, where: Path, out: Path, resume: bool = False, log: Log = lambda line: None
) -> dict[str, Any] | None:
    """Fine-tune a pretrained encoder, and train one from scratch if asked, under every seed of the recipe.

    Parameters
    ----------
    where
        A run folder or a checkpoint of pretraining.
    out
        Folder for ``finetune.json`` and a run folder for each training, such as ``trained_seed0``.
    resume
        Keep what is finished in ``out``, and go on with what is not.
    log
        Takes lines for the user.

    Returns
    -------
    What ``finetune.json`` holds (docs/recipes/finetune.md); None where the user asked to stop.

    Raises
    ------
    SkelconvError
        Of the kind that fits: no checkpoint, no store, no such protocol, a folder that is taken.
    """
    require_single_process("fine-tuning under several seeds")
    began = time.perf_counter()
    path = find_checkpoint(where)
    parent = load_checkpoint(path, PRETRAINED)
    encoders, arms = {}, ("trained", "untrained") if recipe.untrained else ("trained",)
    folder = RunFolder(out)
    for arm in arms:
        seeds = []
        for seed in recipe.seeds:
            encoder = StartingEncoder(run=str(path), random=arm == "untrained")
            own = recipe.model_copy(update={"seed": seed, "encoder": encoder})
            folder = RunFolder(out / f"{arm}_seed{seed}")
            heading = f"one of several: {arm}, seed {seed}"
            outcome = run_recipe(own, build_finetuning, folder.path, resume, heading, log)
            if outcome.interrupted:
                return None
            scores = read_scores(folder)
            log(f"{arm}, seed {seed}: top-1 {scores['top1']:.2%}, best {scores['top1_best']:.2%}")
            seeds.append({"seed": seed, **scores})
        encoders[arm] = summarise(seeds)
    last = load_checkpoint(folder.last)["metadata"]
    with join_world(recipe.device) as world:
        report = {
            "checkpoint": str(path),
            "pretrained_epochs": parent["progress"]["epoch"],
            "data": {**last["images"], "labelled": last["labelled"], **describe_predictions(folder)},
            "encoders": encoders,
            "recipe": to_plain(recipe),
            "pretrain_recipe": parent["metadata"]["recipe"],
            "seconds": time.perf_counter() - began,
            "machine": machine(world),
            "versions": versions(),
        }
    write_report(out / REPORT, report)
    return report


def read_scores(folder: RunFolder) -> dict[str, float]:
    """Return the scores of a finished fine-tuning after its last epoch, and the best top-1 of any."""
    if not folder.evaluation.exists():
        # stopped between the last checkpoint and this file
        evaluate_run(folder.path)
    scores = orjson.loads(folder.evaluation.read_bytes())["test"]
    with folder.metrics.open() as file:
        seen = [float(row["top1"]) for row in csv.DictReader(file) if row.get("top1")]
    return {**scores, "top1_best": max([scores["top1"], *seen])}


def describe_predictions(folder: RunFolder) -> dict[str, Any]:
    """Return what the accuracies are to be compared with, from the predictions of a run."""
    with np.load(folder.predictions("test"), allow_pickle=False) as kept:
        return describe_test(kept["label"], kept["leaked"])
