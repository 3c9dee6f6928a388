"""Stores of encoded images: writing one (`encode_store`, `write_s2i_store`) and opening one (`open_s2i`).

An s2i store has a row a sample: the array ``image`` (sample, channel, row, column), the table of the samples,
and in its attributes the plan, how the samples were cleaned and merged, and the statistics of the images.
docs/s2i.md is the specification.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import zarr

from skelconv import __version__
from skelconv.clean.chains import find_chain
from skelconv.clean.samples import Samples, SampleStore, Third, pack_samples
from skelconv.s2i.options import EncodeOptions
from skelconv.s2i.plan import S2IError, S2IPlan, make_plan
from skelconv.s2i.read import ENCODED_FRAMES, ENCODED_ROWS, IMAGE, SAMPLE, S2IStore, open_s2i
from skelconv.s2i.statistics import (
    ImageMoments,
    ImageStatistics,
    check_samples,
    encode_blocks,
    images_a_block,
)
from skelconv.store import schema
from skelconv.store.columns import write_frame
from skelconv.store.info import Provenance, SetAside, StoreError, StoreInfo
from skelconv.store.publish import prepare_partial, refuse_existing
from skelformats.reader import Column
from skelformats.skeleton import load_skeleton

__all__ = [
    "EncodableStore",
    "EncodeOptions",
    "S2IStore",
    "S2ISummary",
    "channel_names",
    "encode_store",
    "open_s2i",
    "write_s2i_store",
]

_PERSON = Column("person", "i4", "person of the recording that the sample shows; -1 for all of them")
_ROWS = Column(ENCODED_ROWS, "i8", "poses that the image was interpolated from")
_FRAMES = Column(ENCODED_FRAMES, "i8", "frames of the recording that these poses are of")
_RESERVED = (IMAGE, SAMPLE, "channel")
_DESCRIPTIONS = {
    column.name: column.description for column in (*schema.BASE_COLUMNS, _PERSON, _ROWS, _FRAMES)
}


Bar = Callable[[int, str, int], AbstractContextManager[Callable[[int, int], None]]]
"""From total, unit and bytes to a context that gives ``advance(steps, bytes)``, as
`skelconv.cli.command.progress`.
"""


def no_bar(total: int, unit: str, size: int) -> AbstractContextManager[Callable[[int, int], None]]:
    """Say nothing."""
    return nullcontext(lambda steps, size: None)


@dataclass(frozen=True)
class S2ISummary:
    """What was written: for the line that ``skelconv s2i`` ends with."""

    path: Path
    samples: int
    rows: int
    set_aside: int
    image_bytes: int
    stored_bytes: int
    seconds: float
    statistics: ImageStatistics
    channels: tuple[str, ...]

    def text(self) -> str:
        """Return the summary for a person."""
        channels = "  ".join(
            f"{name} {mean:.4f} ± {std:.4f}"
            for name, mean, std in zip(self.channels, self.statistics.mean, self.statistics.std, strict=True)
        )
        lost = f", {self.set_aside} recordings set aside" if self.set_aside else ""
        return (
            f"{self.path}: {self.samples} images from {self.rows} rows{lost}; "
            f"{self.image_bytes / 1e6:.1f} MB, {self.stored_bytes / 1e6:.1f} MB on disk, "
            f"{self.seconds:.1f} s\nchannels, mean ± std: {channels}"
        )


class EncodableStore(SampleStore, Protocol):
    """What `encode_store` asks of a store; `skelconv.store.store.Store` has it."""

    @property
    def path(self) -> str | Path:
        """Where it lies."""


def encode_store(
    store: EncodableStore,
    path: str | Path,
    options: EncodeOptions | None = None,
    bar: Bar = no_bar,
) -> S2ISummary:
    """Clean, merge and encode a whole sequence store: what ``skelconv s2i`` does.

    Parameters
    ----------
    store
        An open sequence store.
    path
        As `write_s2i_store`.
    bar
        What shows the progress, first of cleaning and then of encoding.

    Raises
    ------
    StoreError
        ``path`` exists and is not to be overwritten, or it is the store itself.
    S2IError
        The store's axes and the third channel asked for do not make three channels.
    CleaningError, SkeletonError, UnknownNameError
        As `skelconv.clean.samples.pack_samples`.
    """
    path, options = Path(path), options or EncodeOptions()
    if path.resolve() == Path(store.path).resolve():
        raise StoreError(
            f"{path}: found the store that is being encoded, expected another path for the images"
        )
    # what can be refused is refused before the minutes of cleaning
    channel_names(store.info, options.third)
    refuse_existing(path, options.overwrite)
    skeleton = load_skeleton(options.layout) if options.layout is not None else store.skeleton
    plan = make_plan(skeleton, options.size, options.align_corners)
    target = None if options.layout is None else skeleton
    with bar(store.info.provenance.recordings, "recordings cleaned", 0) as advance:
        samples = pack_samples(
            store, options.chain, options.persons, target, third=options.third, advance=advance
        )
    with bar(len(samples), "images", 0) as advance:
        return write_s2i_store(samples, path, plan, store.info, options, advance)


def write_s2i_store(
    samples: Samples,
    path: str | Path,
    plan: S2IPlan,
    source: StoreInfo,
    options: EncodeOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> S2ISummary:
    """Write the images of all samples as a store, published under ``path`` only when complete.

    One block of images is in memory at a time (at most 256 MB), whatever the number of samples.

    Parameters
    ----------
    samples
        Cleaned samples, fully scaled, in the plan's layout, of three columns of values.
    source
        Attributes of the store that the samples come from.
    options
        Stream, dtype, threads and overwrite are obeyed, persons and command recorded; ``samples`` and
        ``plan`` tell how samples were cleaned and what size they become.
    progress
        Called after each block with the number of images and of bytes written.

    Raises
    ------
    StoreError
        ``path`` exists and is not to be overwritten.
    S2IError
        The samples do not fit the plan, wait for scaling, or hold NaN.
    """
    began = time.perf_counter()
    options = options or EncodeOptions()
    check_samples(samples, plan)
    channels = channel_names(source, samples.third)
    path = Path(path)
    with prepare_partial(path, options.overwrite) as partial:
        group = zarr.open_group(str(partial.store), mode="w", zarr_format=3)
        unit = source.unit if find_chain(samples.chain).scaling == "none" else "1"
        array = schema.create_frame_array(
            group,
            schema.FrameArray(
                IMAGE,
                (3, *plan.size),
                options.dtype,
                ("channel", "row", "column"),
                {
                    "units": unit,
                    "long_name": f"S2I image of the {options.stream} stream: rows are time, columns are "
                    "joints",
                },
                leading=SAMPLE,
                chunk=1,
                shard=images_a_block(plan),
            ),
            len(samples),
        )
        moments = ImageMoments(len(samples), plan.size[0] * plan.size[1])
        for first, images in encode_blocks(samples, plan, options.stream, threads=options.threads):
            moments.add(first, images, options.threads)
            array[first : first + len(images)] = images.astype(options.dtype, copy=False)
            if progress is not None:
                progress(len(images), len(images) * array.nbytes // len(samples))
        counted = {} if samples.frames is None else {ENCODED_FRAMES: samples.frames}
        rows = np.diff(samples.offsets)
        _write_table(group, samples.table.assign(**{ENCODED_ROWS: rows, **counted}), source)
        schema.write_labels(group, "channel", channels)
        statistics = moments.pool()
        assert statistics is not None  # there is at least one sample
        info = _describe(samples, plan, source, options, unit, moments)
        group.attrs.put({schema.ATTRIBUTE: info.to_attributes()})
        schema.consolidate(partial.store)
        stored = sum(file.stat().st_size for file in partial.store.rglob("*") if file.is_file())
        partial.publish()
    return S2ISummary(
        path=path,
        samples=len(samples),
        rows=int(samples.offsets[-1]),
        set_aside=len(samples.set_aside),
        image_bytes=int(array.nbytes),
        stored_bytes=stored,
        seconds=time.perf_counter() - began,
        statistics=statistics,
        channels=channels,
    )


def channel_names(source: StoreInfo, third: Third | None) -> tuple[str, ...]:
    """Return what the three channels of a store's images are: its axes, and the third one asked for.

    Raises
    ------
    S2IError
        They are not three, or the store has no confidence.
    """
    axes = source.axes.names
    shown = f"a store of {len(axes)} axes ({', '.join(axes)})"
    if third is None and len(axes) == 3:
        return axes
    if third is None:
        raise S2IError(
            f"found {shown}, expected three: an image has a channel an axis. "
            "Add --third confidence to make each joint's confidence the third channel, or encode 3D poses"
        )
    if len(axes) != 2:
        raise S2IError(f"found --third {third} for {shown}, expected two. Leave it out")
    if source.confidence is None:
        raise S2IError(
            f"found --third {third} for a store without the array 'confidence', expected one. "
            f"The dataset {source.dataset.name} records none"
        )
    return (*axes, third)


def _describe(
    samples: Samples,
    plan: S2IPlan,
    source: StoreInfo,
    options: EncodeOptions,
    unit: str,
    moments: ImageMoments,
) -> StoreInfo:
    """Root attributes: those of the source, with the plan, the choices, the statistics and the provenance."""
    train = {}
    for protocol in source.protocols:
        column = schema.split_column(protocol)
        if column in samples.table:
            pooled = moments.pool((samples.table[column] == "train").to_numpy(bool))
            if pooled is not None:
                train[protocol] = pooled.to_dict()
    whole = moments.pool()
    choices = {
        "stream": options.stream,
        "persons": options.persons,
        "chain": samples.chain,
        "dtype": options.dtype,
        "third": samples.third,
    }
    provenance = Provenance(
        tool=f"skelconv {__version__}",
        command=options.command,
        options={**choices, "size": list(plan.size), "align_corners": plan.align_corners},
        sources=source.provenance.sources,
        digest=source.provenance.digest,
        recordings=int(samples.table["recording"].nunique()),
        sequences=len(samples),
        frames=int(samples.offsets[-1]),
        set_aside=tuple(SetAside(source=name, reason=reason) for name, reason in samples.set_aside),
        derived_from=source.provenance.model_dump(mode="json"),
    )
    return source.model_copy(
        update={
            "kind": "s2i",
            "skeleton": samples.skeleton.to_dict(),
            "unit": unit,
            "missing": "none: samples are cleaned before they are encoded",
            "confidence": None,
            "extras": (),
            "provenance": provenance,
            "s2i": {
                **choices,
                "plan": plan.to_dict(),
                "statistics": {"all": None if whole is None else whole.to_dict(), "train": train},
            },
        }
    )


def _write_table(group: zarr.Group, table: pd.DataFrame, source: StoreInfo) -> None:
    def describe(name: str) -> str:
        protocol = name.removeprefix("split_")
        if name != protocol and protocol in source.protocols:
            return f"{source.protocols[protocol]}: train, test, val or empty"
        return _DESCRIPTIONS.get(name, f"{name}, as in the store that was encoded")

    # a dataset may have a column of the name of an array that is here already
    taken = {name: f"recording_{name}" for name in _RESERVED}
    described = {taken.get(name, name): describe(name) for name in map(str, table.columns)}
    write_frame(group, table.rename(columns=taken), SAMPLE, described.__getitem__)
