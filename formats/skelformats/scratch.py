"""A folder for files that are needed for a while: `Scratch`, removed with the process that made it."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK = "lock"


class Scratch:
    """A folder that is made on first use, and removed when the process ends.

    What a killed process left is removed by the next one of the same output, which can take its lock.

    Parameters
    ----------
    output
        The folder is made beside it, as ``<output>.raw-<random>``, since there is room for it; where that
        folder cannot be written, in the system's temporary one ($TMPDIR).
    """

    def __init__(self, output: Path | None = None) -> None:
        beside = output is not None and output.parent.is_dir() and os.access(output.parent, os.W_OK)
        self._parent = output.parent if output is not None and beside else Path(tempfile.gettempdir())
        self._stem = f"{output.name}.raw-" if output is not None and beside else "skelconv-raw-"
        self._folder: Path | None = None

    @property
    def parent(self) -> Path:
        """The folder in which it is made."""
        return self._parent

    @property
    def folder(self) -> Path:
        """The folder, which is made where it is not there yet."""
        if self._folder is None:
            _sweep(self._parent, self._stem)
            self._folder = Path(tempfile.mkdtemp(prefix=self._stem, dir=self._parent))
            lock = _lock(self._folder / _LOCK)
            weakref.finalize(self, _remove, self._folder, lock, os.getpid())
        return self._folder


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _remove(folder: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child is not the owner
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(parent: Path, stem: str) -> None:
    """Remove what killed processes left: folders whose lock nobody holds."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{glob.escape(stem)}*"):
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue  # not made here, or just being made, or somebody else's
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use
        finally:
            os.close(handle)
