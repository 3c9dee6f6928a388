"""One-shot action recognition: novel classes, each known by a single recording (MotionBERT, section 4.4).

A network learns from other classes to put recordings of one class near each other; a recording of a novel
class then is of that whose exemplar is nearest, by cosine similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from skelconv.store.store import open_store
from skelformats.protocols import load_facts
from skeltrain.checkpoint import seed_everything, versions
from skeltrain.data.action_batches import ActionAugment, ActionBatch, ActionCollator, check_frames
from skeltrain.data.action_sets import ActionSet, open_actions
from skeltrain.data.loader import DataError, SampleLoader
from skeltrain.data.pair_sampler import PairSampler
from skeltrain.distributed import sum_over_processes
from skeltrain.engine import Evaluation, Evaluator, Job
from skeltrain.losses.motion import BASE_TEMPERATURE, TEMPERATURE, supervised_contrastive
from skeltrain.metrics.classification import mean_class, top1
from skeltrain.models.motion_heads import ActionNet
from skeltrain.recipe import Optim, Positive, Recipe, Section
from skeltrain.recipe_file import to_plain
from skeltrain.run_folder import RunError
from skeltrain.sections import Init
from skeltrain.tasks.action_common import (
    ACTION_OPTIM,
    Head,
    Tuning,
    answer,
    build_model,
    choose_trainable,
    describe_model,
    embed_actions,
    load_action_net,
    names_of,
    open_store_of,
    settings_of,
    two_rates,
)
from skeltrain.tasks.motion_common import Network, check_lengths, check_same_data
from skeltrain.tasks.registry import Context, Task, Trained

OFFICIAL: Literal["official"] = "official"
FIRST: Literal["first"] = "first"

_DATASET = "ntu120"
"""Whose protocol file has the official classes and exemplars."""


class OneShotData(Section):
    """A store of labelled recordings, its novel classes, and how recordings become clips.

    Attributes
    ----------
    novel
        Classes that are not trained on, as labels counted from 0; ``official`` is NTU RGB+D 120's 20.
    exemplars
        The recording that each novel class is known by: ``official``, NTU RGB+D 120's 20; ``first``, of each
        class the first by name; or names.
    length
        Frames that are taken of a recording, spread over all of it (the paper has 243, the released code
        100).
    parity
        As for `skeltrain.tasks.motion_action.ActionData`.
    """

    store: str | None = None
    novel: Literal["official"] | tuple[Annotated[int, Field(ge=0)], ...] = OFFICIAL
    exemplars: Literal["official", "first"] | tuple[str, ...] = OFFICIAL
    length: Positive = 100
    parity: bool = True


class Contrast(Section):
    """The supervised contrastive loss (P. Khosla et al., 2020; MotionBERT, train_action_1shot.py).

    Attributes
    ----------
    each
        Samples of a class in a batch.
    base_temperature
        The loss is multiplied by ``temperature / base_temperature``; equal ones give the paper's.
    """

    temperature: Annotated[float, Field(gt=0)] = TEMPERATURE
    base_temperature: Annotated[float, Field(gt=0)] = BASE_TEMPERATURE
    each: Annotated[int, Field(ge=2)] = 2


class OneShotRecipe(Recipe):
    """One-shot action recognition; the defaults are those of the released code."""

    task: Literal["motion_oneshot"] = "motion_oneshot"
    data: OneShotData = OneShotData()
    augment: ActionAugment = ActionAugment()
    model: Network = Network()
    head: Head = Head(dropout=0.1)
    contrast: Contrast = Contrast()
    tuning: Tuning = Tuning()
    init: Init = Init()
    optim: Optim = ACTION_OPTIM.model_copy(update={"epochs": 50})


@dataclass(frozen=True, eq=False)
class Split:
    """Recordings by what they are for.

    Attributes
    ----------
    train, exemplars, test
        Numbers of the recordings: of other classes, one of each novel class, and the rest of those.
    """

    train: NDArray[np.int64]
    exemplars: NDArray[np.int64]
    test: NDArray[np.int64]


class OneShotTask(nn.Module):
    """The contrast of a step's embeddings, those of all processes."""

    def __init__(self, model: ActionNet, contrast: Contrast) -> None:
        super().__init__()
        self.model = model
        self._contrast = contrast

    def forward(self, batch: ActionBatch) -> dict[str, Tensor]:
        """Return ``loss``."""
        own = self.model(batch.motion).float()
        micro = batch.micro
        whole = own.new_zeros(len(micro.index), own.shape[1])
        whole[micro.part] = own
        label = torch.zeros(len(micro.index), dtype=torch.int64, device=own.device)
        label[micro.part] = batch.label
        loss = supervised_contrastive(
            sum_over_processes(whole),
            sum_over_processes(label.double()).round().long(),
            self._contrast.temperature,
            self._contrast.base_temperature,
        )
        return {"loss": loss}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone."""
        self.model.compile(*args, **kwargs)


def split_recordings(found: ActionSet, data: OneShotData, training: bool = True) -> Split:
    """Find what is trained on, the exemplars, and what is tested.

    Parameters
    ----------
    training
        Whether there must be something to train on.

    Raises
    ------
    DataError
        An exemplar is not in the store, is of no novel class or of the same as another, or a part is empty.
    """
    official = load_facts(_DATASET).others["one_shot"]
    label, name = found.label, found.name
    # numbers in names count from 1
    novel: list[int] = [n - 1 for n in official["novel"]]
    if not isinstance(data.novel, str):
        novel = sorted(set(data.novel))
    if data.exemplars == FIRST:
        exemplars = _first_of(found, novel)
    elif data.exemplars == OFFICIAL:
        exemplars = _named(found, novel, official["exemplars"], official=True)
    else:
        exemplars = _named(found, novel, list(data.exemplars), official=False)
    among = np.isin(label, novel)
    test = np.flatnonzero(among & np.isin(label, label[exemplars]))
    test = np.setdiff1d(test, exemplars).astype(np.int64)
    train = np.flatnonzero(~among & (label >= 0)).astype(np.int64)
    for what, part in (("to train on: labelled, and of no novel class", train), ("to test", test)):
        if not len(part) and (training or part is test):
            raise DataError(
                f"{found.store.path}: found no recording {what}, expected some. The novel classes are "
                f"{', '.join(map(str, novel))}, and the store has {', '.join(map(str, np.unique(label)))}. "
                "Set data.novel"
            )
    if len(exemplars) < 2:
        raise DataError(
            f"{found.store.path}: found {name[exemplars].tolist()} as the only exemplar, expected those of "
            "two classes or more. Set data.novel"
        )
    return Split(train if training else test, exemplars, test)


def _first_of(found: ActionSet, novel: Sequence[int]) -> NDArray[np.int64]:
    """Return of each novel class that the store has the first recording by name."""
    order = np.argsort(found.name, kind="stable")
    own = [order[found.label[order] == one] for one in novel]
    return np.array([numbers[0] for numbers in own if len(numbers)], np.int64)


def _named(
    found: ActionSet, novel: Sequence[int], wanted: Sequence[str], official: bool
) -> NDArray[np.int64]:
    """Return the recordings of these names, one of each novel class."""
    place = {name: number for number, name in enumerate(found.name.tolist())}
    missing = [name for name in wanted if name not in place]
    if missing:
        hint = (
            f"They are {_DATASET.upper()}'s; for other data set data.novel, and data.exemplars=first or names"
            if official
            else "Set data.exemplars to names of recordings"
        )
        raise DataError(
            f"{found.store.path}: found no recording {', '.join(missing)}, expected these "
            f"{len(missing)} of the {len(wanted)} exemplars, one of each novel class. {hint}"
        )
    exemplars = np.array([place[name] for name in wanted], np.int64)
    label = found.label[exemplars]
    if sorted(label.tolist()) != list(novel):
        raise DataError(
            f"{found.store.path}: found exemplars of the classes {sorted(label.tolist())}, expected one of "
            f"each novel class: {list(novel)}. Set data.novel and data.exemplars"
        )
    return exemplars


def build_oneshot(recipe: OneShotRecipe, context: Context) -> Job:
    """Put model, store and optimiser together."""
    world, data, optim = context.world, recipe.data, recipe.optim
    if optim.accum > 1:
        raise RunError(
            f"found optim.accum={optim.accum}, expected 1: a sample is contrasted with all others of its "
            "batch, which cannot be worked through in parts. Lower optim.batch"
        )
    check_lengths([data.length], recipe.model)
    found = open_actions(open_store_of(data.store), world.device, data.parity)
    context.log(f"data: {found.account}")
    check_same_data(context, [found.identity])
    # an evaluation on another store has no use for a training part, which that store may not have
    split = split_recordings(found, data, context.same_data)
    for what, part in (("training recordings", split.train), ("exemplars", split.exemplars)):
        check_frames(found, part, what)
    seed_everything(recipe.seed)
    model, described = build_model(recipe.model, settings_of(recipe.head, "embed"), recipe.init, context)
    choose_trainable(model.backbone, recipe.tuning)
    task = OneShotTask(model, recipe.contrast).to(world.device)
    context.log(describe_model(model, recipe.precision))
    context.log(
        f"data: {len(split.train)} recordings of {len(np.unique(found.label[split.train]))} classes to train "
        f"on, {len(split.test)} to test, of {len(split.exemplars)} novel classes with an exemplar each"
    )
    sampler = PairSampler(
        split.train,
        found.label[split.train],
        optim.batch,
        recipe.contrast.each,
        recipe.seed,
        world.rank,
        world.size,
    )
    # dropout must differ between processes
    seed_everything(recipe.seed + world.rank)

    def evaluate(module: nn.Module) -> Evaluation:
        return evaluate_oneshot(module.get_submodule("model"), found, split, data.length, recipe.precision)

    return Job(
        module=task,
        loader=SampleLoader(sampler, ActionCollator(found, data.length, recipe.augment)),
        optimizer=two_rates(model, optim, recipe.tuning.backbone_lr),
        recipe=recipe,
        metadata={
            "task": recipe.task,
            "recipe": to_plain(recipe),
            "versions": versions(),
            "model": described,
            "data": [found.identity],
            "poses": found.account,
        },
        evaluators=[Evaluator("test", evaluate)],
        monitor=("top1", False),
    )


def evaluate_oneshot(
    model: nn.Module, found: ActionSet, split: Split, length: int, precision: str
) -> Evaluation:
    """Give each test recording the class of the nearest exemplar, and score that.

    Dropout is off, which the released code forgets.
    """
    anchors, tests = (answer(model, found, part, length, precision) for part in (split.exemplars, split.test))
    similarity = tests @ anchors.T
    known = torch.from_numpy(found.label[split.exemplars]).to(similarity.device)
    label = torch.from_numpy(found.label[split.test]).to(similarity.device)
    prediction = known[similarity.argmax(dim=1)]
    return Evaluation(
        {
            "top1": top1(prediction, label),
            "mean_class": mean_class(prediction, label),
            "chance": 1 / len(known),
        },
        {
            "recording": found.name[split.test],
            "label": label.cpu().numpy(),
            "prediction": prediction.cpu().numpy(),
            "similarity": similarity.cpu().numpy(),
            "novel": known.cpu().numpy(),
            "exemplar": found.name[split.exemplars],
        },
    )


def predict_oneshot(trained: Trained, store: str) -> pd.DataFrame:
    """Predict the novel class of each recording of a store: ``recording, label, class, similarity``.

    The exemplars are read from the store of the training, as its recipe names it.
    """
    recipe, model = OneShotRecipe.model_validate(trained.metadata["recipe"]), load_action_net(trained)
    data, device = recipe.data, trained.world.device
    known = open_actions(open_store_of(data.store), device, data.parity)
    if [known.identity] != list(trained.metadata["data"]):
        raise RunError(
            f"{data.store}: found another store than the run was trained on, expected the same, whose "
            "exemplars recordings are compared with"
        )
    exemplars = split_recordings(known, data).exemplars
    asked = open_actions(open_store(store), device, data.parity)
    trained.log(f"data: {asked.account}")
    every = np.arange(len(asked), dtype=np.int64)
    check_frames(asked, every, "recordings")
    anchors = answer(model, known, exemplars, data.length, recipe.precision)
    similarity = answer(model, asked, every, data.length, recipe.precision) @ anchors.T
    most, nearest = (value.cpu().numpy() for value in similarity.max(dim=1))
    label = known.label[exemplars][nearest]
    return pd.DataFrame(
        {"recording": asked.name, "label": label, "class": names_of(known, label), "similarity": most}
    )


TASK = Task(
    name="motion_oneshot",
    title="one-shot action recognition from 2D poses (MotionBERT)",
    recipe=OneShotRecipe,
    build=build_oneshot,
    embed=embed_actions,
    predict=predict_oneshot,
)
