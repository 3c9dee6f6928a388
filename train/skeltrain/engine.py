"""The training loop, the same for every task.

A `Job` says what is trained; `fit` runs it: learning rate for each step, mixed precision, accumulated
gradients, several processes, averaged weights, metrics, checkpoints, and an orderly end when the user
wants one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from skeltrain.checkpoint import (
    BEST,
    CheckpointError,
    link_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from skeltrain.data.loader import Loader
from skeltrain.distributed import World, autocast
from skeltrain.interrupt import StopFlag, stop_signals
from skeltrain.loggers import Logger, Metrics
from skeltrain.meter import Meter, NotFiniteError
from skeltrain.recipe import Optim, Recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.schedule import make_optimizer
from skeltrain.timeline import Timeline, build_schedule

ASK_EVERY = 8
"""Optimiser steps after which several processes agree whether one of them was told to stop."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    metrics
        Numbers by name.
    predictions
        Arrays by name, with a row for each sample or recording, where there are any: they are kept in a file.
    """

    metrics: Metrics
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """An evaluation of a job's module, which is in evaluation mode and gets no gradients.

    Attributes
    ----------
    name
        Tells its files apart from those of others.
    run
        Evaluates a module of the task: the trained one, or its averaged weights. In every process.
    in_training
        Whether it also runs between epochs (`skeltrain.recipe.Log.evaluate_every`), or only when asked for.
    """

    name: str
    run: Callable[[nn.Module], Evaluation]
    in_training: bool = True


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes
    ----------
    module
        On its device. ``forward(batch)`` returns scalars; ``loss`` is minimised, all of them are reported.
        What is of use after training is its attribute ``model``.
    loader
        What it is trained on.
    optimizer
        Its learning rates are those at the peak of the schedule.
    recipe
        How: schedule, length, precision, compilation, averaging, logging.
    metadata
        What every checkpoint carries besides the state of the run (`skeltrain.checkpoint`).
    evaluators
        Run between epochs and at the end.
    after_step
        Called after each optimiser step: what must hold of the parameters then, such as a clamped
        temperature, or a teacher that follows.
    monitor
        The metric by which ``best.pt`` is chosen, and whether smaller is better.
    """

    module: nn.Module
    loader: Loader
    optimizer: Optimizer
    recipe: Recipe
    metadata: Mapping[str, Any]
    evaluators: Sequence[Evaluator] = ()
    after_step: Sequence[Callable[[], None]] = ()
    monitor: tuple[str, bool] = ("loss", True)


@dataclass
class Progress:
    """How far a run is.

    ``step`` counts within ``epoch``; ``seconds`` is all the time spent so far, ``waited`` the part of it in
    which the loop waited for batches.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its progress, whether it was interrupted, and the metrics of its last epoch."""

    progress: Progress
    interrupted: bool
    metrics: Metrics = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)


