"""Finding raw files below a folder, by name and size only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from skelformats.reader import Source

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


def list_sources(root: Path, suffix: str) -> list[Source]:
    """List every file below ``root`` whose name ends in ``suffix`` as a source of its own."""
    return [Source(path, size) for path, size in find_files(root, suffix)]


def group_sources(files: Iterable[tuple[str, int, str, int]]) -> list[Source]:
    """Make one source of all files of one group.

    Parameters
    ----------
    files
        (name of the group, number of the file in it, path, bytes) of each file.

    Returns
    -------
    Sources sorted by path, which is that of the group's first file by number, then by path.
    """
    groups: dict[str, list[tuple[int, str, int]]] = {}
    for group, number, path, size in files:
        groups.setdefault(group, []).append((number, path, size))
    sources = []
    for found in groups.values():
        first, *others = (path for _, path, _ in sorted(found))
        sources.append(Source(first, sum(size for _, _, size in found), tuple(others)))
    return sorted(sources, key=lambda source: source.path)


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
