"""Reading one array of an HDF5 file without trusting the file: `read_hdf5`.

HDF5 follows links to other files, gathers arrays from them, and inflates whatever a chunk holds. Here an
array must lie in the file itself, be of a size and chunking that were asked for, and have no filters but
those that MATLAB and h5py write; each compressed chunk is inflated within its bounds before HDF5 does it
without any.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError

_MOST_CHUNKS = 20_000
_SLACK = 4
"""Bytes of the checksum that may stand behind a chunk's values."""

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "",
}

DAMAGED = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What h5py raises for files that are cut off or damaged."""


def read_hdf5(
    path: Path,
    name: str,
    fits: Callable[[tuple[int, ...], np.dtype[Any]], bool],
    expected: str,
    most_bytes: int,
) -> NDArray[Any]:
    """Read the array ``name`` at the top of an HDF5 file.

    Parameters
    ----------
    fits
        Whether a shape and dtype are those of the array.
    expected
        What should be there, for messages.
    most_bytes
        Limit of what the array, and any one chunk of it, takes in memory.

    Raises
    ------
    FormatError
        There is no such array in this very file, it does not fit, is too large, or is stored in a way that is
        not needed; or HDF5 cannot read it.
    """
    try:
        with h5py.File(path, "r") as file:
            is_here = isinstance(file.get(name, getlink=True), h5py.HardLink)
            array = file.get(name) if is_here else None
            if not isinstance(array, h5py.Dataset):
                names = list(itertools.islice(file, 20))
                raise FormatError(path, f"no array {name!r} among {names}", expected)
            found = f"{name!r} of shape {array.shape} and dtype {array.dtype}"
            size = math.prod(array.shape) * array.dtype.itemsize if array.shape else 0
            if array.shape is None or not size <= most_bytes or not fits(array.shape, array.dtype):
                raise FormatError(path, found, expected)
            if array.is_virtual or array.external:
                raise FormatError(path, f"{found} whose values lie in other files", expected)
            _check_chunks(path, array, found, expected, most_bytes)
            return np.asarray(array[()])
    except FormatError:
        raise
    except (*DAMAGED, zlib.error) as error:
        raise FormatError(
            path,
            f"a file that HDF5 cannot read ({str(error)[:200]})",
            expected,
            action="It may be cut off; fetch it again",
        ) from error


def _check_chunks(path: Path, array: h5py.Dataset, found: str, expected: str, most_bytes: int) -> None:
    """Check the chunks of an array and what they inflate to; raises `FormatError` or zlib.error."""
    if array.chunks is None:
        return
    properties = array.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if set(filters) - set(_FILTERS) or len(set(filters)) < len(filters):
        raise FormatError(
            path, f"{found} with the HDF5 filters {filters}", f"{expected}; gzip and shuffle at most"
        )
    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    counts = [math.ceil(n / chunk) for n, chunk in zip(array.shape, array.chunks, strict=True)]
    if chunk_bytes > most_bytes or math.prod(counts) > _MOST_CHUNKS:
        raise FormatError(path, f"{found} in {math.prod(counts)} chunks of {array.chunks}", expected)
    if h5py.h5z.FILTER_DEFLATE not in filters:
        return
    for place in itertools.product(*(range(count) for count in counts)):
        offset = tuple(at * chunk for at, chunk in zip(place, array.chunks, strict=True))
        if array.id.get_chunk_info_by_coord(offset).byte_offset is None:
            continue
        skipped, packed = array.id.read_direct_chunk(offset)
        if skipped:
            raise FormatError(path, f"{found} with chunks that leave out filters", expected)
        if len(zlib.decompressobj().decompress(packed, chunk_bytes + _SLACK + 1)) > chunk_bytes + _SLACK:
            raise FormatError(
                path, f"{found} with a chunk that inflates beyond its {chunk_bytes} bytes", expected
            )
