"""What the tasks on actions share: the head and its learning rate, partial training, answers, features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from skelconv.store.store import Store, open_store
from skeltrain.checkpoint import CheckpointError
from skeltrain.data.action_batches import even_clips
from skeltrain.data.action_sets import ActionSet, open_actions
from skeltrain.data.loader import DataError
from skeltrain.distributed import autocast
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.motion_heads import ActionNet, Pooling
from skeltrain.models.registry import build, describe, load_model
from skeltrain.recipe import NotNegative, Optim, Positive, Section
from skeltrain.run_folder import RunError
from skeltrain.sections import Init
from skeltrain.tasks.motion_common import Network, load_weights
from skeltrain.tasks.registry import Context, Features, Trained

FAMILY = "action_net"

EVALUATION_BATCH = 16
"""Recordings that are put through the network at once in an evaluation."""

HEAD_RATE = 10.0
"""The head's learning rate in units of the backbone's (MotionBERT, sections 4.1 and A.1)."""

ACTION_OPTIM = Optim(
    blr=1e-3,
    lr_scale_rule="none",
    batch=32,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    epochs=300,
    warmup=0,
    schedule="exponential",
    schedule_by="epoch",
    decay=0.99,
)
"""How the released code fine-tunes on actions; one-shot recognition differs in its 50 epochs."""


class Head(Section):
    """The head on the backbone (MotionBERT, section A.1 and model_action.py).

    Attributes
    ----------
    dropout
        Part of the features that training drops.
    hidden
        Width of its hidden layer.
    pooling
        ``code`` drops features of every frame and then takes the mean; ``paper`` the other way round.
    """

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    hidden: Positive = 2048
    pooling: Pooling = "code"


class Tuning(Section):
    """How the backbone is trained beside its head, whose learning rate is that of ``optim``.

    Attributes
    ----------
    backbone_lr
        Learning rate of the backbone in units of the head's.
    trainable
        Parts of the names of the backbone's parameters that are trained (MotionBERT's ``partial_train``);
        null is all of them, and an empty list none: a frozen backbone.
    """

    backbone_lr: NotNegative = 1 / HEAD_RATE
    trainable: tuple[str, ...] | None = None


def build_model(
    network: Network, settings: Mapping[str, Any], init: Init, context: Context
) -> tuple[ActionNet, dict[str, Any]]:
    """Build backbone and head of a recipe; a fresh run takes the weights that ``init`` names.

    Returns
    -------
    The model, and what a checkpoint's metadata says of it.

    Raises
    ------
    ModelError, WeightsError, CheckpointError
        The settings make no network, or the weights do not fit.
    """
    described = describe(FAMILY, {"backbone": network.model_dump(), **settings})
    model = build(FAMILY, described["config"])
    assert isinstance(model, ActionNet)
    if init.weights is not None and context.checkpoint is None:
        context.log(load_weights(model, init.weights))
    return model, described


def choose_trainable(backbone: DSTformer, tuning: Tuning) -> None:
    """Freeze what is not to be trained; raises `RunError` where a name means no parameter."""
    names = [name for name, _ in backbone.named_parameters()]
    # its last layer predicts motion, which no head on the representation asks for
    unused = {name for name in names if name.startswith("head.")}
    wanted = ("",) if tuning.trainable is None else tuning.trainable
    for part in wanted:
        if not any(part in name for name in names):
            raise RunError(
                f"found tuning.trainable with {part!r}, expected a part of the name of a parameter, such as "
                f"{names[0]} or blocks_st.{backbone.depth - 1}. An empty list freezes the backbone"
            )
    for name, value in backbone.named_parameters():
        value.requires_grad_(name not in unused and any(part in name for part in wanted))


def two_rates(model: ActionNet, optim: Optim, backbone_lr: float) -> Optimizer:
    """Return an optimiser in which the backbone learns at ``backbone_lr`` times the rate of the head.

    Every parameter decays, vectors too, as in the released code (train_action.py).
    """
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr_scale": scale}
        for part, scale in ((model.backbone, backbone_lr), (model.head, 1.0))
    ]
    groups = [group for group in groups if group["params"]]
    if optim.name == "sgd":
        return SGD(
            groups, lr=optim.peak_lr, momentum=optim.momentum, nesterov=True, weight_decay=optim.weight_decay
        )
    return AdamW(groups, lr=optim.peak_lr, betas=optim.betas, weight_decay=optim.weight_decay)


def describe_model(model: ActionNet, precision: str) -> str:
    """Say how large a model is, and how much of it is trained."""
    total, trained = (
        sum(p.numel() for p in model.parameters() if not only or p.requires_grad) / 1e6
        for only in (False, True)
    )
    return (
        f"model: DSTformer and head, {total:.2f} M parameters, {trained:.2f} M of them trained, {precision}"
    )


def open_store_of(where: str | None) -> Store:
    """Open the store that a recipe names; raises `DataError`, `StoreError`."""
    if where is None:
        raise DataError("found no store, expected the folder of one. Give it with --store STORE")
    return open_store(where)


@torch.no_grad()
def answer(
    model: nn.Module, data: ActionSet, index: NDArray[np.int64], length: int, precision: str
) -> Tensor:
    """Return what a model makes of recordings, (n, D) float32, from clips of evenly spaced frames."""
    model.eval()
    found = []
    for clips in even_clips(data, index, length, EVALUATION_BATCH):
        with autocast(data.place.device, precision):
            found.append(model(clips).float())
    return torch.cat(found)


@torch.no_grad()
def embed_actions(trained: Trained, store: str) -> Features:
    """Return a feature for each recording of a store: what the head gets, or of embeddings what it gives.

    What the head gets is the representation's mean over frames and persons, (17 joints times its width).
    """
    recipe = trained.metadata["recipe"]
    model = load_action_net(trained)
    data = open_actions(open_store(store), trained.world.device, recipe["data"]["parity"])
    trained.log(f"data: {data.account}")
    is_embedding = trained.metadata["model"]["config"].get("version") == "embed"
    module: nn.Module = model if is_embedding else _Pooled(model.backbone)
    index = np.arange(len(data), dtype=np.int64)
    feature = answer(module, data, index, recipe["data"]["length"], recipe["precision"])
    return Features(
        feature.cpu().numpy(),
        data.table,
        {
            "pooling": "head" if is_embedding else "mean over frames and persons",
            "precision": recipe["precision"],
            "poses": data.account,
            "store": data.identity,
        },
    )


def load_action_net(trained: Trained) -> ActionNet:
    """Return the model of a checkpoint, on its device and in evaluation mode; raises `CheckpointError`."""
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    if not isinstance(model, ActionNet):
        raise CheckpointError(
            f"{trained.path}: found a {type(model).__name__}, expected a network with an action head"
        )
    return model


class _Pooled(nn.Module):
    """Representations of clips, their mean over frames and persons."""

    def __init__(self, backbone: DSTformer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x_NMTJ3: Tensor) -> Tensor:
        feature = self.backbone.get_representation(x_NMTJ3.flatten(0, 1))
        return feature.view(*x_NMTJ3.shape[:4], -1).mean(dim=(1, 2)).flatten(1)


def names_of(data: ActionSet, label: NDArray[np.int64]) -> list[str]:
    """Return the names of classes; empty where the store has none."""
    return [data.classes[k] if 0 <= k < len(data.classes) else "" for k in label.tolist()]


Version = Literal["class", "embed"]


def settings_of(head: Head, version: Version, classes: int | None = None) -> dict[str, Any]:
    """Return the settings of an `ActionNet` besides its backbone."""
    settings: dict[str, Any] = {
        "dropout_ratio": head.dropout,
        "hidden_dim": head.hidden,
        "pooling": head.pooling,
        "version": version,
    }
    if classes is not None:
        settings["num_classes"] = classes
    return settings
