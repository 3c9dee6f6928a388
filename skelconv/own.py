"""A store of one's own data from Python: `write_store` takes arrays, and gives what every other store
gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skelconv import __version__
from skelconv.store.info import Provenance, StoreInfo
from skelconv.store.writer import write_store as write_clips
from skelformats.own_data import Description, OwnDataError
from skelformats.reader import Clip, Column, Dataset, Track
from skelformats.skeleton import load_skeleton

PARTS = ("train", "test", "val", "")


@dataclass(frozen=True)
class SequenceData:
    """One body through one recording; a mapping with these keys does as well.

    Attributes
    ----------
    recording
        Name of the recording. The bodies of one recording come one after another.
    position
        (T, J, 2) or (T, J, 3), in the unit and axes that `write_store` is told; a missing joint is NaN.
    frame_index
        (T,) numbers of the frames in the recording, rising; None counts from 0.
    confidence
        (T, J), or None. Every sequence has one, or none has.
    label
        Class, by its name or number; None for none.
    body
        Whose it is, where a recording has several.
    splits
        Part by split: ``train``, ``test``, ``val`` or empty.
    columns
        Further columns of the table: text and numbers.
    """

    recording: str
    position: ArrayLike
    frame_index: ArrayLike | None = None
    confidence: ArrayLike | None = None
    label: str | int | None = None
    body: str = "0"
    splits: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str | int | float] = field(default_factory=dict)


def write_store(
    path: str | Path,
    sequences: Iterable[SequenceData | Mapping[str, Any]],
    *,
    overwrite: bool = False,
    **description: Any,
) -> StoreInfo:
    """Write one's own sequences as a store; exported as ``skelconv.write_store``.

    Sequences are taken one by one, so a generator of any length needs little memory. The store appears under
    ``path`` only when it is complete.

    Parameters
    ----------
    sequences
        `SequenceData`, or mappings with its keys. Columns and splits are those of the first one.
    overwrite
        Replace a store of that name.
    description
        What the data is: ``skeleton``, and where it differs from the default ``unit``, ``up``,
        ``frame_rate``, ``classes``, ``title``, ``licence``, ``citation``
        (`skelformats.own_data.Description`).

    Raises
    ------
    OwnDataError
        A sequence is not of the shape that the layout asks for, or not like the first one. Nothing is
        written.
    UnknownNameError, SkeletonError
        No such layout, unit or class.
    StoreError
        ``path`` exists and ``overwrite`` is false, or two recordings have one name.
    """
    rest = iter(sequences)
    first = next((_checked(item, 0) for item in rest), None)
    if first is None:
        raise OwnDataError("found no sequence, expected at least one to store")
    known = {item.name for item in fields(Description)} - {"axes", "columns", "splits", "confidence"}
    if odd := sorted(set(description) - known):
        raise OwnDataError(f"found the keyword {odd[0]!r}, expected some of {', '.join(sorted(known))}")
    if "skeleton" not in description:
        raise OwnDataError(
            "found no skeleton, expected the name of a joint layout: skelconv skeletons lists them"
        )
    dataset = Description(
        axes=np.shape(first.position)[-1],
        columns=tuple(_column(name, value) for name, value in first.columns.items()),
        splits=dict.fromkeys(first.splits, "as given"),
        confidence=first.confidence is not None,
        **description,
    ).dataset()
    taken = chain([first], (_checked(item, number) for number, item in enumerate(rest, 1)))
    made = Provenance(tool=f"skelconv {__version__}", command="skelconv.write_store", sources=0)
    return write_clips(path, dataset, _clips(taken, dataset), made, overwrite=overwrite)


def _checked(item: SequenceData | Mapping[str, Any], number: int) -> SequenceData:
    if isinstance(item, SequenceData):
        return item
    try:
        return SequenceData(**item)
    except TypeError as error:
        names = ", ".join(part.name for part in fields(SequenceData))
        raise OwnDataError(
            f"sequence {number}: found {_keys(item)} ({error}), expected a mapping with recording and "
            f"position, and of the others as many as there are: {names}"
        ) from error


def _keys(item: Any) -> str:
    return (
        f"the keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
    )


def _column(name: str, value: Any) -> Column:
    if isinstance(value, str):
        return Column(name, "string", "as given")
    if isinstance(value, bool | int | np.integer):
        return Column(name, "i8", "as given")
    if isinstance(value, float | np.floating):
        return Column(name, "f8", "as given")
    raise OwnDataError(f"column {name}: found a {type(value).__name__}, expected text or a number")


def _clips(sequences: Iterator[SequenceData], dataset: Dataset) -> Iterator[tuple[str, Clip]]:
    for recording, bodies in groupby(sequences, key=lambda sequence: str(sequence.recording)):
        together = list(bodies)
        labels = {_label(body, dataset) for body in together}
        if len(labels) > 1:
            raise OwnDataError(
                f"recording {recording}: found several labels, expected one for all its bodies"
            )
        tracks = tuple(_track(body, dataset) for body in together)
        length = 1 + max(int(track.frame_index[-1]) for track in tracks)
        yield recording, Clip(recording, length, tracks, labels.pop(), {}, _splits(together, dataset))


def _track(sequence: SequenceData, dataset: Dataset) -> Track:
    where = f"recording {sequence.recording}, body {sequence.body}"
    joints, axes = len(load_skeleton(dataset.skeleton)), len(dataset.axes)
    position = _numbers(sequence.position, where, "positions")
    if position.ndim != 3 or position.shape[1:] != (joints, axes) or not len(position):
        raise OwnDataError(
            f"{where}: found positions of shape {position.shape}, expected (frames, {joints}, {axes}) of the "
            f"layout {dataset.skeleton}"
        )
    frames = len(position)
    index = np.arange(frames) if sequence.frame_index is None else np.asarray(sequence.frame_index)
    if index.shape != (frames,) or index.dtype.kind not in "iu":
        raise OwnDataError(
            f"{where}: found frame numbers of shape {index.shape} and dtype {index.dtype}, expected "
            f"({frames},) whole numbers"
        )
    if index[0] < 0 or (np.diff(index) <= 0).any() or index[-1] >= 2**31 - 1:
        raise OwnDataError(f"{where}: found frame numbers that do not rise from 0 on, expected rising ones")
    confidence = None
    if (sequence.confidence is None) != (dataset.confidence is None):
        have = "no confidence" if sequence.confidence is None else "a confidence"
        raise OwnDataError(
            f"{where}: found {have}, unlike in the first sequence; expected it in all or in none"
        )
    if sequence.confidence is not None:
        confidence = _numbers(sequence.confidence, where, "confidences")
        if confidence.shape != (frames, joints):
            raise OwnDataError(
                f"{where}: found confidences of shape {confidence.shape}, expected ({frames}, {joints})"
            )
    names = {column.name for column in dataset.columns}
    if set(sequence.columns) != names:
        raise OwnDataError(
            f"{where}: found the columns {sorted(sequence.columns)}, expected those of the first sequence: "
            f"{sorted(names)}"
        )
    position = np.where(np.isfinite(position).all(-1, keepdims=True), position, np.float32(np.nan))
    return Track(str(sequence.body), index.astype(np.int32), position, confidence, {}, dict(sequence.columns))


def _numbers(values: ArrayLike, where: str, what: str) -> NDArray[np.float32]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise OwnDataError(f"{where}: found {what} that are not an array of numbers ({error})") from error


def _label(sequence: SequenceData, dataset: Dataset) -> int:
    label = sequence.label
    if label is None:
        return -1
    classes = dataset.classes
    if isinstance(label, str):
        if label in classes:
            return classes.index(label)
    elif not isinstance(label, bool) and -1 <= int(label) < len(classes):
        return int(label)
    raise OwnDataError(
        f"recording {sequence.recording}: found the label {label!r}, expected the name of a class or its "
        f"number from 0 on: {', '.join(classes[:8]) or 'there is none, so give classes=[...]'}"
    )


def _splits(bodies: Sequence[SequenceData], dataset: Dataset) -> dict[str, str]:
    names = {protocol.name for protocol in dataset.protocols}
    first = bodies[0]
    for body in bodies:
        if set(body.splits) != names or dict(body.splits) != dict(first.splits):
            raise OwnDataError(
                f"recording {body.recording}: found the splits {dict(body.splits)}, expected those of the "
                f"first sequence ({', '.join(sorted(names)) or 'none'}), alike for all bodies of a recording"
            )
        for name, part in body.splits.items():
            if part not in PARTS:
                raise OwnDataError(
                    f"recording {body.recording}: found the part {part!r} of {name}, expected train, test, "
                    "val or ''"
                )
    return {name: str(part) for name, part in first.splits.items()}
