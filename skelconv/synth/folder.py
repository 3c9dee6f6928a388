"""`synthesize`: folders of raw files in a dataset's own format, made from a procedural human.

Nobody's data is in them, so they can be given away; the formats' readers cannot tell them from the real ones,
and of every number in them the truth is known. docs/synthetic-data.md says what is simulated and what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from skelconv.extras import need
from skelconv.ingest.executors import open_executor
from skelconv.ingest.generated import MARKER
from skelconv.store.publish import remove
from skelconv.synth import (
    alphapose,
    amass,
    coco,
    h36m,
    h36m25d,
    instavariety,
    mediapipe,
    motionbert_mesh,
    mpi3dhp,
    ntu,
    openpose,
    pku,
    posetrack,
    pw3d,
    pyskl,
    toyota,
    ucla,
    video,
)
from skelconv.synth.truth import GroundTruth, Settings, SynthError
from skelformats.errors import UnknownNameError

_BATCH = 30
"""Recordings that a worker makes at a time: whole takes, whose three cameras share their motion."""


@dataclass(frozen=True)
class Synthesizer:
    """How the files of one dataset are generated.

    ``make(seed, index, settings)`` returns the truth of one recording and its files, the same ones whenever
    and wherever it is called: the bytes of the one file, which is called as the recording with ``suffix``, or
    the bytes of each by its path in the folder. ``capacity(settings)`` tells how many there are names for,
    ``shared(seed, recordings, settings)`` the files that belong to all of them, such as split lists.
    ``package`` names what the extra ``synth`` brings and this format cannot be written without.
    """

    dataset: str
    suffix: str
    make: Callable[[int, int, Settings], tuple[GroundTruth, bytes | Mapping[str, bytes]]]
    capacity: Callable[[Settings], int]
    shared: Callable[[int, int, Settings], Mapping[str, bytes]] | None = None
    package: str | None = None

    def files(self, truth: GroundTruth, content: bytes | Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files of a recording that ``make`` returned, by their paths in the folder."""
        return {truth.name + self.suffix: content} if isinstance(content, bytes) else content


SYNTHESIZERS: Mapping[str, Synthesizer] = MappingProxyType(
    {
        **{
            name: Synthesizer(
                name,
                ".skeleton",
                partial(ntu.make_recording, name),
                partial(ntu.capacity, name),
            )
            for name in ("ntu60", "ntu120")
        },
        "ucla": Synthesizer("ucla", ".json", ucla.make_take, ucla.capacity),
        **{
            name: Synthesizer(
                name,
                ".txt",
                partial(pku.make_video, name),
                partial(pku.capacity, name),
                partial(pku.split_lists, name),
            )
            for name in ("pku1", "pku2")
        },
        "toyota": Synthesizer("toyota", ".json", toyota.make_clip, toyota.capacity, toyota.lists_and_videos),
        "amass": Synthesizer("amass", "", amass.make_take, amass.capacity, amass.shared_files),
        "h36m": Synthesizer("h36m", "", h36m.make_take, h36m.capacity, package=h36m.WRITER),
        "h36m25d": Synthesizer("h36m25d", "", h36m25d.make_video, h36m25d.capacity, h36m25d.pickled),
        "coco": Synthesizer("coco", "", coco.make_image, video.capacity, coco.annotation_files),
        "alphapose": Synthesizer("alphapose", "", alphapose.make_results, video.capacity),
        "openpose": Synthesizer("openpose", "", openpose.make_output, video.capacity),
        "mediapipe": Synthesizer("mediapipe", "", mediapipe.make_video, video.capacity),
        "posetrack": Synthesizer("posetrack", "", posetrack.make_annotations, video.capacity),
        "instavariety": Synthesizer("instavariety", "", instavariety.make_tracks, video.capacity),
        "pyskl": Synthesizer("pyskl", "", pyskl.make_annotation, video.capacity, pyskl.pickled),
        "pw3d": Synthesizer("pw3d", "", pw3d.make_sequence, video.capacity, pw3d.body_files),
        "motionbert_mesh": Synthesizer(
            "motionbert_mesh", "", motionbert_mesh.make_video, video.capacity, motionbert_mesh.pickled
        ),
        "mpi3dhp": Synthesizer("mpi3dhp", "", mpi3dhp.make_recording, mpi3dhp.capacity, mpi3dhp.files),
    }
)
"""Every dataset that can be generated, by name."""


@dataclass(frozen=True)
class SynthSummary:
    """What `synthesize` wrote."""

    dataset: str
    folder: Path
    recordings: int
    frames: int
    bodies: int
    size: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.recordings} generated recordings of {self.dataset}, {self.frames} frames, "
            f"{self.bodies} bodies, {self.size / 1e6:.1f} MB"
        )


