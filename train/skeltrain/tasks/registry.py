"""What a task is, and the registry that tasks are found through.

A task is data and a function: the class of its recipes, and ``build``, which puts a `skeltrain.engine.Job`
together. Tasks are found through the entry-point group ``skeltrain.tasks``, so other packages can add
their own; `skeltrain train RECIPE` runs any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelformats.registry import Registry
from skeltrain.checkpoint import Checkpoint
from skeltrain.distributed import World
from skeltrain.engine import Job
from skeltrain.recipe import Recipe

ENTRY_POINT_GROUP = "skeltrain.tasks"

R = TypeVar("R", bound=Recipe)

Log = Callable[[str], None]
"""Takes a line for the user."""


@dataclass(frozen=True)
class Context:
    """What a task is built in.

    Attributes
    ----------
    world
        The processes and their device.
    checkpoint
        The one to go on from, or whose weights are evaluated; None for a fresh run.
    log
        Takes lines for the user.
    same_data
        Whether the data must be that of the checkpoint: so it is for a run that goes on, but not for an
        evaluation on another store.
    folder
        Folder of the run, for what an evaluation draws; None keeps nothing.
    """

    world: World
    checkpoint: Checkpoint | None = None
    log: Log = lambda line: None
    same_data: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class Trained:
    """A checkpoint in use: where it lies, what it holds, and where it is used."""

    path: Path
    checkpoint: Checkpoint
    world: World
    log: Log = lambda line: None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the checkpoint carries besides the state of the run."""
        return self.checkpoint["metadata"]


@dataclass(frozen=True, eq=False)
class Features:
    """What a model makes of samples.

    Attributes
    ----------
    feature
        (N, D) float32.
    table
        N rows: what is known of each sample.
    attributes
        Plain data: what a user of the features has to know.
    dtype
        What they are stored as: ``float32`` or ``float16``.
    arrays
        Further arrays with a row a sample, such as the poses themselves.
    """

    feature: NDArray[np.float32]
    table: pd.DataFrame
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictOptions:
    """How predictions that are a store are made and written.

    Attributes
    ----------
    height
        Metres from floor to top of the head of the persons, where poses are to be in metres.
    stride
        Frames from one window to the next; None is the task's own choice.
    vertices
        Folder for the vertices of predicted bodies; None writes none.
    body_model, regressor
        Files of the body model, where they are not those that the recipe names.
    overwrite
        Replace what is there.
    command
        What the user typed, for the record.
    """

    height: float | None = None
    stride: int | None = None
    vertices: Path | None = None
    body_model: Path | None = None
    regressor: Path | None = None
    overwrite: bool = False
    command: str = ""

    def given(self) -> tuple[str, ...]:
        """Return the options that say how, by the names that the user gave them by."""
        names = ("height", "stride", "vertices", "body_model", "regressor")
        return tuple(f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None)


@dataclass(frozen=True)
class Task(Generic[R]):
    """A task: what is learned, found by name.

    Attributes
    ----------
    name
        As recipes and the entry point name it.
    title
        One line for a list.
    recipe
        Class of its recipes, whose field ``task`` has the name as its only value.
    build
        Puts model, data and optimiser together.
    embed
        Makes features of the samples of a store, where the task has any to give: ``embed(trained, store)``.
    predict
        Makes a table of predictions for a store, where the task has any to give: ``predict(trained, store)``.
    predict_store
        Writes predictions for a store as a store, where that is what they are, and returns a line about them:
        ``predict_store(trained, store, out, options)``. A task has this or ``predict``.
    """

    name: str
    title: str
    recipe: type[R]
    build: Callable[[R, Context], Job]
    embed: Callable[[Trained, str], Features] | None = None
    predict: Callable[[Trained, str], pd.DataFrame] | None = None
    predict_store: Callable[[Trained, str, Path, PredictOptions], str] | None = None


def task_names() -> tuple[str, ...]:
    """Names of every installed task, sorted."""
    return TASKS.names()


@cache
def find_task(name: str) -> Task[Any]:
    """Return the task called ``name``.

    Raises
    ------
    UnknownNameError
        No installed package offers it.
    SkelconvError
        The package that offers it cannot be imported, or offers no `Task` of that name.
    """
    return TASKS.find(name)


TASKS: Registry[Task[Any]] = Registry(ENTRY_POINT_GROUP, "task", Task)
"""Every installed task."""
