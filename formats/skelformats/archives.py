"""What lies in an archive, by name and size: `list_archive`; and its bytes: `copy_member`.

Zip, tar and gzip files are listed without unpacking them, where their format allows it. An archive comes from
anywhere: its list is bounded before it is read, names that lead out of it are refused, links in it are never
followed, and what it unpacks to is held to what it says, which is held to a bound.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from skelformats.errors import SkelconvError, printable

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".gz")
"""Names of archives that are read in place."""

UNREAD = (".7z", ".rar", ".xz", ".txz", ".bz2", ".zst")
"""Names of archives that are not."""

MOST_FILES = 1_000_000
"""Files in one archive."""

MOST_BYTES = 64 * 2**30
"""Bytes of one file in an archive."""

MOST_RATIO = 250
"""Times that an archive may grow; the text of poses packs to a tenth. Up to `FREE_BYTES` it may grow more."""

FREE_BYTES = 64 * 2**20

CHUNK = 2**20

_DRIVE = re.compile(r"[A-Za-z]:")


class ArchiveError(SkelconvError):
    """An archive cannot be read, or does not deserve the trust: where, what was found, what to do."""

    def __init__(self, path: str | Path, found: str, action: str = "Fetch the archive again") -> None:
        super().__init__(path, found, action)
        self.path, self.found, self.action = printable(str(path)), printable(found), action

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}, expected an archive of raw files. {self.action}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a raw file are.

    Attributes
    ----------
    container
        The file itself, or the archive that holds it.
    how
        ``file``: it is the file; ``stored``: a part of it, as it is; ``zip-stored``, ``zipped``: a part,
        behind a header of its own, as it is or deflated; ``gzip``: all of it, compressed; ``packed``:
        somewhere in a compressed tar, which has to be read from its beginning.
    size
        Bytes of the raw file.
    offset, packed
        First byte in the container and number of bytes there, where it is a part.
    check
        CRC-32 of the raw file, where the archive tells; else -1.
    member
        Its name in the archive.
    """

    container: str
    how: Literal["file", "stored", "zipped", "zip-stored", "gzip", "packed"]
    size: int
    offset: int = 0
    packed: int = 0
    check: int = -1
    member: str = ""

    def __str__(self) -> str:
        return f"{self.container}: {self.member}" if self.member else self.container


@dataclass(frozen=True)
class Member:
    """A file of an archive: its name with forward slashes, and where it is.

    ``odd`` says why it is not read, where it is not a plain file.
    """

    name: str
    place: Place
    odd: Literal["", "link", "archive in an archive", "sparse file"] = ""


def is_archive(name: str) -> bool:
    """Whether a file is, by its name, an archive that is read in place."""
    return name.lower().endswith(SUFFIXES)


def is_compressed_tar(name: str) -> bool:
    """Whether an archive must be decompressed to be listed."""
    return name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tbz2"))


def list_archive(path: Path) -> list[Member]:
    """List the files of an archive in its order; hidden ones are left out.

    A tar that is compressed as a whole is decompressed once; nothing of it is kept.

    Raises
    ------
    ArchiveError
        It is damaged, encrypted or packed in a way that is not read; a name leads out of it; or it has too
        many files or would grow beyond bounds.
    OSError
        It cannot be read.
    """
    from skelformats.tar_archive import list_tar
    from skelformats.zip_archive import list_zip

    lowered = path.name.lower()
    if lowered.endswith(".zip"):
        found = list_zip(path)
    elif lowered.endswith(".tar") or is_compressed_tar(path.name):
        found = list_tar(path)
    else:
        found = [_of_gzip(path)]
    members = [member for member in found if _is_shown(member.name)]
    return [
        Member(member.name, member.place, "archive in an archive") if _is_nested(path, member) else member
        for member in members
    ]


def _is_nested(path: Path, member: Member) -> bool:
    return not member.odd and member.name.lower().endswith((*SUFFIXES, *UNREAD))


