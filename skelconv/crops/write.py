"""Cut the people of a store out of their pictures: `write_crops`, parallel, resumable, always the same bytes.

Workers cut blocks of frames; results are taken in plan order through a bounded window, so the pictures in
memory do not grow with their number; the finished store is renamed into place.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from skelconv import __version__
from skelconv.crops.cut import CROP_HEIGHT, CROP_WIDTH, JPEG_QUALITY, WIDENED, CropRefusedError, crop_box, cut
from skelconv.crops.frames import CropError, Pictures
from skelconv.crops.writer import CropJournalError, CropWriter, Note, Row
from skelconv.extras import need
from skelconv.store import schema
from skelconv.store.publish import Partial, lock_partial
from skelconv.store.store import Store, open_store
from skelformats.errors import UnknownNameError

BLOCK = 64
"""Frames that a worker cuts at once."""

WINDOW_PER_WORKER = 3
SHARD_BYTES = 1 << 25
SHOWN = 10

PIXEL_ARRAYS = ("pixel", "pixels")
"""What readers of 3D datasets call the optional array of the joints in the picture."""


class Cut(NamedTuple):
    """What became of one frame: JPEG bytes, box and picture's size; or the problem it is set aside for."""

    frame: int
    jpeg: bytes = b""
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    size: tuple[int, int] = (0, 0)
    problem: str = ""


