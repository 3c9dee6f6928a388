"""Finding raw files below a folder, by name and size only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_FOREIGN = "__MACOSX"
"""The folder in which macOS hides its notes on the files of a zip archive."""


def find_files(root: Path, suffix: str) -> list[tuple[str, int]]:
    """List the files below ``root`` whose name ends in ``suffix``.

    Opens no file. Skips what is hidden (names that begin with a dot) and what is no regular file. Links to
    folders are not followed, and links to files only where they stay below ``root``.

    Returns
    -------
    (path relative to ``root`` with forward slashes, bytes), sorted by path.
    """
    base = Path(root).resolve()
    return sorted(_walk(base, base, "", suffix))


def _walk(base: Path, folder: Path, prefix: str, suffix: str) -> Iterator[tuple[str, int]]:
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == _FOREIGN:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry)
            elif entry.name.endswith(suffix) and entry.is_file() and _stays_below(base, entry):
                yield prefix + entry.name, entry.stat().st_size
    for entry in below:
        yield from _walk(base, Path(entry.path), f"{prefix}{entry.name}/", suffix)


def _stays_below(base: Path, entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(base)
