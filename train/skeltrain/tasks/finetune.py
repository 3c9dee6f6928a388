"""Fine-tuning: an encoder and a linear classifier on it, all trained (S2I paper, Table 12 and section A.3).

The encoder is a pretrained one, a fresh one of the same architecture, one from a file, or one from scratch
that the recipe describes itself. With few of the labels it is the paper's semi-supervised protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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

from skeltrain.checkpoint import seed_everything
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.images import Normalise, chunks
from skeltrain.data.loader import SampleLoader
from skeltrain.data.sampler import EpochSampler, MicroBatch, Purpose
from skeltrain.distributed import autocast, precision_on
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.models.classifier import Classifier, build_fresh
from skeltrain.models.encoder import set_drop_path
from skeltrain.models.registry import describe, load_model
from skeltrain.models.weights import load_encoder as load_weights
from skeltrain.recipe import Fraction, NotNegative, Optim, OptionalSide, Positive, Recipe, Section
from skeltrain.run_folder import ABOUT, RunError
from skeltrain.sections import Augment, ImageData, OptionalStreams, Share
from skeltrain.tasks.about import describe_pretraining, describe_trial
from skeltrain.tasks.embedding import embed_images
from skeltrain.tasks.image_data import ImageSource, check_data, image_metadata, open_images, read_metadata
from skeltrain.tasks.labelled import (
    Encoder,
    Labelled,
    LabelledData,
    evaluate_answers,
    load_encoder,
    open_labelled,
    open_parent,
    predict_table,
    require_split,
    split_labelled,
    used_images,
)
from skeltrain.tasks.labels import Labels, labelled_rows
from skeltrain.tasks.labels import pick_labels as pick_labels
from skeltrain.tasks.registry import Context, Task, Trained

EVALUATION_BATCH = 128
"""Images that are classified at once in an evaluation."""

OF_IMAGES = ("stream", "image_size", "align_corners")
"""Settings of the images, which a pretrained encoder brings along."""


class FinetuneData(LabelledData):
    """Which recordings are read, and from scratch how they become images (`skeltrain.sections.ImageData`).

    Attributes
    ----------
    stream, image_size, align_corners
        Null is what the encoder was pretrained with, or from scratch the default of pretraining.
    """

    stream: OptionalStreams = None
    image_size: OptionalSide = None
    align_corners: bool | None = None


class StartingEncoder(Encoder):
    """The encoder to start from.

    Attributes
    ----------
    weights
        Without ``run``: a file or hub id (`skeltrain.models.weights`) for the network of ``model``.
    """

    weights: str | None = None


class Network(Section):
    """The encoder without ``encoder.run``: a preset, and what to change in it (null keeps its value)."""

    preset: str = "vit_base"
    patch_size: OptionalSide = None
    embed_dim: Positive | None = None
    depth: Positive | None = None
    num_heads: Positive | None = None
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    attention: Literal["auto", "fused", "explicit"] = "fused"


class Tuning(Section):
    """How the network is trained (S2I paper, Table 12 and section A.3).

    Attributes
    ----------
    pooling
        How tokens become a feature: ``token``, the class token; ``avg``, the mean of the patches, and then a
        normalisation that starts afresh, as in MAE.
    layer_decay
        Factor of the learning rate from each layer to the one before it.
    drop_path
        Probability of skipping the last block; it grows linearly from 0 in the first.
    patch_drop
        Share of the patches that each sample loses in each training step, rounded down; none is lost in
        evaluation (`skeltrain.models.classifier.Classifier`).
    label_smoothing
        Part of a label that is spread over all classes.
    mixup
        Parameter of the Beta distribution of how two samples are mixed (Zhang et al. 2018); 0 mixes none.
        Partners are those of the whole step, however it is divided among parts and processes.
    """

    pooling: Literal["token", "avg"] = "token"
    layer_decay: Share = 0.75
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1
    patch_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Fraction = 0.0
    mixup: NotNegative = 0.0


class FinetuneRecipe(Recipe):
    """Fine-tuning, or training from scratch, of a classifier.

    Attributes
    ----------
    seeds
        `skeltrain finetune` trains once for each, in place of ``seed``.
    untrained
        `skeltrain finetune` also trains encoders of the same architecture from scratch, under each seed.
    """

    task: Literal["finetune"] = "finetune"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    untrained: bool = False
    encoder: StartingEncoder = StartingEncoder()
    model: Network | None = None
    data: FinetuneData = FinetuneData()
    labels: Labels = Labels()
    augment: Augment = Augment()
    tuning: Tuning = Tuning()
    optim: Optim = Optim(
        blr=1e-3, batch=128, weight_decay=0.05, betas=(0.9, 0.999), epochs=100, warmup=10, min_lr=1e-6
    )


@dataclass(frozen=True)
class MixBatch(ImageBatch):
    """A part of a step, and the samples that its own are mixed with: ``partner``, in reversed order."""

    partner: ImageBatch


class MixCollator:
    """Makes the images of a micro batch and of its partners: the step's n-th sample and its n-th last."""

    def __init__(self, collate: ImageCollator) -> None:
        self._collate = collate

    def __call__(self, micro: MicroBatch) -> ImageBatch:
        """Collate a micro batch; a whole step has its partners within."""
        batch, step = self._collate(micro), len(micro.index)
        first, stop, _ = micro.part.indices(step)
        if (first, stop) == (step - stop, step - first):
            return batch
        partner = self._collate(replace(micro, part=slice(step - stop, step - first)))
        return MixBatch(**vars(batch), partner=partner)


