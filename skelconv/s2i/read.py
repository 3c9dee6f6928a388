"""Opening a store of encoded images: `open_s2i` and `S2IStore`. docs/s2i.md specifies what is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.s2i.plan import S2IPlan
from skelconv.s2i.statistics import ImageStatistics
from skelconv.store import schema
from skelconv.store.backends import ArrayReader, Backend, open_array
from skelconv.store.info import StoreError, StoreInfo
from skelconv.store.location import locate, read_metadata

IMAGE = "image"
SAMPLE = "sample"
ENCODED_ROWS, ENCODED_FRAMES = "encoded_rows", "encoded_frames"
"""Columns: poses that an image was interpolated from, and frames that they are of."""

_FIRST_COLUMNS = (SAMPLE, "recording", "person", "label", "action")


def open_s2i(path: str | Path, backend: Backend = "auto") -> S2IStore:
    """Open the s2i store at ``path``, a folder or a URL; only metadata is read.

    Raises
    ------
    StoreError
        There is no s2i store, or one that this program cannot read.
    S2IError
        Its plan is damaged.
    """
    return S2IStore(path, backend)


class S2IStore:
    """An s2i store of N samples. Pickles as path and back-end only.

    Attributes
    ----------
    path, backend
        As they were given (`skelconv.store.store.open_store` explains the back-ends).
    info
        Root attributes.
    plan
        How the images were made.
    stream, persons, chain
        What they were made of: the stream, how persons were merged, the cleaning chain.
    third
        What the third channel is where it is not a coordinate; None where it is.
    """

    def __init__(self, path: str | Path, backend: Backend = "auto") -> None:
        self.path = path
        self.backend: Backend = backend
        self._location = locate(path)
        metadata = read_metadata(self._location)
        self.info = StoreInfo.from_attributes(metadata.attributes.get(schema.ATTRIBUTE), str(path))
        if self.info.kind != "s2i":
            raise StoreError(
                f"{path}: found a store of sequences, expected one of images. Make one with `skelconv s2i`, "
                "or open this one with skelconv.open"
            )
        self._arrays: Mapping[str, Mapping[str, Any]] = metadata.arrays
        recorded = (self.info.model_extra or {}).get("s2i")
        if not isinstance(recorded, dict) or not {IMAGE, SAMPLE} <= set(self._arrays):
            raise StoreError(
                f"{path}: found no images or no plan, expected what docs/s2i.md specifies. Encode the store "
                "again with `skelconv s2i`"
            )
        self.plan = S2IPlan.from_dict(recorded.get("plan", {}))
        self.stream = str(recorded.get("stream", ""))
        self.persons = str(recorded.get("persons", ""))
        self.chain = str(recorded.get("chain", ""))
        self.third: str | None = recorded.get("third")
        self._statistics: Mapping[str, Any] = recorded.get("statistics", {})

    def __repr__(self) -> str:
        rows, columns = self.plan.size
        return (
            f"<skelconv.s2i.read.S2IStore {str(self.path)!r}: {self.info.dataset.name}, {len(self):,} images "
            f"of 3 x {rows} x {columns} {self.dtype}, {self.stream} stream of {self.plan.skeleton_name}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        folder = self._location.folder
        return S2IStore, (self.path if folder is None else folder.absolute(), self.backend)

    def __len__(self) -> int:
        return self._images.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the images, float32 or float16."""
        return self._images.dtype

    @property
    def channels(self) -> tuple[str, ...]:
        """What the three channels are: x, y and z, or x, y and confidence."""
        return tuple(map(str, self._column("channel")))

    def images(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return images ``start`` to ``stop``, (n, 3, rows, columns), in the store's dtype.

        Raises
        ------
        StoreError
            The range leaves the store, or what lies there is damaged.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise StoreError(
                f"{self.path}: found the range {start} to {stop}, expected one within its {len(self)} images"
            )
        return self._images.read(start, stop)

    def to_frame(self) -> pd.DataFrame:
        """Return the table: N rows, indexed by sample id; text as pandas strings."""
        named = [
            name
            for name, node in self._arrays.items()
            if tuple(node.get("dimension_names") or ()) == (SAMPLE,)
        ]
        first = [name for name in _FIRST_COLUMNS if name in named]
        columns = {name: self._column(name) for name in (*first, *sorted(set(named) - set(first)))}
        return pd.DataFrame(columns).set_index(SAMPLE)

    def statistics(self, protocol: str | None = None) -> ImageStatistics | None:
        """Channel statistics of all images, or of the train part of ``protocol``; None where none are."""
        found = self._statistics["all"] if protocol is None else self._statistics["train"].get(protocol)
        return None if found is None else ImageStatistics.from_dict(found)

    @cached_property
    def _images(self) -> ArrayReader:
        return open_array(self._location, IMAGE, self._arrays[IMAGE], self.backend)

    def _column(self, name: str) -> Any:
        values = open_array(self._location, name, self._arrays[name]).read_all()
        return pd.array(values, dtype="string") if values.dtype == object else values
