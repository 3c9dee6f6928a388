"""Attention carried back from patches to frames and joints: `explain_run`.

A patch's attention is shared evenly by its pixels, a pixel's by the frames and joints that it was
interpolated of: ``A' M B`` with the two matrices of the encoding (`skelconv.s2i.inverse.transpose`).
Nothing is lost and nothing comes from elsewhere: the weights of a sample sum to 1. Attention says where a
model looks, not why it answers as it does (Jain and Wallace 2019).

Legend: R rows of a sample, J joints of the layout, L patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skelconv.s2i.inverse import transpose
from skeltrain.checkpoint import CheckpointError
from skeltrain.data.images import Normalise
from skeltrain.distributed import autocast
from skeltrain.models import encoder as vit
from skeltrain.models.attention_maps import attention_maps, patch_attention
from skeltrain.models.classifier import Classifier, LinearProbe
from skeltrain.models.registry import find_family, load_model
from skeltrain.pages.poses import Sample, find_samples, open_sample
from skeltrain.recipe_file import Override
from skeltrain.run import use
from skeltrain.run_folder import RunError
from skeltrain.tasks.embedding import POOL
from skeltrain.tasks.image_data import ImageSource, open_like, read_metadata
from skeltrain.tasks.registry import Log, Trained

METHOD = "rollout"


@dataclass(frozen=True, eq=False)
class Explained:
    """Where a model looks in one sample.

    Attributes
    ----------
    sample
        The sample.
    weight
        (R, J) float64, summing to 1: what part of the attention goes to a joint in a row.
    relative
        (R, J): the same over what even attention to all patches would give it; 1 is as much as any, NaN for
        a joint that the images leave out, and in a frame between the rows of an image that has fewer.
    pool
        Whose attention it is: ``token``, the class token's; ``avg``, that of all patches on average.
    patches
        (rows, columns) of patches: the attention before it was carried back.
    predicted
        The class that a classifier gives, with its probability; empty for a model that has none.
    """

    sample: Sample
    weight: NDArray[np.float64]
    relative: NDArray[np.float64]
    patches: NDArray[np.float64]
    pool: str
    predicted: str = ""


@dataclass(frozen=True)
class Encoding:
    """A model's encoder and how its tokens become a feature.

    Attributes
    ----------
    encoder
        In evaluation mode, on its device.
    pool
        ``token`` or ``avg``: whose attention is followed.
    model
        The whole model.
    precision
        In which it is run.
    """

    encoder: VisionTransformer
    pool: str
    model: nn.Module
    precision: str

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Return features (N, D) float32 of normalised images: what a classifier's head gets."""
        with autocast(image.device, self.precision):
            if isinstance(self.model, LinearProbe | Classifier):
                return self.model.features(image).float()
            return vit.features(self.encoder, image, self.pool).float()


def open_encoding(trained: Trained) -> Encoding:
    """Open the model of a checkpoint of images, of any of the tasks that have one.

    Raises
    ------
    CheckpointError
        The model has no vision transformer.
    """
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    backbone = find_family(trained.metadata["model"]["family"]).backbone(model)
    if not isinstance(backbone, VisionTransformer):
        raise CheckpointError(
            f"{trained.path}: found a backbone of type {type(backbone).__name__}, expected a vision "
            "transformer, whose attention can be followed"
        )
    pool = model.pool if isinstance(model, LinearProbe | Classifier) else POOL
    return Encoding(backbone, pool, model, trained.metadata["recipe"].get("precision", "fp32"))


