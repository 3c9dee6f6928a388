"""Where a store lies, and its metadata; opening errors that say what to do.

A store is a folder, or a URL (``s3://``, ``https://``, ...) that zarr reaches through fsspec.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import orjson
import zarr

from skelconv.store import remote
from skelconv.store.info import StoreError
from skelconv.store.metadata_checks import check_files, check_node

METADATA = "zarr.json"


@dataclass(frozen=True)
class Location:
    """Where a store lies: a ``folder`` of this machine, or None and a ``url``; ``text`` is as given."""

    text: str
    folder: Path | None
    url: str

    @property
    def target(self) -> str:
        """What zarr opens."""
        return self.url if self.folder is None else str(self.folder)


@dataclass(frozen=True)
class Metadata:
    """Root attributes, and the array metadata (the content of each ``zarr.json``) by array name."""

    attributes: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, Any]]


def locate(path: str | Path) -> Location:
    """Tell a local folder from a URL; ``file://`` URLs are folders."""
    text = str(path)
    if isinstance(path, str) and "://" in path:
        parsed = urlparse(path)
        if parsed.scheme != "file":
            return Location(text, None, path)
        path = url2pathname(parsed.path)
    # absolute, so that a later change of folder, or a worker in another one, finds the same store
    return Location(text, Path(path).absolute(), "")


def read_metadata(location: Location) -> Metadata:
    """Read the root's attributes and every array's metadata.

    Raises
    ------
    StoreError
        There is nothing, or something else, or a store whose ingest was interrupted, or damaged metadata.
    """
    if location.folder is None:
        return _remote_metadata(location.url)
    folder = location.folder
    _expect_group(folder, location.text)
    root = read_json(folder / METADATA)
    if root.get("node_type") != "group":
        raise StoreError(
            f"{location.text}: found a single zarr array, expected the folder of a whole store. "
            "Give the folder that holds it"
        )
    consolidated = root.get("consolidated_metadata")
    if isinstance(consolidated, dict) and isinstance(consolidated.get("metadata"), dict):
        nodes = consolidated["metadata"]
    else:
        nodes = array_files(folder)
    arrays = {}
    for name, node in nodes.items():
        if not isinstance(node, dict):
            raise StoreError(
                f"{location.text}, array {name!r}: found metadata that is not an object, expected that of an "
                "array. Fetch or ingest the store again"
            )
        if node.get("node_type") == "array":
            check_node(name, node, location.text)
            if not check_files(folder, name, node, location.text):
                _expect_zarr_reads(location, name)
            arrays[name] = node
    attributes = root.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise StoreError(
            f"{location.text}: found root attributes that are not an object, expected those of a store. "
            "Fetch or ingest the store again"
        )
    return Metadata(attributes, arrays)


def array_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the ``zarr.json`` of every node directly below ``folder``, by its name; raises `StoreError`."""
    return {file.parent.name: read_json(file) for file in sorted(folder.glob(f"*/{METADATA}"))}


def read_json(file: Path) -> dict[str, Any]:
    """Read one ``zarr.json``; raises `StoreError` where it is not a JSON object of Zarr format 3."""
    try:
        # a pipe would keep a reader waiting
        if not file.is_file():
            raise OSError(errno.EINVAL, "not a file")
        content = orjson.loads(file.read_bytes())
    except OSError as error:
        raise StoreError(
            f"{file}: found an unreadable file ({error.strerror}), expected zarr metadata. "
            "Check its permissions"
        ) from error
    except orjson.JSONDecodeError as error:
        raise StoreError(
            f"{file}: found damaged JSON ({error}), expected zarr metadata. Fetch or ingest the store again"
        ) from error
    if not isinstance(content, dict) or content.get("zarr_format") != 3:
        raise StoreError(f"{file}: found something else, expected the metadata of a Zarr format 3 node")
    return content


def _expect_zarr_reads(location: Location, name: str) -> None:
    """Raise `StoreError` for an array that not even zarr can open."""
    try:
        zarr.open_array(location.target, path=name, mode="r", zarr_format=3)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise StoreError(
            f"{location.text}, array {name}: found an array that zarr cannot open ({error}), expected what "
            "docs/store.md specifies. Fetch or ingest the store again, or install the codec that it names"
        ) from error


def _expect_group(folder: Path, text: str) -> None:
    """Raise the error that fits, unless ``folder`` may be a finished store."""
    partial = folder.with_name(f"{folder.name}.partial")
    inside = any(part.endswith(".partial") for part in folder.parts)
    if inside or (not folder.exists() and partial.exists()):
        found = text if inside else partial
        raise StoreError(
            f"{found}: found an unfinished store, expected a finished one. Its ingest was interrupted; "
            "rerun the same command and it resumes"
        )
    if not folder.exists():
        raise StoreError(
            f"{text}: found nothing there, expected a store. Check the path, or make the store with "
            "`skelconv ingest`"
        )
    if not folder.is_dir():
        hint = " Unpack the archive first" if folder.suffix == ".zip" else " Check the path"
        raise StoreError(f"{text}: found a file, expected the folder of a zarr store.{hint}")
    if not (folder / METADATA).exists():
        old = (folder / ".zgroup").exists() or (folder / ".zarray").exists()
        found = "a Zarr format 2 hierarchy" if old else f"a folder without {METADATA}"
        raise StoreError(
            f"{text}: found {found}, expected a store made by skelconv (Zarr format 3). Raw files become a "
            "store with `skelconv ingest`"
        )


def _remote_metadata(url: str) -> Metadata:
    try:
        group = zarr.open_group(url, mode="r", zarr_format=3)
        arrays = {name: dict(array.metadata.to_dict()) for name, array in group.arrays()}
        for name, node in arrays.items():
            check_node(name, node, url)
    except StoreError:
        raise
    except ImportError as error:
        raise remote.missing_package(url, error) from error
    except Exception as error:  # each protocol's library raises its own kinds
        raise remote.nothing_there(url, error) from error
    return Metadata(group.attrs.asdict(), arrays)
