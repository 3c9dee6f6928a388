"""Stores of encoded images: writing one (`encode_store`, `write_s2i_store`) and opening one (`open_s2i`).

An s2i store has a row a sample: the array ``image`` (sample, channel, row, column), the table of the samples,
and in its attributes the plan, how the samples were cleaned and merged, and the statistics of the images.
docs/s2i.md is the specification.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd
import zarr

from skelconv import __version__
from skelconv.clean.chains import find_chain
from skelconv.clean.samples import PERSONS, Persons, Samples, SampleStore, pack_samples
from skelconv.s2i.encoder import STREAMS
from skelconv.s2i.plan import Plan, make_plan
from skelconv.s2i.read import IMAGE, SAMPLE, S2IStore, open_s2i
from skelconv.s2i.statistics import (
    ImageMoments,
    ImageStatistics,
    check_samples,
    encode_blocks,
    images_a_block,
)
from skelconv.store import schema
from skelconv.store.info import Provenance, SetAside, StoreError, StoreInfo
from skelconv.store.publish import prepare_partial, refuse_existing
from skelformats.errors import UnknownNameError
from skelformats.reader import Column
from skelformats.skeleton import load_skeleton

__all__ = ["DTYPES", "Dtype", "S2IStore", "S2ISummary", "encode_store", "open_s2i", "write_s2i_store"]

Dtype = Literal["float32", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

_PERSON = Column("person", "i4", "person of the recording that the sample shows; -1 for all of them")
_DESCRIPTIONS = {column.name: column.description for column in (*schema.BASE_COLUMNS, _PERSON)}


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

    def text(self) -> str:
        """Return the summary for a person."""
        channels = "  ".join(
            f"{name} {mean:.4f} ± {std:.4f}"
            for name, mean, std in zip("xyz", self.statistics.mean, self.statistics.std, strict=True)
        )
        lost = f", {self.set_aside} recordings set aside" if self.set_aside else ""
        return (
            f"{self.path}: {self.samples} images from {self.rows} rows{lost}; "
            f"{self.image_bytes / 1e6:.1f} MB, {self.stored_bytes / 1e6:.1f} MB on disk, "
            f"{self.seconds:.1f} s\nchannels, mean ± std: {channels}"
        )


class SourceStore(SampleStore, Protocol):
    """What `encode_store` asks of a store; `skelconv.store.store.Store` has it."""

    @property
    def path(self) -> str | Path:
        """Where it lies."""


def encode_store(
    store: SourceStore,
    path: str | Path,
    layout: str | None = None,
    size: int | tuple[int, int] = 224,
    stream: str = "joint",
    persons: Persons = "interleave",
    dtype: Dtype = "float32",
    chain: str = "auto",
    align_corners: bool = False,
    threads: int = 1,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> S2ISummary:
    """Clean, merge and encode a whole sequence store: what ``skelconv s2i`` does.

    Parameters
    ----------
    store
        An open sequence store.
    layout
        Joint layout to encode in; joints are carried over by name. The store's own when None.
    chain, persons
        How recordings are cleaned, and their persons merged (`skelconv.clean.samples.pack_samples`).
    path, stream, dtype, threads, overwrite, command, progress
        As `write_s2i_store`.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false, or it is the store itself.
    CleaningError, SkeletonError, UnknownNameError
        As `skelconv.clean.samples.pack_samples`.
    """
    path = Path(path)
    if path.resolve() == Path(store.path).resolve():
        raise StoreError(
            f"{path}: found the store that is being encoded, expected another path for the images"
        )
    # what can be refused is refused before the minutes of cleaning
    _check_choices(stream, persons, dtype)
    refuse_existing(path, overwrite)
    skeleton = load_skeleton(layout) if layout is not None else store.skeleton
    plan = make_plan(skeleton, size, align_corners)
    samples = pack_samples(store, chain, persons, None if layout is None else skeleton)
    return write_s2i_store(
        samples, path, plan, store.info, stream, persons, dtype, threads, overwrite, command, progress
    )


def write_s2i_store(
    samples: Samples,
    path: str | Path,
    plan: Plan,
    source: StoreInfo,
    stream: str = "joint",
    persons: Persons = "interleave",
    dtype: Dtype = "float32",
    threads: int = 1,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> S2ISummary:
    """Write the images of all samples as a store, published under ``path`` only when complete.

    One block of images is in memory at a time (at most 256 MB), whatever the number of samples.

    Parameters
    ----------
    samples
        Cleaned samples, fully scaled, in the plan's layout.
    source
        Attributes of the store that the samples come from.
    stream
        What the images are made of: ``joint``, ``bone`` or ``motion``.
    persons, command
        How persons were merged, and the command line: recorded.
    dtype
        ``float16`` halves the size and rounds a value of 1 m by up to 0.5 mm, one of 4 m by 2 mm.
    progress
        Called after each block with the number of images and of bytes written.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false.
    S2IError
        The samples do not fit the plan, wait for scaling, or hold NaN.
    UnknownNameError
        No such stream, dtype, or way to arrange persons.
    """
    began = time.perf_counter()
    _check_choices(stream, persons, dtype)
    check_samples(samples, plan)
    path = Path(path)
    with prepare_partial(path, overwrite) as partial:
        group = zarr.open_group(str(partial.store), mode="w", zarr_format=3)
        unit = source.unit if find_chain(samples.chain).scaling == "none" else "1"
        rows, columns = plan.size
        array = schema.create_frame_array(
            group,
            schema.FrameArray(
                IMAGE,
                (3, rows, columns),
                dtype,
                ("channel", "row", "column"),
                {
                    "units": unit,
                    "long_name": f"S2I image of the {stream} stream: rows are time, columns are joints",
                },
                leading=SAMPLE,
                chunk=1,
                shard=images_a_block(plan),
            ),
            len(samples),
        )
        moments = ImageMoments(len(samples), rows * columns)
        for first, images in encode_blocks(samples, plan, stream, threads=threads):
            moments.add(first, images, threads)
            array[first : first + len(images)] = images.astype(dtype, copy=False)
            if progress is not None:
                progress(len(images), len(images) * array.nbytes // len(samples))
        _write_table(group, samples.table, source)
        schema.write_labels(group, "channel", source.axes.names)
        statistics = moments.pool()
        assert statistics is not None  # there is at least one sample
        info = _describe(samples, plan, source, stream, persons, dtype, unit, moments, command)
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
    )


def _check_choices(stream: str, persons: str, dtype: str) -> None:
    choices = (
        ("stream", stream, STREAMS),
        ("way to arrange persons", persons, PERSONS),
        ("image dtype", dtype, DTYPES),
    )
    for kind, value, known in choices:
        if value not in known:
            raise UnknownNameError(kind, value, known)


def _describe(
    samples: Samples,
    plan: Plan,
    source: StoreInfo,
    stream: str,
    persons: str,
    dtype: str,
    unit: str,
    moments: ImageMoments,
    command: str,
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
    choices = {"stream": stream, "persons": persons, "chain": samples.chain, "dtype": dtype}
    provenance = Provenance(
        tool=f"skelconv {__version__}",
        command=command,
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
    schema.write_labels(group, SAMPLE, [str(name) for name in table.index])
    for name in table.columns:
        values = table[name]
        protocol = str(name).removeprefix("split_")
        described = _DESCRIPTIONS.get(name, f"{name}, as in the store that was encoded")
        if name != protocol and protocol in source.protocols:
            described = f"{source.protocols[protocol]}: train, test, val or empty"
        column = Column(str(name), _stored_dtype(values), described)
        schema.write_column(group, column, _plain(values, column.dtype), SAMPLE)


def _stored_dtype(values: pd.Series[Any]) -> Literal["string", "i4", "i8", "f4"]:
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "i4" if pd.api.types.is_bool_dtype(values) else "string"
    if pd.api.types.is_float_dtype(values):
        return "f4"
    present = values.dropna()
    bounds = np.iinfo(np.int32)
    return "i4" if present.between(bounds.min, bounds.max).all() else "i8"


def _plain(values: pd.Series[Any], dtype: str) -> list[Any]:
    """Cells as plain Python values; absent ones as the sequence store writes them."""
    absent: Any = {"string": "", "f4": float("nan")}.get(dtype, -1)
    kind: Any = {"string": str, "f4": float}.get(dtype, int)
    return [absent if pd.isna(value) else kind(value) for value in values]
