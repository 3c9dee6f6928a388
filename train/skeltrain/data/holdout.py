"""A part to choose settings on, taken out of the training part, so that the test part stays unread.

``holdout: {subject: [9, 10]}`` evaluates on the training samples of two subjects and trains on those of all
others. With several columns the two sides differ in every one of them: with ``{subject: [9, 10], camera:
[2]}`` evaluated are subjects 9 and 10 before camera 2, trained on are other subjects before other cameras,
and the rest (subject 9 before camera 1, subject 1 before camera 2) is used for neither.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skeltrain.data.loader import DataError
from skeltrain.data.samples import SampleSet
from skeltrain.sections import StoreData

Part = Literal["train", "test"]


def part_of(samples: SampleSet, data: StoreData, which: Part) -> NDArray[np.int64]:
    """Return the numbers of the samples that are trained on, or of those that are evaluated.

    Raises
    ------
    DataError
        The data has no such protocol, part, column or value, or nothing is left to train or to evaluate on.
    """
    if not data.holdout:
        return samples.part(data.protocol, data.train if which == "train" else data.test)
    whole = samples.part(data.protocol, data.train)
    held_CN = np.stack([_held(samples, whole, column, values) for column, values in data.holdout.items()])
    parts = {"train": whole[~held_CN.any(axis=0)], "test": whole[held_CN.all(axis=0)]}
    for name, left in parts.items():
        if not len(left):
            raise DataError(
                f"found no sample to {'train' if name == 'train' else 'evaluate'} on: of {len(whole)} "
                f"training samples, data.holdout {_shown(data)} leaves none, expected at least one. Hold out "
                f"{'less' if name == 'train' else 'values that occur together'}"
            )
    return parts[which]


def find_leaked(samples: SampleSet, data: StoreData) -> NDArray[np.bool_]:
    """(N,) whether a sample is evaluated and its motion is also among those that are trained on."""
    if not data.holdout:
        return samples.leaked(data.protocol)
    leaked = np.zeros(len(samples), np.bool_)
    if samples.store is not None:
        motions = samples.store.to_frame()[["recording", "digest"]]
        name = samples.table["recording"]
        trained, evaluated = (part_of(samples, data, which) for which in ("train", "test"))
        known = motions["digest"][motions["recording"].isin(set(name.iloc[trained]))]
        twice = motions["recording"][motions["digest"].isin(set(known))]
        leaked[evaluated] = name.iloc[evaluated].isin(set(twice)).to_numpy(np.bool_)
    return leaked


def _held(
    samples: SampleSet, whole: NDArray[np.int64], column: str, values: tuple[str | int, ...]
) -> NDArray[np.bool_]:
    """Return which of the samples ``whole`` have one of the values in a column; compared as text."""
    if column not in samples.table:
        known = [str(name) for name in samples.table if not str(name).startswith("split_")]
        raise DataError(
            f"found no column {column!r} in the table of the store, expected one of {', '.join(known)}. "
            "Set data.holdout"
        )
    there = samples.table[column].iloc[whole].astype(str).to_numpy(str)
    for value in values:
        if str(value) not in there:
            known = samples.table[column].iloc[whole].drop_duplicates().sort_values().astype(str).tolist()
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise DataError(
                f"found no {column} {str(value)!r} in the training part, expected one of {shown}. "
                "Set data.holdout"
            )
    return np.isin(there, [str(value) for value in values])


def _shown(data: StoreData) -> str:
    return str({column: list(values) for column, values in data.holdout.items()})
