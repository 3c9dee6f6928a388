"""How much of the training part counts as labelled: `Labels`, and what of it is picked."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from skeltrain.recipe import Section
from skeltrain.sections import Share
from skeltrain.tasks.image_data import ImageSource


class Labels(Section):
    """How much of the training part is labelled (semi-supervised training); the rest is not used.

    Attributes
    ----------
    share
        Part of the recordings; where a person is a sample, all of a recording's persons are labelled or none.
    pick
        ``stratified``: that part of each class, rounded, and at least one recording. ``uniform``: of all
        recordings, rounded down, whatever their classes.
    seed
        By which they are drawn; null takes the recipe's.
    """

    share: Share = 1.0
    pick: Literal["stratified", "uniform"] = "stratified"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


def pick_labels(label: NDArray[np.int64], labels: Labels, seed: int) -> NDArray[np.intp]:
    """Return which of the recordings with classes ``label`` (N,) are used as labelled, in rising order."""
    if labels.share == 1:
        return np.arange(len(label))
    source = np.random.default_rng(seed if labels.seed is None else labels.seed)
    if labels.pick == "uniform":
        count = max(int(len(label) * labels.share), 1)
        return np.sort(source.permutation(len(label))[:count])
    chosen = []
    for one in np.unique(label):
        members = source.permutation(np.flatnonzero(label == one))
        chosen.append(members[: max(round(len(members) * labels.share), 1)])
    return np.sort(np.concatenate(chosen))


def labelled_rows(
    source: ImageSource, index: NDArray[np.int64], labels: Labels, seed: int
) -> NDArray[np.intp]:
    """Return which of the samples ``index`` (N,) of one store are used as labelled, in rising order."""
    table = source.images.mixture.sets[0].table.iloc[index]
    group, _ = pd.factorize(table["recording"].to_numpy(object))
    _, first = np.unique(group, return_index=True)
    chosen = pick_labels(table["label"].to_numpy(np.int64)[first], labels, seed)
    return np.flatnonzero(np.isin(group, chosen))
