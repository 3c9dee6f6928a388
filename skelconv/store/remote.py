"""What goes wrong on the way to a store behind a URL, said as that and not as damage."""

from __future__ import annotations

from urllib.parse import urlparse

from skelconv.store.info import StoreError

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
}
"""The package behind fsspec for each protocol that is in wide use."""

TRIES = "Try again, or copy the store to this machine"


class RemoteError(StoreError):
    """The way to a store, or the server that it lies on, does not do what is needed; says nothing of the
    store.
    """


def missing_package(url: str, error: ImportError) -> StoreError:
    """Say which package a URL needs."""
    scheme = urlparse(url).scheme
    package = PACKAGES.get(scheme)
    what = f"pip install {package}" if package else f"install the fsspec package for {scheme}://"
    if package in ("aiohttp", "s3fs"):
        what += ", which the extra 'remote' brings"
    return StoreError(
        f"{url}: found no way to {scheme}:// ({error}), expected the package that fsspec reads it with. "
        f"Run: {what}; or copy the store to this machine"
    )


def nothing_there(url: str, error: Exception) -> StoreError:
    """Say that no store could be opened at a URL, and why."""
    return StoreError(
        f"{url}: found no zarr store there ({_said(error)}), expected a store made by skelconv. Check the "
        "URL, your access to it, and the network"
    )


def not_read(url: str, array: str, rows: str, error: Exception) -> StoreError:
    """Say why rows of a remote array could not be read: the server, the way there, or the bytes."""
    where = f"{url}, array {array}"
    if ignores_ranges(url):
        return RemoteError(
            f"{where}: found a server that sends whole files where a part is asked for, expected one that "
            "knows HTTP Range requests, as object stores, nginx and Apache do; `python -m http.server` does "
            "not. Serve the store with another one, or copy it to this machine"
        )
    if isinstance(error, ValueError | RuntimeError) and not isinstance(error, OSError):
        return StoreError(
            f"{where}: found bytes in {rows} that are not a chunk ({_said(error)}), expected them as "
            "written. The store is damaged where it lies, or on its way: fetch it and run `skelconv verify`"
        )
    return RemoteError(
        f"{where}: could not read {rows} ({_said(error)}), expected the server to send them. {TRIES}"
    )


def ignores_ranges(url: str) -> bool:
    """Whether a web server sends the whole of a file of which one byte is asked for."""
    if urlparse(url).scheme not in ("http", "https"):
        return False
    # not a dependency of every installation; without it no URL was opened
    import fsspec.core

    try:
        files, path = fsspec.core.url_to_fs(f"{url.rstrip('/')}/zarr.json")
        return len(files.cat_file(path, start=0, end=1)) > 1
    except (OSError, ValueError):
        return False  # it does not answer at all, and that is what the first error says


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
