"""Recipes: what a run does, as typed and checked settings. One YAML file is one recipe.

Here is what every task has, and the engine knows no more than this. Each task adds the sections that are its
own (`skeltrain.tasks`), some of which several share (`skeltrain.sections`). A recipe names no device count:
``optim.batch`` counts the samples of one optimiser step over all processes, so the same file trains the same
way on one card or eight. `skeltrain.recipe_file` reads and writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _one_or_two(value: Any) -> Any:
    """Let through a whole number from 1 on, or two of them; raises ValueError."""
    numbers = (value, value) if isinstance(value, int) else value
    two = isinstance(numbers, list | tuple) and len(numbers) == 2
    if not two or not all(type(number) is int and number >= 1 for number in numbers):
        raise ValueError(f"found {value!r}, expected one whole number from 1 on, or [rows, columns]")
    return value


def _one_two_or_none(value: Any) -> Any:
    return None if value is None else _one_or_two(value)


Side = Annotated[int | tuple[int, int], BeforeValidator(_one_or_two)]
"""Pixels: one number for a square, or rows and columns."""

OptionalSide = Annotated[int | tuple[int, int] | None, BeforeValidator(_one_two_or_none)]


class Section(BaseModel):
    """A group of settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Optim(Section):
    """Optimiser, schedule and length of a run. Epochs may be fractions in ``warmup``.

    Attributes
    ----------
    blr
        Base learning rate. The peak is ``blr * batch / 256`` by the rule ``linear``, ``blr`` by ``none``.
    batch
        Samples of one optimiser step, over all processes and all accumulated parts.
    accum
        Parts in which a process works through its share of a batch, to need less memory.
    betas, momentum
        Of AdamW, and of SGD with Nesterov's momentum.
    schedule
        ``cosine`` to ``min_lr``, ``exponential`` by the factor ``decay``, or ``constant``; each after the
        warm-up.
    schedule_by
        Whether the rate changes with every optimiser step, or stays the same within an epoch. ``decay`` is
        the factor of an epoch in both cases.
    iterations
        Optimiser steps of the run, where it is counted in these instead of epochs; ``epochs`` is then the
        most it may take.
    drop_last
        Leave out the samples of an epoch that fill no whole batch. Off: the last batch is smaller.
    clip_grad
        Largest norm of the gradient, or null.
    fused
        Let the optimiser change all parameters in one pass: faster, and the same up to rounding.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    blr: NotNegative = 1.5e-4
    lr_scale_rule: Literal["linear", "none"] = "linear"
    batch: Positive = 512
    accum: Positive = 1
    weight_decay: NotNegative = 0.05
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    momentum: Fraction = 0.9
    epochs: Positive = 800
    iterations: Positive | None = None
    warmup: NotNegative = 40.0
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    schedule_by: Literal["step", "epoch"] = "step"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.99
    min_lr: NotNegative = 0.0
    drop_last: bool = False
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    fused: bool = False

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up."""
        return self.blr * self.batch / 256 if self.lr_scale_rule == "linear" else self.blr


class EMA(Section):
    """An average of the weights that evaluation and later use take instead of the last ones.

    Attributes
    ----------
    decay
        What the average keeps of itself at each optimiser step.
    warmup
        Let the decay rise from 0 at the start, so that a short run's average is not made of random weights.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
    warmup: bool = False


class Log(Section):
    """What a run reports and keeps.

    Attributes
    ----------
    every
        Optimiser steps between two rows of metrics; the end of an epoch always gives one.
    evaluate_every
        Epochs between two evaluations, of a task that has any; the last epoch always has one.
    checkpoint_every
        Epochs between two writings of ``last.pt``.
    keep_every
        Epochs between two checkpoints that are kept under their own name; 0 keeps none.
    """

    every: Positive = 10
    tensorboard: bool = True
    evaluate_every: Positive = 1
    checkpoint_every: Positive = 1
    keep_every: Annotated[int, Field(ge=0)] = 0


class Recipe(Section):
    """What every task has; the engine knows no more than this.

    Attributes
    ----------
    precision
        Of the products; ``auto`` is bf16 where the device has instructions for it, else fp32.
    """

    task: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    optim: Optim = Optim()
    ema: EMA | None = None
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    compile: bool = False
    device: str = "auto"
    log: Log = Log()

    # What may differ between a run and its continuation: it changes nothing that is learned. A store may
    # have moved; that it still holds the same data is checked by its digest.
    FREE: ClassVar[tuple[str, ...]] = ("device", "log", "data.store", "data.stores.*.store")
