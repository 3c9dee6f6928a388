"""Linear probe: how well a linear classifier does on the features of a frozen encoder (S2I paper, Table
13).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from skeltrain.checkpoint import find_checkpoint, load_checkpoint, seed_everything
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.features import FeatureBatch, FeatureCollator, compute_features
from skeltrain.data.images import Normalise
from skeltrain.data.loader import DataError, Loader, SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.distributed import World, require_single_process
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.metrics.classification import group_mean, mean_class, nearest_neighbour, top1
from skeltrain.models.classifier import LinearProbe
from skeltrain.models.registry import build_backbone, load_backbone, load_model
from skeltrain.recipe import Optim, Recipe, Section
from skeltrain.run_folder import RunError
from skeltrain.sections import Augment, Persons
from skeltrain.tasks.embedding import embed_images
from skeltrain.tasks.image_data import ImageSource, image_metadata, open_like, read_metadata
from skeltrain.tasks.registry import Context, Task, Trained

PRETRAINED = ("pretrain",)
"""Tasks whose encoders can be probed."""


class ProbeData(Section):
    """What a probe reads; null keeps what the checkpoint was pretrained with.

    Image size, stream and normalisation always are the checkpoint's.
    """

    store: str | None = None
    clean: str | None = None
    persons: Persons | None = None
    protocol: str | None = None
    train: str = "train"
    test: str = "test"


class Head(Section):
    """The classifier on frozen features (S2I paper, section 4.2 and Table 13).

    Attributes
    ----------
    pooling
        How tokens become a feature: the class token, or the mean of the patches.
    bn
        Normalise the features over the batch first, without learned scale.
    """

    pooling: Literal["token", "avg"] = "token"
    bn: bool = True


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


class ProbeRecipe(Recipe):
    """Linear probe: a linear classifier on the features of a frozen encoder.

    Attributes
    ----------
    seeds
        `skeltrain probe` trains one probe for each, in place of ``seed``; accuracies are given as mean and
        standard deviation.
    untrained
        `skeltrain probe` also probes random encoders of the same architecture, a new one for each seed.
    """

    task: Literal["probe"] = "probe"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    untrained: bool = False
    encoder: Encoder = Encoder()
    data: ProbeData = ProbeData()
    augment: Augment = Augment()
    head: Head = Head()
    optim: Optim = Optim(name="sgd", blr=0.2, batch=128, weight_decay=0.0, epochs=100, warmup=10)


class ProbeTask(nn.Module):
    """Cross entropy of a linear probe, on images or on features that were computed before."""

    def __init__(self, model: LinearProbe) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ImageBatch | FeatureBatch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy`` on the batch itself."""
        feature = batch.feature if isinstance(batch, FeatureBatch) else self.model.features(batch.image)
        logits = self.model.logits_from_features(feature)
        right = (logits.argmax(dim=1) == batch.label).float()
        return {"loss": functional.cross_entropy(logits, batch.label), "accuracy": right.mean()}


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class ProbeInput:
    """What every probe of an encoder shares: the data, its split, and how answers are counted.

    Attributes
    ----------
    parent
        Checkpoint of the encoder.
    train, test
        Numbers of the labelled samples of the two parts.
    recordings
        Those of the test part.
    classes
        Number of classes.
    data
        The settings of the data as they are used.
    """

    parent: Trained
    source: ImageSource
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    recordings: Recordings
    classes: int
    data: ProbeData


@dataclass(frozen=True)
class EncodedSplits:
    """An encoder, and the features (N, D) of the training and the test samples that it gives."""

    encoder: VisionTransformer
    train: Tensor
    test: Tensor


def open_parent(where: Path, world: World) -> Trained:
    """Open the pretrained checkpoint that a run folder or a path means; raises `CheckpointError`."""
    path = find_checkpoint(where)
    return Trained(path, load_checkpoint(path, PRETRAINED), world)


