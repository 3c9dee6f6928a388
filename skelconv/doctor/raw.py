"""A look at raw files: which readers find sources among them, which of those can read one, what is left
over.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from skelconv.doctor.finding import Finding
from skelconv.ingest.generated import MARKER
from skelconv.store.text import printable
from skelformats.archives import SUFFIXES, UNREAD, ArchiveError, is_archive
from skelformats.errors import SkelconvError
from skelformats.files import find_files
from skelformats.raw_open import open_raw
from skelformats.raw_root import catalogue_of, prepare
from skelformats.reader import Clip, Reader, Source, usable_readers

LOOKED_AT = 3
"""Sources of each dataset that are read: the first, one in the middle, the last."""
MOST_FILES = 1_000_000
"""Files of a folder that are looked through by name."""
MOST_ABOVE = 20_000
"""Files of the folder above one that is nobody's, for that folder to be looked at too."""
NAMED = 5
"""Files that are named where more are like them."""
POINTER = b"version https://git-lfs"
OTHERS = (MARKER, "README", "LICENSE", "SOURCES.md")


@dataclass(frozen=True)
class Match:
    """A reader that takes files here: its sources, how many of those that were tried it reads, or why not.

    ``bodies`` and ``frames`` count what was read.
    """

    reader: Reader
    sources: Sequence[Source]
    tried: int
    read: int
    bodies: int
    frames: int
    problem: str

    @property
    def fit(self) -> tuple[float, float, int, str]:
        """Smaller for a better fit: reads more, has longer tracks, knows fewer classes that could be
        meant.
        """
        dataset = self.reader.dataset
        length = self.frames / max(self.bodies, 1)
        return -self.read / self.tried, -length, len(dataset.classes), dataset.name

    @property
    def command(self) -> str:
        """The verb that reads them."""
        return f"skelconv ingest {self.reader.name}"

    def describe(self) -> str:
        """Say in one line what was tried."""
        title = self.reader.dataset.title
        tried = f"{self.read} of {self.tried} tried can be read"
        text = f"{self.reader.name} ({title}): {len(self.sources):,} sources, {tried}"
        return text if self.read else f"{text}; the first cannot: {self.problem}"


def look_at_file(file: Path) -> Finding:
    """Say what one file is, from its name, its first bytes, and the folder that it lies in."""
    size = file.stat().st_size
    if is_pointer(file):
        return Finding(f"{file}: a pointer of Git LFS", odd=(_fetch(1, [file.name]),))
    if file.name.lower().endswith((*SUFFIXES, *UNREAD)):
        return _look_at_archive(file)
    beside = [
        match for match in matches(file.parent) if any(file.name in names(match, s) for s in match.sources)
    ]
    words = shlex.quote(str(file.parent))
    if not beside:
        return Finding(
            f"{file}: a file of {size:,} bytes that no installed reader takes",
            odd=("skelconv datasets lists what can be read; docs/adding-a-dataset.md says how to add more",),
        )
    return Finding(
        f"{file}: looks like a source of {', '.join(match.reader.name for match in beside)}",
        tuple(match.describe() for match in beside),
        commands=tuple(f"{match.command} {words} out.zarr" for match in beside if match.read),
    )


def _look_at_archive(file: Path) -> Finding:
    title = f"{file}: an archive of {file.stat().st_size / 1e6:,.1f} MB"
    if file.name.lower().endswith(UNREAD) and not is_archive(file.name):
        return Finding(title, odd=("archives of this kind are not read in place: unpack it",))
    try:
        root = open_raw([file])
    except ArchiveError as error:
        return Finding(title, odd=(str(error),))
    found = matches(root)
    usable = best(found)
    if usable:
        title += f" with raw files of {' or '.join(match.reader.name for match in usable)}"
    return Finding(
        title,
        (f"{len(find_files(root, '')):,} files", *(match.describe() for match in usable or found)),
        () if usable else ("no installed reader can read what is in it",),
        tuple(f"{match.command} {shlex.quote(str(file))} out.zarr" for match in usable),
    )


def look_at_folder(folder: Path) -> Finding:
    """Say whose raw files a folder holds, and what in it is nobody's."""
    files = list(islice(_files(folder), MOST_FILES))
    kinds = Counter(file.suffix.lower() or "no suffix" for file in files)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(6))
    facts = [f"{len(files):,} files: {counts}" if files else "no files"]
    if (folder / MARKER).is_file():
        facts.append(f"generated, as {MARKER} says: nobody was recorded")
    root = open_raw([folder])
    found = matches(root)
    usable = best(found)
    facts += [match.describe() for match in usable or found]
    facts += _left_over(folder, files, usable)
    odd = _odd(root, folder, files)
    words = shlex.quote(str(folder))
    if not usable:
        nested = _elsewhere(folder)
        odd += [nested] if nested else []
        return Finding(f"{folder}: no raw files that an installed reader can read", tuple(facts), tuple(odd))
    if not overlapping(usable):
        odd.append(
            "several datasets lie here together: "
            + ", ".join(f"{match.reader.name} ({len(match.sources):,} sources)" for match in usable)
            + ". Each command takes its own files and leaves the others"
        )
    return Finding(
        f"{folder}: raw files of {' or '.join(match.reader.name for match in usable)}",
        tuple(facts),
        tuple(odd),
        tuple(f"{match.command} {words} out.zarr" for match in usable),
    )


