"""Poses as the ``movement`` package keeps them: a folder with a netCDF file a recording.

Each is an xarray Dataset with ``position`` (time, space, keypoints, individuals), ``confidence`` (time,
keypoints, individuals) and the attributes ``ds_type``, ``time_unit``, ``fps`` and ``source_software``
(movement's guide, "The movement datasets"). What movement has no place for (labels, splits, columns)
stands in an attribute and in ``about.json``, so that ``skelconv ingest movement`` makes the store again.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xarray as xr

from skelconv.derive.contents import stored_dataset
from skelconv.export.forms import ExportForm
from skelconv.export.place import ABOUT, Exported, written_aside
from skelconv.extras import need
from skelconv.store import schema
from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store
from skelformats.exported import DESCRIBED, LAYOUT, ORIGINAL
from skelformats.movement import OBSERVED, ROW
from skelformats.reader import Dataset
from skelformats.skeleton import skeleton_toml


def export_movement(store: Store, path: str | Path, overwrite: bool = False) -> Exported:
    """Write every recording of a store as a netCDF file, ``RECORDING.nc``, with its bodies as individuals.

    Frames are those of the recording from the first to the last; where a body was not observed, its positions
    and confidences are NaN. Without a frame rate times are numbers of frames.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false.
    MissingExtraError
        h5netcdf is not installed.
    """
    need("h5netcdf", "netcdf")
    dataset = stored_dataset(store)
    frames = bodies = 0
    files = _file_names(store.recording_names())
    with written_aside(Path(path), overwrite) as partial:
        partial.mkdir()
        for recording in store.recordings():
            made = recording_dataset(recording, store, dataset)
            made.to_netcdf(partial / files[recording.name], engine="h5netcdf")
            frames, bodies = frames + recording.length, bodies + len(recording.bodies)
        described = {
            "cleaning": dataset.cleaning,
            "columns": [asdict(column) for column in dataset.columns],
            "extras": [],
            "tables": [],
        }
        about = {**store.info.to_attributes(), DESCRIBED: described}
        (partial / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        (partial / LAYOUT).write_text(skeleton_toml(store.skeleton), encoding="utf-8")
    counts = {"recordings": len(files), "individuals": bodies, "frames": frames}
    return Exported(Path(path), counts, left_out=(*store.info.extras, *store.info.tables))


def recording_dataset(recording: Recording, store: Store, dataset: Dataset) -> xr.Dataset:
    """Return one recording as movement has it: position (T, S, K, I) and confidence (T, K, I), float32."""
    joints, axes = store.skeleton.names, store.info.axes.names
    shape = (recording.length, len(axes), len(joints), len(recording.bodies))
    position = np.full(shape, np.nan, np.float32)
    confidence = np.full((shape[0], *shape[2:]), np.nan, np.float32)
    observed = np.zeros((shape[0], shape[3]), np.int8)
    for number, body in enumerate(recording.bodies):
        position[body.frame_index, ..., number] = body.position.transpose(0, 2, 1)
        observed[body.frame_index, number] = 1
        if body.confidence is not None:
            confidence[body.frame_index, :, number] = body.confidence
    rate = store.info.frame_rate
    time = np.arange(shape[0])
    dims = ("time", "space", "keypoints", "individuals")
    return xr.Dataset(
        {
            schema.POSITION: (dims, position),
            schema.CONFIDENCE: (("time", *dims[2:]), confidence),
            OBSERVED: (("time", "individuals"), observed),
        },
        coords={
            "time": time if rate is None else time / rate,
            "space": list(axes),
            "keypoints": list(joints),
            "individuals": _individuals(recording.bodies),
        },
        attrs={
            "ds_type": "poses",
            "source_software": "skelconv",
            "time_unit": "frames" if rate is None else "seconds",
            **({} if rate is None else {"fps": rate}),
            ROW: json.dumps(_row(recording, dataset)),
        },
    )


def _row(recording: Recording, dataset: Dataset) -> dict[str, Any]:
    """Return what movement has no place for, as plain data."""
    first = recording.bodies[0].row
    return {
        "recording": recording.name,
        "label": int(first["label"]),
        "splits": {split.name: str(first[schema.split_column(split.name)]) for split in dataset.protocols},
        "bodies": [
            {
                "body": body.body,
                "columns": {
                    ORIGINAL.name: str(body.row["source"]),
                    # of an export that was ingested: the first raw files
                    **{column.name: _plain(body.row[column.name]) for column in dataset.columns},
                },
            }
            for body in recording.bodies
        ],
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _individuals(bodies: tuple[Sequence, ...]) -> list[str]:
    """Return unique names of the bodies: their own, or those of their sequences where two have the same."""
    names = [body.body for body in bodies]
    return names if len(set(names)) == len(names) else [body.name for body in bodies]


def _file_names(recordings: list[str]) -> dict[str, str]:
    """Return a file's name for each recording, unique also where capitals do not count, in the store's order.

    Names that would sort otherwise are numbered, since files are read in the order of their names.
    """
    plain = [re.sub(r"[^\w.-]", "_", name).lstrip(".") or "recording" for name in recordings]
    files = [f"{name}.nc" for name in plain]
    if files != sorted(files) or len({file.casefold() for file in files}) < len(files):
        width = len(str(len(files)))
        files = [f"{number:0{width}d}_{file}" for number, file in enumerate(files)]
    return dict(zip(recordings, files, strict=True))


FORM = ExportForm(
    name="movement",
    title="folder of netCDF files, a recording each, as movement reads them",
    write=lambda store, path, how: export_movement(store, path, how.overwrite),
)
