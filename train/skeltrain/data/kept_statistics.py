"""Image statistics that are kept beside the store they were measured on, so that they are measured once.

``ntu.zarr.statistics.json`` stands beside ``ntu.zarr`` and holds the statistics by key. A key is the
digest of all that they follow from: the very rows that are encoded (cleaned, merged, in order), the
layout, the plan of the encoding, the streams, and what computes. What changed in any of it has another
key, so that what is kept is never wrong; it may be deleted at any time. A store that is read from
elsewhere, or whose folder takes no file, has none.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from skelconv import __version__
from skeltrain.data.images import ImageSet, Statistics, chunks

SUFFIX = ".statistics.json"
KEPT = 64
"""Statistics that are kept of a store; of more, the oldest go."""

_ROWS_OF = 256
"""Samples whose rows are brought together at once."""


def statistics_of(images: ImageSet, index: NDArray[np.int64], write: bool = True) -> Statistics:
    """Return the statistics of samples, from beside the store where they are kept, else measured and kept.

    Parameters
    ----------
    index
        (N,) numbers of the samples.
    write
        Whether to keep what had to be measured; of several processes, one does.

    Returns
    -------
    The same bits as `ImageSet.statistics` gives.
    """
    path = place(images)
    if path is None:
        return images.statistics(index)
    key = statistics_key(images, index)
    known = _read(path)
    found = _parse(known.get(key), images)
    if found is None:
        found = images.statistics(index)
        if write:
            _keep(path, {**known, key: found.to_dict()})
    return found


def place(images: ImageSet) -> Path | None:
    """Return where the statistics of a store's images are kept; None for a store that is no local folder."""
    store = images.samples.store
    if store is None or not Path(store.path).is_dir():
        return None
    folder = Path(store.path).resolve()
    return folder.with_name(folder.name + SUFFIX)


def statistics_key(images: ImageSet, index: NDArray[np.int64]) -> str:
    """Return the digest (32 hexadecimal digits) of everything that the statistics of samples follow from."""
    samples, device = images.samples, images.device
    settings = {
        "plan": images.plan.to_dict(),
        "streams": images.streams,
        "skeleton": samples.skeleton.to_dict(),
        "scaling": samples.scaling,
        # sums are taken in an order that another device, processor or number of threads may change
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": [__version__, torch.__version__, np.__version__],
    }
    digest = hashlib.blake2b(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS), digest_size=16)
    for chunk in chunks(index, _ROWS_OF):
        rows = samples.gather(chunk)
        for values in (rows.offsets, rows.next_row, rows.position):
            array = values.cpu().contiguous().numpy()
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Return what a file keeps, by key; nothing of one that is not there or is damaged."""
    try:
        known = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}


def _parse(entry: Any, images: ImageSet) -> Statistics | None:
    """Return kept statistics, or None for what cannot be those of the images."""
    if not isinstance(entry, dict):
        return None
    try:
        found = Statistics.from_dict(entry)
    except (KeyError, TypeError, ValueError):
        return None
    channels = images.channels
    sound = len(found.mean) == len(found.std) == channels and found.stream == images.stream
    return found if sound and all(map(math.isfinite, (*found.mean, *found.std))) else None


def _keep(path: Path, entries: dict[str, Any]) -> None:
    """Write the newest entries in one go; a folder that takes no file leaves nothing behind."""
    newest = dict(list(entries.items())[-KEPT:])
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    # what is kept saves time and nothing else: it is measured again where it cannot be written
    with contextlib.suppress(OSError):
        aside.write_bytes(orjson.dumps(newest, option=orjson.OPT_INDENT_2))
        aside.replace(path)
    with contextlib.suppress(OSError):
        aside.unlink(missing_ok=True)
