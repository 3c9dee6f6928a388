"""Linear probe: how well a linear classifier does on the features of a frozen encoder (S2I paper, Table
13).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from skeltrain.checkpoint import seed_everything
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.features import FeatureBatch, FeatureCollator, compute_features
from skeltrain.data.images import Normalise
from skeltrain.data.loader import Loader, SampleLoader
from skeltrain.data.sampler import EpochSampler
from skeltrain.distributed import require_single_process
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.metrics.classification import group_mean, nearest_neighbour
from skeltrain.models.classifier import LinearProbe
from skeltrain.models.registry import load_model
from skeltrain.recipe import Optim, Recipe, Section
from skeltrain.run_folder import ABOUT, RunError
from skeltrain.sections import Augment
from skeltrain.tasks.about import describe_pretraining, describe_trial
from skeltrain.tasks.embedding import embed_images
from skeltrain.tasks.image_data import ImageSource, image_metadata, read_metadata
from skeltrain.tasks.labelled import (
    Encoder,
    Labelled,
    LabelledData,
    evaluate_answers,
    open_labelled,
    open_parent,
    predict_table,
    score,
    used_images,
)
from skeltrain.tasks.labelled import load_encoder as load_encoder
from skeltrain.tasks.labelled import random_encoder as random_encoder
from skeltrain.tasks.labels import Labels, labelled_rows
from skeltrain.tasks.registry import Context, Task, Trained


class ProbeData(LabelledData):
    """What a probe reads; image size, streams and normalisation always are the checkpoint's."""


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


class ProbeRecipe(Recipe):
    """Linear probe: a linear classifier on the features of a frozen encoder.

    Attributes
    ----------
    seeds
        `skeltrain probe` trains one probe for each, in place of ``seed``; accuracies are given as mean and
        standard deviation.
    untrained
        `skeltrain probe` also probes random encoders of the same architecture, a new one for each seed.
    labels
        How much of the training part is used, by the probe and by the nearest neighbours.
    """

    task: Literal["probe"] = "probe"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    untrained: bool = False
    encoder: Encoder = Encoder()
    data: ProbeData = ProbeData()
    augment: Augment = Augment()
    labels: Labels = Labels()
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
class ProbeInput(Labelled):
    """What every probe of an encoder shares: labelled data, and ``parent``, the encoder's checkpoint."""

    parent: Trained


@dataclass(frozen=True, eq=False)
class EncodedSplits:
    """An encoder, and the features (N, D) of the training and the test samples that it gives."""

    encoder: VisionTransformer
    train: Tensor
    test: Tensor


def open_input(recipe: ProbeRecipe, parent: Trained) -> ProbeInput:
    """Load the data of a probe, encoded as the encoder knows it; errors as for `open_labelled`."""
    return ProbeInput(**vars(open_labelled(recipe.data, parent)), parent=parent)


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


def build_job(
    recipe: ProbeRecipe, found: ProbeInput, splits: EncodedSplits, trained_here: bool = True
) -> Job:
    """Put a probe of an encoder together, under the recipe's seed.

    With augmentation the training images are encoded anew in every epoch; without, the features are at hand.
    ``trained_here`` is false where a probe of other data is evaluated on these.
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
        return evaluate_answers(found, head.logits_from_features(splits.test))

    described = dict(found.parent.metadata["model"])
    config = {"encoder": described, "classes": found.classes, "head_bn": head.bn, "pool": head.pooling}
    images = read_metadata(found.parent.metadata, str(found.parent.path)).images
    metadata = image_metadata(
        recipe, used_images(images, found), source, {"family": "linear_probe", "config": config}
    )
    origin = "random" if recipe.encoder.random else "pretrained"
    before = describe_pretraining(found.parent)
    about = describe_trial(recipe, found, origin, before, trained_here=trained_here)
    return Job(
        module=task,
        loader=loader,
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata={**metadata, ABOUT: about},
        evaluators=[Evaluator("test", evaluate)],
        monitor=("top1", False),
    )


def take_labelled(
    recipe: ProbeRecipe, found: ProbeInput, splits: EncodedSplits
) -> tuple[ProbeInput, EncodedSplits]:
    """Leave in the training part what the recipe's ``labels`` pick under its seed."""
    rows = labelled_rows(found.source, found.train, recipe.labels, recipe.seed)
    kept = torch.from_numpy(rows).to(splits.train.device)
    return replace(found, train=found.train[rows]), replace(splits, train=splits.train[kept])


def build_probe(recipe: ProbeRecipe, context: Context) -> Job:
    """Put the probe of the encoder together that ``recipe.encoder`` names."""
    require_single_process("a probe")
    if recipe.encoder.run is None:
        raise RunError(
            "found no encoder to probe, expected the folder of a pretraining run. Give it with "
            "--set encoder.run=RUN, or run `skeltrain probe RUN`"
        )
    parent = open_parent(Path(recipe.encoder.run), context.world)
    # the model first: what is wrong with it is said before data is read
    if recipe.encoder.random:
        encoder = random_encoder(parent.checkpoint, recipe.seed)
    else:
        encoder = load_encoder(parent.checkpoint)
    found = open_input(recipe, parent)
    context.log(describe_input(found))
    picked = take_labelled(recipe, found, encode_splits(found, recipe, encoder))
    return build_job(recipe, *picked, trained_here=context.same_data)


def describe_input(found: ProbeInput) -> str:
    """Say in a line what is probed on what."""
    parent, leaked = found.parent, int(found.recordings.leaked.sum())
    return (
        f"probe of {parent.path} after {parent.checkpoint['progress']['epoch']} epochs: {len(found.train)} "
        f"training and {len(found.recordings)} test samples, {leaked} of these leaked"
    )


def score_neighbours(found: ProbeInput, splits: EncodedSplits) -> dict[str, float]:
    """Score the classes of the nearest training samples of the test recordings; nothing is trained."""
    mean = group_mean(splits.test, found.recordings.group, len(found.recordings))
    near = nearest_neighbour(splits.train, found.source.images.labels(found.train), mean)
    scores = score(found.recordings, near)
    return {f"knn_{name}": value for name, value in scores.items() if "class" not in name}


def predict_labels(trained: Trained, store: str) -> pd.DataFrame:
    """Predict the class of each recording of a store (`predict_table`)."""
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    assert isinstance(model, LinearProbe)
    precision = trained.metadata["recipe"]["precision"]

    def answer(source: ImageSource, index: NDArray[np.int64]) -> Tensor:
        normalise = Normalise(source.statistics, trained.world.device)
        feature = compute_features(model.encoder, model.pool, source.images, normalise, index, precision)
        return model.logits_from_features(feature)

    return predict_table(trained, store, answer)


TASK = Task(
    name="probe",
    title="linear classifier on the features of a frozen encoder",
    recipe=ProbeRecipe,
    build=build_probe,
    embed=embed_images,
    predict=predict_labels,
)
