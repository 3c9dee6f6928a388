"""What a pretrained model makes of the patches it does not see: `reconstruct`, `reconstruct_run`.

Masks and noise are drawn from numbers of their own, which follow from the recipe's seed and the sample: a
training that is looked at draws what it would have drawn anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skeltrain.data.images import Normalise
from skeltrain.data.sampler import Purpose, random_seed
from skeltrain.distributed import autocast
from skeltrain.models.diffmae import DiffusionMAE
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.masking import split
from skeltrain.models.patches import Size, pair, patchify, unpatchify
from skeltrain.models.registry import load_model
from skeltrain.pages.poses import Sample, find_samples, open_sample, spread
from skeltrain.recipe_file import Override
from skeltrain.run import use
from skeltrain.run_folder import RunError
from skeltrain.tasks.image_data import ImageSource, open_like
from skeltrain.tasks.registry import Log, Trained

STEPS = 20
"""Steps in which DiffMAE's noise becomes pixels (DDIM; `skeltrain.models.diffusion.sample`)."""

STREAM_OF_LOOKING = 1
"""Tells these random numbers from those of an epoch's masks."""

SHOWN = 4
"""Samples that are shown where none is named."""

Reconstructing = MaskedAutoencoder | DiffusionMAE
"""Models that predict pixels."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What became of one sample.

    Attributes
    ----------
    sample
        The sample.
    target, filled
        (C, rows, columns) float32, not normalised: its image, and the one whose masked patches are the
        model's.
    visible
        (rows, columns): pixels that the model saw.
    error
        Mean squared error over the masked pixels, of normalised images: what the loss is without
        ``norm_pix_loss``.
    """

    sample: Sample
    target: NDArray[np.float32]
    filled: NDArray[np.float32]
    visible: NDArray[np.bool_]
    error: float


def need_pixels(model: nn.Module) -> Reconstructing:
    """Return a model that predicts pixels as they are drawn; raises `RunError` for any other."""
    if not isinstance(model, Reconstructing):
        raise RunError(
            f"found a {type(model).__name__}, which predicts no pixels, expected a model of the objective "
            "mae or diffmae. The objective features has nothing to reconstruct; see skeltrain explain and "
            "skeltrain page"
        )
    if isinstance(model, DiffusionMAE) and model.norm_pix_loss:
        raise RunError(
            "found a diffusion model of normalised patches (norm_pix_loss), expected one of plain pixels: "
            "sampling does not tell mean and spread of a patch"
        )
    return model


@torch.no_grad()
def reconstruct(
    model: nn.Module,
    source: ImageSource,
    index: NDArray[np.int64],
    seed: int,
    precision: str = "fp32",
    steps: int = STEPS,
) -> list[Reconstruction]:
    """Mask samples, and let a model in evaluation mode fill them in.

    With ``norm_pix_loss`` a patch's mean and spread, which such a model does not predict, are the target's.

    Parameters
    ----------
    index
        (N,) numbers of samples; each has masks and noise of its own, whatever else is asked for.
    steps
        Sampling steps of a diffusion model; no more are taken than it was trained with.

    Raises
    ------
    RunError
        The model predicts no pixels, or is a diffusion model of normalised ones.
    """
    chosen, device = need_pixels(model), source.images.device
    normalise = Normalise(source.statistics, device)
    found = []
    for number in index.tolist():
        sample = open_sample(source, number)
        image = normalise(source.images.images(np.array([number], np.int64)))
        generator = torch.Generator().manual_seed(
            random_seed(seed, 0, number, Purpose.MASK, STREAM_OF_LOOKING)
        )
        noise = chosen.strategy(1, chosen.grid, device, generator)
        with autocast(device, precision):
            if isinstance(chosen, MaskedAutoencoder):
                # not through a compiled call, which one image would compile anew
                prediction = chosen.forward(image, noise).prediction.float()
                filled = _paste(image, prediction, noise, chosen)
            else:
                filled = chosen.fill(image, noise, min(steps, len(chosen.left)), generator=generator).float()
        hidden = _hidden_pixels(noise, chosen.masked, chosen.grid, chosen.sizes.patch_size)
        error = float((filled - image)[0, :, hidden].square().mean())
        target, whole = (normalise.undo(one)[0].cpu().numpy() for one in (image, filled))
        found.append(Reconstruction(sample, target, whole, ~hidden.cpu().numpy(), error))
    return found


def reconstruct_run(
    where: Path,
    store: str | None = None,
    names: Sequence[str] = (),
    steps: int = STEPS,
    device: str | None = None,
    log: Log = lambda line: None,
) -> list[Reconstruction]:
    """Reconstruct samples with the model of a pretraining run.

    Parameters
    ----------
    where
        A run folder or a checkpoint.
    store
        Whose samples; by default the first store of the run.
    names
        Samples or recordings; by default some of the test part.

    Raises
    ------
    SkelconvError
        Of the kind that fits; `RunError` where the model predicts no pixels.
    """
    with use(where, [] if device is None else [Override(("device",), device)], log) as (_, recipe, trained):
        model = need_pixels(load_model(trained.checkpoint)).to(trained.world.device).eval()
        source = open_source(trained, store)
        index = find_samples(source, names) if names else spread(held_out(source), SHOWN)
        return reconstruct(model, source, index, recipe.seed, recipe.precision, steps)


def open_source(trained: Trained, store: str | None) -> ImageSource:
    """Open a store, or the run's own first one, as the model of a checkpoint knows it."""
    if store is None:
        images = trained.metadata.get("images", {})
        first = images.get("store") or next((one["store"] for one in images.get("stores", ())), None)
        if first is None:
            raise RunError(
                f"{trained.path}: found no store in the recipe of the run, expected one. Name a store"
            )
        store = str(first)
    return open_like(trained, store)


def held_out(source: ImageSource) -> NDArray[np.int64]:
    """Return the samples of the test part; all where there is no protocol, or the store does not have it."""
    stores = source.stores
    known = all(
        data.protocol is None or f"split_{data.protocol}" in samples.table
        for data, samples in zip(stores, source.images.mixture.sets, strict=True)
    )
    if not known:
        return np.arange(len(source.images), dtype=np.int64)
    return source.part("test")


def _paste(image: Tensor, prediction: Tensor, noise: Tensor, model: MaskedAutoencoder) -> Tensor:
    """Put predicted patches (N, L, P) where an image is masked."""
    target = patchify(image, model.patch_size)
    if model.norm_pix_loss:
        mean = target.mean(dim=-1, keepdim=True)
        variance = target.var(dim=-1, keepdim=True, correction=1)
        prediction = prediction * (variance + 1e-6).sqrt() + mean
    mask = split(noise, model.masked).mask[:, :, None]
    return unpatchify(torch.where(mask > 0, prediction, target), model.patch_size, model.grid)


def _hidden_pixels(noise: Tensor, masked: int, grid: tuple[int, int], patch_size: Size) -> Tensor:
    """(rows, columns) bool: pixels of the masked patches of one image."""
    mask = split(noise, masked).mask.bool()
    high, wide = pair(patch_size)
    return mask.reshape(grid).repeat_interleave(high, dim=0).repeat_interleave(wide, dim=1)
