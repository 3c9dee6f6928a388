"""From a store to resident data: what a recipe's section ``data`` means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skelconv.clean.samples import pack_samples
from skelconv.store.store import Store, open_store
from skelformats.skeleton import Skeleton, load_skeleton
from skeltrain.data.resident import DataError, Resident
from skeltrain.recipe import Data


@dataclass(frozen=True)
class Source:
    """A store's samples on the device, and what to remember of where they come from.

    Attributes
    ----------
    data
        The samples.
    identity
        Which data it is, as plain data; equal for two copies of one store.
    chain
        The cleaning chain that was used.
    set_aside
        (recording, reason) of what could not be cleaned.
    """

    store: Store
    data: Resident
    identity: dict[str, Any]
    chain: str
    set_aside: list[tuple[str, str]]

    def leaked(self, protocol: str | None) -> NDArray[np.bool_]:
        """(N,) whether a sample is of the test part and its motion also stands in the training part."""
        if protocol is None:
            return np.zeros(len(self.data), np.bool_)
        by_sequence = self.store.leaked(protocol).to_numpy(np.bool_)
        recordings = self.store.to_frame()["recording"][by_sequence]
        return self.data.table["recording"].isin(set(recordings)).to_numpy(np.bool_)


def open_source(data: Data, device: torch.device, skeleton: Skeleton | None = None) -> Source:
    """Load, clean and pack the samples of a store, and put them on a device.

    Parameters
    ----------
    skeleton
        Layout to encode in, for a model that is bound to one; by default what ``data.format`` names.

    Raises
    ------
    DataError
        No store is named.
    StoreError, CleaningError, SkeletonError, UnknownNameError
        The store cannot be read, cleaned or remapped as asked.
    """
    if data.store is None:
        raise DataError(
            "found no store, expected the folder of one. Give it with --store STORE, or as data.store"
        )
    store = open_store(data.store)
    target = skeleton or (load_skeleton(data.format) if data.format else None)
    samples = pack_samples(
        store,
        chain=data.clean,
        persons=data.persons,
        skeleton=None if target == store.skeleton else target,
        final_scaling=False,
    )
    made = store.info.provenance
    identity = {
        "dataset": store.info.dataset.name,
        "digest": made.digest,
        "sequences": len(store),
        "frames": store.frames,
    }
    return Source(store, Resident(samples, data, device), identity, samples.chain, samples.set_aside)
