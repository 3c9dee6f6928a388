"""Writing what a cleaning chain gives as a sequence store of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.clean.candidates import Actors, CleaningError
from skelconv.clean.chains import Chain, find_chain, run_steps
from skelconv.clean.ucla import scale_to_unit_range
from skelconv.derive.contents import stored_dataset, stored_side_rows
from skelconv.store import schema
from skelconv.store.info import Provenance, SetAside, StoreInfo
from skelconv.store.publish import prepare_partial
from skelconv.store.recording import Recording
from skelconv.store.recording import Sequence as Body
from skelconv.store.store import Store
from skelconv.store.writer import StoreWriter, WriteOptions
from skelformats.reader import AxisMap, Clip, Column, Dataset, Track


def clean_store(
    store: Store,
    path: str | Path,
    chain: str,
    overwrite: bool = False,
    shard_frames: int = schema.SHARD_FRAMES,
) -> StoreInfo:
    """Run a chain on every recording and write the persons it gives as a store.

    A person is a sequence: only the frames in which it is present, joints that were never observed as NaN.
    The column ``body`` joins the ids of the bodies a person was made of by ``+``. Confidence, table, splits
    and side tables are carried over as they are stored; a column in which those bodies differ holds its fill
    value. Optional arrays along frame are not. ``provenance.derived_from`` records the chain and its steps,
    ``provenance.set_aside`` the recordings that could not be cleaned.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false.
    CleaningError
        Not one recording could be cleaned.
    UnknownNameError
        No such chain.
    """
    chosen, set_aside = find_chain(chain), list[SetAside]()
    described = _describe(store, chosen)
    side = stored_side_rows(store, described)
    with prepare_partial(Path(path), overwrite) as partial:
        writer = StoreWriter(
            partial.store, described, WriteOptions(store.skeleton, shard_frames=shard_frames)
        )
        for recording in store.recordings():
            source = str(recording.row["source"])
            try:
                actors = run_steps(recording, chosen, store.skeleton)
            except CleaningError as error:
                set_aside.append(SetAside(source=source, reason=str(error)))
                continue
            writer.append(replace(_clip(recording, actors, described), tables=side), source)
            side = {}
        if not len(writer.table):
            raise CleaningError(
                f"all recordings of {store.path}",
                set_aside[0].reason if set_aside else "no recording",
                "at least one recording that can be cleaned",
            )
        info = writer.finish(_provenance(store, chosen, set_aside))
        partial.publish()
    return info


def _clip(recording: Recording, actors: Actors, dataset: Dataset) -> Clip:
    row = recording.row
    return Clip(
        recording=recording.name,
        length=recording.length,
        tracks=tuple(
            _track(recording, actors, person, dataset)
            for person, present in enumerate(actors.present)
            if present.any()
        ),
        label=int(row["label"]),
        columns={},
        splits={split.name: str(row[schema.split_column(split.name)]) for split in dataset.protocols},
    )


def _track(recording: Recording, actors: Actors, person: int, dataset: Dataset) -> Track:
    present = actors.present[person]
    bodies, rows = actors.body[person, present], actors.row[person, present]
    position = actors.position[person, present]
    states = None
    if dataset.confidence is not None:
        states = np.zeros(position.shape[:-1], dataset.confidence.dtype)
    for number in np.unique(bodies):
        here, track = bodies == number, recording.bodies[number]
        unseen = np.isnan(track.position[rows[here]]).any(axis=-1)
        position[here] = np.where(unseen[..., None], np.float32("nan"), position[here])
        if states is not None and track.confidence is not None:
            states[here] = track.confidence[rows[here]]
    made_of = [recording.bodies[number] for number in dict.fromkeys(bodies.tolist())]
    return Track(
        "+".join(dict.fromkeys(body.body for body in made_of)),
        actors.frame_index[present],
        position,
        states,
        columns={column.name: _shared(column, made_of) for column in dataset.columns},
    )


def _shared(column: Column, bodies: Sequence[Body]) -> Any:
    """Return what the bodies of a person share in a column, else what the column holds for no value."""
    first, *others = (np.asarray(body.row[column.name]) for body in bodies)
    if all(np.array_equal(first, other, equal_nan=first.dtype.kind == "f") for other in others):
        return bodies[0].row[column.name]
    fill = schema.column_fill(column.dtype)
    return np.full(column.shape, fill, object if column.dtype == "string" else column.dtype)[()]


def _describe(store: Store, chain: Chain) -> Dataset:
    """Describe the cleaned data as a dataset whose raw axes are the canonical ones."""
    stored = stored_dataset(store)
    axes = len(stored.axes)
    return replace(
        stored,
        title=f"{stored.title}, cleaned: {chain.title}",
        # a stretched axis has no unit left
        unit="1" if scale_to_unit_range in chain.steps else stored.unit,
        axis_map=AxisMap(tuple(range(axes)), (1,) * axes),
        extras=(),
    )


def _provenance(store: Store, chain: Chain, set_aside: list[SetAside]) -> Provenance:
    made = store.info.provenance
    return Provenance(
        tool=made.tool,
        command=f"skelconv clean IN OUT --chain {chain.name}",
        sources=made.sources,
        digest=made.digest,
        set_aside=tuple(set_aside),
        derived_from={
            "chain": chain.name,
            "steps": list(chain.step_names),
            "source": chain.source,
            "provenance": made.model_dump(mode="json", exclude={"set_aside", "empty"}),
        },
    )
