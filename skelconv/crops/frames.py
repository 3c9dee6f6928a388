"""Where the picture of a frame lies."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelconv.crops.cut import CropRefusedError
from skelformats.errors import SkelconvError, UnknownNameError


class CropError(SkelconvError):
    """A store whose people cannot be cut out as asked."""


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
        try:
            path = self.root / self.pattern.format(**{**row, "frame": frame})
        except ValueError as error:
            raise CropRefusedError(
                f"found the pattern {self.pattern!r} ({error}), expected another"
            ) from error
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise CropRefusedError(f"found the path {path}, expected one below {self.root}")
        return path

    def check(self, columns: Iterable[str]) -> None:
        """Make sure that the folder is there and that these columns fill the pattern.

        Raises
        ------
        CropError
            No such folder, or a pattern that is none.
        UnknownNameError
            The pattern names a column that is not there.
        """
        if not self.root.is_dir():
            raise CropError(f"{self.root}: found no folder, expected the pictures of the store's recordings")
        known = (*sorted(columns), "frame")
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.pattern) if name is not None]
        except ValueError as error:
            raise CropError(
                f"found the pattern {self.pattern!r} ({error}), expected a path with names in braces"
            ) from error
        for name in names:
            if name not in known:
                raise UnknownNameError("column for the pattern", name, known)
