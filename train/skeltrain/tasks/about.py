"""What an evaluation says of itself: data, labels, encoder and pretraining, so that it can be placed in a
table.

It stands beside the scores in ``evaluation.json``, as ``about`` (`skeltrain.run_folder.ABOUT`);
`skeltrain.tables` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skeltrain.recipe import Recipe
from skeltrain.recipe_file import to_plain
from skeltrain.tasks.image_data import read_metadata
from skeltrain.tasks.labelled import Labelled
from skeltrain.tasks.registry import Trained
from skeltrain.tasks.seeds import describe_test

VERSION = 1
"""Of what `describe_trial` returns; a reader refuses a later one."""

ENCODERS = ("pretrained", "random", "weights", "scratch")
"""Where an encoder comes from: a run; one like it with random weights; a file; nowhere."""


def describe_pretraining(parent: Trained) -> dict[str, Any]:
    """Say how an encoder was pretrained: the whole recipe, how far it came, and on which data.

    Raises
    ------
    CheckpointError
        The checkpoint is not of a model of images.
    """
    known = read_metadata(parent.metadata, str(parent.path))
    stores = [
        {**store, "layout": skeleton.name, "protocol": data.protocol, "train": data.train}
        for store, skeleton, data in zip(known.stores, known.skeletons, known.images.each(), strict=True)
    ]
    progress = parent.checkpoint["progress"]
    return {
        "checkpoint": str(parent.path),
        "recipe": parent.metadata["recipe"],
        "epochs": progress["epoch"],
        "seconds": progress["seconds"],
        "stores": stores,
    }


def describe_trial(
    recipe: Recipe,
    found: Labelled,
    encoder: str,
    pretraining: Mapping[str, Any] | None,
    used: int | None = None,
    trained_here: bool = True,
) -> dict[str, Any]:
    """Say what a probe or a fine-tuning was trained and tested on, and from what it started.

    Parameters
    ----------
    encoder
        One of `ENCODERS`.
    pretraining
        What `describe_pretraining` said of the encoder's; None where there was none.
    used
        Number of labelled training samples that were used; all of them by default.
    trained_here
        Whether it was trained on this data too, and not only evaluated on it.
    """
    (images,) = found.source.images.sets
    samples = images.samples
    recordings = found.recordings
    return {
        "version": VERSION,
        "task": recipe.task,
        "encoder": encoder,
        "seed": recipe.seed,
        "trained_here": trained_here,
        "data": {
            **found.data.model_dump(),
            **samples.identity,
            "generated": "" if samples.store is None else samples.store.info.dataset.generated,
            "layout": samples.skeleton.name,
            "chain": samples.chain,
            "streams": list(images.streams),
            "train_samples": len(found.train),
            "used_samples": len(found.train) if used is None else used,
            **describe_test(recordings.label.cpu().numpy(), recordings.leaked.cpu().numpy()),
        },
        "recipe": to_plain(recipe),
        "pretraining": pretraining,
    }
