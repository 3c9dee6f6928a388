"""Zip archives: their list of files, checked, and where in the archive each file's bytes begin."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path
from typing import IO

from skelformats.archives import ArchiveError, Member, Place, check_count, check_growth, safe_name
from skelformats.safe_npz import BROKEN_ZIP, directory_bytes

_MOST_LIST = 96 * 2**20
"""Bytes of the list of files, all of which is read at once."""
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1
_UNPACK = "Unpack it yourself and name the folder"
_HOW = {zipfile.ZIP_STORED: "zip-stored", zipfile.ZIP_DEFLATED: "zipped"}


def list_zip(path: Path) -> list[Member]:
    """List the files of a zip archive; raises `ArchiveError` and OSError as `list_archive`."""
    size = path.stat().st_size
    if size and (listed := directory_bytes(path)) > _MOST_LIST:
        raise ArchiveError(path, f"a list of files of {listed:,} bytes, more than {_MOST_LIST:,}")
    try:
        with zipfile.ZipFile(path) as archive:
            infos, end = archive.infolist(), archive.start_dir
    except BROKEN_ZIP as error:
        raise ArchiveError(
            path, f"no whole zip ({error})", "It may be cut off, or one of several parts; fetch it again"
        ) from error
    check_count(path, len(infos))
    check_growth(
        path, size, sum(info.file_size for info in infos), max((i.file_size for i in infos), default=0)
    )
    _check_apart(path, infos, end)
    return [_member(path, info) for info in infos if not info.is_dir()]


def data_offset(path: Path, file: IO[bytes], place: Place) -> int:
    """Return where a member's bytes begin, behind its own header; raises `ArchiveError`."""
    file.seek(place.offset)
    head = file.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or head[:4] != b"PK\x03\x04":
        raise ArchiveError(path, f"no header where {place.member} should begin")
    *_, name, extra = _LOCAL_HEADER.unpack(head)
    return place.offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _member(path: Path, info: zipfile.ZipInfo) -> Member:
    # archives of some Windows programs separate folders by backslashes, which unzip takes for slashes too
    name = safe_name(path, info.filename.replace("\\", "/"))
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(path, f"{name} encrypted", "Unpack it with its password and name the folder")
    if info.compress_type not in _HOW:
        raise ArchiveError(path, f"{name} compressed by method {info.compress_type}", _UNPACK)
    kind = stat.S_IFMT(info.external_attr >> 16)
    place = Place(
        str(path),
        "zipped" if info.compress_type == zipfile.ZIP_DEFLATED else "zip-stored",
        info.file_size,
        info.header_offset,
        info.compress_size,
        info.CRC,
        name,
    )
    return Member(name, place, "" if kind in (0, stat.S_IFREG) else "link")


def _check_apart(path: Path, infos: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse members that share bytes: a few kilobytes could be listed a million times."""
    ordered = sorted((info.header_offset, info.compress_size) for info in infos)
    starts = [offset for offset, _ in ordered[1:]] + [end]
    for (offset, packed), following in zip(ordered, starts, strict=True):
        if offset < 0 or offset + _LOCAL_HEADER.size + packed > following:
            raise ArchiveError(path, "files that share bytes with one another", "Nothing of it was read")