@dataclass(frozen=True)
class CropSummary:
    """What `write_crops` did: crops and bytes of JPEG in the store, frames set aside, blocks done before."""

    path: Path
    crops: int
    bytes: int
    set_aside: tuple[Note, ...]
    resumed: bool
    seconds: float

    def describe(self) -> str:
        """Say what was written, and what was set aside and why."""
        lines = [f"{self.path}: {self.crops:,} crops, {self.bytes / 1e6:,.1f} MB, in {self.seconds:,.1f} s"]
        if self.resumed:
            lines.append("an earlier run had done a part of them")
        if self.set_aside:
            lines.append(f"set aside: {len(self.set_aside):,} frames")
            lines += [f"    {n.sequence}, frame {n.frame}: {n.reason}" for n in self.set_aside[:SHOWN]]
            if len(self.set_aside) > SHOWN:
                lines.append(f"    ... and {len(self.set_aside) - SHOWN:,} more, in the store's attributes")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Plan:
    """What the bytes of the crops depend on, besides the pictures."""

    store: Path
    images: Pictures
    pixels: str
    every: int

    def blocks(self, store: Store) -> list[tuple[int, range]]:
        """Sequence number, and the positions in it that are cut, of each block."""
        blocks = []
        for number, length in enumerate(store.array("length").tolist()):
            chosen = range(0, length, self.every)
            blocks += [(number, chosen[at : at + BLOCK]) for at in range(0, len(chosen), BLOCK)]
        return blocks

    def settings(self) -> dict[str, object]:
        """Recorded in the store."""
        return {
            "tool": f"skelconv {__version__}",
            "pattern": self.images.pattern,
            "every": self.every,
            "crop_size": [CROP_WIDTH, CROP_HEIGHT],
            "widened": WIDENED,
            "jpeg_quality": JPEG_QUALITY,
        }

    def digest(self, store: Store) -> str:
        """Two plans of one digest give the same bytes from the same pictures."""
        whole = {
            **self.settings(),
            "root": str(self.images.root.resolve()),
            "pixels": self.pixels,
            "source": store.info.to_attributes(),
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def write_crops(
    store: Store,
    frames: Pictures,
    out: str | Path,
    every: int = 1,
    pixels: str | None = None,
    executor: tuple[Executor | None, int] = (None, 1),
    overwrite: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> CropSummary:
    """Cut every person of ``store`` out of the pictures, and publish the crops with their poses as ``out``.

    A frame without a picture, a frame that a video lacks, a picture that cannot be read, a box outside its
    picture, and a pose with every joint missing are set aside with the reason, in the summary and in the
    store's attributes.

    Parameters
    ----------
    store
        An open sequence store on this machine.
    frames
        Where the pictures are: an `ImageFolder` or a `VideoFolder`.
    every
        Take every so many frames of a sequence: those of a video hardly differ.
    pixels
        The array that holds the joints in the picture; None finds it (`pixel_array`).
    executor
        What cuts, None for this process, and how many tasks it runs at once
        (`skelconv.ingest.executors.open_executor`).
    overwrite
        Replace a store of that name, and throw away an unfinished one of another plan.
    advance
        Called as (frames done, bytes written) with the steps since the last call.

    Raises
    ------
    CropError
        The store holds no pixels; folder or pattern do not fit; no crop could be cut; a worker died, in which
        case what was written is kept.
    StoreError
        ``out`` exists, or what an earlier run left is damaged or of another plan, or there is no room.
    StoreLockedError
        Another process writes ``out``.
    UnknownNameError
        The pattern names a column, or ``pixels`` an array, that the store lacks.
    MissingExtraError
        Pillow, or for videos PyAV, is not installed.
    """
    need("PIL", "view")
    began = time.perf_counter()
    if store.folder is None:
        raise CropError(f"{store.path}: found a remote store, expected one on this machine. Fetch it first")
    if every < 1:
        raise CropError(f"found every {every} frames, expected at least 1")
    frames.check(store.columns)
    plan = _Plan(store.folder.resolve(), frames, pixel_array(store, pixels), every)
    with lock_partial(Path(out), overwrite) as partial:
        writer = _begin(partial, plan.digest(store))
        resumed = writer.block > 0
        _write(plan, store, writer, executor, advance)
        if not writer.rows:
            first = writer.notes[0].reason if writer.notes else "the store is empty"
            partial.clear()
            raise CropError(
                f"{out}: found nothing to cut out, expected at least one crop; the first: {first}"
            )
        writer.finish(store, plan.pixels, plan.settings())
        partial.publish()
    seconds = time.perf_counter() - began
    return CropSummary(Path(out), len(writer.rows), writer.total, tuple(writer.notes), resumed, seconds)


def _begin(partial: Partial, digest: str) -> CropWriter:
    """Go on where an earlier run of the plan stopped; with ``overwrite``, what is damaged or another's
    goes.
    """
    try:
        return CropWriter(partial, digest, SHARD_BYTES)
    except CropJournalError:
        if not partial.overwrite:
            raise
        partial.clear()
        return CropWriter(partial, digest, SHARD_BYTES)


def _write(
    plan: _Plan,
    store: Store,
    writer: CropWriter,
    executor: tuple[Executor | None, int],
    advance: Callable[[int, int], None] | None,
) -> None:
    """Cut what is left of the plan, and hand it to the writer."""
    blocks, names = plan.blocks(store), store.names
    if advance is not None and writer.block:
        advance(sum(len(positions) for _, positions in blocks[: writer.block]), writer.total)
    for (sequence, positions), cuts in _cut_in_order(plan, blocks[writer.block :], *executor):
        before = writer.total
        for position, found in zip(positions, cuts, strict=True):
            if found.problem:
                writer.notes.append(Note(names[sequence], found.frame, found.problem))
                continue
            place = (sequence, position, found.frame, writer.total, len(found.jpeg))
            writer.append(Row(*place, found.box, found.size), found.jpeg)
        writer.end_block()
        if advance is not None:
            advance(len(cuts), writer.total - before)


def pixel_array(store: Store, name: str | None = None) -> str:
    """Return the array of the joints in the picture: ``position`` of two axes, or one of `PIXEL_ARRAYS`.

    Raises
    ------
    UnknownNameError
        The store has no array of this name.
    CropError
        It has none of the usual names, or the one asked for is not (frame, joint, 2).
    """
    if name is not None and name not in store.arrays:
        raise UnknownNameError("array along frame", name, store.arrays)
    joints = len(store.skeleton)
    candidates = (schema.POSITION, *PIXEL_ARRAYS) if name is None else (name,)
    for candidate in candidates:
        if candidate in store.arrays and list(store.metadata(candidate)["shape"][1:]) == [joints, 2]:
            return candidate
    raise CropError(
        f"{store.path}: found no array of joints in the picture (looked for {', '.join(candidates)} of shape "
        f"(frames, {joints}, 2)), expected one to cut around. Ingest with --with pixel where the dataset "
        "has it"
    )


def cut_block(plan: _Plan, sequence: int, positions: range) -> list[Cut]:
    """Cut some frames of a sequence in a worker; never raises for what a store or picture holds."""
    store = _opened(plan.store)
    row = dict(store.to_frame().iloc[sequence])
    row["sequence"] = store.names[sequence]
    start = int(row["start"])
    low, high = start + positions[0], start + positions[-1] + 1
    pixel = store.read(low, high, plan.pixels)[:: plan.every]
    index = store.read(low, high, schema.FRAME_INDEX)[:: plan.every].tolist()
    cuts = []
    with plan.images.open(row) as picture_of:
        for joints, frame in zip(pixel, index, strict=True):
            try:
                box = crop_box(joints)
                with picture_of(frame) as picture:
                    jpeg, size = cut(picture, box)
            except CropRefusedError as error:
                cuts.append(Cut(frame, problem=str(error)))
            else:
                left, top, right, bottom = box.tolist()
                cuts.append(Cut(frame, jpeg, (left, top, right, bottom), size))
    return cuts


@lru_cache(maxsize=2)
def _opened(path: Path) -> Store:
    return open_store(path)


def _cut_in_order(
    plan: _Plan, blocks: Sequence[tuple[int, range]], executor: Executor | None, workers: int
) -> Iterator[tuple[tuple[int, range], list[Cut]]]:
    """Yield each block with what came of it, in plan order, with a bounded number in flight."""
    if executor is None:
        for block in blocks:
            yield block, cut_block(plan, *block)
        return
    todo = iter(blocks)
    waiting: deque[tuple[tuple[int, range], Future[list[Cut]]]] = deque()
    try:
        while True:
            for block in itertools.islice(todo, workers * WINDOW_PER_WORKER - len(waiting)):
                waiting.append((block, executor.submit(cut_block, plan, *block)))
            if not waiting:
                return
            block, task = waiting.popleft()
            yield block, task.result()
    except BrokenProcessPool as error:
        raise CropError(
            "a worker process died, perhaps for want of memory. What was written is kept: run the same "
            "command again to go on, with fewer --workers if memory was short"
        ) from error
    finally:
        for _, task in waiting:
            task.cancel()
