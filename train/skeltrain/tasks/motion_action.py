"""Action recognition from the 2D poses of up to two persons (MotionBERT, section 4.4)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skelconv.store.store import open_store
from skeltrain.checkpoint import seed_everything, versions
from skeltrain.data.action_batches import ActionAugment, ActionBatch, ActionCollator, check_frames
from skeltrain.data.action_sets import ActionSet, open_actions
from skeltrain.data.loader import DataError, SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.engine import Evaluation, Evaluator, Job
from skeltrain.metrics.classification import topk
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
    open_store_of,
    settings_of,
    two_rates,
)
from skeltrain.tasks.labelled import Recordings, score
from skeltrain.tasks.motion_common import Network, check_lengths, check_same_data
from skeltrain.tasks.registry import Context, Task, Trained

TOP = 5
"""Classes among which the true one is looked for, besides the first alone."""


class ActionData(Section):
    """A store of labelled recordings, and how they become clips.

    Attributes
    ----------
    protocol, train, test
        Split and its two parts.
    length
        Frames that are taken of a recording, spread over all of it.
    parity
        Of poses in the layout coco17: confidences and lost joints as the released action models were trained
        with (`skeltrain.data.action_sets.open_actions`).
    """

    store: str | None = None
    protocol: str = "xsub"
    train: str = "train"
    test: str = "test"
    length: Positive = 243
    parity: bool = True


class ActionRecipe(Recipe):
    """Action recognition from 2D poses; the defaults are those of the released code for fine-tuning."""

    task: Literal["motion_action"] = "motion_action"
    data: ActionData = ActionData()
    augment: ActionAugment = ActionAugment()
    model: Network = Network()
    head: Head = Head()
    tuning: Tuning = Tuning()
    init: Init = Init()
    optim: Optim = ACTION_OPTIM


class ActionTask(nn.Module):
    """Cross entropy of an action classifier."""

    def __init__(self, model: ActionNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ActionBatch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy`` on the batch itself."""
        logits = self.model(batch.motion).float()
        right = (logits.argmax(dim=1) == batch.label).float()
        return {"loss": functional.cross_entropy(logits, batch.label), "accuracy": right.mean()}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone."""
        self.model.compile(*args, **kwargs)


def build_action(recipe: ActionRecipe, context: Context) -> Job:
    """Put model, store and optimiser together."""
    world, data, optim = context.world, recipe.data, recipe.optim
    check_lengths([data.length], recipe.model)
    found = open_actions(open_store_of(data.store), world.device, data.parity)
    context.log(f"data: {found.account}")
    check_same_data(context, [found.identity])
    test = found.part(data.protocol, data.test)
    # an evaluation on another store has no use for a training part, which that store may not have
    train = found.part(data.protocol, data.train) if context.same_data else test
    check_frames(found, train, "training recordings")
    classes = count_classes(found, train, context)
    seed_everything(recipe.seed)
    model, described = build_model(
        recipe.model, settings_of(recipe.head, "class", classes), recipe.init, context
    )
    choose_trainable(model.backbone, recipe.tuning)
    task = ActionTask(model).to(world.device)
    context.log(describe_model(model, recipe.precision))
    recordings = recordings_of(found, test, data.protocol)
    context.log(
        f"data: {len(train)} recordings to train on, {len(test)} to test, {int(recordings.leaked.sum())} of "
        f"these leaked; {classes} classes"
    )
    sampler = EpochSampler(
        train, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    # dropout must differ between processes
    seed_everything(recipe.seed + world.rank)

    def evaluate(module: nn.Module) -> Evaluation:
        logits = answer(module.get_submodule("model"), found, test, data.length, recipe.precision)
        return evaluation_of(recordings, logits)

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
            "classes": list(found.classes),
            "poses": found.account,
        },
        evaluators=[Evaluator("test", evaluate)],
        monitor=("top1", False),
    )


def count_classes(found: ActionSet, train: NDArray[np.int64], context: Context) -> int:
    """Return how many classes a head tells apart: those of the store, or of the checkpoint.

    Raises
    ------
    DataError
        There is a single class.
    RunError
        A checkpoint is to be evaluated on labels that it does not know.
    """
    most = int(found.label.max()) + 1
    if context.checkpoint is not None:
        known = int(context.checkpoint["metadata"]["model"]["config"]["num_classes"])
        if most > known:
            raise RunError(
                f"{found.store.path}: found label {most - 1} for a model of {known} classes, expected labels "
                "of the classes that it was trained on"
            )
        return known
    if len(np.unique(found.label[train])) < 2:
        raise DataError(
            f"{found.store.path}: found a single class among the training recordings, expected at least two"
        )
    return max(len(found.classes), most)


def recordings_of(found: ActionSet, test: NDArray[np.int64], protocol: str) -> Recordings:
    """Return the test recordings, each of which has one clip."""
    leaked = found.store.leaked(protocol).to_numpy(bool)
    names = set(found.store.to_frame()["recording"][leaked])
    name, device = found.name[test], found.place.device
    return Recordings(
        name=name,
        group=torch.arange(len(test), device=device),
        label=torch.from_numpy(found.label[test]).to(device),
        leaked=torch.tensor([one in names for one in name.tolist()], dtype=torch.bool, device=device),
    )


def evaluation_of(recordings: Recordings, logits: Tensor) -> Evaluation:
    """Score logits (G, classes) of the test recordings; keeps the scores and logits of each."""
    scores = score(recordings, logits.argmax(dim=1))
    if logits.shape[1] > TOP:
        scores[f"top{TOP}"] = topk(logits, recordings.label, TOP)
    return Evaluation(
        scores,
        {
            "recording": recordings.name,
            "label": recordings.label.cpu().numpy(),
            "leaked": recordings.leaked.cpu().numpy(),
            "score": logits.softmax(dim=1).cpu().numpy(),
            "logits": logits.cpu().numpy(),
        },
    )


def predict_actions(trained: Trained, store: str) -> pd.DataFrame:
    """Predict the class of each recording of a store: ``recording, label, class, probability``."""
    recipe, model = trained.metadata["recipe"], load_action_net(trained)
    data = open_actions(open_store(store), trained.world.device, recipe["data"]["parity"])
    trained.log(f"data: {data.account}")
    every = np.arange(len(data), dtype=np.int64)
    check_frames(data, every, "recordings")
    logits = answer(model, data, every, recipe["data"]["length"], recipe["precision"])
    probability, label = (value.cpu().numpy() for value in logits.softmax(dim=1).max(dim=1))
    classes = trained.metadata["classes"]
    known = [classes[k] if k < len(classes) else "" for k in label]
    return pd.DataFrame({"recording": data.name, "label": label, "class": known, "probability": probability})


TASK = Task(
    name="motion_action",
    title="action recognition from 2D poses (MotionBERT)",
    recipe=ActionRecipe,
    build=build_action,
    embed=embed_actions,
    predict=predict_actions,
)