def matches(folder: Path) -> list[Match]:
    """Return the readers that find sources in a folder; those that can read the most of what they tried
    first.
    """
    found = []
    for reader in usable_readers()[0]:
        try:
            sources = reader.scan(folder, reader.options())
        except SkelconvError:
            continue  # it wants an option that only who knows the dataset can give
        if sources:
            found.append(_try(reader, folder, sources))
    return sorted(found, key=lambda match: match.fit)


def best(found: Sequence[Match]) -> list[Match]:
    """Return the matches of which something can be read and has a body, without those that only a weaker fit
    explains.
    """
    usable = [match for match in found if match.read and match.bodies]
    kept: list[Match] = []
    for match in usable:
        mine = {source.path for source in match.sources}
        stronger = [other for other in kept if mine & {source.path for source in other.sources}]
        if not stronger or all(other.read * match.tried == match.read * other.tried for other in stronger):
            kept.append(match)
    return kept


def overlapping(usable: Sequence[Match]) -> bool:
    """Whether the matches are readings of the same files, rather than files of several datasets."""
    first = {source.path for source in usable[0].sources}
    return all(first & {source.path for source in match.sources} for match in usable)


def names(match: Match, source: Source) -> set[str]:
    """Return the names of the files of a source."""
    return {Path(path).name for path in (source.path, *source.members)}


def is_pointer(file: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of one."""
    try:
        if file.stat().st_size > 400:
            return False
        with file.open("rb") as stream:
            return stream.read(len(POINTER)) == POINTER
    except OSError:
        return False


def _try(reader: Reader, folder: Path, sources: Sequence[Source]) -> Match:
    chosen = sorted({0, len(sources) // 2, len(sources) - 1})[:LOOKED_AT]
    prepare(folder, (name for n in chosen for name in (sources[n].path, *sources[n].members)))
    read = bodies = frames = 0
    problem = ""
    for number in chosen:
        try:
            clips = [
                item
                for item in reader.read(folder, sources[number], reader.options())
                if isinstance(item, Clip)
            ]
        except (SkelconvError, OSError) as error:
            problem = problem or str(error)
            continue
        read += bool(clips)
        problem = problem or ("" if clips else f"{sources[number].path}: no recording in it")
        bodies += sum(len(clip.tracks) for clip in clips)
        frames += sum(len(track.frame_index) for clip in clips for track in clip.tracks)
    return Match(reader, sources, len(chosen), read, bodies, frames, problem)


def _odd(root: Path, folder: Path, files: Sequence[Path]) -> list[str]:
    catalogue = catalogue_of(root)
    odd = [str(error) for error in catalogue.unread[:NAMED]] if catalogue else []
    pointers = [file for file in islice(files, 10_000) if is_pointer(file)]
    if pointers:
        odd.append(_fetch(len(pointers), [printable(file.name) for file in pointers[:NAMED]]))
    empty = [file for file in files if file.stat().st_size == 0]
    if empty:
        odd.append(f"{_several(empty, folder)}: empty files. Fetch them again")
    return odd


def _left_over(folder: Path, files: Sequence[Path], usable: Sequence[Match]) -> list[str]:
    """Name the files that end like sources of what fits and are not among them."""
    sources = [source for match in usable for source in match.sources]
    taken = {path for source in sources for path in (source.path, *source.members)}
    suffixes = {Path(source.path).suffix for source in sources}
    left = [
        file
        for file in files
        if file.suffix in suffixes
        and file.relative_to(folder).as_posix() not in taken
        and not file.name.startswith(OTHERS)
    ]
    return [f"not taken, though they end like sources: {_several(left, folder)}"] if left else []


def _elsewhere(folder: Path) -> str:
    """Say whether the folder above holds raw files of which this one is a part; only where it is small."""
    if len(list(islice(_files(folder.parent), MOST_ABOVE + 1))) > MOST_ABOVE:
        return ""
    above = best(matches(folder.parent))
    if not above:
        return ""
    return (
        f"{folder.parent}, the folder above, holds raw files of {above[0].reader.name}: "
        f"try skelconv doctor {shlex.quote(str(folder.parent))}"
    )


def _several(files: Sequence[Path], folder: Path) -> str:
    shown = ", ".join(printable(file.relative_to(folder).as_posix()) for file in files[:NAMED])
    return shown if len(files) <= NAMED else f"{shown} and {len(files) - NAMED:,} more"


def _fetch(count: int, shown: Sequence[str]) -> str:
    return (
        f"{count:,} of the files are pointers of Git LFS, not the files themselves ({', '.join(shown)}): "
        "run `git lfs pull` where they were cloned"
    )


def _files(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder; hidden ones and links are left out."""
    for place, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            file = Path(place) / name
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file
