"""Pretraining on S2I images without labels: by a masked autoencoder, by denoising, or by features (S2I paper,
sections 3.2 and 3.3; docs/models.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from skeltrain.checkpoint import seed_everything
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.holdout import Part
from skeltrain.data.images import chunks
from skeltrain.data.loader import Loader, SampleLoader
from skeltrain.data.sampler import EpochSampler, MicroBatch, Purpose
from skeltrain.distributed import autocast, precision_on
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.models.diffmae import DiffusionMAE
from skeltrain.models.feature_prediction import FeatureOutput, FeaturePredictor
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.registry import build, describe
from skeltrain.models.weights import WeightReport, load_diffmae, load_feature_predictor, load_mae
from skeltrain.recipe import Optim, OptionalSide, Positive, Recipe, Section
from skeltrain.sections import Augment, ImageData, Init
from skeltrain.tasks.embedding import embed_images
from skeltrain.tasks.image_data import ImageSource, image_metadata, open_images
from skeltrain.tasks.pretrain_monitor import Monitor, build_monitors
from skeltrain.tasks.registry import Context, Task
from skeltrain.timeline import Timeline

EVALUATION_BATCH = 128
"""Images that are reconstructed at once in an evaluation."""


Objective = MaskedAutoencoder | DiffusionMAE | FeaturePredictor
"""The models that can be pretrained."""

OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mae": (),
        "diffmae": ("decoder", "kv", "time", "steps", "rho", "min_snr"),
        "features": ("predictor_depth", "momentum"),
    }
)
"""Settings that one objective alone has."""


class Model(Section):
    """The network: a preset, and what to change in it (null keeps the preset's or the objective's value).

    Attributes
    ----------
    objective
        ``mae``: predict the pixels of masked patches. ``diffmae``: denoise them. ``features``: predict what a
        slowly following copy of the encoder sees there. A family of models each (docs/models.md).
    patch_size
        Pixels: one number for a square, or rows and columns.
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    norm_pix_loss
        Predict each patch normalised; not for ``features``.
    decoder, kv, time, steps, rho, min_snr
        Of ``diffmae`` (`skeltrain.models.diffmae.Diffusion`).
    predictor_depth, momentum
        Of ``features`` (`skeltrain.models.feature_prediction.FeaturePredictor`); its predictor has width and
        heads of the decoder.
    """

    objective: Literal["mae", "diffmae", "features"] = "mae"
    preset: str = "vit_base"
    patch_size: OptionalSide = None
    embed_dim: Positive | None = None
    depth: Positive | None = None
    num_heads: Positive | None = None
    decoder_dim: Positive | None = None
    decoder_depth: Positive | None = None
    decoder_heads: Positive | None = None
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    attention: Literal["auto", "fused", "explicit"] = "fused"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    masking: str = "random"
    norm_pix_loss: bool = False
    decoder: Literal["cross", "cross_self", "joint"] | None = None
    kv: Literal["last", "top_down"] | None = None
    time: Literal["add", "none"] | None = None
    steps: Positive | None = None
    rho: Annotated[float, Field(gt=0)] | None = None
    min_snr: Annotated[float, Field(gt=0)] | None = None
    predictor_depth: Annotated[int, Field(ge=0)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _settings_belong_to_the_objective(self) -> Model:
        for objective, names in OPTIONS.items():
            given = [name for name in names if getattr(self, name) is not None]
            if given and objective != self.objective:
                raise ValueError(
                    f"found {given[0]} with the objective {self.objective}, expected it with {objective} "
                    "alone; leave it out"
                )
        if self.objective == "features" and (self.norm_pix_loss or self.decoder_depth is not None):
            raise ValueError(
                "found norm_pix_loss or decoder_depth with the objective features, which has neither pixels "
                "nor a decoder; set model.predictor_depth"
            )
        return self


class PretrainRecipe(Recipe):
    """Pretraining on S2I images."""

    task: Literal["pretrain"] = "pretrain"
    data: ImageData = ImageData()
    augment: Augment = Augment()
    model: Model = Model()
    init: Init = Init()
    monitor: Monitor = Monitor()

    FREE: ClassVar[tuple[str, ...]] = (*Recipe.FREE, "monitor")


class PretrainTask(nn.Module):
    """The loss of an objective: ``forward(batch)``.

    What is masked of a sample, and its noise, follow from seed, epoch, step and the sample's place in the
    step, so that they are the same on any number of processes and after resuming.
    """

    def __init__(self, model: Objective) -> None:
        super().__init__()
        self.model = model
        # of the last batch: after the step, a teacher is moved by how far the run is
        self.place = (0, 0)

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return ``loss`` of a batch of images, and ``spread`` where features are predicted."""
        micro, device = batch.micro, batch.image.device
        self.place = (micro.epoch, micro.step)
        if isinstance(self.model, DiffusionMAE):
            # a number for each masked pixel: too many to draw anywhere but on the device
            generator = micro.generator(Purpose.DIFFUSION, device)
        else:
            generator = micro.generator(Purpose.MASK)
        drawn = self.model.draw(len(micro.index), device, generator)
        output = self.model(batch.image, **{name: value[micro.part] for name, value in drawn.items()})
        if isinstance(output, FeatureOutput):
            return {"loss": output.loss, "spread": output.spread}
        return {"loss": output.loss}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone: random numbers are drawn outside, where their generator is known."""
        self.model.compile(*args, **kwargs)


def model_config(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the settings of the network of a recipe, as the family of its objective takes them."""
    data, model = recipe.data, recipe.model
    others = {name for objective, own in OPTIONS.items() if objective != model.objective for name in own}
    settings = model.model_dump(exclude={"objective", *others}, exclude_none=True)
    if model.objective == "features":
        # there are no pixels to normalise, and no decoder
        del settings["norm_pix_loss"]
    return {"image_size": data.image_size, "channels": data.channels, **settings}


