"""Text that a store can hold: UTF-8 without surrogates.

A file's name that is not UTF-8 reaches Python as lone surrogates, and JSON and pickles can spell them out;
neither zarr's strings nor JSON that others read can hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from skelconv.store.errors import StoreError
from skelformats.reader import Clip


class UnstorableTextError(StoreError):
    """A name or a cell that UTF-8 cannot hold."""


def printable(text: str) -> str:
    """Return text with what UTF-8 cannot hold written out in ASCII (backslash, u, four digits)."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def check_text(clip: Clip, source: str) -> None:
    """Raise `UnstorableTextError` where a clip's names and cells, or its source's path, are not UTF-8."""
    for text in _texts(clip, source):
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnstorableTextError(
                f"{printable(source)}: found the text {printable(text)!r}, expected text that is UTF-8. "
                "Rename the file, or repair its text"
            ) from error


def _texts(clip: Clip, source: str) -> Iterator[str]:
    yield source
    yield clip.recording
    yield from _within(clip.columns)
    yield from _within(clip.splits)
    for track in clip.tracks:
        yield track.body
        yield from _within(track.columns)
    for rows in clip.tables.values():
        for row in rows:
            yield from _within(row)


def _within(cells: Mapping[str, Any]) -> Iterable[str]:
    for value in cells.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, np.ndarray) and value.dtype.kind in "OU":
            yield from (str(cell) for cell in value.flat)
