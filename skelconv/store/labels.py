"""What the numbers of a sequence mean, and the sequence as an xarray Dataset that says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skelconv.store import schema
from skelconv.store.info import StoreError

if TYPE_CHECKING:
    import xarray as xr

    from skelconv.store.recording import Sequence


@dataclass(frozen=True)
class Labels:
    """Names of what the arrays along frame hold.

    Attributes
    ----------
    skeleton
        Name of the joint layout.
    frame_rate
        Frames a second, or None where the source has no single one.
    dims
        Names of each array's dimensions after the first, by the array's name.
    coords
        Labels of each dimension that has some: ``joint``, ``axis``, ...
    attributes
        Attributes of each array: units, long name, meanings of states.
    """

    skeleton: str
    frame_rate: float | None
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Mapping[str, Any]]


def to_dataset(sequence: Sequence, frame_rate: float | None = None) -> xr.Dataset:
    """Return a sequence of a store as a Dataset; see `Sequence.to_xarray`."""
    import xarray as xr

    labels = sequence.labels
    if labels is None:
        raise StoreError(
            f"{sequence.name}: found a sequence that is not of a store, expected one with named joints and "
            "axes. Take it from a store: store[0].to_xarray()"
        )
    rate = _rate(sequence, labels, frame_rate)
    frames = np.asarray(sequence.frame_index)
    arrays: dict[str, Any] = {schema.POSITION: sequence.position}
    if sequence.confidence is not None:
        arrays[schema.CONFIDENCE] = sequence.confidence
    arrays |= sequence.extras
    data = {
        name: (("time", *labels.dims[name]), values, dict(labels.attributes[name]))
        for name, values in arrays.items()
    }
    used = {dim for name in arrays for dim in labels.dims[name]}
    coords: dict[str, Any] = {dim: list(names) for dim, names in labels.coords.items() if dim in used}
    coords["time"] = ("time", frames / rate, {"units": "s", "long_name": "time in the recording"})
    coords["frame"] = ("time", frames, {"long_name": "number of the frame in its recording"})
    row = sequence.row
    coords |= {"sequence": sequence.name, "recording": str(row["recording"]), "body": sequence.body}
    known = {"start", "length", *coords}
    attributes = {
        name: value
        for name, value in row.items()
        if name not in known and isinstance(value, str | int | float) and value == value
    }
    return xr.Dataset(data, coords, {**attributes, "skeleton": labels.skeleton, "frame_rate": rate})


def _rate(sequence: Sequence, labels: Labels, given: float | None) -> float:
    rate = given
    if rate is None:
        own = sequence.row.get("frame_rate")
        # a row without a value holds NaN or -1
        rate = own if own is not None and own > 0 else labels.frame_rate
    if rate is None:
        raise StoreError(
            f"{sequence.name}: found no frame rate in its store, expected one to tell seconds by. "
            "Give it: to_xarray(frame_rate=30)"
        )
    if not (math.isfinite(rate) and rate > 0):
        raise StoreError(f"{sequence.name}: found a frame rate of {rate}, expected a number above 0")
    return float(rate)
