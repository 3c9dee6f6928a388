"""Writing features with the table of their samples, as a zarr group that pandas and xarray open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

from skelconv import __version__
from skelconv.store import schema
from skelconv.store.columns import write_frame
from skelconv.store.publish import prepare_partial
from skeltrain.tasks.registry import Features, Trained

SAMPLE, FEATURE = "sample", "feature"
CHUNK_SAMPLES = 1024


def write_features(
    path: Path, features: Features, trained: Trained, command: str, overwrite: bool = False
) -> None:
    """Write features (N, D) float32 and their table, under a name that only ever holds all of it.

    The group has the array ``feature`` (sample, component), each column of the table along ``sample``, and
    the attribute ``skeltrain``: model, recipe and store that the features are of.

    Raises
    ------
    StoreError
        The name is taken, and may not or should not be replaced.
    """
    with prepare_partial(path, overwrite) as partial:
        group = zarr.open_group(str(partial.store), mode="w", zarr_format=3)
        count, width = features.feature.shape
        array = group.create_array(
            name=FEATURE,
            shape=(count, width),
            chunks=(max(1, min(count, CHUNK_SAMPLES)), width),
            dtype="float32",
            compressors=schema.codecs(np.dtype("float32")),
            fill_value=float("nan"),
            dimension_names=(SAMPLE, "component"),
            attributes={"long_name": "what the model makes of the sample"},
        )
        array[:] = features.feature
        table = features.table.drop(columns=[FEATURE, SAMPLE], errors="ignore")
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
