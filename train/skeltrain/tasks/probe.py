"""Linear probe: how well a linear classifier does on the features of a frozen encoder (S2I, Table 13)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from skelformats.skeleton import Skeleton
from skeltrain.checkpoint import find_checkpoint, load_checkpoint, seed_everything, versions
from skeltrain.data.batch import Batch, Batches, Deck
from skeltrain.data.features import FeatureBatches, compute_features
from skeltrain.data.resident import DataError, Normalise, Resident, ResidentBatches, Statistics
from skeltrain.data.source import open_source
from skeltrain.distributed import World, describe_device, join_world, require_single_process
from skeltrain.engine import Job, build_optimizer, fit
from skeltrain.loggers import CSVLogger, Metrics
from skeltrain.metrics.classification import group_mean, mean_class, nearest_neighbour, top1
from skeltrain.models.classifier import LinearProbe
from skeltrain.recipe import Data, PretrainRecipe, ProbeRecipe
from skeltrain.recipe_file import to_plain
from skeltrain.run import Say
from skeltrain.run_folder import RunError
from skeltrain.tasks.pretrain import PretrainTask, build_model


@dataclass(frozen=True)
class Frozen:
    """An encoder, and the features of the training and the test samples that it gives."""

    encoder: VisionTransformer
    train: Tensor
    test: Tensor


class ProbeTask(nn.Module):
    """Cross entropy of a linear probe; ``batch.image`` may hold features that were computed before."""

    def __init__(self, probe: LinearProbe) -> None:
        super().__init__()
        self.probe = probe

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy`` on the batch itself."""
        feature = batch.image if batch.image.ndim == 2 else self.probe.features(batch.image)
        logits = self.probe.logits_from_features(feature)
        right = (logits.argmax(dim=1) == batch.label).float()
        return {"loss": functional.cross_entropy(logits, batch.label), "accuracy": right.mean()}


@dataclass(frozen=True)
class Scene:
    """What every probe of a run shares: the data, its split, and how answers are counted.

    Attributes
    ----------
    train, test
        Numbers of the labelled samples of the two parts.
    group
        (N_test,) int64: recording of each test sample; the answers of a recording's samples are averaged.
    label, leaked
        (G,) class of each test recording, and whether its motion also stands in the training part.
    classes
        Number of classes.
    """

    recipe: ProbeRecipe
    world: World
    data: Resident
    statistics: Statistics
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    group: Tensor
    label: Tensor
    leaked: Tensor
    classes: int


