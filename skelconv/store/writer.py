"""Writing a sequence store: whole shards, in order, then the table and the attributes.

A `StoreWriter` keeps the table and gives each sequence its place; `skelconv.store.placing` encodes whole
shards, since writing into a shard bit by bit rewrites it each time, and two writers on one shard lose data.
`write_store` is the whole way for clips that are already at hand; `skelconv.ingest.ingest` is the one for raw
folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zarr

from skelconv.store import schema
from skelconv.store.canonical import grid_step
from skelconv.store.digest import file_digest
from skelconv.store.frames import Frames
from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.placing import InlineShards, Shards, shard_file
from skelconv.store.prepare import START, Preparation, PreparedClip, prepare
from skelconv.store.publish import delete, prepare_partial
from skelconv.store.table import SideRows, Table, table_columns
from skelconv.store.text import UnstorableTextError
from skelformats.reader import Clip, Dataset
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
    shards
        Makes what encodes the frames; `InlineShards` with ``on_shard`` where it is not given.

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
        shards: Callable[[Preparation], Shards] | None = None,
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
        frame_arrays = self._frame_arrays()
        self.preparation = self._preparation(frame_arrays, options)
        self._check_begun(frame_arrays, begun)
        self._remove_all_but(frame_arrays, self.shards)
        self._group = zarr.open_group(str(path), mode="a", zarr_format=3)
        self._arrays = {
            array.name: schema.create_frame_array(self._group, array, self.shards * self._shard_frames)
            for array in frame_arrays
        }
        self._shards = (
            InlineShards(path, frame_arrays, on_shard) if shards is None else shards(self.preparation)
        )
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

    def append(self, clip: Clip | PreparedClip, source: str) -> None:
        """Append a recording that came from ``source``, each of its tracks as a sequence.

        A clip that is prepared already was so by `preparation`.

        Raises
        ------
        DuplicateRecordingError
            The store already has a recording of this name.
        UnstorableTextError
            A name or a cell is not text that UTF-8 can hold.
        """
        if isinstance(clip, Clip):
            clip = prepare(clip, source, self.preparation)
        if clip.unstorable is not None:
            raise UnstorableTextError(clip.unstorable)
        names = [str(track.row[0]) for track in clip.tracks]
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
        for table, rows in clip.side_rows.items():
            for cells in rows:
                self.side_rows.append_cells(table, cells)
        for name, track in zip(names, clip.tracks, strict=True):
            row = self.table.find(name)
            if row is None:
                start = self.frames
                self.table.append(track.row)
                self.table.set(len(self.table) - 1, START, start)
            else:
                start = int(self.table.value(row, START))
            self._place(track.frames, skip=max(0, self.frames - start))

    def adopt(self, rows: Iterable[list[Any]], frames: int) -> None:
        """Take rows of the table, ``start`` included, whose ``frames`` others put in their places."""
        for row in rows:
            self.table.append(row)
        self.shards, self._filled = divmod(self.frames + frames, self._shard_frames)

    def finish(self, provenance: Provenance) -> StoreInfo:
        """Write the last shard, the coordinates, the table, the attributes and the gathered metadata.

        Fills in the counts of ``provenance``. The store is complete afterwards, but not published.
        """
        total = self.frames
        if self._filled:
            self._shards.full(self.shards, last=True)
            self.shards += 1
            self._filled = 0
        self._shards.drain()
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

    def _place(self, frames: Frames, skip: int) -> None:
        done = skip
        while done < frames.count:
            count = min(frames.count - done, self._shard_frames - self._filled)
            self._shards.add(frames, done, done + count, self.shards)
            self._filled += count
            done += count
            if self._filled == self._shard_frames:
                self._shards.full(self.shards, last=False)
                self.shards += 1
                self._filled = 0

    def _check_begun(self, arrays: Sequence[schema.FrameArray], begun: Begun) -> None:
        for number, digests in enumerate(begun.shards):
            for array in arrays:
                file = shard_file(self._path, array, number)
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
        kept = {shard_file(self._path, array, number) for array in arrays for number in range(shards)}
        folders = {folder for file in kept for folder in file.parents}
        for entry in sorted(self._path.rglob("*")):
            if entry not in kept and (entry not in folders or entry.is_symlink()):
                delete(entry)

    def _preparation(self, arrays: Sequence[schema.FrameArray], options: WriteOptions) -> Preparation:
        dataset = self.dataset
        return Preparation(
            dataset=dataset.name,
            columns=tuple(column.name for column in self.table.columns),
            splits={protocol.name: schema.split_column(protocol.name) for protocol in dataset.protocols},
            tables={table.name: tuple(column.name for column in table.columns) for table in dataset.tables},
            classes=dataset.classes,
            axis_map=None if options.canonical else dataset.axis_map,
            precision=options.precision,
            # their attributes are for the writer alone
            arrays=tuple(replace(array, attributes={}) for array in arrays),
        )

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
