"""Writing features with the table of their samples, as a zarr group that pandas and xarray open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from skelconv import __version__
from skelconv.store import schema
from skelconv.store.columns import write_frame
from skelconv.store.publish import prepare_partial
from skeltrain.tasks.registry import Features, Trained

SAMPLE, FEATURE = "sample", "feature"
CHUNK_SAMPLES = 1024
SHARD_SAMPLES = 65_536
"""Samples in one file; fewer than this are not sharded."""


def write_features(
    path: Path, features: Features, trained: Trained, command: str, overwrite: bool = False
) -> None:
    """Write features (N, D) and their table, under a name that only ever holds all of it.

    The group has the array ``feature`` (sample, component) in the features' dtype, their further arrays, each
    column of the table along ``sample``, and the attribute ``skeltrain``: model, recipe and store that the
    features are of.

    Raises
    ------
    StoreError
        The name is taken, and may not or should not be replaced.
    """
    with prepare_partial(path, overwrite) as partial:
        group = zarr.open_group(str(partial.store), mode="w", zarr_format=3)
        _write(group, FEATURE, features.feature, features.dtype, "what the model makes of the sample")
        for name, values in features.arrays.items():
            _write(group, name, values, "float32", f"{name} of the sample")
        table = features.table.drop(columns=[FEATURE, SAMPLE, *features.arrays], errors="ignore")
        write_frame(group, table, SAMPLE, lambda name: f"{name}, as in the store")
        group.attrs["skeltrain"] = {
            "tool": f"skelconv {__version__}",
            "command": command,
            "checkpoint": str(trained.path),
            "epochs": trained.checkpoint["progress"]["epoch"],
            "model": trained.metadata["model"],
            **features.attributes,
        }
        schema.consolidate(partial.store)
        partial.publish()


def _write(group: zarr.Group, name: str, values: NDArray[np.float32], dtype: str, meaning: str) -> None:
    count, *shape = values.shape
    dimensions = (SAMPLE, "component") if len(shape) == 1 else (SAMPLE, "joint", f"axis{shape[-1]}")
    array = group.create_array(
        name=name,
        shape=values.shape,
        chunks=(max(1, min(count, CHUNK_SAMPLES)), *shape),
        shards=(SHARD_SAMPLES, *shape) if count > CHUNK_SAMPLES else None,
        dtype=dtype,
        compressors=schema.codecs(np.dtype(dtype)),
        fill_value=float("nan"),
        dimension_names=dimensions,
        attributes={"long_name": meaning},
    )
    for start in range(0, count, SHARD_SAMPLES):
        array[start : start + SHARD_SAMPLES] = values[start : start + SHARD_SAMPLES].astype(dtype)
