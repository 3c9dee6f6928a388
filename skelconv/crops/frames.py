"""Where the picture of a frame lies: a file each (`ImageFolder`), or a frame of a video
(`skelconv.crops.video`).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from skelconv.crops.cut import CropRefusedError, open_picture
from skelformats.errors import SkelconvError, UnknownNameError


class CropError(SkelconvError):
    """A store whose people cannot be cut out as asked."""


class Pictures(Protocol):
    """Where the pictures of a store's recordings are."""

    @property
    def root(self) -> Path:
        """Folder of them all."""

    @property
    def pattern(self) -> str:
        """How files are called below it."""

    def check(self, columns: Iterable[str]) -> None:
        """Make sure that the folder is there and that these columns fill the pattern."""

    def open(self, row: Mapping[str, Any]) -> Any:
        """Return a context in which a sequence's frames are had by number (`Reader`)."""


Reader = Callable[[int], Any]
"""From a frame's number to its pillow image; raises `CropRefusedError` where there is none."""


@dataclass(frozen=True)
class ImageFolder:
    """Pictures as files below a folder, named after columns of the store's table.

    Attributes
    ----------
    root
        Folder of all pictures.
    pattern
        Path of a picture below it, with columns of the store's table in braces and ``frame``, the frame's
        number in its recording: ``{recording}/{frame:06d}.jpg``.
    """

    root: Path
    pattern: str = "{recording}/{frame:06d}.jpg"

    def file(self, row: Mapping[str, Any], frame: int) -> Path:
        """Return the picture of one frame of a sequence, by the sequence's row of the table.

        Raises
        ------
        CropRefusedError
            The path, which holds text of the store, leaves the folder, or cannot be formatted so.
        """
        return place(self.root, self.pattern, {**row, "frame": frame})

    @contextmanager
    def open(self, row: Mapping[str, Any]) -> Iterator[Reader]:
        """Give the pictures of a sequence by the frame's number."""
        yield lambda frame: open_picture(self.file(row, frame))

    def check(self, columns: Iterable[str]) -> None:
        """Make sure that the folder is there and that these columns fill the pattern.

        Raises
        ------
        CropError
            No such folder, or a pattern that is none.
        UnknownNameError
            The pattern names a column that is not there.
        """
        check_pattern(self.root, self.pattern, (*sorted(columns), "frame"))


def place(root: Path, pattern: str, values: Mapping[str, Any]) -> Path:
    """Return the path that a pattern gives below a folder; raises `CropRefusedError` where it leaves it."""
    try:
        path = root / pattern.format(**values)
    except ValueError as error:
        raise CropRefusedError(f"found the pattern {pattern!r} ({error}), expected another") from error
    if not path.resolve().is_relative_to(root.resolve()):
        raise CropRefusedError(f"found the path {path}, expected one below {root}")
    return path


def check_pattern(root: Path, pattern: str, known: tuple[str, ...]) -> None:
    """Make sure that a folder is there and that names fill a pattern; raises as `ImageFolder.check`."""
    if not root.is_dir():
        raise CropError(f"{root}: found no folder, expected the pictures of the store's recordings")
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise CropError(
            f"found the pattern {pattern!r} ({error}), expected a path with names in braces"
        ) from error
    for name in names:
        if name not in known:
            raise UnknownNameError("column for the pattern", name, known)
