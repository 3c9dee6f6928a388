"""Carrying a store's joints to another layout, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.derive.contents import kept_derivation, stored_clips, stored_dataset
from skelconv.store import schema
from skelconv.store.info import Provenance, StoreInfo
from skelconv.store.store import Store
from skelconv.store.writer import WriteOptions, write_store
from skelformats.reader import Clip, Extra
from skelformats.skeleton import Skeleton, load_skeleton, match_joints


def remap_store(
    store: Store,
    path: str | Path,
    layout: str | Skeleton,
    overwrite: bool = False,
    shard_frames: int = schema.SHARD_FRAMES,
) -> StoreInfo:
    """Write a store with the joints of another layout: each is the store's joint of that name.

    Confidence and optional arrays that have a value a joint go along; everything else stays. Joints that the
    layout does not have are lost. ``provenance.derived_from["remap"]`` records which joint became which.

    Raises
    ------
    SkeletonError
        The layout has joints without a counterpart in the store; all are named.
    UnknownNameError
        There is no such layout.
    StoreError
        ``path`` exists and ``overwrite`` is false.
    """
    target = load_skeleton(layout) if isinstance(layout, str) else layout
    joints = match_joints(store.skeleton, target)
    dataset = stored_dataset(store)
    extras = {extra.name: extra for extra in dataset.extras}

    def clips() -> Iterator[tuple[str, Clip]]:
        for source, clip in stored_clips(store, dataset):
            yield source, _remapped(clip, joints, extras)

    return write_store(
        path,
        replace(dataset, skeleton=target.name),
        clips(),
        _provenance(store, target, joints),
        store.info.extras,
        shard_frames,
        overwrite,
        WriteOptions(target, precision=store.info.precision, canonical=True),
    )


def _remapped(clip: Clip, joints: NDArray[np.intp], extras: dict[str, Extra]) -> Clip:
    tracks = tuple(
        replace(
            track,
            position=track.position[:, joints],
            confidence=None if track.confidence is None else track.confidence[:, joints],
            extras={name: _take(values, extras[name], joints) for name, values in track.extras.items()},
        )
        for track in clip.tracks
    )
    return replace(clip, tracks=tracks)


def _take(values: NDArray[Any], extra: Extra, joints: NDArray[np.intp]) -> NDArray[Any]:
    for axis, dim in enumerate(extra.dims, start=1):
        if dim == "joint":
            values = np.take(values, joints, axis)
    return values


def _provenance(store: Store, target: Skeleton, joints: NDArray[np.intp]) -> Provenance:
    made, names = store.info.provenance, store.skeleton.names
    return Provenance(
        tool=made.tool,
        command=f"skelconv remap IN OUT --format {target.name}",
        sources=made.sources,
        digest=made.digest,
        set_aside=made.set_aside,
        empty=made.empty,
        derived_from={
            **kept_derivation(made),
            "remap": {
                "from": store.skeleton.name,
                "joints": {joint: names[number] for joint, number in zip(target.names, joints, strict=True)},
            },
            "provenance": made.model_dump(mode="json", exclude={"set_aside", "empty"}),
        },
    )
