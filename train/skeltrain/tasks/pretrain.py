"""Pretraining: a masked autoencoder on S2I images (S2I paper, section 3.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from skeltrain.checkpoint import seed_everything
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.images import chunks
from skeltrain.data.loader import SampleLoader
from skeltrain.data.sampler import EpochSampler, MicroBatch, Purpose
from skeltrain.distributed import autocast
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.registry import build, describe
from skeltrain.models.weights import load_mae
from skeltrain.recipe import OptionalSide, Positive, Recipe, Section
from skeltrain.sections import Augment, ImageData, Init
from skeltrain.tasks.embedding import embed_images
from skeltrain.tasks.image_data import ImageSource, image_metadata, open_images
from skeltrain.tasks.registry import Context, Task

EVALUATION_BATCH = 128
"""Images that are reconstructed at once in an evaluation."""


class Model(Section):
    """The network: a preset, and what to change in it (null keeps the preset's value).

    Attributes
    ----------
    patch_size
        Pixels: one number for a square, or rows and columns.
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    """

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


class PretrainRecipe(Recipe):
    """Masked autoencoding of S2I images."""

    task: Literal["pretrain"] = "pretrain"
    data: ImageData = ImageData()
    augment: Augment = Augment()
    model: Model = Model()
    init: Init = Init()


class PretrainTask(nn.Module):
    """Masked autoencoding: ``forward(batch)`` gives the reconstruction loss.

    What is masked of a sample follows from seed, epoch, step and the sample's place in the step, so that it
    is the same on any number of processes and after resuming.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return ``loss`` of a batch of images."""
        micro, model = batch.micro, self.model
        generator = micro.generator(Purpose.MASK)
        noise = model.strategy(len(micro.index), model.grid, batch.image.device, generator)
        return {"loss": model(batch.image, noise[micro.part]).loss}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone: random numbers are drawn outside, where their generator is known."""
        self.model.compile(*args, **kwargs)


def model_config(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the settings of the network of a recipe, as `skeltrain.models.mae.build_mae` takes them."""
    data = recipe.data
    settings = recipe.model.model_dump(exclude_none=True)
    return {"image_size": data.image_size, "channels": data.channels, **settings}


def build_model(recipe: PretrainRecipe) -> MaskedAutoencoder:
    """Build the network of a recipe, with random weights; raises `ModelError` or `UnknownNameError`."""
    model = build("mae", model_config(recipe))
    assert isinstance(model, MaskedAutoencoder)
    return model


def build_pretraining(recipe: PretrainRecipe, context: Context) -> Job:
    """Put model, data and optimiser together; a checkpoint gives the statistics, else they are measured."""
    world, log, optim = context.world, context.log, recipe.optim
    # the model first: what is wrong with it is said before data is read
    seed_everything(recipe.seed)
    model = build_model(recipe)
    account = None
    if recipe.init.weights is not None and context.checkpoint is None:
        account = load_mae(model, recipe.init.weights).summary()
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
    log(f"model: {recipe.model.preset}, {parameters / 1e6:.2f} M parameters, {recipe.precision}")
    # what the model itself may draw (dropout) must differ between processes
    seed_everything(recipe.seed + world.rank)
    sampler = EpochSampler(
        train, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    collate = ImageCollator(source.images, source.statistics, recipe.augment)
    return Job(
        module=task,
        loader=SampleLoader(sampler, collate),
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata=image_metadata(recipe, recipe.data, source, describe("mae", model_config(recipe))),
        evaluators=[Evaluator("reconstruction", Reconstruction(recipe, source, context), in_training=False)],
    )


class Reconstruction:
    """The reconstruction loss of the test part, with masks that follow from the recipe's seed alone."""

    def __init__(self, recipe: PretrainRecipe, source: ImageSource, context: Context) -> None:
        self._recipe = recipe
        self._source = source
        self._device = context.world.device

    def __call__(self, module: nn.Module) -> Evaluation:
        """Evaluate a `PretrainTask`: ``reconstruction_loss``, and the loss of each sample."""
        recipe, source = self._recipe, self._source
        which = "test" if any(store.protocol for store in source.stores) else "train"
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
    title="masked autoencoding of S2I images",
    recipe=PretrainRecipe,
    build=build_pretraining,
    embed=embed_images,
)

__all__ = ["TASK", "Model", "PretrainRecipe", "PretrainTask", "build_model", "build_pretraining"]
