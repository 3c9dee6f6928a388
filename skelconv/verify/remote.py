"""The byte part of `skelconv.verify` for a store behind a URL: every chunk is fetched, checked and
decoded.
"""

from __future__ import annotations

from skelconv.store.backends import open_array
from skelconv.store.chunk_layout import UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError
from skelconv.store.location import Location, Metadata
from skelconv.store.remote import RemoteError
from skelconv.verify.findings import Findings, Progress

LEFT_OUT = ("files that belong to no array, and the digest of the metadata, which only a folder shows",)
"""What is not looked at, since a URL need not list its files."""


def check_remote_chunks(
    location: Location, metadata: Metadata, findings: Findings, progress: Progress
) -> set[str]:
    """Read every chunk with its checksum; returns the names of the arrays in which something is damaged.

    Raises
    ------
    RemoteError
        The server does not answer, or not as is needed: nothing can be said of the store.
    """
    layouts = {}
    for name, node in metadata.arrays.items():
        try:
            layouts[name] = parse_layout(node, name)
        except UnknownLayoutError:
            continue  # the structural part reports it
    work = [
        (name, number * layout.chunk * layout.chunks_a_file)
        for name, layout in layouts.items()
        for number in range(layout.files)
    ]
    damaged = set()
    with progress(len(work), "files", 0) as advance:
        for name, start in work:
            layout = layouts[name]
            stop = min(start + layout.chunk * layout.chunks_a_file, layout.shape[0])
            try:
                open_array(location, name, metadata.arrays[name], "zarr").read(start, stop)
            except RemoteError:
                raise
            except StoreError as error:
                findings.add("damage", str(error))
                damaged.add(name)
            findings.checked["files"] += 1
            advance(1, 0)
    return damaged
