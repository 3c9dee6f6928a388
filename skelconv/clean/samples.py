"""From a store to packed samples: cleaned, persons merged, one long array of rows.

A row is one pose. The rows of a sample stand one after another; `Samples.offsets` says where. This is what
the S2I encoding and training read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.clean import CleaningError, default_chain, find_chain, run_steps
from skelconv.clean.candidates import Actors, gather_extra
from skelconv.clean.ucla import to_unit_range
from skelconv.store.info import StoreInfo
from skelconv.store.recording import Recording, Sequence
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton, match_joints

Persons = Literal["interleave", "concat", "separate", "first"]
"""How the persons of a recording become samples.

- ``interleave``: one sample; a frame with two persons gives two rows, the first person's first (SGN, S2I).
- ``concat``: one sample; the first person's rows, then the second's.
- ``separate``: a sample a person.
- ``first``: one sample of the main actor only.
"""

PERSONS: tuple[Persons, ...] = get_args(Persons)
Third = Literal["confidence"]
"""What may stand behind the two axes of a 2D store: confidence as stored, 0 for a missing joint."""

THIRDS: tuple[Third, ...] = get_args(Third)
ALL_PERSONS = -1
"""In the column ``person``: the sample holds every person of its recording."""

_SEQUENCE_COLUMNS = ("start", "length")


@dataclass(frozen=True, eq=False)
class Rows:
    """The poses of one sample.

    Attributes
    ----------
    position
        (R, J, A) float32.
    person
        (R,) uint8: which of the recording's persons each pose is.
    next_row
        (R,) int64: the row of the same person's next observed frame, the row itself for its last one; so
        ``position[next_row] - position`` is the motion, per person, whatever order the rows stand in.
    """

    position: NDArray[np.float32]
    person: NDArray[np.uint8]
    next_row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, eq=False)
class Samples:
    """N samples of one layout, packed.

    Attributes
    ----------
    position
        (R, J, A) float32: the rows of all samples; with a ``third``, (R, J, A + 1).
    offsets
        (N + 1,) int64: sample n has the rows ``offsets[n]:offsets[n + 1]``, at least one.
    next_row
        (R,) int64, as `Rows.next_row`, counted over all samples.
    table
        N rows, indexed by sample id: ``recording``, ``label``, ``action``, ``person`` (`ALL_PERSONS` for
        merged ones) and every column of the store's table that is constant within each recording.
    skeleton
        The layout of ``position``.
    classes
        Names of the classes; labels count along it.
    scaling
        What is still to be done to each sample after augmentation: ``minmax`` stretches each axis to
        [-1, 1] over its rows and joints (`to_unit_range`), ``none`` is nothing.
    chain
        Name of the chain that cleaned them.
    set_aside
        (recording, reason) of each recording that could not be cleaned.
    third
        What the last value of each joint is where it is not a coordinate.
    frames
        (N,) int64: frames of the recording in which somebody of the sample is; None where nobody counted.
        A frame with two persons gives two rows.
    """

    position: NDArray[np.float32]
    offsets: NDArray[np.int64]
    next_row: NDArray[np.int64]
    table: pd.DataFrame
    skeleton: Skeleton
    classes: tuple[str, ...]
    scaling: Literal["none", "minmax"]
    chain: str = "none"
    set_aside: list[tuple[str, str]] = field(default_factory=list)
    third: Third | None = None
    frames: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


class SampleStore(Protocol):
    """What `pack_samples` asks of a store; `skelconv.store.store.Store` has it."""

    @property
    def info(self) -> StoreInfo:
        """Root attributes."""

    @property
    def skeleton(self) -> Skeleton:
        """Joint layout."""

    def to_frame(self) -> pd.DataFrame:
        """Return the table, a row a sequence."""

    def load(self, arrays: tuple[str, ...] = ...) -> dict[str, NDArray[np.generic]]:
        """Return whole arrays by name."""


def pack_samples(
    store: SampleStore,
    chain: str = "auto",
    persons: Persons = "interleave",
    skeleton: Skeleton | None = None,
    final_scaling: bool = True,
    third: Third | None = None,
    advance: Callable[[int, int], None] = lambda recordings, size: None,
) -> Samples:
    """Clean every recording of a store and pack what is left; the arrays are read once, whole.

    Parameters
    ----------
    store
        A sequence store.
    chain
        Name of a cleaning chain, or ``auto`` for the one of the store's dataset (`chain_for`).
    persons
        How persons become samples.
    skeleton
        Layout to carry the joints to, by name, after cleaning; the store's own when None.
    final_scaling
        False leaves out a chain's final scaling to [-1, 1], to be done after augmentation.
    third
        ``confidence`` puts each joint's confidence behind its coordinates; no chain changes it.
    advance
        Called as (1, 0) with each recording.

    Raises
    ------
    CleaningError
        Not one recording could be cleaned. Else those that could not are in `Samples.set_aside`. Or a third
        value is asked for of a chain that scales, without its final scaling.
    SkeletonError
        The layout asked for has joints that the store's has not.
    UnknownNameError
        No such chain, or no such way to arrange persons.
    """
    chosen = find_chain(chain_for(store.info) if chain == "auto" else chain)
    _check_persons(persons)
    if third is not None and not final_scaling and chosen.scaling != "none":
        raise CleaningError(
            "the samples", f"a {third} behind coordinates that are yet to be scaled", "them to be scaled"
        )
    joints = None if skeleton is None else match_joints(store.skeleton, skeleton)
    target = store.skeleton if skeleton is None else skeleton
    table = store.to_frame()
    arrays = store.load(("position", "frame_index") if third is None else ("position", "frame_index", third))
    position: NDArray[np.float32] = arrays["position"].astype(np.float32, copy=False)
    frame_index: NDArray[np.int32] = arrays["frame_index"].astype(np.int32, copy=False)

    values = position.shape[-1] + (third is not None)
    packed = _Packer(int(table["length"].sum()), (len(target), values))
    set_aside: list[tuple[str, str]] = []
    origins: list[tuple[int, int]] = []
    frames: list[int] = []
    cleaned = chosen.without_scaling()
    scale = final_scaling and chosen.scaling == "minmax"
    for first_row, recording in _recordings(table, position, frame_index, arrays.get("confidence")):
        advance(1, 0)
        try:
            actors = run_steps(recording, cleaned, store.skeleton)
        except CleaningError as error:
            set_aside.append((recording.name, error.reason))
            continue
        if third is not None:
            actors = _with_third(recording, actors, third)
        if joints is not None:
            actors = replace(actors, position=actors.position[:, :, joints])
        for rows in arrange(actors, persons):
            packed.append(
                _scaled(rows.position, position.shape[-1]) if scale else rows.position, rows.next_row
            )
            person = int(rows.person[0]) if persons in ("separate", "first") else ALL_PERSONS
            origins.append((first_row, person))
            frames.append(int(actors.present.any(axis=0).sum()) if person == ALL_PERSONS else len(rows))
    if not origins:
        raise CleaningError(
            f"all {len(set_aside)} recordings",
            "nothing to clean" if not set_aside else f"for {set_aside[0][0]}: {set_aside[0][1]}",
            "at least one recording that can be cleaned",
        )
    rows_position, rows_next = packed.result()
    return Samples(
        position=rows_position,
        offsets=np.array(packed.offsets, np.int64),
        next_row=rows_next,
        table=_sample_table(table, origins, separate=persons == "separate"),
        skeleton=target,
        classes=store.info.classes,
        scaling="none" if final_scaling else chosen.scaling,
        chain=chosen.name,
        set_aside=set_aside,
        third=third,
        frames=np.array(frames, np.int64),
    )


def chain_for(info: StoreInfo) -> str:
    """Return the chain of the dataset of a store; ``none`` where the store is a chain's result already."""
    made_from = info.provenance.derived_from or {}
    return "none" if "chain" in made_from else default_chain(info.dataset)