def synthesize(
    dataset: str,
    out: Path,
    recordings: int,
    seed: int = 0,
    *,
    settings: Settings | None = None,
    workers: int = 0,
    overwrite: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> SynthSummary:
    """Write recordings 0 to ``recordings`` - 1 of ``seed`` into the folder ``out``.

    Parameters
    ----------
    dataset
        A key of `SYNTHESIZERS`.
    out
        Becomes a folder; appears only once it is complete.
    workers
        Processes; 0 writes in this one. The files are the same for any number.
    overwrite
        Replace a folder that `synthesize` made before. No other folder is ever replaced.
    advance
        Called with the recordings and bytes written since the last call.

    Raises
    ------
    UnknownNameError
        No such dataset.
    SynthError
        ``out`` is in the way, the seed is negative, or there are not as many recordings.
    MissingExtraError
        The format needs a package that is not installed.
    """
    synthesizer = find_synthesizer(dataset)
    settings = settings or Settings()
    _check(synthesizer, recordings, seed, settings)
    _refuse(out, overwrite)
    unfinished = out.with_name(out.name + ".partial")
    _refuse(unfinished, overwrite=True)
    remove(unfinished)
    unfinished.mkdir(parents=True)
    (unfinished / MARKER).write_text(_marker_text(dataset, recordings, seed, settings), encoding="utf-8")
    if synthesizer.shared is not None:
        _write_files(unfinished, synthesizer.shared(seed, recordings, settings))
    done = [0, 0, 0]
    batches = [(start, min(start + _BATCH, recordings)) for start in range(0, recordings, _BATCH)]
    with open_executor(workers) as (executor, _):
        for count, written in _run(executor, dataset, seed, settings, unfinished, batches):
            done = [total + new for total, new in zip(done, written, strict=True)]
            if advance is not None:
                advance(count, written[2])
    # somebody may have put something there meanwhile
    _refuse(out, overwrite)
    remove(out)
    unfinished.rename(out)
    return SynthSummary(dataset, out, recordings, *done)


def find_synthesizer(dataset: str) -> Synthesizer:
    """Return the generator of a dataset; raises `UnknownNameError`."""
    if dataset not in SYNTHESIZERS:
        raise UnknownNameError("dataset with a generator", dataset, tuple(SYNTHESIZERS))
    return SYNTHESIZERS[dataset]


def _check(synthesizer: Synthesizer, recordings: int, seed: int, settings: Settings) -> None:
    if seed < 0:
        raise SynthError(f"found the seed {seed}, expected 0 or more")
    if synthesizer.package is not None:
        need(synthesizer.package, "synth")
    most = synthesizer.capacity(settings)
    if not 1 <= recordings <= most:
        raise SynthError(
            f"found {recordings} recordings, expected 1 to {most}: {synthesizer.dataset} has no more names "
            "for the classes that can be generated"
        )


def _refuse(out: Path, overwrite: bool) -> None:
    """Raise `SynthError` unless ``out`` is free, or may be replaced and holds nothing but generated files."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / MARKER).is_file():
        raise SynthError(
            f"{out}: found files that were not generated (there is no {MARKER}), expected a folder that is "
            "empty or does not exist. Choose another one"
        )
    if not overwrite:
        raise SynthError(
            f"{out}: found generated files, expected a folder that is empty or does not exist. "
            "Add --overwrite to replace them"
        )


def _run(
    executor: Executor | None,
    dataset: str,
    seed: int,
    settings: Settings,
    folder: Path,
    batches: list[tuple[int, int]],
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yield how many recordings each finished batch has, and its `_write_batch`."""
    if executor is None:
        for start, stop in batches:
            yield stop - start, _write_batch(dataset, seed, settings, folder, start, stop)
        return
    sizes: dict[Future[tuple[int, int, int]], int] = {}
    for start, stop in batches:
        future = executor.submit(_write_batch, dataset, seed, settings, folder, start, stop)
        sizes[future] = stop - start
    for future in as_completed(sizes):
        yield sizes[future], future.result()


def _write_batch(
    dataset: str, seed: int, settings: Settings, folder: Path, start: int, stop: int
) -> tuple[int, int, int]:
    """Write some recordings; returns their frames, bodies and bytes. Runs in worker processes."""
    synthesizer = SYNTHESIZERS[dataset]
    frames = bodies = size = 0
    for index in range(start, stop):
        truth, content = synthesizer.make(seed, index, settings)
        size += _write_files(folder, synthesizer.files(truth, content))
        frames, bodies = frames + truth.length, bodies + len(truth.tracks)
    return frames, bodies, size


def _write_files(folder: Path, contents: Mapping[str, bytes]) -> int:
    """Write files by their paths below ``folder``; returns their bytes."""
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return sum(map(len, contents.values()))


def _marker_text(dataset: str, recordings: int, seed: int, settings: Settings) -> str:
    return (
        "The files in this folder were generated by skelconv (skelconv synth); no person was recorded.\n"
        f"They have the format of the dataset {dataset}, but are not part of it.\n"
        f"recordings {recordings}, seed {seed}, {settings}\n"
    )
