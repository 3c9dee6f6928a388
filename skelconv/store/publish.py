"""Publishing: write aside under a lock, sync to disk, rename into place.

``OUT.partial/`` holds everything about ``OUT`` that is not finished: the ``store`` that is being written, an
ingest's journal, a store on its way out, and the lock. The lock is an advisory one (flock) that the system
releases when its process ends, however it ends. Nothing half-written ever has a final name, and nothing
half-deleted keeps one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from skelconv.store.info import StoreError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "lock"
STORE = "store"
REPLACED = "replaced"
JOURNAL = "journal.jsonl"

_DELETING = re.compile(r"\.[0-9a-f]+\.deleting")
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class NoLocksError(StoreError):
    """The file system knows no locks."""


class StoreLockedError(StoreError):
    """Another process is writing this output."""


@dataclass(frozen=True)
class Partial:
    """The folder ``<out>.partial``, locked by this process."""

    out: Path
    folder: Path
    overwrite: bool

    @property
    def store(self) -> Path:
        """Where the unpublished store is written."""
        return self.folder / STORE

    @property
    def journal(self) -> Path:
        """Where an ingest keeps its journal."""
        return self.folder / JOURNAL

    def clear(self) -> None:
        """Delete everything in the folder but the lock."""
        for entry in self.folder.iterdir():
            if entry.name != LOCK:
                remove(entry)

    def publish(self) -> None:
        """Sync the complete store to disk, rename it to its final name, and clear what is left.

        Raises
        ------
        StoreError
            Something took the name in the meantime; what is complete stays where it is.
        """
        refuse_existing(self.out, self.overwrite)
        sync_tree(self.store)
        if os.path.lexists(self.out):
            self.out.rename(self.folder / REPLACED)
        self.store.rename(self.out)
        sync(self.out.parent)
        self.clear()


@contextmanager
def lock_partial(out: Path, overwrite: bool = False) -> Iterator[Partial]:
    """Lock ``<out>.partial`` and give it with what an earlier run left in it; for runs that can resume.

    What is in the folder when the block ends stays; an empty folder goes.

    Raises
    ------
    StoreError
        As `refuse_existing`, or the folder is a link or a file and ``overwrite`` is false, or the file system
        has no locks, or it is full.
    StoreLockedError
        Another process holds the lock.
    """
    folder = out.with_name(out.name + ".partial")
    _refuse_link(folder, overwrite)
    if not os.path.lexists(folder):
        # refused before anything is made
        refuse_existing(out, overwrite)
    try:
        lock = _lock(folder)
    except OSError as error:
        raise _with_path(error, folder) from error
    partial = Partial(out, folder, overwrite)
    try:
        _tidy(partial)
        refuse_existing(out, overwrite)
        yield partial
    except OSError as error:
        raise _with_path(error, folder) from error
    finally:
        if folder.is_dir() and all(entry.name == LOCK for entry in folder.iterdir()):
            (folder / LOCK).unlink(missing_ok=True)
            _remove_empty(folder)
        os.close(lock)


@contextmanager
def lock_folder(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes out of a folder, made where absent; what was made for nothing goes at the end.

    ``name`` is that of the lock's file, which must be nobody else's: it is written, and removed at the end.

    Raises
    ------
    StoreLockedError
        Another process holds the lock.
    NoLocksError
        The file system has no locks.
    """
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    lock = _lock(folder, name)
    try:
        yield
    finally:
        (folder / name).unlink(missing_ok=True)
        os.close(lock)
        for above in made:
            if above.is_dir() and not any(above.iterdir()):
                _remove_empty(above)


