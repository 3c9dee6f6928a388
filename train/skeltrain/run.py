"""From a recipe to a run: folder, processes, data, loggers, engine; for every task that trains a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skeltrain.data.source import Source, open_source
from skeltrain.distributed import World, describe_device, join_world
from skeltrain.engine import Job, Outcome, fit
from skeltrain.loggers import CSVLogger, Logger, ProgressLogger, TensorBoardLogger
from skeltrain.recipe import TrainRecipe
from skeltrain.run_folder import RunError, RunFolder, claim_run

R = TypeVar("R", bound=TrainRecipe)

Say = Callable[[str], None]
Checkpoint = Mapping[str, Any]
Build = Callable[[R, Source, World, Checkpoint | None, Say], Job]
"""Puts task, batches and optimiser together; the checkpoint is the one to resume from."""


def run_recipe(
    recipe: R,
    build: Build[R],
    out: Path,
    resume: bool = False,
    heading: str = "",
    say: Say | None = None,
) -> Outcome:
    """Train as a recipe says, in a folder of its own.

    Parameters
    ----------
    build
        The task's.
    out
        Folder of the run.
    resume
        Continue the run in that folder.
    heading
        Comment for the resolved recipe: the command that made it.
    say
        Takes lines for the user, in the primary process.

    Raises
    ------
    SkelconvError
        Of the kind that fits: the folder is taken, the store cannot be read, the model cannot be built, a
        device is missing, the loss is no number.
    """
    with join_world(recipe.device) as world:
        tell: Say = say if say is not None and world.primary else _silent
        checkpoint = claim_run(out, recipe, resume)
        # nobody writes before everybody has looked
        world.any(False)
        source = open_source(recipe.data, world.device)
        for line in describe_source(source, world):
            tell(line)
        if checkpoint is not None:
            check_data(out, checkpoint["card"]["store"], source.identity)
        job = build(recipe, source, world, checkpoint, tell)
        step = 0
        if checkpoint is not None:
            progress = checkpoint["progress"]
            step = progress["epoch"] * job.batches.steps + progress["step"]
            tell(f"resuming after {progress['epoch']} epochs and {progress['step']} steps")
        folder = RunFolder(out)
        loggers: Sequence[Logger] = ()
        if world.primary:
            folder.start(recipe, heading)
            loggers = open_loggers(folder, recipe, job.batches.steps, step)
        try:
            return fit(job, world, loggers, folder, checkpoint)
        finally:
            for logger in loggers:
                logger.close()


def open_loggers(folder: RunFolder, recipe: TrainRecipe, steps: int, step: int) -> list[Logger]:
    """Open what takes the metrics of a run; ``steps`` an epoch, ``step`` already done."""
    loggers: list[Logger] = [
        CSVLogger(folder.metrics, step),
        ProgressLogger(steps * recipe.optim.epochs, step, recipe.task),
    ]
    if recipe.log.tensorboard:
        loggers.append(TensorBoardLogger(folder.tensorboard, step))
    return loggers


def describe_source(source: Source, world: World) -> list[str]:
    """Say what data is used, and where."""
    data = source.data
    processes = "1 process" if world.size == 1 else f"{world.size} processes"
    lines = [
        f"data: {len(data)} samples of {source.identity['dataset']} ({data.skeleton.name}), "
        f"chain {source.chain}",
        f"device: {describe_device(world.device)['device']}, {processes}",
    ]
    if source.set_aside:
        name, reason = source.set_aside[0]
        lines.append(f"set aside: {len(source.set_aside)} recordings, such as {name}: {reason}")
    return lines


def check_data(out: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise `RunError` unless a store holds the data that a run began with."""
    changed = [f"{k}: {there.get(k)!r} there, {here[k]!r} here" for k in here if there.get(k) != here[k]]
    if changed:
        raise RunError(
            f"{out}: found a run on other data ({'; '.join(changed)}), expected the store it began with. "
            "Give that store, or choose another --out"
        )


def _silent(line: str) -> None:
    """Say nothing."""
