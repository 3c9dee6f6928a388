"""What of a raw root is taken, and what is left out of it, counted and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from skelconv.ingest.generated import MARKER
from skelconv.store.info import NotTaken
from skelconv.store.text import printable
from skelformats.archives import SUFFIXES, UNREAD, Place
from skelformats.errors import SkelconvError
from skelformats.files import find_files, find_links
from skelformats.raw_bytes import digests
from skelformats.raw_root import catalogue_of
from skelformats.reader import Reader, ReadOptions, Source

NAMED = 5
"""Files that are named of each kind."""

MOST_KINDS = 20
"""Kinds of files left out, and archives, that are told apart."""

OTHERS = (MARKER, "README", "LICENSE", "SOURCES.md")
"""Files that lie beside those of any dataset."""


class RepeatedError(SkelconvError):
    """One recording lies in two places, with different bytes."""


@dataclass(frozen=True)
class Found:
    """The sources below a root, in order, and what is left out of it."""

    sources: tuple[Source, ...]
    not_taken: tuple[NotTaken, ...] = ()


def discover(reader: Reader, root: Path, options: ReadOptions) -> Found:
    """Look for the sources of a dataset by name, and for what looks like one and is not taken.

    Files are opened only where a recording is there twice: it is read once where the bytes are equal. Where
    one file is asked for (`ReadOptions.only`), nothing is said of others.

    Raises
    ------
    RepeatedError
        A recording lies in two of the places that were named, with different bytes; or two of the files that
        would have one path.
    """
    scanned = reader.scan(root, options)
    if options.only:
        return Found(tuple(options.wanted(scanned)))
    catalogue = catalogue_of(root)
    neighbours = catalogue.neighbours if catalogue else frozenset[str]()
    sources = [source for source in scanned if not neighbours.issuperset(_files(source))]
    same = [*_same_paths(root, sources)]
    sources, again = _once(root, sources)
    taken = {name for source in scanned for name in _files(source)}
    return Found(
        tuple(sources),
        (
            *_kinds("files there twice with the same bytes, read once", [*same, *again]),
            *_not_taken(reader, root, sources, taken | neighbours),
            *_closed(root),
        )[:MOST_KINDS],
    )


def _files(source: Source) -> tuple[str, ...]:
    return (source.path, *source.members)


def _kinds(what: str, names: Sequence[str]) -> Iterator[NotTaken]:
    if names:
        yield NotTaken(what=what, count=len(names), names=tuple(map(printable, names[:NAMED])))


def _same_paths(root: Path, sources: Iterable[Source]) -> Iterator[str]:
    """Yield files of one path that lie in several places with the same bytes; raises `RepeatedError`."""
    catalogue = catalogue_of(root)
    repeated = catalogue.repeated if catalogue else {}
    names = sorted(repeated.keys() & {name for source in sources for name in _files(source)})
    if not catalogue or not names:
        return
    alike = {
        place
        for name in names
        for place in (catalogue.places[name], *repeated[name])
        if place.size == catalogue.places[name].size
    }
    digest = digests(alike)
    for name in names:
        first = catalogue.places[name]
        for other in repeated[name]:
            if digest.get(other) != digest[first]:
                raise _different(name, first, other)
            yield f"{name} (in {_origin(root, first).name} and {_origin(root, other).name})"


def _once(root: Path, sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Return the sources without those that repeat an earlier one, byte for byte; and the repeated ones.

    ``recording`` is how a scan says that an earlier source has the name; with different bytes both are kept
    where they lie in one folder, as before.
    """
    named = {source.path for source in sources if source.recording}
    first: dict[str, int] = {}
    kept: list[Source] = []
    again = []
    for source in sources:
        name = _name(source.path)
        at = first.setdefault(name, len(kept))
        earlier = source if at == len(kept) else kept[at]
        if source.path not in named or earlier.path == source.path:
            kept.append(source)
            continue
        places = _place(root, earlier.path), _place(root, source.path)
        if _are_same(*places):
            again.append(f"{source.path} (as {earlier.path})")
            kept[at] = _without_repeated(root, earlier)
        elif _origin(root, places[0]) != _origin(root, places[1]):
            raise _different(name, *places)
        else:
            kept.append(source)
    return kept, again