class FinetuneTask(nn.Module):
    """Cross entropy of a classifier of images."""

    def __init__(self, model: Classifier, tuning: Tuning) -> None:
        super().__init__()
        self.model = model
        self._smoothing = tuning.label_smoothing
        self._mixup = tuning.mixup

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy`` on the batch itself (not where samples are mixed)."""
        image, label = batch.image, batch.label
        if self._mixup > 0:
            kept = self._share(batch)
            partner = batch.partner if isinstance(batch, MixBatch) else batch
            logits = self.model(image * kept + partner.image.flip(0) * (1 - kept))
            loss = kept * self._loss(logits, label) + (1 - kept) * self._loss(logits, partner.label.flip(0))
            return {"loss": loss}
        logits = self.model(image)
        right = (logits.argmax(dim=1) == label).float()
        return {"loss": self._loss(logits, label), "accuracy": right.mean()}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone: random numbers are drawn outside, where their generator is known."""
        self.model.compile(*args, **kwargs)

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(logits, label, label_smoothing=self._smoothing)

    def _share(self, batch: ImageBatch) -> float:
        """Draw how much of itself a sample keeps, from Beta(a, a); one draw a step."""
        micro = batch.micro
        seed = micro.generator(Purpose.MIXUP).initial_seed()
        return float(np.random.default_rng(seed).beta(self._mixup, self._mixup))


@dataclass(frozen=True)
class Start:
    """Where a classifier starts from.

    Attributes
    ----------
    encoder
        With its weights, as they are at the start.
    described
        Family and settings of the encoder (`skeltrain.models.registry`).
    known
        The checkpoint that says how recordings become images: the pretraining's, or that of a run that goes
        on or is evaluated; None for a fresh run from scratch.
    account
        What to say of it.
    origin
        Where it comes from (`skeltrain.tasks.about.ENCODERS`).
    pretraining
        What is known of its pretraining (`skeltrain.tasks.about.describe_pretraining`).
    """

    encoder: VisionTransformer
    described: Mapping[str, Any]
    known: Trained | None
    account: str
    origin: str
    pretraining: Mapping[str, Any] | None = None


def find_start(recipe: FinetuneRecipe, context: Context) -> Start:
    """Build the encoder that a recipe names; one of a run that goes on gets its weights from the engine.

    Raises
    ------
    RunError
        The recipe names no encoder, or describes one beside ``encoder.run``.
    SkelconvError
        Of the kind that fits: the checkpoint or the weights cannot be read, or the sizes make no model.
    """
    named, network = recipe.encoder, recipe.model
    seed_everything(recipe.seed)
    if context.checkpoint is not None:
        known = Trained(Path("the checkpoint of the run"), context.checkpoint, context.world)
        described = context.checkpoint["metadata"]["model"]["config"]["encoder"]
        about = context.checkpoint["metadata"].get(ABOUT, {})
        origin, before = about.get("encoder", "unknown"), about.get("pretraining")
        return Start(build_fresh(described), described, known, "the run's own encoder", origin, before)
    if named.run is not None:
        if network is not None or named.weights is not None:
            raise RunError(
                "found encoder.run beside a section model or encoder.weights, expected one of them: a run "
                "says what its encoder is. Leave out the others"
            )
        known = open_parent(Path(named.run), context.world)
        described = known.metadata["model"]
        if named.random:
            encoder, state, origin = build_fresh(described), "with random weights", "random"
        else:
            encoder, origin = load_encoder(known.checkpoint), "pretrained"
            state = f"{known.checkpoint['progress']['epoch']} epochs"
        account = f"encoder of {known.path}, {state}"
        return Start(encoder, described, known, account, origin, describe_pretraining(known))
    if network is None or named.random:
        raise RunError(
            "found no encoder to train, expected the folder of a pretraining run, or a network. Give "
            "--set encoder.run=RUN, or from scratch a section model, such as --set model.preset=vit_small"
        )
    images = own_images(recipe.data)
    config = {**network.model_dump(exclude_none=True), "channels": images.channels}
    described = describe("vit", {"image_size": images.image_size, **config})
    encoder, account = build_fresh(described), f"encoder {network.preset} from scratch"
    if named.weights is not None:
        account = load_weights(encoder, named.weights).summary()
    return Start(encoder, described, None, account, "scratch" if named.weights is None else "weights")


def own_images(data: FinetuneData) -> ImageData:
    """Return what a recipe says of images, with pretraining's defaults for what it leaves out."""
    given = data.model_dump(exclude={"format"}, exclude_none=True)
    return ImageData.model_validate(given)


def open_data(recipe: FinetuneRecipe, start: Start, context: Context) -> tuple[Labelled, ImageData]:
    """Load the recordings of a recipe, and say how they become images.

    Raises
    ------
    RunError
        There is no protocol, the images are to differ from those of the pretraining, or a run that goes on
        began with other data.
    DataError
        A part has no labels.
    """
    if start.known is None:
        images = own_images(recipe.data)
        require_split(images.model_dump())
        source = open_images(images, context)
        return split_labelled(source, "own"), images
    images = read_metadata(start.known.metadata, str(start.known.path)).images
    for name in OF_IMAGES:
        wanted, there = getattr(recipe.data, name), getattr(images, name)
        if wanted is not None and wanted != there:
            raise RunError(
                f"found data.{name} {wanted!r}, expected {there!r}, which the encoder was trained with. "
                "Leave it out"
            )
    shared = LabelledData(**recipe.data.model_dump(include=set(LabelledData.model_fields)))
    found = open_labelled(shared, start.known)
    if context.checkpoint is not None and context.same_data:
        known = read_metadata(context.checkpoint["metadata"], "the checkpoint of the run")
        check_data(known.stores, [samples.identity for samples in found.source.images.mixture.sets])
    return found, used_images(images, found)


def build_finetuning(recipe: FinetuneRecipe, context: Context) -> Job:
    """Put model, data and optimiser together."""
    world, optim, tuning = context.world, recipe.optim, recipe.tuning
    # the model first: what is wrong with it is said before data is read
    start = find_start(recipe, context)
    set_drop_path(start.encoder, tuning.drop_path)
    found, images = open_data(recipe, start, context)
    source = found.source
    model = Classifier(start.encoder, found.classes, tuning.pooling, tuning.patch_drop)
    task = FinetuneTask(model, tuning).to(world.device)
    train = found.train[labelled_rows(source, found.train, recipe.labels, recipe.seed)]
    parameters = sum(p.numel() for p in task.parameters() if p.requires_grad)
    precision = precision_on(world.device, recipe.precision)
    context.log(f"{start.account}; {parameters / 1e6:.2f} M parameters, {precision}")
    context.log(
        f"{len(train)} of {len(found.train)} labelled training samples and {len(found.recordings)} test "
        f"recordings, {int(found.recordings.leaked.sum())} of these leaked"
    )
    # what the model itself draws (drop path) must differ between processes
    seed_everything(recipe.seed + world.rank)
    sampler = EpochSampler(
        train, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    config = {
        "encoder": dict(start.described),
        "classes": found.classes,
        "pool": tuning.pooling,
        "drop_path": tuning.drop_path,
    }
    metadata = image_metadata(recipe, images, source, describe("classifier", config))
    about = describe_trial(
        recipe, found, start.origin, start.pretraining, len(train), trained_here=context.same_data
    )

    def evaluate(module: nn.Module) -> Evaluation:
        classifier = module.get_submodule("model")
        assert isinstance(classifier, Classifier)
        return evaluate_answers(found, answer(classifier, source, found.test, recipe.precision))

    collate = ImageCollator(source.images, source.statistics, recipe.augment)
    return Job(
        module=task,
        loader=SampleLoader(sampler, MixCollator(collate) if tuning.mixup > 0 else collate),
        optimizer=build_optimizer(model, optim, tuning.layer_decay),
        recipe=recipe,
        metadata={
            **metadata,
            "labelled": {"used": len(train), "of": len(found.train)},
            ABOUT: about,
        },
        evaluators=[Evaluator("test", evaluate)],
        monitor=("top1", False),
    )


@torch.no_grad()
def answer(model: Classifier, source: ImageSource, index: NDArray[np.int64], precision: str) -> Tensor:
    """Return the logits (N, classes) float32 of samples as they are, by a model in evaluation mode."""
    model.eval()
    device = source.images.device
    normalise = Normalise(source.statistics, device)
    found = []
    for part in chunks(index, EVALUATION_BATCH):
        image = normalise(source.images.images(part))
        with autocast(device, precision):
            found.append(model(image).float())
    return torch.cat(found)


def predict_labels(trained: Trained, store: str) -> pd.DataFrame:
    """Predict the class of each recording of a store (`skeltrain.tasks.labelled.predict_table`)."""
    model = load_model(trained.checkpoint).to(trained.world.device)
    assert isinstance(model, Classifier)
    precision = trained.metadata["recipe"]["precision"]
    return predict_table(trained, store, lambda source, index: answer(model, source, index, precision))


TASK = Task(
    name="finetune",
    title="classifier of which encoder and head are trained",
    recipe=FinetuneRecipe,
    build=build_finetuning,
    embed=embed_images,
    predict=predict_labels,
)