@contextmanager
def prepare_partial(out: Path, overwrite: bool = False) -> Iterator[Partial]:
    """Lock ``<out>.partial`` and give it cleared, for runs that start afresh; what is unpublished goes again.

    Raises
    ------
    StoreError
        As `lock_partial`, or the folder holds an unfinished ingest and ``overwrite`` is false.
    """
    with lock_partial(out, overwrite) as partial:
        if os.path.lexists(partial.journal) and not overwrite:
            raise StoreError(
                f"{partial.folder}: found an unfinished ingest, expected nothing. Run the ingest again to "
                "finish it, or add --overwrite to throw it away"
            )
        partial.clear()
        try:
            yield partial
        finally:
            partial.clear()


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Raise `StoreError` when ``path`` is taken, and may not or should not be replaced.

    Only a zarr store is ever replaced: a mistyped output must not cost somebody a folder.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise StoreError(
            f"{path}: found an existing store or file, expected none. Add --overwrite to replace it"
        )
    if not (path / "zarr.json").is_file():
        raise StoreError(
            f"{path}: found something that is not a store, expected a store to replace or nothing. "
            "Choose another output, or remove it yourself"
        )


def remove(path: Path) -> None:
    """Delete a file, link or folder, if there is one; renamed first, since half of it may outlive a crash.

    What earlier removals of this path left behind, since they were killed, goes too.
    """
    _sweep(path)
    if os.path.lexists(path):
        doomed = path.with_name(f"{path.name}.{secrets.token_hex(6)}.deleting")
        path.rename(doomed)
        delete(doomed)


def delete(path: Path) -> None:
    """Delete a file, link or folder in place; it need not exist."""
    while os.path.lexists(path):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue  # another process deletes it too


def sync(path: Path) -> None:
    """See a file, or the entries of a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """See every file and folder below ``folder``, and ``folder`` itself, onto the disk."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


def _lock(folder: Path, name: str = LOCK) -> int:
    """Take the lock in ``folder``, which is made where absent; returns the descriptor that holds it."""
    path = folder / name
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:
            continue  # its owner has just finished, and removed the folder
        try:
            _take(handle, path)
            # an owner that finishes unlinks the file: a lock on an unlinked one keeps nobody out
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _take(handle: int, path: Path) -> None:
    if fcntl is None:
        warnings.warn(
            f"{path}: this system has no file locks; see to it that no other process writes the same output",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(handle, 200, 0).decode(errors="replace") or "a process"
        raise StoreLockedError(
            f"{path.parent}: found it locked by {owner}, expected no other process to write the same output. "
            "Wait until it has ended, or choose another output"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise NoLocksError(
            f"{path}: found a file system without locks ({error.strerror}), expected one with flock. "
            "Write to a local disk, and copy what was written afterwards"
        ) from error


def _refuse_link(folder: Path, overwrite: bool) -> None:
    """Refuse a partial folder that is a link or a file; with ``overwrite``, remove that (not its target)."""
    if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink()):
        return
    if not overwrite:
        kind = "a symbolic link" if folder.is_symlink() else "a file"
        raise StoreError(
            f"{folder}: found {kind}, expected a folder or nothing. Remove it, or add --overwrite"
        )
    remove(folder)


def _tidy(partial: Partial) -> None:
    """Finish what a killed run had begun: restore a store that was not replaced yet, delete what was."""
    for path in (partial.out, partial.folder):
        _sweep(path)
    replaced = partial.folder / REPLACED
    if replaced.exists() and not os.path.lexists(partial.out):
        replaced.rename(partial.out)
    if os.path.lexists(partial.out) and not os.path.lexists(partial.store):
        partial.clear()  # killed between publishing and tidying up


def _sweep(path: Path) -> None:
    """Delete what earlier, killed removals of ``path`` left behind."""
    for entry in path.parent.glob("*.deleting"):
        if entry.name.startswith(path.name) and _DELETING.fullmatch(entry.name[len(path.name) :]):
            delete(entry)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        # the next owner has come already
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _with_path(error: OSError, folder: Path) -> Exception:
    """Return an error that says where a disk is full or a write failed, where the system's does not."""
    where = error.filename or folder
    if error.errno in _NO_ROOM:
        return StoreError(
            f"{where}: found no room left on the device ({error.strerror}), expected some for the store. "
            "Make room and run the same command again"
        )
    if error.filename is None and error.strerror:
        return OSError(error.errno, error.strerror, str(folder))
    return error
