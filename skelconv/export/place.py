"""Where an export is written: aside, under ``<name>.partial``, and renamed when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from skelconv.store.publish import remove
from skelformats.errors import SkelconvError

ABOUT = "about.json"
"""File that marks a folder as an export, so that it may be replaced."""


class ExportError(SkelconvError):
    """A store cannot be exported so; says why."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes
    ----------
    path
        The file or folder.
    counts
        What is in it, by its name.
    set_aside
        (recording, reason) of each recording that is not in it.
    left_out
        Arrays of the store that this form has no place for.
    """

    path: Path
    counts: dict[str, int]
    set_aside: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    def describe(self) -> str:
        """Say what was written, and the first few of what was not."""
        lines = [f"{self.path}: " + ", ".join(f"{count:,} {what}" for what, count in self.counts.items())]
        if self.left_out:
            lines.append(f"left out, this form has no place for them: {', '.join(self.left_out)}")
        if self.set_aside:
            lines.append(f"set aside: {len(self.set_aside):,} recordings")
            lines += [f"    {name}: {reason}" for name, reason in self.set_aside[:10]]
        return "\n".join(lines)


@contextmanager
def written_aside(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give the place to write ``path`` at, and rename it when the block ends well; else remove it.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false, or it is a folder that no export wrote.
    """
    _refuse(path, overwrite)
    partial = path.with_name(path.name + ".partial")
    remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except BaseException:
        remove(partial)
        raise
    _refuse(path, overwrite)
    remove(path)
    partial.rename(path)


def _refuse(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if not overwrite:
        raise ExportError(
            f"{path}: found an existing file or folder, expected none. Add --overwrite to replace it"
        )
    if path.is_dir() and not (path / ABOUT).is_file():
        raise ExportError(
            f"{path}: found a folder without {ABOUT}, expected an export to replace or nothing. "
            "Choose another output, or remove it yourself"
        )
