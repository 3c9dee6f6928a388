"""Digests: of a motion, to find equal ones; of a plan, to know whether two runs do the same; of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.reader import Source


def motion_digest(position: NDArray[np.float32]) -> str:
    """Return BLAKE2b-64 of stored positions (T, J, A), as 16 hexadecimal digits.

    Taken over the float32 values as little-endian bytes in C order, every NaN written as the one quiet NaN
    0x7fc00000: equal digests are equal motions, whatever their recording or frame numbers.
    """
    return motion_digests(position, [0])[0]


def motion_digests(position: NDArray[np.float32], starts: Sequence[int]) -> list[str]:
    """Return `motion_digest` of each motion of (F, J, A) positions; motion n begins at frame starts[n]."""
    values = np.ascontiguousarray(position, "<f4")
    missing = np.isnan(values)
    if missing.any():
        values = np.where(missing, np.float32("nan"), values).astype("<f4", copy=False)
    ends = [*starts[1:], len(values)]
    return [
        hashlib.blake2b(values[start:end].data, digest_size=8).hexdigest()
        for start, end in zip(starts, ends, strict=True)
    ]


def plan_digest(sources: Iterable[Source], settings: dict[str, Any]) -> str:
    """Return SHA-256 of a source list (paths, sizes, members) and the settings it will be read with."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for source in sources:
        digest.update(json.dumps([source.path, source.size, *source.members]).encode())
    return f"sha256:{digest.hexdigest()}"


def file_digest(path: Path) -> str:
    """Return BLAKE2b-128 of a file's bytes, as 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