def build_model(recipe: PretrainRecipe) -> Objective:
    """Build the network of a recipe, with random weights; raises `ModelError` or `UnknownNameError`."""
    model = build(recipe.model.objective, model_config(recipe))
    assert isinstance(model, MaskedAutoencoder | DiffusionMAE | FeaturePredictor)
    return model


def load_first_weights(model: Objective, source: str) -> WeightReport:
    """Load the weights that a recipe starts from into the model of any objective; raises `WeightsError`."""
    if isinstance(model, DiffusionMAE):
        return load_diffmae(model, source)
    if isinstance(model, FeaturePredictor):
        return load_feature_predictor(model, source)
    return load_mae(model, source)


def build_pretraining(recipe: PretrainRecipe, context: Context) -> Job:
    """Put model, data and optimiser together; a checkpoint gives the statistics, else they are measured."""
    world, log, optim = context.world, context.log, recipe.optim
    # the model first: what is wrong with it is said before data is read
    seed_everything(recipe.seed)
    model = build_model(recipe)
    account = None
    if recipe.init.weights is not None and context.checkpoint is None:
        account = load_first_weights(model, recipe.init.weights).summary()
    source = open_images(recipe.data, context)
    train = source.part("train")
    mean, std = (
        " ".join(f"{v:.4f}" for v in values) for values in (source.statistics.mean, source.statistics.std)
    )
    rows, columns = source.images.size
    log(f"images: {len(train)} of stream {source.images.sets[0].stream}, {rows} x {columns}")
    log(f"        mean {mean}, standard deviation {std}")
    if account is not None:
        log(account)
    task = PretrainTask(model).to(world.device)
    parameters = sum(p.numel() for p in task.parameters() if p.requires_grad)
    precision = precision_on(world.device, recipe.precision)
    kind = "" if recipe.model.objective == "mae" else f" by {recipe.model.objective}"
    log(f"model: {recipe.model.preset}{kind}, {parameters / 1e6:.2f} M parameters, {precision}")
    # what the model itself may draw (dropout) must differ between processes
    seed_everything(recipe.seed + world.rank)
    sampler = EpochSampler(
        train, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    loader = SampleLoader(sampler, ImageCollator(source.images, source.statistics, recipe.augment))
    described = describe(recipe.model.objective, model_config(recipe))
    # an evaluation comes after the last step of an epoch, before the next begins
    monitors = build_monitors(
        recipe.monitor, source, context, model, recipe.seed, recipe.precision, lambda: task.place[0] + 1
    )
    return Job(
        module=task,
        loader=loader,
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata=image_metadata(recipe, recipe.data, source, described),
        evaluators=[
            Evaluator("reconstruction", Reconstruction(recipe, source, context), in_training=False),
            *monitors,
        ],
        after_step=follow(task, loader, optim),
    )


def follow(task: PretrainTask, loader: Loader, optim: Optim) -> list[Callable[[], None]]:
    """Return what moves a teacher after each optimiser step, where the objective has one."""
    model = task.model
    if not isinstance(model, FeaturePredictor):
        return []
    timeline = Timeline.of(loader, optim)
    return [lambda: model.after_step(timeline.number(*task.place) / timeline.total)]


class Reconstruction:
    """The objective's loss on the test part, with masks that follow from the recipe's seed alone."""

    def __init__(self, recipe: PretrainRecipe, source: ImageSource, context: Context) -> None:
        self._recipe = recipe
        self._source = source
        self._device = context.world.device

    def __call__(self, module: nn.Module) -> Evaluation:
        """Evaluate a `PretrainTask`: ``reconstruction_loss``, and the loss of each sample."""
        recipe, source = self._recipe, self._source
        split = any(store.protocol or store.holdout for store in source.stores)
        which: Part = "test" if split else "train"
        index = source.part(which)
        collate = ImageCollator(source.images, source.statistics, Augment())
        total, losses = 0.0, []
        for step, part in enumerate(chunks(index, EVALUATION_BATCH)):
            batch = collate(MicroBatch(part, slice(None), recipe.seed, 0, step))
            with autocast(self._device, recipe.precision):
                loss = float(module(batch)["loss"])
            total += loss * len(part)
            losses.append(np.full(len(part), loss))
        names = [str(name) for samples in source.images.mixture.sets for name in samples.table.index]
        predictions = {"sample": np.array(names)[index], "batch_loss": np.concatenate(losses)}
        return Evaluation({f"{which}_loss": total / len(index)}, predictions)


TASK = Task(
    name="pretrain",
    title="masked autoencoding of S2I images, denoising, or prediction of features",
    recipe=PretrainRecipe,
    build=build_pretraining,
    embed=embed_images,
)

__all__ = ["TASK", "Model", "PretrainRecipe", "PretrainTask", "build_model", "build_pretraining"]