def run_probe(
    recipe: ProbeRecipe, where: Path, out: Path | None = None, say: Say = lambda line: None
) -> dict[str, Any]:
    """Probe a pretrained encoder, and an untrained one if asked, under every seed of the recipe.

    Parameters
    ----------
    where
        A run folder or a checkpoint.
    out
        Folder for ``probe.json`` and the tables ``probe/*.csv``; the run folder of the checkpoint by default.
    say
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
    path = find_checkpoint(where)
    checkpoint = load_checkpoint(path, "pretrain")
    card = checkpoint["card"]
    parent = PretrainRecipe.model_validate(card["recipe"])
    target = out if out is not None else _run_of(path)
    with join_world(recipe.device) as world:
        scene = open_scene(recipe, parent, card, world)
        say(
            f"probe of {path} after {checkpoint['progress']['epoch']} epochs: {len(scene.train)} training "
            f"and {len(scene.label)} test samples, {int(scene.leaked.sum())} of these leaked"
        )
        (target / "probe").mkdir(parents=True, exist_ok=True)
        trained = freeze(scene, load_encoder(parent, checkpoint))
        arms: dict[str, Callable[[int], Frozen]] = {"trained": lambda seed: trained}
        if recipe.untrained:
            arms["untrained"] = lambda seed: freeze(scene, random_encoder(parent, seed))
        encoders = {}
        for arm, make in arms.items():
            seeds = []
            for seed in recipe.seeds:
                table = target / "probe" / f"{arm}_seed{seed}.csv"
                scores = probe_once(scene, make(seed), seed, table)
                say(f"{arm}, seed {seed}: top-1 {scores['top1']:.2%}, best {scores['top1_best']:.2%}")
                seeds.append({"seed": seed, **scores})
            encoders[arm] = summarise(seeds)
        report = {
            "checkpoint": str(path),
            "pretrained_epochs": checkpoint["progress"]["epoch"],
            "pretrained_seconds": checkpoint["progress"]["seconds"],
            "data": describe_data(scene),
            "encoders": encoders,
            "recipe": to_plain(recipe),
            "pretrain_recipe": card["recipe"],
            "seconds": time.perf_counter() - began,
            "machine": machine(world),
            "versions": versions(),
        }
    aside = target / "probe.json.partial"
    aside.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    aside.replace(target / "probe.json")
    return report


def open_scene(recipe: ProbeRecipe, parent: PretrainRecipe, card: Mapping[str, Any], world: World) -> Scene:
    """Load the data of a probe, encoded as the encoder knows it."""
    given = recipe.data.model_dump(exclude_none=True)
    settings = Data.model_validate({**parent.data.model_dump(), **given})
    if settings.protocol is None:
        raise RunError(
            "found no protocol, expected one whose training and test parts the probe uses. The encoder was "
            "pretrained on all samples; name the protocol with --set data.protocol=NAME"
        )
    source = open_source(settings, world.device, Skeleton.from_dict(card["skeleton"]))
    data = source.data
    label = data.table["label"].to_numpy(np.int64)
    parts = [data.part(settings.protocol, part) for part in (settings.train, settings.test)]
    train, test = (part[label[part] >= 0] for part in parts)
    if not len(train) or not len(test):
        part = settings.test if len(train) else settings.train
        raise DataError(
            f"{settings.store}: found no labels in part {part!r}, "
            "expected a class for its samples. A probe needs labelled data"
        )
    group, _ = pd.factorize(data.table["recording"].to_numpy(object)[test])
    _, first = np.unique(group, return_index=True)
    leaked = source.leaked(settings.protocol)[test][first]

    def on_device(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(world.device)

    return Scene(
        recipe=recipe.model_copy(update={"data": recipe.data.model_copy(update=_filled(settings))}),
        world=world,
        data=data,
        statistics=Statistics.from_dict(card["statistics"]),
        train=train,
        test=test,
        group=on_device(group.astype(np.int64)),
        label=on_device(label[test][first]),
        leaked=on_device(leaked),
        classes=max(len(data.classes), int(label.max()) + 1),
    )


def freeze(scene: Scene, encoder: VisionTransformer) -> Frozen:
    """Compute the features of both parts, once: an encoder in evaluation mode gives them in every epoch."""
    recipe, device = scene.recipe, scene.world.device
    encoder = encoder.to(device)
    normalise = Normalise(scene.statistics, device)
    train, test = (
        compute_features(encoder, recipe.head.pooling, scene.data, normalise, index, recipe.precision)
        for index in (scene.train, scene.test)
    )
    return Frozen(encoder, train, test)


def probe_once(scene: Scene, frozen: Frozen, seed: int, table: Path) -> dict[str, float]:
    """Train a head on an encoder under one seed, write its curve to ``table``, and return its scores.

    With augmentation the training images are encoded anew in every epoch; without, the features are at hand.
    """
    recipe = scene.recipe.model_copy(update={"seed": seed})
    optim, device = recipe.optim, scene.world.device
    seed_everything(seed)
    head = recipe.head
    probe = LinearProbe(frozen.encoder, scene.classes, head_bn=head.bn, pool=head.pooling).to(device)
    recordings = len(scene.label)
    train_label = scene.data.labels(scene.train)
    batches: Batches
    if recipe.augment.active:
        deck = Deck(scene.train, optim.batch, optim.accum, seed, drop_last=optim.drop_last)
        batches = ResidentBatches(scene.data, deck, scene.statistics, recipe.augment)
    else:
        rows = np.arange(len(scene.train), dtype=np.int64)
        deck = Deck(rows, optim.batch, optim.accum, seed, drop_last=optim.drop_last)
        batches = FeatureBatches(frozen.train, train_label, deck)
    best = {"top1_best": 0.0}

    def evaluate() -> Metrics:
        logits = group_mean(probe.logits_from_features(frozen.test), scene.group, recordings)
        scores = count(scene, logits.argmax(dim=1))
        best["top1_best"] = max(best["top1_best"], scores["top1"])
        return scores

    task = ProbeTask(probe)
    logger = CSVLogger(table)
    job = Job(task, batches, build_optimizer(task, optim), recipe, {}, evaluate, ("top1", False))
    outcome = fit(job, scene.world, [logger])
    logger.close()
    if outcome.interrupted:
        # seconds long, so there is nothing to resume
        raise KeyboardInterrupt
    near = nearest_neighbour(frozen.train, train_label, group_mean(frozen.test, scene.group, recordings))
    neighbour = {f"knn_{name}": value for name, value in count(scene, near).items() if "class" not in name}
    return {**outcome.metrics, **best, **neighbour}


def count(scene: Scene, prediction: Tensor) -> dict[str, float]:
    """Score the predicted classes (G,) of the test recordings, with and without the leaked ones."""
    scores = {"top1": top1(prediction, scene.label), "mean_class": mean_class(prediction, scene.label)}
    clean = ~scene.leaked
    if bool(scene.leaked.any()) and bool(clean.any()):
        scores["top1_without_leaked"] = top1(prediction[clean], scene.label[clean])
        scores["mean_class_without_leaked"] = mean_class(prediction[clean], scene.label[clean])
    return scores


def load_encoder(parent: PretrainRecipe, checkpoint: Mapping[str, Any]) -> VisionTransformer:
    """Build the pretrained encoder of a checkpoint."""
    task = PretrainTask(build_model(parent))
    task.load_state_dict(checkpoint["model"])
    return task.model.encoder


def random_encoder(parent: PretrainRecipe, seed: int) -> VisionTransformer:
    """Build an encoder of the same architecture with random weights."""
    seed_everything(seed)
    return build_model(parent).encoder


def summarise(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (null for a single one)."""
    names = [name for name in seeds[0] if name != "seed"]
    values = {name: np.array([scores[name] for scores in seeds]) for name in names}
    return {
        "seeds": seeds,
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else None for name, v in values.items()},
    }


def describe_data(scene: Scene) -> dict[str, Any]:
    """Return what the accuracies are to be compared with."""
    counts = scene.label.bincount(minlength=scene.classes)
    return {
        **scene.recipe.data.model_dump(),
        "stream": scene.data.stream,
        "classes": int((counts > 0).sum()),
        "train_samples": len(scene.train),
        "test_samples": len(scene.label),
        "leaked": int(scene.leaked.sum()),
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


def _filled(settings: Data) -> dict[str, Any]:
    """Return the settings of a probe's data as they were used."""
    return {name: getattr(settings, name) for name in ("store", "clean", "persons", "protocol")}


def _run_of(checkpoint: Path) -> Path:
    """Return the run folder that a checkpoint lies in, or the folder it lies in when that is no run's."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder
