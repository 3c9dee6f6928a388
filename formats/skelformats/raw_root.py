"""One raw root of several folders, files and archives: `open_raw`.

Readers are given a root, list what is below it with `skelformats.files.find_files` and open ``root / path``.
A `RawRoot` answers both from a catalogue of what is in the folders and archives: a member of an archive is
unpacked when it is asked for, into a folder where the last few are kept, and its path is handed out. So
readers need not know of archives, and those that need a real file (HDF5, mapped pickles) have one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from skelformats.archives import ArchiveError, Place, copy_member
from skelformats.errors import FormatError, SkelconvError
from skelformats.scratch import Scratch

if sys.platform == "win32":
    from pathlib import WindowsPath as _Path
else:
    from pathlib import PosixPath as _Path

KEPT_BYTES = 256 * 2**20
"""Unpacked files that a process keeps beyond those of the source that it reads."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Catalogue:
    """What a raw root is put together of.

    Attributes
    ----------
    shown
        The folders, files and archives as they were named.
    folders
        The folders among them.
    places
        Where each file is, by its path below the root, sorted by path.
    repeated
        Further places of files that are there more than once, by path.
    neighbours
        Paths of files that are there only since they lie beside a file that was named.
    unread
        Archives that are not read, each with the reason.
    odd
        Members of archives that are not read, each with what it is.
    """

    shown: str
    folders: tuple[Path, ...]
    places: Mapping[str, Place]
    repeated: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    neighbours: frozenset[str] = frozenset()
    unread: tuple[ArchiveError, ...] = ()
    odd: tuple[tuple[str, str], ...] = ()

    def token(self) -> str:
        """Return a digest that tells one catalogue from another."""
        digest = hashlib.blake2b(digest_size=8)
        for name, place in self.places.items():
            text = f"{name}\0{place.container}\0{place.size}\0{place.offset}\0"
            digest.update(text.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class RawRoot(_Path):
    """A raw root of several places; as a path, the folder that holds them all.

    It survives pickling: whoever unpickles it on this machine reads from the same places.
    """

    catalogue: Catalogue
    _unpacked: Unpacked
    _token = ""
    _index: Path | None = None

    def __truediv__(self, key: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        """Return the path of a file with the bytes of ``key``, unpacked where it lies in an archive.

        Raises
        ------
        FormatError
            It is in an archive, damaged.
        SkelconvError
            There is no room to unpack it.
        """
        name = os.fspath(key)
        if not self._token:
            return Path(self, name)
        place = self.catalogue.places.get(name)
        if place is not None:
            if place.how == "packed" and name not in self._unpacked.spooled:
                # one pass unpacks all of its kind: a reader that opens one opens the next
                prepare(self, self._like(name, place))
            return self._unpacked.path(name, place)
        for folder in self.catalogue.folders:
            if (folder / name).exists():
                return folder / name
        return Path(str(self), name)

    def _like(self, name: str, place: Place) -> list[str]:
        """Return the files of the same tar whose names end alike."""
        suffix = name.rpartition("/")[2].rpartition(".")[2]
        places = self.catalogue.places.items()
        return [
            other
            for other, its in places
            if its.container == place.container and (other == name or other.endswith(f".{suffix}"))
        ]

    def joinpath(self, *keys: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        """Return ``self / key``, several joined first."""
        return self / "/".join(os.fspath(key) for key in keys)

    def with_segments(self, *keys: str | os.PathLike[str]) -> Path:
        """Return a plain path: what is derived from the root is no root."""
        return Path(*keys)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RawRoot):
            return self._token == other._token and str(self) == str(other)
        return not self._token and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((str(self), self._token))

    def __reduce__(self) -> Any:
        if not self._token:
            return Path, (str(self),)
        if self._index is None:
            self._index = _write_index(self)
        return _reopened, (str(self), str(self._index), str(self._unpacked.folder))


def raw_root(base: Path, catalogue: Catalogue, unpacked: Unpacked, token: str = "") -> RawRoot:
    """Put a root together; ``base`` is its path."""
    root = RawRoot(base)
    root.catalogue, root._unpacked = catalogue, unpacked
    root._token = token or catalogue.token()
    return root


def catalogue_of(root: Path) -> Catalogue | None:
    """Return the catalogue of a root that has one."""
    return root.catalogue if isinstance(root, RawRoot) and root._token else None


def shown(root: Path, name: str = "") -> str:
    """Say where a root, or a file below it, is."""
    catalogue = catalogue_of(root)
    if catalogue is None:
        return str(Path(root, name)) if name else str(root)
    if not name:
        return catalogue.shown
    return str(catalogue.places.get(name, name))


def stamp(root: Path, name: str) -> int:
    """Return the time of modification in ns of a file, or of the archive that it is in; raises OSError."""
    catalogue = catalogue_of(root)
    place = catalogue.places.get(name) if catalogue else None
    return (Path(place.container) if place else root / name).stat().st_mtime_ns


def folder_name(root: Path, name: str) -> str:
    """Return the name of the folder, of those that a root is made of, below which a file was found."""
    catalogue = catalogue_of(root)
    place = catalogue.places.get(name) if catalogue else None
    found = Path(place.container) if place else None
    above = [
        folder
        for folder in (catalogue.folders if catalogue else ())
        if found and found.is_relative_to(folder)
    ]
    return (above[0] if above else Path(str(root)).resolve()).name


def prepare(root: Path, names: Iterable[str]) -> None:
    """Unpack those of the files that lie in compressed tars, each of which is gone through once.

    They are kept until the process ends. The others are unpacked when they are read.

    Raises
    ------
    SkelconvError
        There is no room for them; the message has the numbers.
    ArchiveError
        A tar is damaged.
    """
    if catalogue_of(root) is not None and isinstance(root, RawRoot):
        root._unpacked.spool(
            {name: root.catalogue.places[name] for name in names if name in root.catalogue.places}
        )
        root._index = None


def packed_bytes(root: Path, names: Iterable[str]) -> int:
    """Return the bytes that `prepare` would unpack."""
    catalogue = catalogue_of(root)
    if catalogue is None:
        return 0
    places = (catalogue.places.get(name) for name in names)
    return sum(place.size for place in places if place is not None and place.how == "packed")


def release(root: Path) -> None:
    """Delete unpacked files beyond `KEPT_BYTES`: a source has been read."""
    if catalogue_of(root) is not None and isinstance(root, RawRoot):
        root._unpacked.trim()


class Unpacked:
    """Members of archives as files: the last few that were asked for, and those of compressed tars."""

    def __init__(self, base: Scratch | Path) -> None:
        self._base = base
        # a dask worker reads in several threads, each of which deletes its own files only
        self._mine = threading.local()
        self.spooled: dict[str, Place] = {}

    @property
    def _sizes(self) -> dict[str, int]:
        if not hasattr(self._mine, "sizes"):
            self._mine.sizes = {}
        sizes: dict[str, int] = self._mine.sizes
        return sizes

    @property
    def folder(self) -> Path:
        """Where all processes unpack, each in a folder of its own."""
        return self._base if isinstance(self._base, Path) else self._base.folder

    def path(self, name: str, place: Place) -> Path:
        """Return the path of a file with the bytes of a place."""
        place = self.spooled.get(name, place)
        if place.how == "file":
            return Path(place.container)
        target = self._folder() / "files" / name
        if name not in self._sizes:
            self._write(name, place, target)
            self._sizes[name] = place.size
        return target

    def trim(self) -> None:
        """Delete the oldest files until no more than `KEPT_BYTES` are left."""
        total = sum(self._sizes.values())
        for name in list(self._sizes):
            if total <= KEPT_BYTES:
                return
            total -= self._sizes.pop(name)
            (self._folder() / "files" / name).unlink(missing_ok=True)

    def spool(self, places: Mapping[str, Place]) -> None:
        """Unpack the members of compressed tars; each tar is gone through once."""
        from skelformats.tar_archive import unpack_tar

        wanted: dict[str, dict[int, str]] = {}
        for name, place in places.items():
            if place.how == "packed" and name not in self.spooled:
                wanted.setdefault(place.container, {})[place.offset] = name
        needed = sum(places[name].size for names in wanted.values() for name in names.values())
        if not wanted:
            return
        folder = self._folder() / "tar"
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise SkelconvError(
                f"{', '.join(wanted)}: found {free / 1e9:,.2f} GB free in {self.folder.parent}, expected the "
                f"{needed / 1e9:,.2f} GB that the files in it take while they are read. Make room, or "
                "unpack it elsewhere and name that folder"
            )
        for container, names in wanted.items():

            def place_for(
                _: str, offset: int, names: dict[int, str] = names, container: str = container
            ) -> Any:
                if (name := names.get(offset)) is None:
                    return None
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.spooled[name] = Place(str(target), "file", places[name].size)
                return target.open("wb")

            _with_room(lambda: unpack_tar(Path(container), place_for), self.folder, container)  # noqa: B023
            time = Path(container).stat().st_mtime_ns
            for name in names.values():
                os.utime(self.spooled[name].container, ns=(time, time))

    def _folder(self) -> Path:
        own = self.folder / f"{os.getpid()}-{threading.get_ident()}"
        if not own.is_dir():
            try:
                own.mkdir(exist_ok=True)
            except OSError as error:
                raise SkelconvError(
                    f"{own}: found no folder that can be made there ({error.strerror}), expected one to "
                    "unpack archives into, which this process sees. Unpack them, or name an output on a "
                    "disk that all workers share"
                ) from error
        return own

    def _write(self, name: str, place: Place, target: Path) -> None:
        def write() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                copy_member(place, file)
            time = Path(place.container).stat().st_mtime_ns
            os.utime(target, ns=(time, time))

        try:
            _with_room(write, self.folder, str(place))
        except ArchiveError as error:
            raise FormatError(
                name,
                f"in {Path(place.container).name} {error.found}",
                "a raw file as it was packed",
                action=error.action,
            ) from error


def _with_room(work: Callable[[], None], folder: Path, what: str) -> None:
    try:
        work()
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise SkelconvError(
            f"{folder}: found no room left on the device, expected some to unpack {what} into. Make room and "
            "run the same command again"
        ) from error


def _write_index(root: RawRoot) -> Path:
    """Write the catalogue down for other processes."""
    spooled = {name: place.container for name, place in root._unpacked.spooled.items()}
    path = root._unpacked.folder / f"index-{os.getpid()}-{len(spooled)}.json"
    places = root.catalogue.places
    containers = {
        container: n for n, container in enumerate({place.container: 0 for place in places.values()})
    }
    rows = [
        (name, containers[p.container], p.how, p.size, p.offset, p.packed, p.check, p.member)
        for name, p in places.items()
    ]
    folders = [str(folder) for folder in root.catalogue.folders]
    content = [root._token, root.catalogue.shown, folders, list(containers), rows, spooled]
    path.write_text(json.dumps(content), encoding="ascii")
    return path


@lru_cache(maxsize=4)
def _reopened(base: str, index: str, folder: str) -> RawRoot:
    token, text, folders, containers, rows, spooled = json.loads(Path(index).read_text(encoding="ascii"))
    places = {name: Place(containers[number], *values) for name, number, *values in rows}
    root = raw_root(
        Path(base), Catalogue(text, tuple(map(Path, folders)), places), Unpacked(Path(folder)), token
    )
    for name, path in spooled.items():
        root._unpacked.spooled[name] = Place(path, "file", places[name].size)
    return root