def _is_shown(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def safe_name(path: Path, name: str) -> str:
    """Return a member's name as a path below the archive's folder.

    Raises
    ------
    ArchiveError
        It leads out, or is none.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or _DRIVE.match(name) or "\0" in name or not parts:
        raise ArchiveError(
            path,
            f"the name {name[:80]!r}, which leads out of the archive",
            "Nothing of it was read. Do not unpack it where it could overwrite anything",
        )
    return printable("/".join(parts))


def check_growth(path: Path, size: int, grown: int, file_bytes: int = 0) -> None:
    """Refuse an archive of ``size`` bytes that grows to ``grown``; raises `ArchiveError`."""
    if grown > FREE_BYTES and grown > MOST_RATIO * max(size, 1):
        raise ArchiveError(
            path,
            f"{size:,} bytes that grow to {grown:,} or more, over {MOST_RATIO} times as many",
            "If you trust where it is from, unpack it yourself and name the folder",
        )
    if file_bytes > MOST_BYTES:
        raise ArchiveError(
            path,
            f"a file of {file_bytes:,} bytes, more than {MOST_BYTES:,}",
            "Unpack it yourself and name the folder",
        )


def check_count(path: Path, count: int) -> None:
    """Refuse an archive of more than `MOST_FILES`; raises `ArchiveError`."""
    if count > MOST_FILES:
        raise ArchiveError(
            path, f"more than {MOST_FILES:,} files", "Unpack it yourself and name folders of it"
        )


def copy_member(place: Place, out: IO[bytes]) -> None:
    """Write the bytes of a raw file that lies in an archive (but is not ``packed``) to ``out``.

    Raises
    ------
    ArchiveError
        They are not as many as the archive said, or of another checksum, or damaged.
    OSError
        The archive cannot be read, or ``out`` not written.
    """
    from skelformats.zip_archive import data_offset

    path, written, check = Path(place.container), 0, 0
    with path.open("rb") as file:
        if place.how in ("zipped", "zip-stored"):
            file.seek(data_offset(path, file, place))
        else:
            file.seek(place.offset)
        try:
            for block in _blocks(file, place):
                written += len(block)
                if written > place.size:
                    break
                check = zlib.crc32(block, check)
                out.write(block)
        except zlib.error as error:
            raise ArchiveError(str(place), f"damaged bytes ({error})", _again(place)) from error
    if written != place.size:
        found = f"{written:,} bytes or more where it says {place.size:,}"
        raise ArchiveError(str(place), found, _again(place))
    if place.check not in (-1, check):
        raise ArchiveError(str(place), f"bytes of checksum {check:08x}, not {place.check:08x}")


def _again(place: Place) -> str:
    if place.how != "gzip":
        return "Fetch the archive again"
    return "Fetch it again, or unpack it with gunzip: several streams in one .gz are not read in place"


def _blocks(file: IO[bytes], place: Place) -> Iterator[bytes]:
    """Yield the raw file in blocks of at most `CHUNK` bytes."""
    if place.how in ("stored", "zip-stored"):
        left = place.packed
        while left and (block := file.read(min(CHUNK, left))):
            left -= len(block)
            yield block
        return
    inflate = zlib.decompressobj(31 if place.how == "gzip" else -15)
    left = place.packed
    while left and not inflate.eof:
        packed = file.read(min(CHUNK, left))
        if not packed:
            break
        left -= len(packed)
        while packed and not inflate.eof:
            yield inflate.decompress(packed, CHUNK)
            packed = inflate.unconsumed_tail
    while not inflate.eof and (block := inflate.decompress(b"", CHUNK)):
        yield block
    if not inflate.eof:
        raise zlib.error("they are cut off")
    if left or inflate.unused_data:
        raise zlib.error("more follows their end")


def _of_gzip(path: Path) -> Member:
    """Return the one file of a ``.gz``; its size is what the last four bytes say, and checked when read."""
    packed = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(3)
        if packed < 18 or head != b"\x1f\x8b\x08":
            raise ArchiveError(path, "a .gz that is not gzip")
        file.seek(packed - 4)
        size = int.from_bytes(file.read(4), "little")
    check_growth(path, packed, size)
    name = safe_name(path, path.name[: -len(".gz")])
    return Member(name, Place(str(path), "gzip", size, 0, packed, member=name))