@torch.no_grad()
def explain(
    encoding: Encoding,
    source: ImageSource,
    index: NDArray[np.int64],
    classes: Sequence[str] = (),
    method: str = METHOD,
) -> list[Explained]:
    """Follow the attention of a model to the frames and joints of samples.

    Parameters
    ----------
    index
        (N,) numbers of samples.
    classes
        Names of a classifier's classes.
    method
        As for `patch_attention`.
    """
    device = source.images.device
    normalise = Normalise(source.statistics, device)
    found = []
    for number in index.tolist():
        sample = open_sample(source, number)
        image = normalise(source.images.images(np.array([number], np.int64)))
        # in float32: attention is looked at, not trained with
        of_patches = patch_attention(attention_maps(encoding.encoder, image), method, encoding.pool)[0]
        grid = encoding.encoder.patch_embed.grid_size
        patches = of_patches.double().cpu().numpy().reshape(grid)
        weight = to_joints(patches, sample)
        even = to_joints(np.full(grid, 1 / patches.size), sample)
        relative = np.divide(weight, even, out=np.full_like(weight, np.nan), where=even > 0)
        answer = _answer(encoding, image, classes)
        found.append(Explained(sample, weight, relative, patches, encoding.pool, answer))
    return found


def to_joints(patches: NDArray[np.float64], sample: Sample) -> NDArray[np.float64]:
    """Carry a weight of each patch (rows, columns of patches) to frames and joints (R, J); the sum stays."""
    plan = sample.images.plan
    high, wide = (side // count for side, count in zip(plan.size, patches.shape, strict=True))
    pixels = np.kron(patches, np.full((high, wide), 1 / (high * wide)))
    return transpose(pixels, plan, len(sample.tracks.frame))


def explain_run(
    where: Path,
    store: str,
    names: Sequence[str],
    method: str = METHOD,
    device: str | None = None,
    log: Log = lambda line: None,
) -> list[Explained]:
    """Follow the attention of a run's model to the frames and joints of samples of a store.

    Parameters
    ----------
    where
        A run folder or a checkpoint, of any task on S2I images.
    names
        Samples or recordings; the first sample where there is none.

    Raises
    ------
    SkelconvError
        Of the kind that fits; `CheckpointError` for a model of anything but images.
    """
    with use(where, [] if device is None else [Override(("device",), device)], log) as (_, _, trained):
        classes = read_metadata(trained.metadata, str(trained.path)).classes[0]
        encoding = open_encoding(trained)
        source = open_like(trained, store)
        if not len(source.images):
            raise RunError(f"{store}: found no sample, expected at least one")
        index = find_samples(source, names) if names else np.zeros(1, np.int64)
        return explain(encoding, source, index, classes, method)


def as_table(found: Sequence[Explained]) -> pd.DataFrame:
    """Return a row for each sample, person, frame and joint: ``weight`` and ``relative`` of `Explained`.

    ``second`` is empty where the store has no frame rate.
    """
    parts = []
    for one in found:
        tracks, names = one.sample.tracks, one.sample.images.skeleton.names
        rate = one.sample.frame_rate
        count = len(names)
        frame = np.repeat(tracks.frame, count)
        parts.append(
            pd.DataFrame(
                {
                    "sample": one.sample.name,
                    "person": np.repeat(tracks.person, count),
                    "frame": frame,
                    "second": np.nan if rate is None else frame / rate,
                    "joint": list(names) * len(tracks.frame),
                    "weight": one.weight.ravel(),
                    "relative": one.relative.ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def as_arrays(found: Sequence[Explained]) -> dict[str, NDArray[np.generic]]:
    """Return the weights as arrays: rows of all samples one after another, ``offsets`` (N + 1,) where each
    begins.
    """
    return {
        "sample": np.array([one.sample.name for one in found]),
        "joint": np.array(found[0].sample.images.skeleton.names),
        "offsets": np.cumsum([0, *(len(one.weight) for one in found)]),
        "person": np.concatenate([one.sample.tracks.person for one in found]),
        "frame": np.concatenate([one.sample.tracks.frame for one in found]),
        "weight": np.concatenate([one.weight for one in found]),
        "relative": np.concatenate([one.relative for one in found]),
        "patches": np.stack([one.patches for one in found]),
    }


def _answer(encoding: Encoding, image: Tensor, classes: Sequence[str]) -> str:
    if not isinstance(encoding.model, LinearProbe | Classifier):
        return ""
    with autocast(image.device, encoding.precision):
        probability, label = encoding.model(image).float().softmax(dim=1)[0].max(dim=0)
    number = int(label)
    name = classes[number] if number < len(classes) else f"class {number}"
    return f"{name} ({100 * float(probability):.0f} %)"