def build_optimizer(module: nn.Module, optim: Optim, layer_decay: float | None = None) -> Optimizer:
    """Return the optimiser that a recipe asks for, over all trainable parameters of a module.

    With ``layer_decay``, the layers of a vision transformer learn at rates of their own
    (`skeltrain.schedule.layer_decay_groups`).
    """
    return make_optimizer(
        *(module, optim.name, optim.peak_lr, optim.weight_decay),
        betas=optim.betas,
        momentum=optim.momentum,
        layer_decay=layer_decay,
        fused=optim.fused,
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
        A loss was not a finite number.
    ScheduleError
        There is nothing to train on, or the settings make no schedule.
    CheckpointError
        A checkpoint cannot be written.
    """
    run = _Run(job, world, loggers, folder)
    if resume is not None:
        run.restore(resume)
    with stop_signals() as stop:
        try:
            return run.train(stop)
        except NotFiniteError as error:
            raise RunError(run.explain(error)) from error


def evaluate(job: Job, world: World, checkpoint: Mapping[str, Any]) -> dict[str, Evaluation]:
    """Run every evaluator of a job on the weights of a checkpoint, the averaged ones where it has any."""
    run = _Run(job, world, (), None)
    run.restore(checkpoint)
    return run.evaluate(job.evaluators)


class _Run:
    """A job on its way: model, optimiser and progress, and how to put them to disk and back."""

    def __init__(self, job: Job, world: World, loggers: Sequence[Logger], folder: RunFolder | None) -> None:
        recipe = job.recipe
        self.job = job
        self.world = world
        self.loggers = loggers if world.primary else ()
        self.folder = folder
        self.timeline = Timeline.of(job.loader, recipe.optim)
        self.schedule = build_schedule(job.optimizer, recipe.optim, self.timeline)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=recipe.precision == "fp16")
        self.ema = None
        if recipe.ema is not None:
            self.ema = ModelEmaV3(job.module, decay=recipe.ema.decay, use_warmup=recipe.ema.warmup)
        if recipe.compile:
            job.module.compile()
        self.model = world.wrap(job.module)
        self.progress = Progress()
        self.meter = Meter(world)

    def train(self, stop: StopFlag) -> Outcome:
        """Run every epoch that is left."""
        progress = self.progress
        metrics: Metrics = {}
        evaluations: dict[str, Evaluation] = {}
        while progress.epoch < self.timeline.epochs:
            if not self.train_epoch(stop):
                self.save()
                return Outcome(progress, interrupted=True, metrics=metrics)
            row = self.meter.finish_row(progress.seconds)
            evaluations = self.evaluate(self.due())
            scores = {name: value for found in evaluations.values() for name, value in found.metrics.items()}
            metrics = {**self.meter.finish_epoch(), **scores}
            progress.epoch, progress.step = progress.epoch + 1, 0
            self.log({**row, **scores})
            saved = self.keep(metrics)
            if progress.epoch < self.timeline.epochs and self.world.any(stop.asked):
                if not saved:
                    self.save()
                return Outcome(progress, interrupted=True, metrics=metrics)
        return Outcome(progress, interrupted=False, metrics=metrics, evaluations=evaluations)

    def train_epoch(self, stop: StopFlag) -> bool:
        """Train on what is left of the epoch; False when asked to stop before its end."""
        progress, recipe = self.progress, self.job.recipe
        steps = self.timeline.steps(progress.epoch)
        self.model.train()
        began = time.perf_counter() - progress.seconds
        asked = time.perf_counter()
        for batch in self.job.loader.epoch(progress.epoch, progress.step):
            waited = time.perf_counter() - asked
            progress.waited += waited
            self.meter.wait(waited)
            micro = batch.micro
            self.schedule.step_update(self.number)
            with self.synchronised(micro.last):
                with autocast(self.world.device, recipe.precision):
                    values = self.model(batch)
                self.scaler.scale(values["loss"] * micro.weight).backward()
            self.meter.add(values, micro.weight, self.number)
            if not micro.last:
                asked = time.perf_counter()
                continue
            self.update()
            self.meter.finish_step(len(micro.index))
            progress.step += 1
            progress.seconds = time.perf_counter() - began
            if progress.step == steps:
                break
            if progress.step % recipe.log.every == 0:
                self.log(self.meter.finish_row(progress.seconds))
            if self.must_stop(stop):
                return False
            asked = time.perf_counter()
        return True

    @property
    def number(self) -> int:
        """Optimiser steps since the start of the run."""
        return self.timeline.number(self.progress.epoch, self.progress.step)

    def update(self) -> None:
        """Take one optimiser step from the gradients that have come together."""
        optimizer, clip = self.job.optimizer, self.job.recipe.optim.clip_grad
        if clip is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.job.module.parameters(), clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        for hook in self.job.after_step:
            hook()
        if self.ema is not None:
            # timm counts from the step after: the average begins as the weights of the first step
            self.ema.update(self.job.module, step=self.number + 1)

    def due(self) -> list[Evaluator]:
        """Return the evaluators whose turn it is after the epoch that was just trained."""
        done, every = self.progress.epoch + 1, self.job.recipe.log.evaluate_every
        if done != self.timeline.epochs and done % every:
            return []
        return [evaluator for evaluator in self.job.evaluators if evaluator.in_training]

    def evaluate(self, evaluators: Sequence[Evaluator]) -> dict[str, Evaluation]:
        """Evaluate the averaged weights where there are any, else the trained ones."""
        module = self.job.module if self.ema is None else self.ema.module
        self.model.eval()
        module.eval()
        with torch.no_grad():
            return {evaluator.name: evaluator.run(module) for evaluator in evaluators}

    def log(self, row: Metrics) -> None:
        """Hand a row of metrics to every logger."""
        rate = max(group["lr"] for group in self.job.optimizer.param_groups)
        whole = {
            "epoch": self.timeline.epoch_at(self.number),
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
        """Whether to stop within the epoch; all processes get the same answer."""
        if self.world.size == 1:
            return stop.asked
        return self.progress.step % ASK_EVERY == 0 and self.world.any(stop.asked)

    def keep(self, metrics: Metrics) -> bool:
        """Write the checkpoints that are due after an epoch; returns whether any was."""
        progress, log = self.progress, self.job.recipe.log
        final = progress.epoch == self.timeline.epochs
        if not final and progress.epoch % log.checkpoint_every:
            return False
        better = self.improved(metrics)
        self.save()
        if self.folder is not None and self.world.primary:
            if better:
                link_checkpoint(self.folder.last, BEST)
            if log.keep_every and progress.epoch % log.keep_every == 0:
                link_checkpoint(self.folder.last, f"epoch_{progress.epoch:04d}.pt")
        return True

    def improved(self, metrics: Metrics) -> bool:
        """Whether the epoch is the best so far; one without the metric that decides it is not."""
        name, smaller_is_better = self.job.monitor
        if name not in metrics:
            return False
        value = metrics[name] if smaller_is_better else -metrics[name]
        if self.progress.best is not None and value >= self.progress.best:
            return False
        self.progress.best = value
        return True

    def save(self) -> None:
        """Write ``last.pt``; a state with a loss that is not a finite number is never written."""
        if self.folder is None:
            return
        self.meter.check()
        own = {"random": random_state(self.world.device), "meter": self.meter.state()}
        processes = self.world.gather(own)
        if self.world.primary:
            state = {
                "model": self.job.module.state_dict(),
                "optimizer": self.job.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": None if self.ema is None else self.ema.module.state_dict(),
                "progress": asdict(self.progress),
                "processes": processes,
            }
            save_checkpoint(self.folder.last, self.job.metadata, state)

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; raises `CheckpointError` where it does not belong to this job.

        On another number of processes than it was written by, the samples and their random numbers still are
        the same; only the models' own (dropout) start anew.
        """
        try:
            self.job.module.load_state_dict(checkpoint["model"])
            self.job.optimizer.load_state_dict(checkpoint["optimizer"])
            self.scaler.load_state_dict(checkpoint["scaler"])
            if self.ema is not None:
                self.ema.module.load_state_dict(checkpoint["ema"])
            self.progress = Progress(**checkpoint["progress"])
            if len(checkpoint["processes"]) == self.world.size:
                own = checkpoint["processes"][self.world.rank]
                restore_random_state(own["random"], self.world.device)
                self.meter.restore(own["meter"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"found a checkpoint whose state does not fit the run that its recipe describes ({reason}), "
                "expected what skeltrain wrote. It was edited, or damaged; take another checkpoint of the run"
            ) from error

    def explain(self, error: NotFiniteError) -> str:
        """Say where a loss was not a finite number, and what to do."""
        epoch, step = self.timeline.place(error.number)
        self.schedule.step_update(error.number)
        rate = max(group["lr"] for group in self.job.optimizer.param_groups)
        kept = "there is no checkpoint yet"
        if self.folder is not None and self.folder.last.exists():
            kept = f"{self.folder.last} is from before it, and is kept"
        return (
            f"{error}: batch {step + 1} of {self.timeline.steps(epoch)} in epoch {epoch + 1}, learning rate "
            f"{rate:.3g}; {kept}. Start again with a lower optim.blr, a longer optim.warmup, "
            "optim.clip_grad=1.0, or precision=fp32"
        )
