"""Pretraining: a masked autoencoder on S2I images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from skeltrain.checkpoint import seed_everything, versions
from skeltrain.data.batch import Batch, Deck, Purpose
from skeltrain.data.resident import ResidentBatches, Statistics
from skeltrain.data.source import Source
from skeltrain.distributed import World
from skeltrain.engine import Job, build_optimizer
from skeltrain.models.mae import MaskedAutoencoder, build_mae
from skeltrain.models.weights import load_mae
from skeltrain.recipe import PretrainRecipe
from skeltrain.recipe_file import to_plain
from skeltrain.run import Say


class PretrainTask(nn.Module):
    """Masked autoencoding: ``forward(batch)`` gives the reconstruction loss.

    What is masked of a sample follows from seed, epoch, step and the sample's place in the step, so that it
    is the same on any number of processes and after resuming.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` of a batch of images."""
        deal, model = batch.deal, self.model
        generator = deal.generator(Purpose.MASK)
        noise = model.strategy(len(deal.index), model.grid, batch.image.device, generator)
        return {"loss": model(batch.image, noise[deal.part]).loss}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone: random numbers are drawn outside, where their generator is known."""
        self.model.compile(*args, **kwargs)


def build_model(recipe: PretrainRecipe) -> MaskedAutoencoder:
    """Build the network of a recipe, with random weights; raises `ModelError` or `UnknownNameError`."""
    settings = recipe.model.model_dump(exclude={"preset"}, exclude_none=True)
    return build_mae(recipe.model.preset, image_size=recipe.data.image_size, **settings)


def build_pretraining(
    recipe: PretrainRecipe, source: Source, world: World, checkpoint: Mapping[str, Any] | None, tell: Say
) -> Job:
    """Put model, data and optimiser together; a checkpoint gives the statistics, else they are measured."""
    data, optim = source.data, recipe.optim
    train = data.part(recipe.data.protocol, recipe.data.train)
    if checkpoint is None:
        statistics = data.statistics(train)
    else:
        statistics = Statistics.from_dict(checkpoint["card"]["statistics"])
    mean, std = (" ".join(f"{v:.4f}" for v in values) for values in (statistics.mean, statistics.std))
    tell(f"images: {len(train)} of stream {data.stream}, {data.plan.size[0]} x {data.plan.size[1]}")
    tell(f"        mean {mean}, standard deviation {std}")
    seed_everything(recipe.seed)
    model = build_model(recipe)
    if recipe.init.weights is not None and checkpoint is None:
        tell(load_mae(model, recipe.init.weights).summary())
    task = PretrainTask(model).to(world.device)
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    tell(f"model: {recipe.model.preset}, {count / 1e6:.2f} M parameters, {recipe.precision}")
    # what the model itself may draw (dropout) must differ between processes
    seed_everything(recipe.seed + world.rank)
    deck = Deck(
        train, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    return Job(
        task=task,
        batches=ResidentBatches(data, deck, statistics, recipe.augment),
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        card=make_card(recipe, source, statistics),
    )


def make_card(recipe: PretrainRecipe, source: Source, statistics: Statistics) -> dict[str, Any]:
    """Return what a model needs to be used without its run (`skeltrain.checkpoint`)."""
    data = source.data
    return {
        "task": recipe.task,
        "recipe": to_plain(recipe),
        "skeleton": data.skeleton.to_dict(),
        "column_order": list(data.skeleton.column_order),
        "plan": data.plan.to_dict(),
        "statistics": statistics.to_dict(),
        "classes": list(data.classes),
        "chain": source.chain,
        "store": source.identity,
        "versions": versions(),
    }
