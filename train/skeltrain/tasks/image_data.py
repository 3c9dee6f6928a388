"""What the tasks on S2I images share: the images of a recipe's stores, and what a checkpoint keeps of
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skelconv.store.store import open_store
from skelformats.skeleton import Skeleton, SkeletonError, match_joints
from skeltrain.checkpoint import CheckpointError, versions
from skeltrain.data.holdout import Part, part_of
from skeltrain.data.images import Images, Statistics
from skeltrain.data.kept_statistics import statistics_of
from skeltrain.data.loader import DataError
from skeltrain.data.samples import SampleSet, open_samples
from skeltrain.distributed import describe_device
from skeltrain.recipe import Recipe
from skeltrain.recipe_file import to_plain
from skeltrain.run_folder import RunError
from skeltrain.sections import ImageData, StoreData
from skeltrain.tasks.registry import Context, Trained


@dataclass(frozen=True)
class ImageSource:
    """The images that a recipe names.

    Attributes
    ----------
    images
        Of all stores.
    stores
        Which samples of each store are read.
    statistics
        By which all images are normalised.
    """

    images: Images
    stores: tuple[StoreData, ...]
    statistics: Statistics

    def part(self, which: Part) -> NDArray[np.int64]:
        """Return the numbers of the samples of all stores in their part ``train`` or ``test``."""
        first = self.images.mixture.first
        parts = [
            part_of(samples, data, which) + first[k]
            for k, (samples, data) in enumerate(zip(self.images.mixture.sets, self.stores, strict=True))
        ]
        return np.concatenate(parts)


def open_images(data: ImageData, context: Context) -> ImageSource:
    """Load the stores of a recipe and measure their statistics, which a checkpoint knows already.

    Raises
    ------
    RunError
        A store does not hold the data that the run to be continued began with.
    SkelconvError
        Of the kind that fits: a store cannot be read, cleaned or remapped as asked, or has no such part.
    """
    stores = data.each()
    sets = [open_samples(store, context.world.device) for store in stores]
    for line in describe_samples(sets, context):
        context.log(line)
    images = Images(sets, data)
    if context.checkpoint is not None:
        known = read_metadata(context.checkpoint["metadata"], "the checkpoint of the run")
        if context.same_data:
            check_data(known.stores, [samples.identity for samples in sets])
        statistics = known.statistics
    else:
        named = stores[data.statistics]
        measured = part_of(sets[data.statistics], named, "train")
        statistics = statistics_of(images.sets[data.statistics], measured, write=context.world.primary)
    return ImageSource(images, stores, statistics)


def open_like(
    trained: Trained, store: str, layout: Literal["own", "model", "auto"] = "auto", **settings: Any
) -> ImageSource:
    """Load a store as the model of a checkpoint knows it: encoding and normalisation.

    Parameters
    ----------
    layout
        ``own``: the store's own, encoded by its own order of joints. ``model``: that of the store where the
        model was trained on it, else that of the model's first store, to which joints are brought by name.
        ``auto``: as ``model`` where the store has all of these joints, else ``own``.
    settings
        Keys of `skeltrain.sections.ImageData` that differ from those of the training.

    Raises
    ------
    CheckpointError
        The checkpoint is not of a model of images.
    SkelconvError
        Of the kind that fits: the store cannot be read, cleaned or remapped as asked.
    """
    known = read_metadata(trained.metadata, str(trained.path))
    images = {**known.images.model_dump(), **settings, "store": store, "stores": (), "statistics": 0}
    data = ImageData.model_validate(images)
    own = open_store(store).skeleton
    skeleton = known.skeletons[0]
    if layout == "own" or own in known.skeletons:
        skeleton = own
    elif layout == "auto" and not _can_become(own, skeleton):
        trained.log(
            f"{store}: {own.name} lacks joints of {skeleton.name}; encoded by its own order of joints"
        )
        skeleton = own
    samples = open_samples(data, trained.world.device, skeleton)
    return ImageSource(Images([samples], data), data.each(), known.statistics)


def _can_become(own: Skeleton, target: Skeleton) -> bool:
    try:
        match_joints(own, target)
    except SkeletonError:
        return False
    return True


@dataclass(frozen=True)
class ImageMetadata:
    """What a checkpoint knows of the images that its model was trained on.

    Attributes
    ----------
    images
        Their settings, defaults included.
    skeletons, stores, classes
        Of each store: its layout, which data it held, and the names of its classes.
    statistics
        By which the images were normalised.
    """

    images: ImageData
    skeletons: tuple[Skeleton, ...]
    stores: tuple[Mapping[str, Any], ...]
    classes: tuple[tuple[str, ...], ...]
    statistics: Statistics


def read_metadata(metadata: Mapping[str, Any], where: str) -> ImageMetadata:
    """Take out of a checkpoint's metadata what `image_metadata` put in; raises `CheckpointError`."""
    try:
        entries = metadata["data"]
        return ImageMetadata(
            images=ImageData.model_validate(metadata["images"]),
            skeletons=tuple(Skeleton.from_dict(entry["skeleton"]) for entry in entries),
            stores=tuple(dict(entry["store"]) for entry in entries),
            classes=tuple(tuple(entry["classes"]) for entry in entries),
            statistics=Statistics.from_dict(metadata["statistics"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: found no sound account of the images that the model was trained on ({error}), "
            f"expected a checkpoint of a model of S2I images; this one is of task {metadata.get('task')!r}"
        ) from error


def describe_samples(sets: list[SampleSet], context: Context) -> list[str]:
    """Say what data is used, and where."""
    world = context.world
    processes = "1 process" if world.size == 1 else f"{world.size} processes"
    lines = [
        f"data: {len(data)} samples of {data.identity['dataset']} ({data.skeleton.name}), chain {data.chain}"
        for data in sets
    ]
    lines.append(f"device: {describe_device(world.device)['device']}, {processes}")
    for data in sets:
        if data.set_aside:
            name, reason = data.set_aside[0]
            lines.append(f"set aside: {len(data.set_aside)} recordings, such as {name}: {reason}")
    return lines


def check_data(there: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RunError` unless the stores hold the data that a run began with."""
    if len(there) != len(here):
        raise RunError(
            f"found a run on {len(there)} stores, expected the same number; {len(here)} are given here"
        )
    for old, new in zip(there, here, strict=True):
        changed = [f"{k}: {old.get(k)!r} there, {new[k]!r} here" for k in new if old.get(k) != new[k]]
        if changed:
            raise RunError(
                f"found a run on other data ({'; '.join(changed)}), expected the store it began with. "
                "Give that store, or choose another --out"
            )


def image_metadata(
    recipe: Recipe, images: ImageData, source: ImageSource, model: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model of images needs to be used without its run (`skeltrain.checkpoint`)."""
    return {
        "task": recipe.task,
        "recipe": to_plain(recipe),
        "model": dict(model),
        "images": images.model_dump(mode="json"),
        "data": [
            {
                "skeleton": one.skeleton.to_dict(),
                "column_order": list(one.skeleton.column_order),
                "plan": one.plan.to_dict(),
                "classes": list(one.samples.classes),
                "chain": one.samples.chain,
                "store": one.samples.identity,
            }
            for one in source.images.sets
        ],
        "statistics": source.statistics.to_dict(),
        "versions": versions(),
    }


def labelled(source: ImageSource, which: Part) -> NDArray[np.int64]:
    """Return the samples of a part that have a class; raises `DataError` where none has."""
    index = source.part(which)
    label = source.images.labels(index).cpu().numpy()
    found = index[label >= 0]
    if not len(found):
        data = source.stores[0]
        raise DataError(
            f"{data.store}: found no labels in part {getattr(data, which)!r}, "
            "expected a class for its samples. A probe needs labelled data"
        )
    return found
