"""The training loop, the same for every task.

A `Job` says what is trained; `fit` runs it: learning rate for each step, mixed precision, accumulated
gradients, several processes, metrics, checkpoints, and an orderly end when the user wants one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from skeltrain.checkpoint import BEST, link_checkpoint, random_state, restore_random_state, save_checkpoint
from skeltrain.data.batch import Batches
from skeltrain.distributed import World, autocast
from skeltrain.interrupt import StopFlag, stop_signals
from skeltrain.loggers import Logger, Metrics
from skeltrain.meter import Meter
from skeltrain.recipe import Optim, Recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.schedule import make_optimizer, make_scheduler

ASK_EVERY = 8
"""Optimiser steps after which several processes agree whether one of them was told to stop."""


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes
    ----------
    task
        On its device. ``forward(batch)`` returns scalars; ``loss`` is minimised, all of them are reported.
    batches
        What it is trained on.
    optimizer
        Its learning rates are those at the peak of the schedule.
    recipe
        How: schedule, precision, compilation, logging.
    card
        What every checkpoint carries besides the state of the run (`skeltrain.checkpoint`).
    evaluate
        Called after each epoch with the task in evaluation mode; gives metrics.
    monitor
        The metric by which ``best.pt`` is chosen, and whether smaller is better.
    """

    task: nn.Module
    batches: Batches
    optimizer: Optimizer
    recipe: Recipe
    card: Mapping[str, Any]
    evaluate: Callable[[], Metrics] | None = None
    monitor: tuple[str, bool] = ("loss", True)


@dataclass
class Progress:
    """How far a run is: ``step`` counts within ``epoch``, ``seconds`` all the time spent so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its progress, whether it was interrupted, and the metrics of its last epoch."""

    progress: Progress
    interrupted: bool
    metrics: Metrics = field(default_factory=dict)


def build_optimizer(task: nn.Module, optim: Optim) -> Optimizer:
    """Return the optimiser that a recipe asks for, over all trainable parameters of a task."""
    return make_optimizer(
        task, optim.name, optim.peak_lr, optim.weight_decay, betas=optim.betas, momentum=optim.momentum
    )


