"""Writing a sequence store: whole shards, in order, then the table and the attributes.

A `StoreWriter` fills one shard of every frame array in memory and writes it in one piece, since writing
into a shard bit by bit rewrites it each time, and two writers on one shard lose data. `write_store` is the
whole way for clips that are already at hand; `skelconv.ingest.ingest` is the one for raw folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from skelconv.store import schema
from skelconv.store.canonical import canonical_positions, grid_step
from skelconv.store.digest import file_digest, motion_digest
from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.publish import delete, prepare_partial, sync
from skelconv.store.table import SideRows, Table, plain, table_columns
from skelconv.store.text import check_text
from skelformats.reader import Clip, Dataset, Track
from skelformats.skeleton import Skeleton, load_skeleton


class DuplicateRecordingError(StoreError):
    """A recording of a name that the store has already."""


class DamagedPartialError(StoreError):
    """What an interrupted run left is not what it wrote; says which file, and what to do."""


@dataclass(frozen=True)
class WriteOptions:
    """How clips become a store.

    Attributes
    ----------
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

    Raises
    ------
    StoreError
        ``shard_frames`` or ``precision`` that no store can be written with.
    """

    skeleton: Skeleton | None = None
    extras: Iterable[str] = ()
    shard_frames: int = schema.SHARD_FRAMES
    precision: float | None = None
    canonical: bool = False

    def __post_init__(self) -> None:
        frames = self.shard_frames
        if frames < schema.CHUNK_FRAMES or frames % schema.CHUNK_FRAMES:
            raise StoreError(f"found {frames} frames a shard, expected a multiple of {schema.CHUNK_FRAMES}")
        if self.precision is not None:
            grid_step(self.precision)


@dataclass(frozen=True)
class Begun:
    """What an interrupted run has written: the ``shards`` that are whole, and the rows that have begun.

    A shard is the digest (`file_digest`) of its file in each array along frame, by the array's name.
    """

    shards: Sequence[Mapping[str, str]] = ()
    rows: Sequence[list[Any]] = ()
    side_rows: Mapping[str, Sequence[list[Any]]] = field(default_factory=dict)


class StoreWriter:
    """Appends recordings to a store that is not published yet.

    Parameters
    ----------
    path
        Folder of the unpublished store; made when absent. Nothing in it is kept but the shards of ``begun``.
    dataset
        What the store holds; its axis map is applied to every position.
    begun
        What to continue. Sequences that are appended again are recognised by their id and written from the
        first frame that is not on disk yet.
    on_shard
        Called with a shard's digests after it is on disk, before anything of the next one is written.

    Raises
    ------
    DamagedPartialError
        A shard of ``begun`` is not on disk as it was written.
    """

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        options: WriteOptions | None = None,
        begun: Begun | None = None,
        on_shard: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        options, begun = options or WriteOptions(), begun or Begun()
        self.dataset = dataset
        self.skeleton = options.skeleton or load_skeleton(dataset.skeleton)
        self.extras = tuple(sorted(options.extras))
        self.table = Table(table_columns(dataset))
        self.side_rows = SideRows(dataset.tables)
        self.shards = len(begun.shards)
        self._path = path
        self._shard_frames = options.shard_frames
        self._precision = options.precision
        self._canonical = options.canonical
        self._on_shard = on_shard
        frame_arrays = self._frame_arrays()
        self._check_begun(frame_arrays, begun)
        self._remove_all_but(frame_arrays, self.shards)
        self._group = zarr.open_group(str(path), mode="a", zarr_format=3)
        self._arrays = {
            array.name: schema.create_frame_array(self._group, array, self.shards * self._shard_frames)
            for array in frame_arrays
        }
        self._buffers = {
            name: np.zeros((self._shard_frames, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }
        self._filled = 0
        for row in begun.rows:
            self.table.append(row)
        # ids that may come a second time: their recordings are read again
        self._unfinished = {str(row[0]) for row in begun.rows}
        self.side_rows.restore(begun.side_rows)

    @property
    def frames(self) -> int:
        """Frames appended so far."""
        return self.shards * self._shard_frames + self._filled

    def append(self, clip: Clip, source: str) -> None:
        """Append a recording that came from ``source``, each of its tracks as a sequence.

        Raises
        ------
        DuplicateRecordingError
            The store already has a recording of this name.
        UnstorableTextError
            A name or a cell is not text that UTF-8 can hold.
        """
        check_text(clip, source)
        names = [f"{clip.recording}_b{k}" for k in range(len(clip.tracks))]
        for name in names:
            row = self.table.find(name)
            if row is None:
                continue
            earlier = self.table.value(row, "source")
            if earlier != source or name not in self._unfinished:
                where = "it" if earlier == source else earlier
                raise DuplicateRecordingError(
                    f"{source}: found the recording {clip.recording!r} again, expected a new name; "
                    f"{where} holds it already. Remove one of the two"
                )
        self._unfinished.difference_update(names)
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
                digests = self._flush()
                if self._on_shard is not None:
                    self._on_shard(digests)

    def _flush(self) -> dict[str, str]:
        """Write the buffers as one shard of every frame array, see it onto the disk, return its digests."""
        start = self.shards * self._shard_frames
        digests = {}
        for described in self._frame_arrays():
            array = self._arrays[described.name]
            array.resize((start + self._filled, *described.tail))
            array[start : start + self._filled] = self._buffers[described.name][: self._filled]
            file = self._shard_file(described, self.shards)
            for path in (file, *file.parents):
                sync(path)
                if path == self._path:
                    break
            digests[described.name] = file_digest(file)
        self.shards += 1
        self._filled = 0
        return digests

    def _shard_file(self, array: schema.FrameArray, number: int) -> Path:
        return self._path.joinpath(array.name, "c", str(number), *("0" for _ in array.tail))

    def _check_begun(self, arrays: Sequence[schema.FrameArray], begun: Begun) -> None:
        for number, digests in enumerate(begun.shards):
            for array in arrays:
                file = self._shard_file(array, number)
                below = (file, *file.parents[: len(file.relative_to(self._path).parts)])
                if not file.is_file() or any(folder.is_symlink() for folder in below):
                    found = "no file there"
                elif file_digest(file) != digests.get(array.name):
                    found = "other bytes than were written"
                else:
                    continue
                raise DamagedPartialError(
                    f"{file}: found {found}, expected shard {number} of the interrupted run. "
                    "Run the command again with --overwrite to start afresh"
                )

    def _remove_all_but(self, arrays: Sequence[schema.FrameArray], shards: int) -> None:
        """Remove whatever an interrupted run left but its whole shards: metadata is written anew."""
        if not self._path.is_dir() or self._path.is_symlink():
            delete(self._path)
            return
        kept = {self._shard_file(array, number) for array in arrays for number in range(shards)}
        folders = {folder for file in kept for folder in file.parents}
        for entry in sorted(self._path.rglob("*")):
            if entry not in kept and (entry not in folders or entry.is_symlink()):
                delete(entry)

    def _frame_arrays(self) -> list[schema.FrameArray]:
        joints, axes = len(self.skeleton), len(self.dataset.axes)
        unit = {"units": self.dataset.unit, "long_name": "joint position"}
        number = {"long_name": "number of the frame in its recording"}
        arrays = [
            schema.FrameArray(schema.POSITION, (joints, axes), "f4", ("joint", "axis"), unit),
            schema.FrameArray(schema.FRAME_INDEX, (), "i4", (), number),
        ]
        confidence = self.dataset.confidence
        if confidence is not None:
            flags = {
                "flag_values": list(confidence.states),
                "flag_meanings": " ".join(s.replace(" ", "_") for s in confidence.states.values()),
            }
            attributes = {"long_name": confidence.description, **(flags if confidence.states else {})}
            arrays.append(
                schema.FrameArray(schema.CONFIDENCE, (joints,), confidence.dtype, ("joint",), attributes)
            )
        for extra in map(self.dataset.extra, self.extras):
            tail = tuple(joints if dim == "joint" else len(extra.labels[dim]) for dim in extra.dims)
            about = {"units": extra.unit, "long_name": extra.description}
            arrays.append(schema.FrameArray(extra.name, tail, extra.dtype, extra.dims, about))
        return [replace(array, shard=self._shard_frames) for array in arrays]


def write_store(
    path: str | Path,
    dataset: Dataset,
    clips: Iterable[tuple[str, Clip]],
    provenance: Provenance,
    extras: Iterable[str] = (),
    shard_frames: int = schema.SHARD_FRAMES,
    overwrite: bool = False,
    options: WriteOptions | None = None,
) -> StoreInfo:
    """Write (source, clip) pairs as a store of their own, published under ``path`` only when complete.

    Parameters
    ----------
    extras, shard_frames
        As in `WriteOptions`.
    options
        The rest of them; ``extras`` and ``shard_frames`` win over those in it.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false, another process writes it, or two clips have one name.
    """
    chosen = replace(options or WriteOptions(), extras=extras, shard_frames=shard_frames)
    with prepare_partial(Path(path), overwrite) as partial:
        writer = StoreWriter(partial.store, dataset, chosen)
        for source, clip in clips:
            writer.append(clip, source)
        info = writer.finish(provenance)
        partial.publish()
    return info
