"""Official splits as lists of names that lie beside the raw files, and how far such lists may stray.

Lists differ from mirror to mirror: names stand one a line or many, between commas, blanks or both, with or
without a last comma, with or without a suffix, and one heading is misspelt in the original. So a list is
taken as names between separators, under headings of which only the beginning counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from skelformats.errors import FormatError
from skelformats.text import quote

HEADING = re.compile(r"\s*(train|valid|test)(?:[^:]*:|[a-z ]*$)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;]+")
_SUFFIX = re.compile(r"\.(avi|json|mp4|npy|skeleton|txt)$")
_REPAIR = "Fetch the list again, or move it away to use the split that skelconv knows"
_MOST_BYTES = 16_000_000
"""More than any list of names has; checked before one is read."""


def read_split_list(
    path: Path, name: re.Pattern[str], example: str, parts: Mapping[str, str], part: str = ""
) -> Mapping[str, str]:
    """Read a list of recordings.

    Parameters
    ----------
    name
        What every name must match, without its suffix (``.txt``, ``.mp4``), which may be there or not.
    example
        Such a name, for messages.
    parts
        The part of the split that stands under a heading that begins with ``train``, ``valid`` or ``test``.
    part
        The part of names before any heading; empty where there may be none.

    Returns
    -------
    The part that each name is in: train, test or val.

    Raises
    ------
    FormatError
        Something in the list is not a name, a name is in two parts, or there is no name at all.
    OSError
        It cannot be read.
    """
    found = path.stat()
    # readers come back for the same list with each source
    return _read(path, found.st_mtime_ns, found.st_size, name, example, tuple(sorted(parts.items())), part)


@lru_cache(maxsize=32)
def _read(
    path: Path,
    modified: int,
    size: int,
    name: re.Pattern[str],
    example: str,
    parts: tuple[tuple[str, str], ...],
    part: str,
) -> Mapping[str, str]:
    part_of: dict[str, str] = {}
    for number, line in enumerate(_text(path, size).splitlines(), start=1):
        if heading := HEADING.match(line):
            part = dict(parts).get(heading[1].lower(), "")
            line = line[heading.end() :]
        for word in filter(None, _SEPARATORS.split(line)):
            known = word if name.fullmatch(word) else _SUFFIX.sub("", word)
            if not name.fullmatch(known):
                expected = f"the name of a recording, such as {example}"
                raise FormatError(path, quote(word), expected, number, _REPAIR)
            _check(path, number, known, part, part_of)
            part_of[known] = part
    if not part_of:
        raise FormatError(path, "no name of a recording", "a list of names")
    return MappingProxyType(part_of)


def _check(path: Path, number: int, name: str, part: str, part_of: Mapping[str, str]) -> None:
    """Refuse a name that is in no part, or in two."""
    if not part:
        expected = "a heading before it that begins with 'Training' or 'Validation' and ends in ':'"
        raise FormatError(path, f"the name {quote(name)}", expected, number, _REPAIR)
    if part_of.get(name, part) != part:
        found = f"{quote(name)} in {part} as well as in {part_of[name]}"
        raise FormatError(path, found, "each name in one part", number, _REPAIR)


def _text(path: Path, size: int) -> str:
    if size > _MOST_BYTES:
        raise FormatError(path, f"{size:,} bytes", f"a list of names of at most {_MOST_BYTES:,} bytes")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"the byte 0x{error.object[error.start]:02x}", "a list of names") from error