def open_input(recipe: ProbeRecipe, parent: Trained) -> ProbeInput:
    """Load the data of a probe, encoded as the encoder knows it.

    Raises
    ------
    RunError
        There is no protocol.
    DataError
        A part has no labels.
    """
    known = read_metadata(parent.metadata, str(parent.path)).images.each()[0]
    settings = {**known.model_dump(), **recipe.data.model_dump(exclude_none=True)}
    if settings["protocol"] is None:
        raise RunError(
            "found no protocol, expected one whose training and test parts the probe uses. The encoder was "
            "pretrained on all samples; name the protocol with --set data.protocol=NAME"
        )
    if settings["store"] is None:
        raise DataError("found no store, expected the folder of one. Give it with --store STORE")
    settings.pop("format")
    source = open_like(parent, settings.pop("store"), **settings, format=None)
    samples, images = source.images.mixture.sets[0], source.images
    label = samples.table["label"].to_numpy(np.int64)
    train, test = (part[label[part] >= 0] for part in (source.part("train"), source.part("test")))
    if not len(train) or not len(test):
        part = recipe.data.test if len(train) else recipe.data.train
        raise DataError(
            f"{source.stores[0].store}: found no labels in part {part!r}, "
            "expected a class for its samples. A probe needs labelled data"
        )
    names = samples.table["recording"].to_numpy(object)[test]
    group, _ = pd.factorize(names)
    _, first = np.unique(group, return_index=True)
    leaked = samples.leaked(settings["protocol"])[test][first]

    def on_device(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(images.device)

    used = source.stores[0].model_dump(include=set(ProbeData.model_fields))
    return ProbeInput(
        parent=parent,
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
        data=ProbeData(**used),
    )


def encode_splits(found: ProbeInput, recipe: ProbeRecipe, encoder: VisionTransformer) -> EncodedSplits:
    """Compute the features of both parts, once: an encoder in evaluation mode gives them in every epoch."""
    device = found.source.images.device
    encoder = encoder.to(device)
    normalise = Normalise(found.source.statistics, device)
    train, test = (
        compute_features(
            encoder, recipe.head.pooling, found.source.images, normalise, index, recipe.precision
        )
        for index in (found.train, found.test)
    )
    return EncodedSplits(encoder, train, test)


def build_job(recipe: ProbeRecipe, found: ProbeInput, splits: EncodedSplits) -> Job:
    """Put a probe of an encoder together, under the recipe's seed.

    With augmentation the training images are encoded anew in every epoch; without, the features are at hand.
    """
    optim, head, source = recipe.optim, recipe.head, found.source
    seed_everything(recipe.seed)
    probe = LinearProbe(splits.encoder, found.classes, head_bn=head.bn, pool=head.pooling)
    task = ProbeTask(probe.to(source.images.device))
    loader: Loader
    if recipe.augment.active:
        sampler = EpochSampler(found.train, optim.batch, optim.accum, recipe.seed, drop_last=optim.drop_last)
        loader = SampleLoader(sampler, ImageCollator(source.images, source.statistics, recipe.augment))
    else:
        rows = np.arange(len(found.train), dtype=np.int64)
        sampler = EpochSampler(rows, optim.batch, optim.accum, recipe.seed, drop_last=optim.drop_last)
        loader = SampleLoader(sampler, FeatureCollator(splits.train, source.images.labels(found.train)))

    def evaluate(module: nn.Module) -> Evaluation:
        head = module.get_submodule("model")
        assert isinstance(head, LinearProbe)
        answers = head.logits_from_features(splits.test)
        logits = group_mean(answers, found.recordings.group, len(found.recordings))
        return Evaluation(
            score(found.recordings, logits.argmax(dim=1)),
            {
                "recording": found.recordings.name,
                "label": found.recordings.label.cpu().numpy(),
                "score": logits.float().softmax(dim=1).cpu().numpy(),
            },
        )

    described = dict(found.parent.metadata["model"])
    config = {"encoder": described, "classes": found.classes, "head_bn": head.bn, "pool": head.pooling}
    images = read_metadata(found.parent.metadata, str(found.parent.path)).images
    kept = images.model_copy(update={**found.data.model_dump(), "stores": (), "statistics": 0})
    return Job(
        module=task,
        loader=loader,
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata=image_metadata(recipe, kept, source, {"family": "linear_probe", "config": config}),
        evaluators=[Evaluator("test", evaluate)],
        monitor=("top1", False),
    )


def build_probe(recipe: ProbeRecipe, context: Context) -> Job:
    """Put the probe of the encoder together that ``recipe.encoder`` names."""
    require_single_process("a probe")
    if recipe.encoder.run is None:
        raise RunError(
            "found no encoder to probe, expected the folder of a pretraining run. Give it with "
            "--set encoder.run=RUN, or run `skeltrain probe RUN`"
        )
    parent = open_parent(Path(recipe.encoder.run), context.world)
    found = open_input(recipe, parent)
    if recipe.encoder.random:
        encoder = random_encoder(parent.checkpoint, recipe.seed)
    else:
        encoder = load_encoder(parent.checkpoint)
    context.log(describe_input(found))
    return build_job(recipe, found, encode_splits(found, recipe, encoder))


def describe_input(found: ProbeInput) -> str:
    """Say in a line what is probed on what."""
    parent, leaked = found.parent, int(found.recordings.leaked.sum())
    return (
        f"probe of {parent.path} after {parent.checkpoint['progress']['epoch']} epochs: {len(found.train)} "
        f"training and {len(found.recordings)} test samples, {leaked} of these leaked"
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


def score_neighbours(found: ProbeInput, splits: EncodedSplits) -> dict[str, float]:
    """Score the classes of the nearest training samples of the test recordings; nothing is trained."""
    mean = group_mean(splits.test, found.recordings.group, len(found.recordings))
    near = nearest_neighbour(splits.train, found.source.images.labels(found.train), mean)
    scores = score(found.recordings, near)
    return {f"knn_{name}": value for name, value in scores.items() if "class" not in name}


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


@torch.no_grad()
def predict_labels(trained: Trained, store: str) -> pd.DataFrame:
    """Predict the class of each recording of a store: ``recording, label, class, probability``."""
    source = open_like(trained, store)
    samples = source.images.mixture.sets[0]
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    assert isinstance(model, LinearProbe)
    index = np.arange(len(samples), dtype=np.int64)
    normalise = Normalise(source.statistics, trained.world.device)
    precision = trained.metadata["recipe"]["precision"]
    feature = compute_features(model.encoder, model.pool, source.images, normalise, index, precision)
    group, names = pd.factorize(samples.table["recording"].to_numpy(object))
    on_device = torch.from_numpy(group.astype(np.int64)).to(trained.world.device)
    logits = group_mean(model.logits_from_features(feature), on_device, len(names))
    probability, label = (value.cpu().numpy() for value in logits.softmax(dim=1).max(dim=1))
    classes = read_metadata(trained.metadata, str(trained.path)).classes[0]
    known = [classes[k] if k < len(classes) else "" for k in label]
    return pd.DataFrame({"recording": names, "label": label, "class": known, "probability": probability})


TASK = Task(
    name="probe",
    title="linear classifier on the features of a frozen encoder",
    recipe=ProbeRecipe,
    build=build_probe,
    embed=embed_images,
    predict=predict_labels,
)