def _without_repeated(root: Path, source: Source) -> Source:
    """Return a source without members that are, byte for byte, another of its members of the same name."""
    members: list[str] = []
    size = source.size
    for member in source.members:
        place = _place(root, member)
        if any(_name(member) == _name(other) and _are_same(_place(root, other), place) for other in members):
            size -= place.size
        else:
            members.append(member)
    return replace(source, members=tuple(members), size=size)


def _are_same(one: Place, other: Place) -> bool:
    return one.size == other.size and len(set(digests((one, other)).values())) == 1


def _different(name: str, one: Place, other: Place) -> RepeatedError:
    return RepeatedError(
        f"{printable(name)}: found it twice, with different bytes: {printable(str(one))} ({one.size:,} "
        f"bytes) and {printable(str(other))} ({other.size:,} bytes), expected each recording once. Keep the "
        "right one and move the other away; if they are different recordings, name the one folder that "
        "holds both"
    )


def _place(root: Path, name: str) -> Place:
    catalogue = catalogue_of(root)
    if catalogue:
        return catalogue.places[name]
    return Place(str(root / name), "file", (root / name).stat().st_size)


def _origin(root: Path, place: Place) -> Path:
    """Return which of the named folders or archives a file lies in."""
    catalogue, container = catalogue_of(root), Path(place.container)
    folders = catalogue.folders if catalogue else (root,)
    return next((folder for folder in folders if container.is_relative_to(folder)), container)


def _not_taken(reader: Reader, root: Path, sources: Sequence[Source], taken: set[str]) -> Iterator[NotTaken]:
    """Count the files that look like the dataset's and are not taken, by what they look like."""
    patterns = reader.own or tuple(f"*{end}" for end in sorted({_suffix(s.path) for s in sources} - {""}))

    def like(name: str) -> str:
        lowered = _name(name).lower()
        return next((pattern for pattern in patterns if fnmatchcase(lowered, pattern.lower())), "")

    found: dict[str, list[str]] = {}
    for name, _ in find_files(root, ""):
        if name in taken or _name(name).startswith(OTHERS) or name.lower().endswith((*SUFFIXES, *UNREAD)):
            continue
        if pattern := like(name):
            found.setdefault(pattern, []).append(name)
    for pattern, names in found.items():
        yield from _kinds(f"files like {pattern} that {reader.name} does not take", names)
    links = [name for name, is_folder in _links(root) if is_folder or like(name)]
    yield from _kinds("links out of the raw folder, which are not followed", links)


def _links(root: Path) -> Iterator[tuple[str, bool]]:
    catalogue = catalogue_of(root)
    for folder in catalogue.folders if catalogue else (root,):
        yield from find_links(folder)


def _closed(root: Path) -> Iterator[NotTaken]:
    """Name the archives that are not read, and what in archives is not."""
    catalogue = catalogue_of(root)
    if catalogue is None:
        return
    other = [error for error in catalogue.unread if error.path.lower().endswith(UNREAD)]
    yield from _kinds(
        "archives of a kind that is not read in place; unpack them",
        [PurePosixPath(error.path).name for error in other],
    )
    for error in catalogue.unread:
        if error not in other:
            what = f"archive that cannot be read, with {error.found}"
            yield from _kinds(what, [PurePosixPath(error.path).name])
    for kind in Counter(what for _, what in catalogue.odd):
        names = [name for name, what in catalogue.odd if what == kind]
        yield from _kinds(f"files that are not read: {kind}", names)


def _name(path: str) -> str:
    """Return the last part of a path; of many, faster than pathlib."""
    return path.rpartition("/")[2]


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix
