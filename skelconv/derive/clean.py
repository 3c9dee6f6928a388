"""Writing what a cleaning chain gives as a sequence store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import zarr

from skelconv.clean.candidates import Actors, CleaningError
from skelconv.clean.chains import Chain, default_chain, find_chain, run_steps
from skelconv.clean.samples import recording_columns
from skelconv.clean.ucla import scale_to_unit_range
from skelconv.store import schema
from skelconv.store.info import Provenance, SetAside, StoreInfo
from skelconv.store.publish import claim, publish, remove
from skelconv.store.recording import Recording
from skelconv.store.writer import StoreWriter
from skelformats.reader import AxisMap, Clip, Column, Confidence, Dataset, Track
from skelformats.reader import Protocol as Split
from skelformats.skeleton import Skeleton

_KEPT_BY_WRITER = frozenset(column.name for column in schema.BASE_COLUMNS)
_SPLIT = schema.split_column("")


class RecordingStore(Protocol):
    """What `clean_store` asks of a store; `skelconv.store.store.Store` has it."""

    @property
    def path(self) -> str | Path:
        """Where it lies."""

    @property
    def info(self) -> StoreInfo:
        """Root attributes."""

    @property
    def skeleton(self) -> Skeleton:
        """Joint layout."""

    def to_frame(self) -> pd.DataFrame:
        """Return the table, a row a sequence."""

    def recordings(self) -> Iterator[Recording]:
        """Yield every recording in store order."""


def clean_store(
    store: RecordingStore,
    path: str | Path,
    chain: str,
    overwrite: bool = False,
    shard_frames: int = schema.SHARD_FRAMES,
) -> StoreInfo:
    """Run a chain on every recording and write the persons it gives as a store.

    A person is a sequence: only the frames in which it is present, joints that were never observed as NaN.
    The column ``body`` joins the ids of the bodies a person was made of by ``+``. Table, splits and
    confidence are carried over, other optional arrays are not. ``provenance.derived_from`` records the
    chain and its steps, ``provenance.set_aside`` the recordings that could not be cleaned.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false.
    CleaningError
        Not one recording could be cleaned.
    UnknownNameError
        No such chain.
    """
    path, chosen = Path(path), find_chain(chain)
    partial = claim(path, overwrite)
    writer = StoreWriter(partial, _describe(store, chosen), store.skeleton, shard_frames=shard_frames)
    set_aside: list[SetAside] = []
    for recording in store.recordings():
        source = str(recording.row["source"])
        try:
            actors = run_steps(recording, chosen, store.skeleton)
        except CleaningError as error:
            set_aside.append(SetAside(source=source, reason=str(error)))
            continue
        writer.append(_clip(recording, actors, writer.dataset), source)
    if not len(writer.table):
        remove(partial)
        raise CleaningError(
            f"all recordings of {store.path}",
            set_aside[0].reason if set_aside else "no recording",
            "at least one recording that can be cleaned",
        )
    info = writer.finish(_provenance(store, chosen, set_aside))
    publish(partial, path, overwrite)
    return info


def _clip(recording: Recording, actors: Actors, dataset: Dataset) -> Clip:
    row = recording.row
    return Clip(
        recording=recording.name,
        length=recording.length,
        tracks=tuple(
            _track(recording, actors, person, dataset.confidence)
            for person, present in enumerate(actors.present)
            if present.any()
        ),
        label=int(row["label"]),
        columns={column.name: row[column.name] for column in dataset.columns},
        splits={split.name: str(row[schema.split_column(split.name)]) for split in dataset.protocols},
    )


def _track(recording: Recording, actors: Actors, person: int, confidence: Confidence | None) -> Track:
    present = actors.present[person]
    bodies, rows = actors.body[person, present], actors.row[person, present]
    position = actors.position[person, present]
    states = None
    if confidence is not None:
        states = np.zeros(position.shape[:-1], confidence.dtype)
    for number in np.unique(bodies):
        here, track = bodies == number, recording.bodies[number]
        unseen = np.isnan(track.position[rows[here]]).any(axis=-1)
        position[here] = np.where(unseen[..., None], np.float32("nan"), position[here])
        if states is not None and track.confidence is not None:
            states[here] = track.confidence[rows[here]]
    in_time = dict.fromkeys(recording.bodies[number].body for number in bodies)
    return Track("+".join(in_time), actors.frame_index[present], position, states)


def _describe(store: RecordingStore, chain: Chain) -> Dataset:
    """Describe the cleaned data as a dataset whose raw axes are the canonical ones."""
    info, axes = store.info, store.info.axes
    group = zarr.open_group(str(store.path), mode="r")
    table = store.to_frame()
    columns = tuple(
        Column(name, _column_dtype(table[name]), str(group[name].attrs.get("long_name", "")))
        for name in recording_columns(table)
        if name not in _KEPT_BY_WRITER and not name.startswith(_SPLIT)
    )
    confidence = info.confidence
    return Dataset(
        name=info.dataset.name,
        title=f"{info.dataset.title}, cleaned: {chain.title}",
        skeleton=store.skeleton.name,
        licence=info.dataset.licence,
        citation=info.dataset.citation,
        homepage=info.dataset.homepage,
        frame_rate=info.frame_rate,
        classes=info.classes,
        columns=columns,
        protocols=tuple(Split(name, text) for name, text in info.protocols.items()),
        missing=info.missing,
        # a stretched axis has no unit left
        unit="1" if scale_to_unit_range in chain.steps else info.unit,
        axes=axes.names,
        axis_convention=axes.convention,
        axis_map=AxisMap(tuple(range(len(axes.names))), (1,) * len(axes.names)),
        confidence=None
        if confidence is None
        else Confidence(
            "u1" if confidence.dtype == "u1" else "f4", confidence.description, confidence.states
        ),
        cleaning=default_chain(info.dataset),
    )


def _column_dtype(values: pd.Series[Any]) -> Any:
    if pd.api.types.is_integer_dtype(values.dtype):
        return "i8" if np.dtype(values.dtype.name.lower()).itemsize > 4 else "i4"
    return "f4" if pd.api.types.is_float_dtype(values.dtype) else "string"


def _provenance(store: RecordingStore, chain: Chain, set_aside: list[SetAside]) -> Provenance:
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