def fit(
    job: Job,
    world: World,
    loggers: Sequence[Logger] = (),
    folder: RunFolder | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train until the last epoch, or until the user asks to stop.

    Parameters
    ----------
    loggers
        Where metrics go; of the primary process only.
    folder
        Where checkpoints go; None keeps none.
    resume
        The checkpoint to go on from. The run continues as if it had never stopped: same samples in the same
        order, same random numbers, same optimiser.

    Raises
    ------
    RunError
        The loss is no number, or there is nothing to train on.
    """
    run = _Run(job, world, loggers, folder)
    if resume is not None:
        run.restore(resume)
    with stop_signals() as stop:
        return run.train(stop)


class _Run:
    """A job on its way: model, optimiser and progress, and how to put them to disk and back."""

    def __init__(self, job: Job, world: World, loggers: Sequence[Logger], folder: RunFolder | None) -> None:
        optim = job.recipe.optim
        self.job = job
        self.world = world
        self.loggers = loggers if world.primary else ()
        self.folder = folder
        self.steps = job.batches.steps
        if not self.steps:
            raise RunError(
                f"found fewer training samples than one batch of {optim.batch}, expected at least one batch. "
                "Lower optim.batch, or set optim.drop_last to false"
            )
        self.schedule = make_scheduler(job.optimizer, optim.epochs, self.steps, optim.warmup, optim.min_lr)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=job.recipe.precision == "fp16")
        if job.recipe.compile:
            job.task.compile()
        self.model = world.wrap(job.task)
        self.progress = Progress()
        self.meter = Meter(world)

    def train(self, stop: StopFlag) -> Outcome:
        """Run every epoch that is left."""
        progress = self.progress
        metrics: Metrics = {}
        while progress.epoch < self.job.recipe.optim.epochs:
            if not self.train_epoch(stop):
                self.save()
                return Outcome(progress, interrupted=True, metrics=metrics)
            row = self.meter.finish_row(progress.seconds)
            scores = self.evaluate()
            metrics = {**self.meter.finish_epoch(), **scores}
            progress.epoch, progress.step = progress.epoch + 1, 0
            self.log({**row, **scores})
            self.keep(metrics)
        return Outcome(progress, interrupted=False, metrics=metrics)

    def train_epoch(self, stop: StopFlag) -> bool:
        """Train on what is left of the epoch; False when asked to stop before its end."""
        progress, recipe = self.progress, self.job.recipe
        self.model.train()
        began = time.perf_counter() - progress.seconds
        for batch in self.job.batches.epoch(progress.epoch, progress.step):
            self.schedule.step_update(self.number)
            with self.synchronised(batch.deal.last):
                with autocast(self.world.device, recipe.precision):
                    values = self.model(batch)
                self.scaler.scale(values["loss"] * batch.deal.weight).backward()
            self.meter.add(values, batch.deal.weight, self.number)
            if not batch.deal.last:
                continue
            self.update()
            self.meter.finish_step(len(batch.deal.index))
            progress.step += 1
            progress.seconds = time.perf_counter() - began
            if progress.step == self.steps:
                break
            if progress.step % recipe.log.every == 0:
                self.log(self.meter.finish_row(progress.seconds))
            if self.must_stop(stop):
                return False
        return True

    @property
    def number(self) -> int:
        """Optimiser steps since the start of the run."""
        return self.progress.epoch * self.steps + self.progress.step

    def update(self) -> None:
        """Take one optimiser step from the gradients that have come together."""
        optimizer, clip = self.job.optimizer, self.job.recipe.optim.clip_grad
        if clip is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.job.task.parameters(), clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def evaluate(self) -> Metrics:
        """Ask the job for the metrics of an epoch."""
        if self.job.evaluate is None:
            return {}
        self.model.eval()
        with torch.no_grad():
            return self.job.evaluate()

    def log(self, row: Metrics) -> None:
        """Hand a row of metrics to every logger."""
        rate = max(group["lr"] for group in self.job.optimizer.param_groups)
        whole = {
            "epoch": self.number / self.steps,
            "lr": rate,
            **row,
            "seconds": self.progress.seconds,
        }
        for logger in self.loggers:
            logger.log(self.number, whole)

    def synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Share gradients among processes only with the last part of a step."""
        model = self.model
        return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()

    def must_stop(self, stop: StopFlag) -> bool:
        """Whether to stop now; all processes get the same answer."""
        if self.world.size == 1:
            return stop.asked
        return self.number % ASK_EVERY == 0 and self.world.any(stop.asked)

    def keep(self, metrics: Metrics) -> None:
        """Write the checkpoints that are due after an epoch."""
        progress, log = self.progress, self.job.recipe.log
        final = progress.epoch == self.job.recipe.optim.epochs
        if not final and progress.epoch % log.checkpoint_every:
            return
        name, smaller_is_better = self.job.monitor
        value = metrics[name] if smaller_is_better else -metrics[name]
        better = progress.best is None or value < progress.best
        if better:
            progress.best = value
        self.save()
        if self.folder is None or not self.world.primary:
            return
        if better:
            link_checkpoint(self.folder.last, BEST)
        if log.keep_every and progress.epoch % log.keep_every == 0:
            link_checkpoint(self.folder.last, f"epoch_{progress.epoch:04d}.pt")

    def save(self) -> None:
        """Write ``last.pt``; a state with a loss that is no number is never written."""
        if self.folder is None:
            return
        self.meter.check()
        own = {"random": random_state(self.world.device), "meter": self.meter.state()}
        processes = self.world.gather(own)
        if self.world.primary:
            state = {
                "model": self.job.task.state_dict(),
                "optimizer": self.job.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "progress": asdict(self.progress),
                "processes": processes,
            }
            save_checkpoint(self.folder.last, self.job.card, state)

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        On another number of processes than it was written by, the samples and their random numbers still are
        the same; only the models' own (dropout) start anew.
        """
        self.job.task.load_state_dict(checkpoint["model"])
        self.job.optimizer.load_state_dict(checkpoint["optimizer"])
        self.scaler.load_state_dict(checkpoint["scaler"])
        self.progress = Progress(**checkpoint["progress"])
        if len(checkpoint["processes"]) == self.world.size:
            own = checkpoint["processes"][self.world.rank]
            restore_random_state(own["random"], self.world.device)
            self.meter.restore(own["meter"])
