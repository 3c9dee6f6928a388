"""Opening a crop store: `open_crops` and `CropStore`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.crops.cut import to_crop
from skelconv.crops.writer import ATTRIBUTE, FORMAT_VERSION
from skelconv.extras import need
from skelconv.store.backends import ArrayReader, open_array
from skelconv.store.info import StoreError, StoreInfo
from skelconv.store.location import locate, read_metadata
from skelformats.skeleton import Skeleton


def open_crops(path: str | Path) -> CropStore:
    """Open the crop store at ``path``, a folder or a URL; only metadata is read.

    Raises
    ------
    StoreError
        There is no crop store, or one of another version.
    """
    return CropStore(path)


class CropStore:
    """N crops of people and their poses. Pickles as its path only.

    Attributes
    ----------
    path
        As it was given.
    attributes
        How the crops were made, and which frames were set aside.
    source
        Attributes of the sequence store that they were cut by.
    skeleton
        The joint layout of the poses.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._location = locate(path)
        metadata = read_metadata(self._location)
        found: Any = metadata.attributes.get(ATTRIBUTE)
        if not isinstance(found, dict) or found.get("format_version") != FORMAT_VERSION:
            raise StoreError(
                f"{path}: found no attribute {ATTRIBUTE!r} of version {FORMAT_VERSION}, expected a store of "
                "crops. skelconv crops makes one"
            )
        self.attributes: Mapping[str, Any] = found
        self.source = StoreInfo.from_attributes(found["source"], str(path))
        self.skeleton: Skeleton = self.source.layout()
        self._metadata = metadata.arrays
        self._readers: dict[str, ArrayReader] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CropStore, (self.path,)

    def __len__(self) -> int:
        return int(self._metadata["start"]["shape"][0])

    def jpeg(self, number: int) -> bytes:
        """Return the JPEG file of one crop."""
        start, length = (int(self._column(name)[number]) for name in ("start", "length"))
        return self._reader("jpeg").read(start, start + length).tobytes()

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return one crop decoded, (256, 192, 3) uint8: red, green, blue.

        Raises
        ------
        MissingExtraError
            Pillow is not installed.
        """
        need("PIL", "view")
        from PIL import Image

        with Image.open(io.BytesIO(self.jpeg(number))) as picture:
            return np.asarray(picture.convert("RGB"))

    def poses(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return ``position2d`` (the picture's pixels) or ``position3d`` of some crops, (crops, J, axes)."""
        return self._reader(name).read(start, stop)

    def pixels(self, number: int) -> NDArray[np.float64]:
        """Return the joints in one crop's own pixels, (J, 2); NaN where missing."""
        box = self._column("box")[number]
        return to_crop(self.poses("position2d", number, number + 1)[0], box)

    def to_frame(self) -> pd.DataFrame:
        """Return the table, a row a crop: sequence, frame_index, and the columns of the sequence."""
        names = [
            name
            for name, array in self._metadata.items()
            if array["dimension_names"] == ["crop"] and name not in ("start", "length")
        ]
        return pd.DataFrame({name: self._column(name) for name in sorted(names)})

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of all arrays, sorted."""
        return tuple(sorted(self._metadata))

    def array(self, name: str) -> NDArray[Any]:
        """Return a whole array with a row a crop, such as ``picture_size`` (N, 2)."""
        return self._column(name)

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns.setdefault(name, self._reader(name).read_all())

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    def _reader(self, name: str) -> ArrayReader:
        if name not in self._readers:
            self._readers[name] = open_array(self._location, name, self._metadata[name], "auto")
        return self._readers[name]
