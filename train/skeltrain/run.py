"""From a recipe to a run: folder, processes, data, loggers, engine; for every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from skelconv.export import ExportOptions, export_store
from skelconv.store.store import open_store
from skeltrain.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_newest
from skeltrain.distributed import join_world, require_single_process
from skeltrain.engine import Evaluation, Job, Outcome, evaluate, fit
from skeltrain.loggers import CSVLogger, Logger, ProgressLogger, TensorBoardLogger
from skeltrain.recipe import Recipe
from skeltrain.recipe_file import Override, from_plain, with_overrides
from skeltrain.run_folder import ABOUT, RunError, RunFolder, claim_run, lock_run
from skeltrain.tasks.registry import Context, Features, Log, PredictOptions, Task, Trained, find_task
from skeltrain.timeline import Timeline

R = TypeVar("R", bound=Recipe)

Build = Callable[[R, Context], Job]
"""Puts a task's module, loader and optimiser together."""


def run_recipe(
    recipe: R,
    build: Build[R] | None = None,
    out: Path = Path("run"),
    resume: bool = False,
    heading: str = "",
    log: Log | None = None,
) -> Outcome:
    """Train as a recipe says, in a folder of its own.

    Parameters
    ----------
    build
        The task's; by default that of the registered task that the recipe names.
    out
        Folder of the run.
    resume
        Continue the run in that folder.
    heading
        Comment for the resolved recipe: the command that made it.
    log
        Takes lines for the user, in the primary process.

    Raises
    ------
    SkelconvError
        Of the kind that fits: the folder is taken, the store cannot be read, the model cannot be built, a
        device is missing, the loss is not a number.
    """
    build = build or find_task(recipe.task).build
    with ExitStack() as stack:
        world = stack.enter_context(join_world(recipe.device))
        tell: Log = log if log is not None and world.primary else _silent
        stack.enter_context(lock_run(out, world, tell))
        checkpoint = claim_run(out, recipe, resume, tell)
        # nobody writes before everybody has looked
        world.barrier()
        job = build(recipe, Context(world, checkpoint, tell, folder=out))
        timeline = Timeline.of(job.loader, recipe.optim)
        step = 0
        if checkpoint is not None:
            progress = checkpoint["progress"]
            step = timeline.number(progress["epoch"], progress["step"])
            tell(f"resuming after {progress['epoch']} epochs and {progress['step']} steps")
        folder = RunFolder(out)
        loggers: Sequence[Logger] = ()
        if world.primary:
            folder.start(recipe, heading)
            loggers = open_loggers(folder, recipe, timeline.total, step)
        try:
            outcome = fit(job, world, loggers, folder, checkpoint)
        finally:
            for logger in loggers:
                logger.close()
        if world.primary and outcome.evaluations:
            write_evaluations(folder, outcome.evaluations, job.metadata.get(ABOUT))
        return outcome


def open_loggers(folder: RunFolder, recipe: Recipe, total: int, step: int) -> list[Logger]:
    """Open what takes the metrics of a run of ``total`` optimiser steps, ``step`` of them already done."""
    loggers: list[Logger] = [
        CSVLogger(folder.metrics, step),
        ProgressLogger(total, step, recipe.task),
    ]
    if recipe.log.tensorboard:
        loggers.append(TensorBoardLogger(folder.tensorboard, step))
    return loggers


def evaluate_run(
    where: Path,
    overrides: Sequence[Override] = (),
    out: Path | None = None,
    log: Log = lambda line: None,
) -> dict[str, Evaluation]:
    """Run the evaluators of a run's task on its weights, and write what they found.

    Parameters
    ----------
    where
        A run folder or a checkpoint.
    overrides
        Settings of the recipe that differ from those of the training: another store, another protocol.
    out
        Folder for ``evaluation.json`` and the predictions; the run's by default.

    Raises
    ------
    SkelconvError
        Of the kind that fits; `RunError` for a task that has nothing to evaluate.
    """
    require_single_process("an evaluation")
    with use(where, overrides, log) as (task, recipe, trained):
        moved = any(override.key[0] == "data" for override in overrides)
        job = task.build(recipe, Context(trained.world, trained.checkpoint, log, same_data=not moved))
        if not job.evaluators:
            raise RunError(f"{trained.path}: found task {task.name!r}, which has nothing to evaluate")
        found = evaluate(job, trained.world, trained.checkpoint)
        folder = RunFolder(out if out is not None else run_of(trained.path))
        folder.path.mkdir(parents=True, exist_ok=True)
        write_evaluations(folder, found, job.metadata.get(ABOUT))
    return found


