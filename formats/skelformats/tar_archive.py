"""Tar archives, plain or compressed as a whole: their list of files, and their bytes in one pass.

The headers are read here rather than by `tarfile`, which takes the sizes in them at their word (POSIX.1-2017,
pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format").
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from skelformats.archives import (
    CHUNK,
    ArchiveError,
    Member,
    Place,
    check_count,
    check_growth,
    is_compressed_tar,
    safe_name,
)

BLOCK = 512
_MOST_HEADER = 2**20
"""Bytes of an extended header: room for any name that a system takes."""

_FILES, _LINKS, _FOLDER = b"0\0007", b"12", b"5"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ValueError)


class Entry(NamedTuple):
    """One entry of a tar: its name, the byte of its kind, its size, and where its bytes begin."""

    name: str
    kind: bytes
    size: int
    offset: int
    sparse: bool


def list_tar(path: Path) -> list[Member]:
    """List the files of a tar; raises `ArchiveError` and OSError as `list_archive`."""
    how: Any = "packed" if is_compressed_tar(path.name) else "stored"
    members: list[Member] = []
    with _open(path) as stream:
        for entry in _entries(path, stream):
            if entry.kind == _FOLDER:
                continue
            name = safe_name(path, entry.name)
            place = Place(str(path), how, entry.size, entry.offset, entry.size, member=name)
            is_file = entry.kind in _FILES
            members.append(Member(name, place, "sparse file" if entry.sparse else "" if is_file else "link"))
            check_count(path, len(members))
        stream.drain()
    return members


def unpack_tar(path: Path, wanted: Callable[[str, int], IO[bytes] | None]) -> None:
    """Go through a tar once, and write the files that are wanted.

    Parameters
    ----------
    wanted
        Takes a file's name and the place of its bytes in the tar; returns a file to write it to, which is
        closed here, or None.

    Raises
    ------
    ArchiveError
        As `list_archive`.
    OSError
        It cannot be read, or a file not written.
    """
    with _open(path) as stream:
        for entry in _entries(path, stream):
            if entry.kind not in _FILES or entry.sparse:
                continue
            out = wanted(safe_name(path, entry.name), entry.offset)
            if out is None:
                continue
            with out:
                left = entry.size
                while left:
                    block = stream.read(min(CHUNK, left))
                    left -= len(block)
                    out.write(block)


class _Stream:
    """The bytes of a tar, forwards only; says where it is, and refuses to grow beyond bounds."""

    def __init__(self, path: Path, file: IO[bytes], raw: IO[bytes]) -> None:
        self.at = 0
        self._path, self._file, self._raw = path, file, raw
        self._size = path.stat().st_size
        self._seekable = file is raw

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes, or raise EOFError."""
        block = self.some(size)
        if len(block) < size:
            raise EOFError(f"it ends at byte {self.at:,}")
        return block

    def some(self, size: int) -> bytes:
        """Return so many bytes, or as many as there are."""
        block = self._file.read(size)
        self.at += len(block)
        if not self._seekable:
            check_growth(self._path, self._raw.tell(), self.at)
        return block

    def skip_to(self, place: int) -> None:
        """Go on at ``place``."""
        if self._seekable:
            if place > self._size:
                raise EOFError(f"it ends at byte {self._size:,}")
            self._file.seek(place)
            self.at = place
        while self.at < place:
            self.read(min(CHUNK, place - self.at))

    def drain(self) -> None:
        """Read what is left of a compressed tar, behind which stands its checksum."""
        while not self._seekable and self.some(CHUNK):
            pass


@contextmanager
def _open(path: Path) -> Iterator[_Stream]:
    with path.open("rb") as raw:
        lowered = path.name.lower()
        file: IO[bytes] = raw
        if lowered.endswith((".gz", ".tgz")):
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        elif lowered.endswith((".bz2", ".tbz2")):
            file = cast("IO[bytes]", bz2.BZ2File(raw))
        try:
            yield _Stream(path, file, raw)
        except _DAMAGED as error:
            raise ArchiveError(
                path, f"a damaged tar ({error})", "It may be cut off; fetch it again"
            ) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # what bz2 raises for bytes that are not its own
            raise ArchiveError(path, f"a damaged tar ({error})", "Fetch it again") from error


def _entries(path: Path, stream: _Stream) -> Iterator[Entry]:
    """Yield the entries; the stream stands at the entry's bytes, and goes on wherever it was left."""
    long_name, said = "", dict[str, str]()
    everywhere: dict[str, str] = {}
    while header := stream.some(BLOCK):
        if not header.strip(b"\0"):
            return
        if len(header) < BLOCK:
            raise EOFError(f"it ends at byte {stream.at:,}")
        _check_sum(header)
        kind, size = header[156:157], _number(header[124:136])
        if kind in b"xgLK":
            if size > _MOST_HEADER:
                raise ValueError(f"a header of {size:,} bytes")
            body = stream.read(-(-size // BLOCK) * BLOCK)[:size]
            if kind == b"L":
                long_name = _text(body.rstrip(b"\0"))
            elif kind == b"x":
                said = _records(body)
            elif kind == b"g":
                everywhere |= _records(body)
            continue
        told = {**everywhere, **said}
        size = _positive(int(told.get("size", size)))
        if kind in _LINKS or kind == _FOLDER:
            size = 0
        check_growth(path, size, 0, size)
        offset = stream.at
        name = told.get("path") or long_name or _header_name(header)
        sparse = kind == b"S" or any(key.startswith("GNU.sparse") for key in told)
        if kind in b"0\0" and name.endswith("/"):
            kind = _FOLDER  # how archives of before 1988 mark one
        yield Entry(name, kind, size, offset, sparse)
        stream.skip_to(offset + size)
        # the last file of some is not filled up to a whole block
        stream.some(-size % BLOCK)
        long_name, said = "", {}


def _check_sum(header: bytes) -> None:
    said = _number(header[148:156])
    if said != sum(header[:148]) + sum(header[156:]) + 8 * 32:
        raise ValueError("a header of another checksum than it says")


def _number(field: bytes) -> int:
    """Return a number in octal digits, or as GNU tar writes those that need more room."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        value = int(field.split(b"\0")[0].strip() or b"0", 8)
    return _positive(value)


def _positive(value: int) -> int:
    if value < 0:
        raise ValueError(f"the size {value}")
    return value


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _records(body: bytes) -> dict[str, str]:
    """Return the records of a pax header that matter: ``LENGTH KEY=VALUE`` and a newline each."""
    found, at = {}, 0
    while at < len(body):
        blank = body.find(b" ", at, at + 20)
        length = _positive(int(body[at : max(blank, at)]))
        end = at + length
        if end <= blank or body[end - 1 : end] != b"\n":
            raise ValueError("an extended header that is not one")
        key, _, value = body[blank + 1 : end - 1].partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            found[_text(key[:20])] = _text(value)
        at = end
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
