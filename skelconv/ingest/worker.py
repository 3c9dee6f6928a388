"""What workers do: parse sources into a spool file, and encode whole shards from such files.

This module imports neither zarr nor pandas, so that a worker is there in a fraction of a second.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from skelconv.store.encode import FrameArray, ShardEncoder
from skelconv.store.frames import HeldFrames, Spool, write_spool
from skelconv.store.prepare import Preparation, PreparedClip, PreparedTrack, prepare
from skelconv.store.text import UnstorableTextError
from skelformats.errors import FormatError
from skelformats.raw_root import release
from skelformats.reader import Clip, ReadOptions, Refused, Source, find_reader


@dataclass(frozen=True)
class Parsed:
    """What came of one source: its recordings, or why there are none.

    ``refused`` are recordings of the source that are set aside though the others are not.
    """

    clips: tuple[Clip, ...] = ()
    problem: str | None = None
    line: int | None = None
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """As `Parsed`, with recordings that are ready for the store."""

    clips: tuple[PreparedClip, ...] = ()
    problem: str | None = None
    line: int | None = None
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Frames ``start`` to ``stop`` of a spool file."""

    spool: Spool
    start: int
    stop: int


def parse_batch(dataset: str, root: Path, sources: Sequence[Source], options: ReadOptions) -> list[Parsed]:
    """Parse sources; never raises for what a source holds."""
    reader = find_reader(dataset)
    parsed = []
    for source in sources:
        release(root)
        try:
            found = reader.read(root, source, options)
        except FormatError as error:
            relative = FormatError(source.path, error.found, error.expected, error.line, error.action)
            parsed.append(Parsed(problem=str(relative), line=error.line))
        except OSError as error:
            parsed.append(
                Parsed(problem=f"{source.path}: {error.strerror or error}, expected a readable file")
            )
        else:
            clips = tuple(item for item in found if isinstance(item, Clip))
            parsed.append(Parsed(clips, refused=tuple(item for item in found if isinstance(item, Refused))))
    return parsed


def parse_and_prepare(
    dataset: str,
    root: Path,
    sources: Sequence[Source],
    options: ReadOptions,
    how: bytes,
    file: Path | None = None,
) -> list[Prepared]:
    """Parse sources and make their recordings ready for the store.

    Parameters
    ----------
    how
        The pickled `Preparation`.
    file
        Where the frames are spooled; None keeps them in what is returned.
    """
    preparation = _unpickled(how)
    prepared = [
        Prepared(
            tuple(_prepared(clip, source.path, preparation) for clip in one.clips),
            one.problem,
            one.line,
            one.refused,
        )
        for source, one in zip(sources, parse_batch(dataset, root, sources, options), strict=True)
    ]
    return prepared if file is None else _spooled(prepared, file, preparation.arrays)


def encode_shard(folder: Path, how: bytes, pieces: Sequence[Piece]) -> dict[str, str]:
    """Write the shard that ``pieces`` make up: ``folder/<array>`` is its file, or a folder with it.

    Returns the digest of each array's file. Everything below ``folder`` is on disk then.
    """
    digests = {}
    for array in _unpickled(how).arrays:
        encoder = ShardEncoder(array)
        for piece in pieces:
            for rows in piece.spool.read(array, piece.start, piece.stop):
                encoder.add(rows)
        file = folder.joinpath(array.name, *("0" for _ in array.tail))
        digests[array.name] = encoder.write(file)
        for inner in file.parents:
            if inner == folder:
                break
            _sync_folder(inner)
    return digests


def _prepared(clip: Clip, source: str, how: Preparation) -> PreparedClip:
    if not clip.tracks:
        return PreparedClip(clip.recording, ())
    try:
        return prepare(clip, source, how)
    except UnstorableTextError as error:
        return PreparedClip(clip.recording, (), unstorable=str(error))


def _spooled(prepared: list[Prepared], file: Path, arrays: Sequence[FrameArray]) -> list[Prepared]:
    tracks = [track for one in prepared for clip in one.clips for track in clip.tracks]
    held = [track.frames for track in tracks if isinstance(track.frames, HeldFrames)]
    if not held:
        return prepared
    spooled = iter(write_spool(file, arrays, held))
    return [
        replace(
            one,
            clips=tuple(
                replace(clip, tracks=tuple(PreparedTrack(track.row, next(spooled)) for track in clip.tracks))
                for clip in one.clips
            ),
        )
        for one in prepared
    ]


@lru_cache(2)
def _unpickled(how: bytes) -> Preparation:
    preparation: Preparation = pickle.loads(how)
    return preparation


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
