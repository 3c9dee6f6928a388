"""Putting raw folders, files and archives together to one root: `open_raw`.

The root holds what would be there if all folders had been copied into one, and each archive unpacked in the
folder that it lies in, as unzip, tar and gunzip do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from skelformats.archives import (
    SUFFIXES,
    UNREAD,
    ArchiveError,
    Place,
    is_archive,
    is_compressed_tar,
    list_archive,
)
from skelformats.errors import SkelconvError, is_text
from skelformats.files import find_files
from skelformats.raw_root import Catalogue, Unpacked, raw_root
from skelformats.scratch import Scratch

SLOW_BYTES = 100_000_000
"""Size from which it is said that a compressed tar is listed, which takes a second or more."""

Say = Callable[[str], None]


def open_raw(paths: Sequence[Path], output: Path | None = None, say: Say = lambda text: None) -> Path:
    """Return the root of what was named: plain where it is one folder without archives, or one file.

    Only names and sizes are read, and the lists of archives. Files that lie in several of the places are
    listed once; `skelconv.ingest.discover` compares them.

    Parameters
    ----------
    paths
        Folders, raw files (what lies beside one may belong to it) and archives.
    output
        What is unpacked for a while is kept beside it (`skelformats.scratch`).
    say
        Is told of archives that take long to list.

    Raises
    ------
    ArchiveError
        An archive that was named cannot be read. One that lies in a folder is noted in the catalogue instead.
    SkelconvError
        Nothing is there under one of several names, or a folder cannot be listed.
    """
    if len(paths) == 1 and not _has_archives(paths[0]):
        return paths[0]
    builder = _Builder(say)
    for path in paths:
        if path.is_dir():
            builder.add_folder(path.resolve())
        elif _is_archive_file(path):
            builder.add_archive(path.resolve(), "", named=True)
        elif path.is_file():
            builder.add_file(path.resolve())
        else:
            raise SkelconvError(
                f"{path}: found nothing there, expected raw files, a folder of them, or an archive"
            )
    return raw_root(builder.base(), builder.catalogue(paths), Unpacked(Scratch(output)))


def _is_archive_file(path: Path) -> bool:
    return is_archive(path.name) and path.is_file()


def _has_archives(path: Path) -> bool:
    if not path.is_dir():
        return _is_archive_file(path)
    return any(name.lower().endswith((*SUFFIXES, *UNREAD)) for name, _ in find_files(path, ""))


class _Builder:
    """Collects the places of files."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._places: dict[str, Place] = {}
        self._repeated: dict[str, list[Place]] = {}
        self._asked: set[str] = set()
        self._folders: list[Path] = []
        self._above: list[Path] = []
        self._unread: list[ArchiveError] = []
        self._odd: list[tuple[str, str]] = []
        self._seen: set[str] = set()
        self._archives: set[Path] = set()
        self._listed: dict[Path, list[tuple[str, int]]] = {}

    def add_folder(self, folder: Path) -> None:
        """Take all files below a folder, then those in the archives below it."""
        self._folders.append(folder)
        self._above.append(folder)
        files = find_files(folder, "")
        for name, size in files:
            self._add(name, Place(str(folder / name), "file", size))
        for name, _ in files:
            if is_archive(name) and is_text(name):
                self.add_archive(folder / name, name.rpartition("/")[0], named=False)
            elif name.lower().endswith(UNREAD):
                self._unread.append(
                    ArchiveError(folder / name, "a kind of archive that is not read in place", "Unpack it")
                )

    def add_file(self, file: Path) -> None:
        """Take one file, and know those beside it."""
        if file.parent not in self._listed:
            self._listed[file.parent] = find_files(file.parent, "")
            self._above.append(file.parent)
            for name, size in self._listed[file.parent]:
                self._add(name, Place(str(file.parent / name), "file", size), asked=False)
        if (name := file.name) not in dict(self._listed[file.parent]):
            raise SkelconvError(f"{file}: found a hidden file or a link that leads out, expected a raw file")
        self._asked.add(name)

    def add_archive(self, archive: Path, prefix: str, named: bool) -> None:
        """Take the files in an archive; ``prefix`` is the folder, below the root, that it lies in."""
        if named:
            self._above.append(archive.parent)
        if archive in self._archives:
            return
        self._archives.add(archive)
        if is_compressed_tar(archive.name) and archive.stat().st_size > SLOW_BYTES:
            self._say(f"{archive}: listing it, which means decompressing all of it once")
        try:
            members = list_archive(archive)
        except ArchiveError as error:
            if named:
                raise
            self._unread.append(error)
            return
        for member in members:
            name = f"{prefix}/{member.name}" if prefix else member.name
            if member.odd:
                self._odd.append((name, f"{member.odd} ({archive.name})"))
            else:
                self._add(name, member.place)

    def _add(self, name: str, place: Place, asked: bool = True) -> None:
        if asked:
            self._asked.add(name)
        if place.how == "file":
            # folders that were named may lie in one another
            if place.container in self._seen:
                return
            self._seen.add(place.container)
        if name in self._places:
            self._repeated.setdefault(name, []).append(place)
        else:
            self._places[name] = place

    def base(self) -> Path:
        """Return the folder that holds everything that was named."""
        return Path(os.path.commonpath(self._above))

    def catalogue(self, paths: Sequence[Path]) -> Catalogue:
        """Return what was collected."""
        return Catalogue(
            shown=", ".join(map(str, paths)),
            folders=tuple(self._folders),
            places={name: self._places[name] for name in sorted(self._places)},
            repeated={name: tuple(places) for name, places in self._repeated.items()},
            neighbours=frozenset(self._places) - self._asked,
            unread=tuple(self._unread),
            odd=tuple(self._odd),
        )
