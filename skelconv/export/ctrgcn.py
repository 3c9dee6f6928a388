"""The npz files of CTR-GCN's scripts (Chen et al., ICCV 2021), which SGN's successors and MAMP read too.

Four arrays: ``x_train`` and ``x_test`` (N, T, 150) float32, the two persons' 25 x 3 coordinates side by
side, zeros behind the last frame up to the longest sample's; ``y_train`` and ``y_test`` (N, classes)
float64, one-hot. Samples go by the id that the protocol splits by (subject, camera or setup), then by name.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skelconv.clean import Actors
from skelconv.export.forms import ExportForm
from skelconv.export.place import Exported, ExportError, written_aside
from skelconv.export.takes import chain_of, cleaned_takes, expect_some
from skelconv.store.schema import split_column
from skelconv.store.store import PARTS, Store
from skelformats.errors import UnknownNameError

CHAINS = {"ntu60": "ctrgcn60", "ntu120": "ctrgcn120"}
"""Chain of each dataset that the scripts clean; every body as stored for the others."""

SPLIT_BY: Mapping[str, str] = {"xsub": "subject", "xview": "camera", "xset": "setup"}
"""Column whose ids the scripts go through, one after another, for each protocol; none: names alone."""

PERSONS = 2
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Sample:
    """One sample in the spool: its place in the order, its part and label, and where its frames lie."""

    place: tuple[int, str]
    part: str
    label: int
    start: int
    frames: int


def export_ctrgcn(
    store: Store, path: str | Path, protocol: str | None = None, chain: str = "auto", overwrite: bool = False
) -> Exported:
    """Write one official split of a store as an npz file.

    Memory is bounded: cleaned samples wait in a temporary file until the longest is known.

    Parameters
    ----------
    protocol
        Name of the split; the store's first one when None. A part ``val`` gives ``x_val`` and ``y_val``.
    chain
        Cleaning chain; ``auto`` is CTR-GCN's for NTU RGB+D 60 or 120, none for others and cleaned stores.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false, the store has no split, or there is nothing to write.
    UnknownNameError
        There is no such protocol or chain.
    """
    path, known = Path(path), tuple(store.info.protocols)
    if not known:
        raise ExportError(f"{store.path}: found no official split, expected one to tell train from test by")
    protocol = protocol or known[0]
    if protocol not in known:
        raise UnknownNameError("protocol", protocol, known)
    set_aside: list[tuple[str, str]] = []
    width = PERSONS * len(store.skeleton) * len(store.info.axes.names)
    with written_aside(path, overwrite) as partial, tempfile.TemporaryFile(dir=partial.parent) as spool:
        used = chain_of(store, chain, CHAINS)
        samples = list(_spool(store, used, protocol, spool, set_aside))
        expect_some(len(samples), store, set_aside)
        longest = max(sample.frames for sample in samples)
        counts = {}
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for part in PARTS:
                chosen = sorted((s for s in samples if s.part == part), key=lambda s: s.place)
                if part == "val" and not chosen:
                    continue
                counts[f"in {part}"] = len(chosen)
                _write_x(archive, f"x_{part}", chosen, longest, width, spool)
                _write_y(archive, f"y_{part}", chosen, len(store.info.classes))
    left_out = tuple(name for name in ("confidence", *store.info.extras) if name in store.arrays)
    return Exported(path, {**counts, "frames the longest": longest}, tuple(set_aside), left_out)


def side_by_side(actors: Actors) -> NDArray[np.float32]:
    """Return (T, 2 J A) float32: the first two persons' coordinates, zeros for one that there is not."""
    persons, frames, joints, axes = actors.position.shape
    out = np.zeros((frames, PERSONS, joints, axes), np.float32)
    for person in range(min(persons, PERSONS)):
        out[:, person] = actors.position[person]
    return out.reshape(frames, -1)


def _spool(
    store: Store, chain: str, protocol: str, spool: IO[bytes], set_aside: list[tuple[str, str]]
) -> Iterator[_Sample]:
    """Clean every recording of a part into the spool."""
    column, start = SPLIT_BY.get(protocol, ""), 0
    for recording, actors in cleaned_takes(store, chain, set_aside):
        part, label = str(recording.row[split_column(protocol)]), int(recording.row["label"])
        if not part or label < 0:
            what = f"no part of the split {protocol}" if label >= 0 else "no label"
            set_aside.append((recording.name, f"found {what}, expected one"))
            continue
        rows = side_by_side(actors)
        spool.write(rows.tobytes())
        number = recording.row.get(column, 0)
        place = (int(number) if isinstance(number, int) else 0, recording.name)
        yield _Sample(place, part, label, start, len(rows))
        start += rows.nbytes


def _write_x(
    archive: zipfile.ZipFile, name: str, samples: list[_Sample], longest: int, width: int, spool: IO[bytes]
) -> None:
    with _member(archive, name, np.dtype("<f4"), (len(samples), longest, width)) as out:
        for sample in samples:
            size = sample.frames * width * 4
            spool.seek(sample.start)
            out.write(spool.read(size))
            out.write(bytes(longest * width * 4 - size))


def _write_y(archive: zipfile.ZipFile, name: str, samples: list[_Sample], classes: int) -> None:
    one_hot = np.zeros((len(samples), classes), "<f8")
    one_hot[np.arange(len(samples)), [sample.label for sample in samples]] = 1
    with _member(archive, name, one_hot.dtype, one_hot.shape) as out:
        out.write(one_hot.tobytes())


def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> IO[bytes]:
    """Open an array of an npz file to be written piece by piece; without a date, for equal bytes."""
    out = archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE), "w", force_zip64=True)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out


FORM = ExportForm(
    name="ctrgcn",
    title="npz file of CTR-GCN's scripts, one split",
    write=lambda store, path, how: export_ctrgcn(store, path, how.protocol, how.chain, how.overwrite),
    choices=("protocol", "clean"),
)