def arrange(actors: Actors, how: Persons) -> list[Rows]:
    """Turn persons into the rows of one sample, or of a sample a person when ``how`` is ``separate``.

    Only person-frames that are present give rows, so a person who never is gives no sample.
    """
    _check_persons(how)
    shown = [person for person, present in enumerate(actors.present) if present.any()]
    if how == "separate":
        return [_one_person(actors, person) for person in shown]
    return [merge_persons(actors, how)]


def merge_persons(actors: Actors, how: Literal["interleave", "concat", "first"]) -> Rows:
    """Turn persons into the rows of one sample; ``first`` takes the first person who is ever present."""
    shown = [person for person, present in enumerate(actors.present) if present.any()]
    if how == "first" or len(shown) == 1:
        return _one_person(actors, shown[0])
    if how == "concat":
        person, frame = np.nonzero(actors.present)
    else:
        frame, person = np.nonzero(actors.present.T)
    next_row = np.arange(len(person), dtype=np.int64)
    for one in shown:
        own = np.flatnonzero(person == one)
        next_row[own[:-1]] = own[1:]
    return Rows(actors.position[person, frame], person.astype(np.uint8), next_row)


def _scaled(rows: NDArray[np.float32], axes: int) -> NDArray[np.float32]:
    """Stretch the first ``axes`` values of each joint to [-1, 1]; a third that is not a coordinate stays."""
    return np.concatenate([to_unit_range(rows[..., :axes]), rows[..., axes:]], axis=-1)


