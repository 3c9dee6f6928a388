"""Publishing: write aside, rename into place; delete by renaming first.

Nothing half-written ever has a final name, and nothing half-deleted keeps one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from skelconv.store.info import StoreError


def claim(path: Path, overwrite: bool = False) -> Path:
    """Return ``<path>.partial``, cleared, as the place to write what will be published as ``path``.

    Raises
    ------
    StoreError
        As `refuse_existing`.
    """
    refuse_existing(path, overwrite)
    partial = path.with_name(path.name + ".partial")
    remove(partial)
    return partial


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Raise `StoreError` when ``path`` is taken, and may not or should not be replaced.

    Only a zarr store is ever replaced: a mistyped output must not cost somebody a folder.
    """
    if not path.exists():
        return
    if not overwrite:
        raise StoreError(
            f"{path}: found an existing store or file, expected none. Add --overwrite to replace it"
        )
    if not (path / "zarr.json").is_file():
        raise StoreError(
            f"{path}: found something that is no store, expected a store to replace or nothing. "
            "Choose another output, or remove it yourself"
        )


def publish(partial: Path, path: Path, overwrite: bool = False) -> None:
    """Rename what is complete to its final name; with ``overwrite`` in place of the store of that name.

    Raises
    ------
    StoreError
        Something took the name in the meantime; what is complete stays where it is.
    """
    refuse_existing(path, overwrite)
    remove(path)
    partial.rename(path)


def remove(path: Path) -> None:
    """Delete a file or folder, if there is one; under another name, since half of it may outlive a crash."""
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}.{os.getpid()}.deleting")
    path.rename(doomed)
    if doomed.is_dir():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()
