"""Reading ``.npy`` and ``.npz`` files without trusting them: `load_npy`, `load_npz`.

``numpy.load`` allocates what a header claims, inflates whatever a zip member holds, and unpickles object
arrays with Python's own unpickler or not at all. Here every claim is checked against the bytes that are
there and against a stated limit before anything is allocated, and object arrays go through
`skelformats.safe_pickle`.
"""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.safe_pickle import parse_pickle

MAX_BYTES = 2**30
"""Default limit of what the arrays of one file may take in memory."""

_MAX_MEMBERS = 4096
_MAX_DIRECTORY = 300 * _MAX_MEMBERS
"""Bytes of the list of members at the end of an archive; an entry has 46 and its name."""
_END_RECORDS = 65_535 + 22 + 20 + 56
"""Bytes at the end of an archive in which its end records stand, before a comment of any length."""
_HEADER_LENGTH = 10_000
"""Longest header that numpy itself accepts without being told to."""

_EXPECTED_NPZ = "a zip archive of .npy arrays, as numpy.savez writes it"
_EXPECTED_NPY = "a .npy array, as numpy.save writes it"

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
)
"""What ``zipfile`` raises for archives that are damaged, encrypted, or compressed in an odd way."""

_BROKEN_HEADER = (
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    OverflowError,
    MemoryError,
)
"""What a malformed header ends in inside of numpy, which evaluates it as a Python literal."""


def load_npz(
    path: str | Path,
    keys: Sequence[str] | None = None,
    max_bytes: int = MAX_BYTES,
    optional: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Read arrays of a ``.npz`` file.

    Parameters
    ----------
    keys
        Arrays that must be there; None reads every one.
    max_bytes
        Limit of what these arrays take in memory together, whatever the archive compresses them to.
    optional
        Arrays that are read where they are there.

    Returns
    -------
    The arrays by key. They are read-only.

    Raises
    ------
    FormatError
        There is no such archive, a key is missing, or a member is damaged, too large or not plain data.
    """
    path = Path(path)
    try:
        with _open(path) as archive:
            members = _members(archive, path)
            if missing := [key for key in keys or () if key not in members]:
                raise FormatError(
                    path,
                    f"no array {', '.join(missing)} among {', '.join(sorted(members))[:300] or 'none'}",
                    f"the arrays {', '.join(keys or ())}",
                )
            wanted = list(members) if keys is None else [*keys, *(k for k in optional if k in members)]
            _check_sizes(path, {key: members[key] for key in wanted}, max_bytes)
            return {
                key: _read_member(archive, members[key], f"{path}, array {key!r}", max_bytes)
                for key in wanted
            }
    except OSError as error:
        raise FormatError(path, f"a file that cannot be read ({error.strerror})", _EXPECTED_NPZ) from error


def load_npy(path: str | Path, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a ``.npy`` file; the array is read-only.

    Raises
    ------
    FormatError
        It is not such a file, is cut off or too large, or has objects that are not plain data.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size, str(path), max_bytes)
    except OSError as error:
        raise FormatError(path, f"a file that cannot be read ({error.strerror})", _EXPECTED_NPY) from error


def _open(path: Path) -> zipfile.ZipFile:
    """Open an archive whose list of members is of moderate size: ``zipfile`` reads all of it at once."""
    listed = directory_bytes(path)
    if listed > _MAX_DIRECTORY:
        raise FormatError(
            path, f"a list of members of {listed} bytes", f"{_EXPECTED_NPZ}, at most {_MAX_MEMBERS}"
        )
    try:
        return zipfile.ZipFile(path)
    except BROKEN_ZIP as error:
        raise FormatError(
            path, f"no zip archive ({error})", _EXPECTED_NPZ, action="The file may be cut off; fetch it again"
        ) from error


def directory_bytes(path: Path) -> int:
    """Return the largest size that the records at the end of an archive give for its list of members."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_RECORDS))
        tail = file.read()
    sizes = [0]
    for signature, place, width in ((b"PK\x05\x06", 12, 4), (b"PK\x06\x06", 40, 8)):
        at = tail.find(signature)
        while at >= 0:
            size = int.from_bytes(tail[at + place : at + place + width], "little")
            # all ones: the record of large archives has it
            sizes.append(0 if width == 4 and size == 2**32 - 1 else size)
            at = tail.find(signature, at + 1)
    return max(sizes)


def _members(archive: zipfile.ZipFile, path: Path) -> Mapping[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise FormatError(
            path, f"{len(infos)} files in one archive", f"{_EXPECTED_NPZ}, at most {_MAX_MEMBERS}"
        )
    return {info.filename.removesuffix(".npy"): info for info in infos if info.filename.endswith(".npy")}


def _check_sizes(path: Path, members: Mapping[str, zipfile.ZipInfo], max_bytes: int) -> None:
    """Compare what the archive says its members inflate to; `_read_member` holds it to that."""
    total = sum(info.file_size for info in members.values())
    if total > max_bytes:
        largest = max(members, key=lambda key: members[key].file_size)
        raise FormatError(
            path,
            f"arrays of {total} bytes ({largest!r} has {members[largest].file_size})",
            f"at most {max_bytes} bytes",
        )
    for key, info in members.items():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(path, f"array {key!r} compressed by method {info.compress_type}", _EXPECTED_NPZ)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str, max_bytes: int) -> NDArray[Any]:
    """Read one array. ``zipfile`` never inflates more than ``info.file_size``, and checks the checksum."""
    try:
        with archive.open(info) as file:
            return _read_array(file, info.file_size, where, max_bytes)
    except FormatError:
        raise
    except BROKEN_ZIP as error:
        raise FormatError(
            where, f"a damaged zip member ({error})", _EXPECTED_NPZ, action="Fetch the file again"
        ) from error


@dataclass(frozen=True)
class _Header:
    """What a ``.npy`` header says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _read_array(file: IO[bytes], size: int, where: str, max_bytes: int) -> NDArray[Any]:
    """Read an array from a file of ``size`` bytes."""
    header = _read_header(file, where)
    left = size - file.tell()
    order = "F" if header.fortran else "C"
    if left > max_bytes:
        raise FormatError(where, f"an array of {left} bytes", f"at most {max_bytes} bytes")
    if header.dtype.hasobject:
        return _read_objects(file, header, left, where, max_bytes)
    count = math.prod(header.shape)
    if count * header.dtype.itemsize != left:
        raise FormatError(
            where,
            f"shape {header.shape!r:.80} and dtype {header.dtype} ({count * header.dtype.itemsize} bytes) "
            f"over {left} bytes of data",
            "as many bytes as the shape says",
            action="The file may be cut off; fetch it again",
        )
    data = file.read(left)
    if len(data) != left:
        raise FormatError(where, f"{len(data)} bytes of data", f"{left}", action="Fetch the file again")
    try:
        return np.ndarray(header.shape, header.dtype, data, order="F" if order == "F" else "C")
    except (ValueError, TypeError) as error:
        raise FormatError(where, f"the shape {header.shape!r:.80} ({error})", _EXPECTED_NPY) from error


def _read_header(file: IO[bytes], where: str) -> _Header:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        # version 3 differs in the header's encoding alone, and in structured field names alone
        (3, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise FormatError(where, f".npy version {version}", _EXPECTED_NPY)
        with warnings.catch_warnings():
            # numpy warns of headers that Python 2 wrote, with shapes such as (10L,)
            warnings.simplefilter("ignore", UserWarning)
            shape, fortran, dtype = readers[version](file, max_header_size=_HEADER_LENGTH)
    except FormatError:
        raise
    except _BROKEN_HEADER as error:
        raise FormatError(
            where, f"no header of an array ({str(error)[:100]})", _EXPECTED_NPY, action="Fetch the file again"
        ) from error
    sizes: list[Any] = list(shape)
    if any(type(n) is not int or n < 0 for n in sizes) or len(sizes) > 32:
        raise FormatError(where, f"the shape {shape!r:.80}", "a tuple of up to 32 sizes")
    if (dtype.itemsize == 0 and math.prod(sizes)) or (0 in sizes and max(sizes) > 2**48):
        raise FormatError(where, f"the shape {shape!r:.80} of dtype {dtype}", "an array with data")
    return _Header(tuple(sizes), bool(fortran), dtype)


def _read_objects(file: IO[bytes], header: _Header, left: int, where: str, max_bytes: int) -> NDArray[Any]:
    """Read an array of Python objects, which numpy stores as a pickle of the array."""
    if header.dtype.kind != "O":
        raise FormatError(where, f"the dtype {header.dtype}", "numbers, text or plain objects")
    value = parse_pickle(file.read(left), where, max_bytes)
    if not isinstance(value, np.ndarray) or value.shape != header.shape or value.dtype != header.dtype:
        raise FormatError(
            where,
            f"a pickle of {type(value).__name__} that is not an array of shape {header.shape!r:.80}",
            "the array that the header describes",
        )
    return value
