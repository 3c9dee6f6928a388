"""The digest of a store's metadata: what is in no chunk, and so under no chunk's checksum.

The root attribute ``integrity`` holds it (docs/store.md, section on integrity). It is taken over the bytes of
every ``zarr.json``, its own 64 digits taken as zeros, so that any program can check it without agreeing with
ours on how JSON is written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

ATTRIBUTE = "integrity"
KEY = "metadata_sha256"
STORED = "every_chunk_stored"
"""Attribute of an array whose chunks are all in its files, those of nothing but fill value included."""

_DIGITS = 64
_OPEN = "0" * _DIGITS
_METADATA = "zarr.json"


def begin_seal(path: Path) -> None:
    """Give the root of a store that is complete the attribute, its digits still zeros."""
    group = zarr.open_group(str(path), mode="r+", zarr_format=3)
    group.attrs[ATTRIBUTE] = {KEY: _OPEN}


def end_seal(path: Path) -> None:
    """Fill in the digest, once no metadata changes any more."""
    root = path / _METADATA
    content = root.read_bytes()
    sealed = content.replace(_quoted(_OPEN), _quoted(metadata_digest(path, _OPEN)))
    aside = root.with_suffix(".partial")
    aside.write_bytes(sealed)
    aside.replace(root)


def recorded_digest(attributes: Mapping[str, Any]) -> str | None:
    """Return the digest that a store's root attributes record; None where they have no ``integrity``.

    What is there but is not a digest comes as text that equals none.
    """
    if ATTRIBUTE not in attributes:
        return None
    recorded = attributes[ATTRIBUTE]
    digest = recorded.get(KEY) if isinstance(recorded, dict) else None
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else f"{recorded!r}"


def metadata_digest(path: Path, recorded: str) -> str:
    """Return SHA-256 over the metadata of the store at ``path``, the ``recorded`` digest taken as zeros.

    For ``zarr.json`` of the root and then of each array, in the order of the arrays' names (by code point):
    the file's path within the store in UTF-8, a zero byte, its size as 8 bytes little-endian, its bytes.
    """
    digest = hashlib.sha256()
    names = sorted(file.parent.name for file in path.glob(f"*/{_METADATA}"))
    for name in (_METADATA, *(f"{name}/{_METADATA}" for name in names)):
        content = (path / name).read_bytes()
        if name == _METADATA:
            content = content.replace(_quoted(recorded), _quoted(_OPEN))
        digest.update(name.encode() + b"\0" + len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _quoted(digest: str) -> bytes:
    return b'"' + digest.encode() + b'"'
