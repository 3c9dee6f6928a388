"""Finding raw files below a folder, by name and size only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from skelformats.errors import SkelconvError, printable
from skelformats.raw_root import catalogue_of
from skelformats.reader import Source

_FOREIGN = "__MACOSX"
"""The folder in which macOS hides its notes on the files of a zip archive."""


def find_files(root: Path, suffix: str) -> list[tuple[str, int]]:
    r"""List the files below ``root`` whose name ends in ``suffix``.

    Opens no file. Skips what is hidden (names that begin with a dot) and what is not a regular file. Links to
    folders are not followed, and links to files only where they stay below ``root``. A name that is not UTF-8
    is listed with escapes (``\udcff``) for its odd bytes: it cannot be read, and is set aside by name.
    Of a root that `skelformats.raw_open.open_raw` put together, all its folders and archives are listed.

    Returns
    -------
    (path relative to ``root`` with forward slashes, bytes), sorted by path.

    Raises
    ------
    SkelconvError
        A folder cannot be listed.
    """
    if (catalogue := catalogue_of(root)) is not None:
        places = catalogue.places.items()
        return [(path, place.size) for path, place in places if path.endswith(suffix)]
    base = Path(root).resolve()
    try:
        return sorted(
            (printable(path), entry.stat().st_size)
            for path, entry in _walk(base)
            if path.endswith(suffix) and _is_file(entry) and _stays_below(base, entry)
        )
    except OSError as error:
        raise SkelconvError(
            f"{error.filename}: found a folder that cannot be listed ({error.strerror}), expected raw files"
        ) from error


def find_links(root: Path) -> list[tuple[str, bool]]:
    """List the links below ``root`` that `find_files` passes over since they lead out of it.

    Returns
    -------
    (path relative to ``root``, whether it leads to a folder), sorted by path.
    """
    base = Path(root).resolve()
    return sorted(
        (printable(path), Path(entry).is_dir())
        for path, entry in _walk(base)
        if entry.is_symlink() and Path(entry).exists() and not _stays_below(base, entry)
    )


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


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is below a folder and is no folder, with its path; what is hidden is passed over."""
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == _FOREIGN:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry)
            else:
                yield prefix + entry.name, entry
    for entry in below:
        yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file, or a link to one; a link to itself leads nowhere."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _stays_below(base: Path, entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(base)
