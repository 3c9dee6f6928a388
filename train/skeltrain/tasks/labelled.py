"""What tasks on labelled recordings share: stores and how they are read, the split, scores, predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from skeltrain.checkpoint import find_checkpoint, load_checkpoint, seed_everything
from skeltrain.data.holdout import find_leaked
from skeltrain.data.loader import DataError
from skeltrain.distributed import World
from skeltrain.engine import Evaluation
from skeltrain.metrics.classification import group_mean, mean_class, top1
from skeltrain.models.registry import build_backbone, load_backbone
from skeltrain.recipe import Section
from skeltrain.run_folder import RunError
from skeltrain.sections import Holdout, ImageData, Persons
from skeltrain.tasks.image_data import ImageSource, open_like, read_metadata
from skeltrain.tasks.registry import Trained

PRETRAINED = ("pretrain",)
"""Tasks whose encoders can be classified with."""


class LabelledData(Section):
    """Which recordings are read; null keeps what the checkpoint was pretrained with.

    Attributes
    ----------
    format
        ``own``: a store of another layout than the pretraining's is encoded by its own order of joints, which
        no model sees (S2I paper, section 4.3). ``model``: its joints are brought to the pretraining's layout
        by name. Null is ``own``, unless the pretraining itself brought joints to another layout.
    holdout
        As `skeltrain.sections.StoreData` has it; null keeps the pretraining's, ``{}`` takes it away.
    """

    store: str | None = None
    format: Literal["own", "model"] | None = None
    clean: str | None = None
    persons: Persons | None = None
    protocol: str | None = None
    train: str = "train"
    test: str = "test"
    holdout: Holdout | None = None


class Encoder(Section):
    """Whose features are classified.

    Attributes
    ----------
    run
        Folder of a pretraining run, or a checkpoint.
    random
        Take a fresh encoder of the same architecture instead, initialised by the recipe's seed.
    """

    run: str | None = None
    random: bool = False


@dataclass(frozen=True, eq=False)
class Recordings:
    """The test part: samples, and the recordings whose answers they share.

    Attributes
    ----------
    name
        (G,) names of the recordings.
    group
        (N_test,) int64: recording of each test sample; the answers of a recording's samples are averaged.
    label, leaked
        (G,) class of each test recording, and whether its motion also stands in the training part.
    """

    name: NDArray[np.str_]
    group: Tensor
    label: Tensor
    leaked: Tensor

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images, their split, and how answers are counted.

    Attributes
    ----------
    train, test
        Numbers of the labelled samples of the two parts.
    recordings
        Those of the test part.
    classes
        Number of classes.
    data
        The settings of the data as they are used.
    """

    source: ImageSource
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    recordings: Recordings
    classes: int
    data: LabelledData


def open_parent(where: Path, world: World) -> Trained:
    """Open the pretrained checkpoint that a run folder or a path means; raises `CheckpointError`."""
    path = find_checkpoint(where)
    return Trained(path, load_checkpoint(path, PRETRAINED), world)


def open_labelled(data: LabelledData, known: Trained) -> Labelled:
    """Load labelled data, encoded as the model of a checkpoint knows it.

    Raises
    ------
    RunError
        There is no protocol.
    DataError
        A part has no labels.
    """
    images = read_metadata(known.metadata, str(known.path)).images
    shared = {*LabelledData.model_fields} - {"format"}
    own = {name: value for name, value in data.model_dump(include=shared).items() if value is not None}
    settings = {**images.each()[0].model_dump(include=shared), **own}
    store = require_split(settings)
    remapped = any(one.format is not None for one in images.each())
    layout = data.format or ("model" if remapped else "own")
    source = open_like(known, store, layout, **{**settings, "format": None})
    return split_labelled(source, layout)


def require_split(settings: dict[str, Any]) -> str:
    """Take the store out of settings; raises `RunError` or `DataError` without it, or without a protocol."""
    if settings["protocol"] is None:
        raise RunError(
            "found no protocol, expected one whose training and test parts are used. Neither the recipe nor "
            "the pretraining has any; name it with --set data.protocol=NAME"
        )
    store = settings.pop("store")
    if store is None:
        raise DataError("found no store, expected the folder of one. Give it with --store STORE")
    return str(store)


