"""Which rows make a sample: `SampleSet`, by recording (`open_samples`) or as windows (`open_windows`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.clean.samples import pack_samples
from skelconv.store.schema import CONFIDENCE, POSITION
from skelconv.store.store import Store, open_store
from skelformats.skeleton import Skeleton, load_skeleton, match_joints
from skeltrain.data.crop import Stretches
from skeltrain.data.frames import Frames, Ragged
from skeltrain.data.loader import DataError
from skeltrain.sections import StoreData


@dataclass(frozen=True, eq=False)
class SampleSet:
    """N samples of one store on a device, and what to remember of where they come from.

    Attributes
    ----------
    frames
        The rows of all samples.
    start, length
        (N,) int64: the rows of each sample.
    table
        N rows; ``recording``, ``label`` and the columns of the store that hold for each sample.
    skeleton
        The layout of the rows.
    classes
        Names of the classes; labels count along it.
    identity
        Which data it is, as plain data; equal for two copies of one store.
    chain
        The cleaning chain that was used, ``none`` for rows as they are stored.
    scaling
        What is still to be done to each sample after augmentation (`skelconv.clean.samples.Samples`).
    set_aside
        (recording, reason) of what could not be cleaned.
    store
        The store itself, where there is one.
    stretches
        What is cut as one in time, where that is not each sample as it stands.
    """

    frames: Frames
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    table: pd.DataFrame
    skeleton: Skeleton
    classes: tuple[str, ...] = ()
    identity: dict[str, Any] = field(default_factory=dict)
    chain: str = "none"
    scaling: str = "none"
    set_aside: list[tuple[str, str]] = field(default_factory=list)
    store: Store | None = None
    stretches: Stretches | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.frames.device

    def gather(self, index: NDArray[np.int64]) -> Ragged:
        """Bring the rows of samples together, (N,) numbers in any order."""
        return self.frames.gather(self.start[index], self.length[index])

    def labels(self, index: NDArray[np.int64]) -> Tensor:
        """(N,) int64 classes of samples, on the device; -1 for none."""
        label = self.table["label"].to_numpy(np.int64)[index]
        return torch.from_numpy(label).to(self.device)

    def part(self, protocol: str | None, part: str) -> NDArray[np.int64]:
        """Return the numbers of the samples in a part of a protocol; all of them when there is no protocol.

        Raises
        ------
        DataError
            The data has no such protocol, or the part is empty.
        """
        if protocol is None:
            return np.arange(len(self), dtype=np.int64)
        column = f"split_{protocol}"
        if column not in self.table:
            known = [str(c).removeprefix("split_") for c in self.table if str(c).startswith("split_")]
            raise DataError(
                f"found no protocol {protocol!r} in the store, expected one of {', '.join(known) or 'none'}. "
                "Set data.protocol"
            )
        chosen = np.flatnonzero((self.table[column] == part).to_numpy(bool)).astype(np.int64)
        if not len(chosen):
            parts = sorted({str(value) for value in self.table[column]} - {""})
            raise DataError(
                f"found no sample in part {part!r} of protocol {protocol!r}, expected one of "
                f"{', '.join(parts) or 'none'}. Set data.train and data.test, or choose another protocol"
            )
        return chosen

    def leaked(self, protocol: str | None) -> NDArray[np.bool_]:
        """(N,) whether a sample is of the test part and its motion also stands in the training part."""
        if protocol is None or self.store is None:
            return np.zeros(len(self), np.bool_)
        by_sequence = self.store.leaked(protocol).to_numpy(np.bool_)
        recordings = self.store.to_frame()["recording"][by_sequence]
        return self.table["recording"].isin(set(recordings)).to_numpy(np.bool_)


def open_samples(data: StoreData, device: torch.device, skeleton: Skeleton | None = None) -> SampleSet:
    """Clean and pack the recordings of a store, a sample a recording (or a person), on a device.

    Parameters
    ----------
    skeleton
        Layout to bring the joints to, for a model that is bound to one; by default what ``data.format``
        names.

    Raises
    ------
    DataError
        No store is named.
    StoreError, CleaningError, SkeletonError, UnknownNameError
        The store cannot be read, cleaned or remapped as asked.
    """
    store = open_store(_named(data.store))
    target = skeleton or (load_skeleton(data.format) if data.format else None)
    samples = pack_samples(
        store,
        chain=data.clean,
        persons=data.persons,
        skeleton=None if target == store.skeleton else target,
        final_scaling=False,
    )
    return SampleSet(
        frames=Frames(samples.position, device, samples.next_row),
        start=samples.offsets[:-1],
        length=np.diff(samples.offsets),
        table=samples.table,
        skeleton=samples.skeleton,
        classes=samples.classes,
        identity=identify(store),
        chain=samples.chain,
        scaling=samples.scaling,
        set_aside=samples.set_aside,
        store=store,
        stretches=(
            Stretches.by_person(samples.offsets, samples.next_row) if data.persons == "concat" else None
        ),
    )


@dataclass(frozen=True)
class Windows:
    """How sequences are cut: windows of ``length`` frames, a new one every ``stride`` frames.

    A window never reaches over a gap: the frames of a sequence that were not observed cut it in pieces. Of a
    piece that is shorter than ``length`` nothing is taken, unless ``short`` is set: then it is a window of
    its own, and so is the rest that the last whole window leaves at the end of a piece.
    """

    length: int
    stride: int
    short: bool = False

    def cut(self, frame_index: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
        """Yield (start, length) of each window of a sequence, by its row; ``frame_index`` (T,) rises."""
        edges = [0, *(np.flatnonzero(np.diff(frame_index) != 1) + 1).tolist(), len(frame_index)]
        for begin, end in pairwise(edges):
            starts = range(begin, end - self.length + 1, self.stride)
            yield from ((start, self.length) for start in starts)
            rest = starts[-1] + self.length if starts else begin
            if self.short and rest < end:
                yield rest, end - rest


def open_windows(
    path: str | Path | None,
    windows: Windows,
    device: torch.device,
    skeleton: Skeleton | None = None,
    extras: Sequence[str] = (),
) -> SampleSet:
    """Cut the sequences of a store into windows, a sample a window, on a device.

    Positions are as stored, in the store's unit (pixels in a 2D store); a missing joint is NaN, and its
    confidence, where the store has one, is 0. Labels and columns are those of the window's sequence; the
    column ``window`` counts the windows of each.

    Parameters
    ----------
    extras
        Names of optional arrays of the store to have along.

    Raises
    ------
    DataError
        No store is named, or no sequence gives a window.
    StoreError, SkeletonError
        The store cannot be read, lacks an array, or lacks joints of ``skeleton``.
    """
    store = open_store(_named(path))
    scored = CONFIDENCE in store.arrays
    wanted = (POSITION, "frame_index", *((CONFIDENCE,) if scored else ()), *extras)
    arrays = store.load(wanted)
    table = store.to_frame()
    rows = []
    for number, (start, length) in enumerate(zip(table["start"], table["length"], strict=True)):
        own = arrays["frame_index"][start : start + length]
        cuts = windows.cut(np.asarray(own, np.int32))
        rows += [(number, k, start + first, count) for k, (first, count) in enumerate(cuts)]
    if not rows:
        longest = int(table["length"].max()) if len(table) else 0
        raise DataError(
            f"{store.path}: found no stretch of {windows.length} observed frames (the longest sequence has "
            f"{longest}), expected at least one. Choose shorter windows"
        )
    sequence, count, start, length = np.array(rows, np.int64).T
    position = np.asarray(arrays[POSITION], np.float32)
    confidence = np.asarray(np.isfinite(position).all(axis=-1), np.float32)
    if scored:
        confidence = confidence * np.asarray(arrays[CONFIDENCE], np.float32)
    target = skeleton or store.skeleton
    if target != store.skeleton:
        take = match_joints(store.skeleton, target)
        position, confidence = position[:, take], confidence[:, take]
    more = {name: np.ascontiguousarray(arrays[name]) for name in extras}
    return SampleSet(
        frames=Frames(np.ascontiguousarray(position), device, confidence=confidence, extras=more),
        start=start,
        length=length,
        table=table.drop(columns=["start", "length"]).iloc[sequence].assign(window=count),
        skeleton=target,
        classes=store.info.classes,
        identity=identify(store),
        store=store,
    )


def identify(store: Store) -> dict[str, Any]:
    """Say which data a store holds; equal for two copies of one store, wherever they lie."""
    return {
        "dataset": store.info.dataset.name,
        "digest": store.info.provenance.digest,
        "sequences": len(store),
        "frames": store.frames,
    }


def _named(store: str | Path | None) -> str | Path:
    if store is None:
        raise DataError(
            "found no store, expected the folder of one. Give it with --store STORE, or as data.store"
        )
    return store
