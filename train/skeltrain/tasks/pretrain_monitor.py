"""What a pretraining is looked at with while it runs: neighbours of its features, reconstructions.

Nothing here draws from the random numbers of the training, so its curve is the same with it and without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skelconv.extras import need
from skeltrain.data.features import compute_features
from skeltrain.data.holdout import part_of
from skeltrain.data.images import Normalise
from skeltrain.data.loader import DataError
from skeltrain.engine import Evaluation, Evaluator
from skeltrain.metrics.neighbours import score_neighbours
from skeltrain.pages.poses import spread
from skeltrain.pages.reconstruct import held_out, need_pixels, reconstruct
from skeltrain.pages.reconstruct_page import write_reconstructions
from skeltrain.recipe import Positive, Section
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.image_data import ImageSource
from skeltrain.tasks.registry import Context


class Monitor(Section):
    """What to look at after every ``log.evaluate_every`` epochs; nothing by default. It changes nothing that
    is learned.

    Attributes
    ----------
    knn
        Score the features of the test part by their neighbours in the training part
        (`skeltrain.metrics.neighbours`); nothing is trained. Labels are needed.
    pooling
        How tokens become those features: the mean of the patches, or the class token.
    samples
        Most samples of either part, evenly spread over it.
    reconstructions
        Samples of the test part to draw into the folder ``reconstructions`` of the run; 0 draws none.
    steps
        Sampling steps of a diffusion model for these.
    """

    knn: bool = False
    pooling: Literal["token", "avg"] = "avg"
    samples: Positive = 2000
    reconstructions: Annotated[int, Field(ge=0)] = 0
    steps: Positive = 20


def build_monitors(
    monitor: Monitor,
    source: ImageSource,
    context: Context,
    model: nn.Module,
    seed: int,
    precision: str,
    epoch: Callable[[], int],
) -> list[Evaluator]:
    """Return the evaluators that a recipe asks for.

    Parameters
    ----------
    model
        What is pretrained.
    seed
        The recipe's, of which masks and noise of the reconstructions follow.
    epoch
        Tells how many epochs are done.

    Raises
    ------
    RunError
        Reconstructions are asked for of a model that predicts no pixels.
    DataError
        Neighbours are asked for where there is no protocol, or are no labels.
    MissingExtraError
        Reconstructions are asked for, and the extra ``view`` is not installed.
    """
    found = []
    if monitor.knn:
        found.append(Evaluator("neighbours", Neighbours(monitor, source, precision)))
    if monitor.reconstructions:
        need("matplotlib", "view")
        need("jinja2", "view")
        need_pixels(model)
        shown = Reconstructions(monitor, source, context, seed, precision, epoch)
        found.append(Evaluator("reconstructions", shown))
    return found


class Neighbours:
    """Scores of the features of held-out samples by their neighbours among training samples.

    Of several stores, each with labels is scored by itself, and its number stands behind the metrics' names.
    """

    def __init__(self, monitor: Monitor, source: ImageSource, precision: str) -> None:
        self._pool = monitor.pooling
        self._precision = precision
        self._source = source
        self._parts = []
        for k, (samples, data) in enumerate(zip(source.images.mixture.sets, source.stores, strict=True)):
            if data.protocol is None and not data.holdout:
                continue
            label = samples.table["label"].to_numpy(np.int64)
            first = int(source.images.mixture.first[k])
            train, test = (
                spread(part[label[part] >= 0], monitor.samples) + first
                for part in (part_of(samples, data, "train"), part_of(samples, data, "test"))
            )
            if len(train) and len(test):
                self._parts.append((f"_{k}" if len(source.stores) > 1 else "", train, test))
        if not self._parts:
            raise DataError(
                "found monitor.knn without any labelled training and test part, expected a protocol and "
                "labels. Set data.protocol, or leave monitor.knn out"
            )

    def __call__(self, module: nn.Module) -> Evaluation:
        """Score the encoder of a task's module, which is in evaluation mode."""
        encoder = module.get_submodule("model.encoder")
        assert isinstance(encoder, VisionTransformer)
        metrics = {}
        for ending, train, test in self._parts:
            gallery, query = (self._features(encoder, part) for part in (train, test))
            images = self._source.images
            scores = score_neighbours(query, images.labels(test), gallery, images.labels(train))
            metrics.update({f"{name}{ending}": value for name, value in scores.items()})
        return Evaluation(metrics)

    def _features(self, encoder: VisionTransformer, index: NDArray[np.int64]) -> Tensor:
        source = self._source
        normalise = Normalise(source.statistics, source.images.device)
        return compute_features(encoder, self._pool, source.images, normalise, index, self._precision)


class Reconstructions:
    """Draws what the model makes of some held-out samples, the same ones and the same masks every time."""

    def __init__(
        self,
        monitor: Monitor,
        source: ImageSource,
        context: Context,
        seed: int,
        precision: str,
        epoch: Callable[[], int],
    ) -> None:
        self._source = source
        self._index = spread(held_out(source), monitor.reconstructions)
        self._folder = None if context.folder is None else RunFolder(context.folder).reconstructions
        self._primary = context.world.primary
        self._settings = (seed, precision, monitor.steps)
        self._epoch = epoch

    def __call__(self, module: nn.Module) -> Evaluation:
        """Write ``epoch_NNNN.png`` and ``.html``; returns the error over the hidden pixels."""
        found = reconstruct(module.get_submodule("model"), self._source, self._index, *self._settings)
        if self._folder is not None and self._primary:
            done = self._epoch()
            for suffix in (".png", ".html"):
                out = Path(self._folder) / f"epoch_{done:04d}{suffix}"
                write_reconstructions(out, found, f"Reconstructions after {done} epochs")
        return Evaluation({"reconstruction_error": float(np.mean([one.error for one in found]))})