def split_labelled(source: ImageSource, layout: Literal["own", "model"]) -> Labelled:
    """Find the labelled samples of both parts of the one store of ``source``, and the test recordings."""
    samples, images, used = source.images.mixture.sets[0], source.images, source.stores[0]
    label = samples.table["label"].to_numpy(np.int64)
    train, test = (part[label[part] >= 0] for part in (source.part("train"), source.part("test")))
    if not len(train) or not len(test):
        part = used.test if len(train) else used.train
        raise DataError(
            f"{used.store}: found no labels in part {part!r}, "
            "expected a class for its samples. A classifier needs labelled data"
        )
    names = samples.table["recording"].to_numpy(object)[test]
    group, _ = pd.factorize(names)
    _, first = np.unique(group, return_index=True)
    leaked = find_leaked(samples, used)[test][first]

    def on_device(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(images.device)

    return Labelled(
        source=source,
        train=train,
        test=test,
        recordings=Recordings(
            name=names[first].astype(str),
            group=on_device(group.astype(np.int64)),
            label=on_device(label[test][first]),
            leaked=on_device(leaked),
        ),
        classes=max(len(samples.classes), int(label.max()) + 1),
        data=LabelledData(**{**used.model_dump(), "format": layout}),
    )


def used_images(images: ImageData, found: Labelled) -> ImageData:
    """Return the settings of images as they were used on labelled data, for a checkpoint's metadata."""
    used = found.data.model_dump(exclude={"format"})
    kept = images.format if found.data.format == "model" else None
    return images.model_copy(update={**used, "format": kept, "stores": (), "statistics": 0})


def evaluate_answers(found: Labelled, answers: Tensor) -> Evaluation:
    """Score logits (N_test, classes) of the test samples; keeps scores and logits of each recording."""
    recordings = found.recordings
    logits = group_mean(answers, recordings.group, len(recordings))
    return Evaluation(
        score(recordings, logits.argmax(dim=1)),
        {
            "recording": recordings.name,
            "label": recordings.label.cpu().numpy(),
            "leaked": recordings.leaked.cpu().numpy(),
            "score": logits.float().softmax(dim=1).cpu().numpy(),
            "logits": logits.float().cpu().numpy(),
        },
    )


def score(recordings: Recordings, prediction: Tensor) -> dict[str, float]:
    """Score the predicted classes (G,) of the test recordings, with and without the leaked ones."""
    label, leaked = recordings.label, recordings.leaked
    scores = {"top1": top1(prediction, label), "mean_class": mean_class(prediction, label)}
    clean = ~leaked
    if bool(leaked.any()) and bool(clean.any()):
        scores["top1_without_leaked"] = top1(prediction[clean], label[clean])
        scores["mean_class_without_leaked"] = mean_class(prediction[clean], label[clean])
    return scores


@torch.no_grad()
def predict_table(
    trained: Trained, store: str, answer: Callable[[ImageSource, NDArray[np.int64]], Tensor]
) -> pd.DataFrame:
    """Predict the class of each recording of a store: ``recording, label, class, probability``.

    Parameters
    ----------
    answer
        Gives the logits (N, classes) of samples of a source.
    """
    source = open_like(trained, store)
    samples = source.images.mixture.sets[0]
    answers = answer(source, np.arange(len(samples), dtype=np.int64))
    group, names = pd.factorize(samples.table["recording"].to_numpy(object))
    on_device = torch.from_numpy(group.astype(np.int64)).to(trained.world.device)
    logits = group_mean(answers, on_device, len(names))
    probability, label = (value.cpu().numpy() for value in logits.softmax(dim=1).max(dim=1))
    classes = read_metadata(trained.metadata, str(trained.path)).classes[0]
    known = [classes[k] if k < len(classes) else "" for k in label]
    return pd.DataFrame({"recording": names, "label": label, "class": known, "probability": probability})


def load_encoder(checkpoint: Mapping[str, Any]) -> VisionTransformer:
    """Build the pretrained encoder of a checkpoint."""
    encoder = load_backbone(checkpoint)
    assert isinstance(encoder, VisionTransformer)
    return encoder


def random_encoder(checkpoint: Mapping[str, Any], seed: int) -> VisionTransformer:
    """Build an encoder of the same architecture with random weights."""
    seed_everything(seed)
    encoder = build_backbone(checkpoint)
    assert isinstance(encoder, VisionTransformer)
    return encoder
