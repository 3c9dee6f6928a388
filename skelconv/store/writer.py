"""Writing a sequence store: whole shards, in order, then the table and the attributes.

A `StoreWriter` fills one shard of every frame array in memory and writes it in one piece, since writing
into a shard bit by bit rewrites it each time, and two writers on one shard lose data. `write_store` is the
whole way for clips that are already at hand; `skelconv.ingest.ingest` is the one for raw folders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.canonical import canonical_positions, grid_step
from skelconv.store.digest import motion_digest
from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.publish import claim, publish
from skelconv.store.table import SideRows, Table, plain, table_columns
from skelformats.reader import Clip, Dataset, Track
from skelformats.skeleton import Skeleton, load_skeleton


class DuplicateRecordingError(StoreError):
    """Two sources give a recording of the same name."""


class StoreWriter:
    """Appends recordings to a store that is not published yet.

    Parameters
    ----------
    path
        Folder of the unpublished store; made when absent, continued when not.
    dataset
        What the store holds; its axis map is applied to every position.
    skeleton
        The joint layout; the dataset's own unless the positions were remapped.
    extras
        Names of the dataset's optional arrays to keep.
    shard_frames
        Frames a shard, a multiple of `schema.CHUNK_FRAMES`.
    precision
        Largest error in the store's unit that positions may be rounded by, or None to keep them as they are.
    canonical
        The positions come from a store: they are written as they are, axis map and precision only recorded.
    on_shard
        Called after each whole shard is on disk, before anything of the next one is written.
    """

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        skeleton: Skeleton | None = None,
        extras: Iterable[str] = (),
        shard_frames: int = schema.SHARD_FRAMES,
        precision: float | None = None,
        on_shard: Callable[[], None] | None = None,
        canonical: bool = False,
    ) -> None:
        if shard_frames < schema.CHUNK_FRAMES or shard_frames % schema.CHUNK_FRAMES:
            raise StoreError(
                f"found {shard_frames} frames a shard, expected a multiple of {schema.CHUNK_FRAMES}"
            )
        self.dataset = dataset
        self.skeleton = skeleton or load_skeleton(dataset.skeleton)
        self.extras = tuple(sorted(extras))
        self.table = Table(table_columns(dataset))
        self.side_rows = SideRows(dataset.tables)
        self.shards = 0
        self._path = path
        self._shard_frames = shard_frames
        self._precision = precision
        self._canonical = canonical
        if precision is not None:
            grid_step(precision)  # refused before anything is written
        self._on_shard = on_shard
        self._group = zarr.open_group(str(path), mode="a", zarr_format=3)
        self._arrays = self._open_arrays()
        self._buffers = {
            name: np.zeros((shard_frames, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }
        self._filled = 0

    @property
    def frames(self) -> int:
        """Frames appended so far."""
        return self.shards * self._shard_frames + self._filled

    def resume(
        self,
        shards: int,
        rows: Iterable[list[Any]],
        side_rows: Mapping[str, Sequence[list[Any]]] = MappingProxyType({}),
    ) -> None:
        """Continue a store of which the first ``shards`` shards are whole and ``rows`` have begun.

        Sequences that are appended again are recognised by their id and written from the first frame that
        is not on disk yet; what an interrupted run left beyond the last whole shard is removed.
        """
        for row in rows:
            self.table.append(row)
        self.side_rows.restore(side_rows)
        self.shards = shards
        for leftover in self._path.rglob("*.partial"):
            leftover.unlink()
        for name in self._arrays:
            for shard in (self._path / name / "c").glob("*"):
                if int(shard.name) >= shards:
                    for file in sorted(shard.rglob("*"), reverse=True):
                        file.rmdir() if file.is_dir() else file.unlink()
                    shard.rmdir() if shard.is_dir() else shard.unlink()

    def append(self, clip: Clip, source: str) -> None:
        """Append a recording that came from ``source``, each of its tracks as a sequence.

        Raises
        ------
        DuplicateRecordingError
            The store already has a recording of this name from another source.
        """
        names = [f"{clip.recording}_b{k}" for k in range(len(clip.tracks))]
        for name in names:
            row = self.table.find(name)
            if row is not None and (earlier := self.table.value(row, "source")) != source:
                raise DuplicateRecordingError(
                    f"{source}: found the recording {clip.recording!r} again, expected a new name; "
                    f"{earlier} holds it already. Remove one of the two"
                )
        for table, rows in clip.tables.items():
            for cells in rows:
                self.side_rows.append(table, cells)
        for name, track in zip(names, clip.tracks, strict=True):
            position = self._stored(track.position)
            row = self.table.find(name)
            if row is None:
                start = self.frames
                self.table.append(self._row(name, start, clip, track, position, source))
            else:
                start = int(self.table.value(row, "start"))
            self._write_frames(track, position, skip=max(0, self.frames - start))

    def finish(self, provenance: Provenance) -> StoreInfo:
        """Write the last shard, the coordinates, the table, the attributes and the gathered metadata.

        Fills in the counts of ``provenance``. The store is complete afterwards, but not published.
        """
        total = self.frames
        if self._filled:
            self._flush()
        for array in self._arrays.values():
            array.resize((total, *array.shape[1:]))
        schema.write_labels(self._group, "joint", self.skeleton.names)
        schema.write_labels(self._group, "axis", self.dataset.axes)
        for extra in map(self.dataset.extra, self.extras):
            for dim, labels in extra.labels.items():
                schema.write_labels(self._group, dim, labels)
        for column in self.table.columns:
            # CF, contiguous ragged array: the count variable names the dimension it counts along
            attributes = {"sample_dimension": "frame"} if column.name == "length" else {}
            schema.write_column(self._group, column, self.table.column(column.name), "sequence", attributes)
        for table in self.dataset.tables:
            for column, values in self.side_rows.columns(table.name):
                named = replace(column, name=f"{table.name}_{column.name}")
                schema.write_column(self._group, named, values, table.name)
        info = StoreInfo.of_dataset(
            self.dataset,
            self.skeleton,
            provenance.model_copy(
                update={
                    "recordings": len(set(self.table.column("recording"))),
                    "sequences": len(self.table),
                    "frames": total,
                    "leakage": self.table.leakage([p.name for p in self.dataset.protocols]),
                }
            ),
            self.extras,
            self._precision,
        )
        self._group.attrs.put({schema.ATTRIBUTE: info.to_attributes()})
        schema.consolidate(self._path)
        return info

    def _stored(self, position: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._canonical:
            return position
        return canonical_positions(position, self.dataset.axis_map, self._precision)

    def _row(
        self, name: str, start: int, clip: Clip, track: Track, position: NDArray[np.float32], source: str
    ) -> list[Any]:
        classes = self.dataset.classes
        cells: dict[str, Any] = {
            "sequence": name,
            "start": start,
            "length": len(track.frame_index),
            "recording": clip.recording,
            "recording_length": clip.length,
            "source": source,
            "body": track.body,
            "label": clip.label,
            "action": classes[clip.label] if 0 <= clip.label < len(classes) else "",
            "digest": motion_digest(position),
            **clip.columns,
            **track.columns,
            **{schema.split_column(protocol): part for protocol, part in clip.splits.items()},
        }
        return [plain(cells[column.name]) for column in self.table.columns]

    def _write_frames(self, track: Track, position: NDArray[np.float32], skip: int) -> None:
        values: dict[str, NDArray[Any]] = {schema.POSITION: position, schema.FRAME_INDEX: track.frame_index}
        if self.dataset.confidence is not None:
            if track.confidence is None:
                raise ValueError(f"{self.dataset.name} promises confidence, body {track.body} has none")
            values[schema.CONFIDENCE] = track.confidence
        values |= {name: track.extras[name] for name in self.extras}
        done, length = skip, len(track.frame_index)
        while done < length:
            count = min(length - done, self._shard_frames - self._filled)
            for name, array in values.items():
                self._buffers[name][self._filled : self._filled + count] = array[done : done + count]
            self._filled += count
            done += count
            if self._filled == self._shard_frames:
                self._flush()
                if self._on_shard is not None:
                    self._on_shard()

    def _flush(self) -> None:
        """Write the buffers as one shard of every frame array, and see it onto the disk."""
        start = self.shards * self._shard_frames
        for name, array in self._arrays.items():
            array.resize((start + self._filled, *array.shape[1:]))
            array[start : start + self._filled] = self._buffers[name][: self._filled]
            for file in (self._path / name / "c" / str(self.shards)).rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
        self.shards += 1
        self._filled = 0

    def _open_arrays(self) -> dict[str, zarr.Array[Any]]:
        joints, axes = len(self.skeleton), len(self.dataset.axes)
        unit = {"units": self.dataset.unit, "long_name": "joint position"}
        specs: dict[str, tuple[tuple[int, ...], str, tuple[str, ...], dict[str, Any]]] = {
            schema.POSITION: ((joints, axes), "f4", ("joint", "axis"), unit),
            schema.FRAME_INDEX: ((), "i4", (), {"long_name": "number of the frame in its recording"}),
        }
        confidence = self.dataset.confidence
        if confidence is not None:
            flags = {
                "flag_values": list(confidence.states),
                "flag_meanings": " ".join(s.replace(" ", "_") for s in confidence.states.values()),
            }
            attributes = {"long_name": confidence.description, **(flags if confidence.states else {})}
            specs[schema.CONFIDENCE] = ((joints,), confidence.dtype, ("joint",), attributes)
        for extra in map(self.dataset.extra, self.extras):
            tail = tuple(joints if dim == "joint" else len(extra.labels[dim]) for dim in extra.dims)
            attributes = {"units": extra.unit, "long_name": extra.description}
            specs[extra.name] = (tail, extra.dtype, extra.dims, attributes)
        arrays = {}
        for name, (tail, dtype, dims, attributes) in specs.items():
            existing = self._group.get(name)
            arrays[name] = (
                existing
                if isinstance(existing, zarr.Array)
                else schema.create_frame_array(
                    self._group, name, 0, tail, dtype, dims, attributes, self._shard_frames
                )
            )
        return arrays


def write_store(
    path: str | Path,
    dataset: Dataset,
    clips: Iterable[tuple[str, Clip]],
    provenance: Provenance,
    skeleton: Skeleton | None = None,
    extras: Iterable[str] = (),
    shard_frames: int = schema.SHARD_FRAMES,
    overwrite: bool = False,
    precision: float | None = None,
    canonical: bool = False,
) -> StoreInfo:
    """Write (source, clip) pairs as a store of their own, published under ``path`` only when complete.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false, or two clips have one name.
    """
    path = Path(path)
    partial = claim(path, overwrite)
    writer = StoreWriter(
        partial, dataset, skeleton, extras, shard_frames, precision=precision, canonical=canonical
    )
    for source, clip in clips:
        writer.append(clip, source)
    info = writer.finish(provenance)
    publish(partial, path, overwrite)
    return info