def _with_third(recording: Recording, actors: Actors, name: Third) -> Actors:
    """Put an array with a value a joint behind the coordinates; 0 where nobody is or a joint is missing."""
    values = np.nan_to_num(gather_extra(recording, actors, name), nan=0.0)
    for number, body in enumerate(recording.bodies):
        here = actors.body == number
        values[here] *= ~np.isnan(body.position[actors.row[here]]).any(axis=-1)
    return replace(actors, position=np.concatenate([actors.position, values[..., None]], axis=-1))


def _one_person(actors: Actors, person: int) -> Rows:
    present = actors.present[person]
    track = actors.position[person]
    rows = track if present.all() else track[present]
    next_row = np.minimum(np.arange(1, len(rows) + 1, dtype=np.int64), len(rows) - 1)
    return Rows(rows, np.full(len(rows), person, np.uint8), next_row)


def _check_persons(how: str) -> None:
    if how not in PERSONS:
        raise UnknownNameError("way to arrange persons", how, PERSONS)


def _recordings(
    table: pd.DataFrame,
    position: NDArray[np.float32],
    frame_index: NDArray[np.int32],
    confidence: NDArray[np.generic] | None,
) -> Iterator[tuple[int, Recording]]:
    """Yield (table row of its first sequence, recording) in store order, as views into the loaded arrays."""
    codes, names = pd.factorize(table["recording"])
    order = np.argsort(codes, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
    starts = table["start"].to_numpy(np.int64)
    stops = starts + table["length"].to_numpy(np.int64)
    lengths = table["recording_length"].to_numpy(np.int64)
    bodies = table["body"].astype(str).tolist()
    ids = table.index.astype(str).tolist()
    for code, name in enumerate(names):
        rows = order[bounds[code] : bounds[code + 1]]
        tracks = tuple(
            Sequence(
                ids[i],
                bodies[i],
                frame_index[starts[i] : stops[i]],
                position[starts[i] : stops[i]],
                None if confidence is None else confidence[starts[i] : stops[i]],
            )
            for i in rows
        )
        yield int(rows[0]), Recording(str(name), int(lengths[rows[0]]), tracks)


def recording_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns of a store's table that are the same for all bodies of each recording."""
    codes, _ = pd.factorize(table["recording"])
    first = np.unique(codes, return_index=True)[1]
    columns = []
    for column in table.columns:
        if column not in _SEQUENCE_COLUMNS:
            values = pd.factorize(table[column], use_na_sentinel=False)[0]
            if (values == values[first[codes]]).all():
                columns.append(column)
    return columns


def _sample_table(table: pd.DataFrame, origins: list[tuple[int, int]], separate: bool) -> pd.DataFrame:
    """Take each sample's row of the table, less the columns that differ between bodies of a recording."""
    rows, persons = (np.array(values, np.int64) for values in zip(*origins, strict=True))
    samples = table[recording_columns(table)].iloc[rows].copy()
    samples["person"] = persons.astype(np.int16)
    ids = samples["recording"].astype(str)
    if separate:
        ids = ids + "_p" + samples["person"].astype(str)
    samples.index = pd.Index(ids, name="sample")
    return samples


class _Packer:
    """Rows written one after another into one array, which starts at the size it most often ends at."""

    def __init__(self, capacity: int, tail: tuple[int, int]) -> None:
        self.offsets = [0]
        self._position = np.empty((max(1, capacity), *tail), np.float32)
        self._next_row = np.empty(max(1, capacity), np.int64)

    def append(self, position: NDArray[np.float32], next_row: NDArray[np.int64]) -> None:
        start = self.offsets[-1]
        stop = start + len(position)
        if stop > len(self._position):
            self._grow(stop)
        self._position[start:stop] = position
        np.add(next_row, start, out=self._next_row[start:stop])
        self.offsets.append(stop)

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        stop = self.offsets[-1]
        return self._position[:stop], self._next_row[:stop]

    def _grow(self, needed: int) -> None:
        # chains that repeat persons or frames give more rows than the store has frames
        capacity = max(needed, len(self._position) * 3 // 2)
        for name in ("_position", "_next_row"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
