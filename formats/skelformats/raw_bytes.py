"""Whether raw files are equal, wherever they lie: `digests`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from skelformats.archives import Place, copy_member
from skelformats.tar_archive import unpack_tar


class _Digest(io.RawIOBase):
    """A file that keeps nothing of what is written but its digest."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b(digest_size=16)

    def write(self, block: Any) -> int:
        """Take a block of bytes."""
        self.digest.update(block)
        return len(block)


def digests(places: Iterable[Place]) -> dict[Place, bytes]:
    """Return BLAKE2b-128 of the bytes at each place; a compressed tar is gone through once.

    Raises
    ------
    ArchiveError
        An archive is damaged.
    OSError
        A file cannot be read.
    """
    found: dict[Place, _Digest] = {}
    packed: dict[str, dict[int, Place]] = {}
    for place in places:
        if place.how == "packed":
            packed.setdefault(place.container, {})[place.offset] = place
            continue
        found[place] = _Digest()
        if place.how == "file":
            with Path(place.container).open("rb") as file:
                while block := file.read(2**20):
                    found[place].write(block)
        else:
            copy_member(place, found[place])  # type: ignore[arg-type]
    for container, wanted in packed.items():
        unpack_tar(Path(container), partial(_sink, found, wanted))
    return {place: sink.digest.digest() for place, sink in found.items()}


def _sink(found: dict[Place, _Digest], wanted: Mapping[int, Place], _: str, offset: int) -> Any:
    place = wanted.get(offset)
    return None if place is None else found.setdefault(place, _Digest())