def embed_run(
    where: Path, store: str, device: str | None, log: Log = lambda line: None
) -> tuple[Features, Trained]:
    """Return the features that a run's model makes of the samples of a store; raises `SkelconvError`."""
    with use(where, _on(device), log) as (task, _, trained):
        if task.embed is None:
            raise RunError(
                f"{trained.path}: found task {task.name!r}, whose models make no features of a store"
            )
        return task.embed(trained, store), trained


def predict_run(
    where: Path,
    store: str,
    out: Path,
    device: str | None = None,
    options: PredictOptions | None = None,
    log: Log = lambda line: None,
    bvh: Path | None = None,
) -> str:
    """Write what a run's model predicts for a store, as a csv table or as a store, whichever its task makes.

    Parameters
    ----------
    bvh
        Folder for a BioVision file of each sequence, where a store of 3D poses is made.

    Returns
    -------
    A line about what was written.

    Raises
    ------
    SkelconvError
        Of the kind that fits; `RunError` for a task that predicts nothing, or whose tables have no use for an
        option.
    """
    options = options or PredictOptions()
    with use(where, _on(device), log) as (task, _, trained):
        if task.predict_store is not None:
            line = task.predict_store(trained, store, out, options)
            if bvh is None:
                return line
            made = export_store(open_store(out), bvh, "bvh", ExportOptions(overwrite=options.overwrite))
            return f"{line}\n{made.describe()}"
        if task.predict is None:
            raise RunError(
                f"{trained.path}: found task {task.name!r}, whose models predict nothing for a store"
            )
        if given := (*options.given(), *(("--bvh",) if bvh is not None else ())):
            raise RunError(
                f"{trained.path}: found task {task.name!r}, whose predictions are a table and have no use "
                f"for {', '.join(given)}. Leave it out"
            )
        table = task.predict(trained, store)
    aside = out.with_name(out.name + ".partial")
    table.to_csv(aside, index=False)
    aside.replace(out)
    return f"{out}: {len(table):,} predictions"


@contextmanager
def use(where: Path, overrides: Sequence[Override], log: Log) -> Iterator[tuple[Task[Any], Recipe, Trained]]:
    """Open a run folder or checkpoint: its task, its recipe with overrides, and its weights."""
    path = find_checkpoint(where)
    checkpoint: Checkpoint = load_checkpoint(path) if where.is_file() else load_newest(path, log)
    metadata = checkpoint["metadata"]
    task = find_task(metadata["task"])
    origin = f"the recipe in {path}"
    recipe = from_plain(with_overrides(metadata["recipe"], overrides), origin, task.recipe)
    with join_world(recipe.device) as world:
        yield task, recipe, Trained(path, checkpoint, world, log)


def write_evaluations(
    folder: RunFolder, evaluations: Mapping[str, Evaluation], about: Mapping[str, Any] | None = None
) -> None:
    """Write the metrics of evaluations as JSON, and the predictions of each as ``.npz``.

    ``about`` is what the task says of them, where it does: it is kept beside the metrics, under `ABOUT`.
    """
    for name, found in evaluations.items():
        if found.predictions:
            path = folder.predictions(name)
            aside = path.with_name(path.name + ".partial")
            with aside.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **found.predictions)
            aside.replace(path)
    metrics: dict[str, Any] = {name: dict(found.metrics) for name, found in evaluations.items()}
    if about is not None:
        metrics[ABOUT] = about
    aside = folder.evaluation.with_name(folder.evaluation.name + ".partial")
    aside.write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
    aside.replace(folder.evaluation)


def run_of(checkpoint: Path) -> Path:
    """Return the run folder that a checkpoint lies in, or the folder it lies in when that is no run's."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder


def _on(device: str | None) -> list[Override]:
    return [] if device is None else [Override(("device",), device)]


def _silent(line: str) -> None:
    """Say nothing."""
