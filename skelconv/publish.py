"""Publishing: write aside, rename into place; delete by renaming first.

Nothing half-written ever has a final name, and nothing half-deleted keeps one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from skelconv.info import StoreError


def claim(path: Path, overwrite: bool = False) -> Path:
    """Return ``<path>.partial``, cleared, as the place to write what will be published as ``path``.

    Raises
    ------
    StoreError
        ``path`` exists and ``overwrite`` is false.
    """
    if not overwrite:
        refuse_existing(path)
    partial = path.with_name(path.name + ".partial")
    remove(partial)
    return partial


def refuse_existing(path: Path) -> None:
    """Raise `StoreError` when something is called ``path`` already."""
    if path.exists():
        raise StoreError(
            f"{path}: found an existing store or file, expected none. Add --overwrite to replace it"
        )


def publish(partial: Path, path: Path) -> None:
    """Rename what is complete to its final name, in place of what has that name now."""
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
