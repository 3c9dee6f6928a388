"""The plan of an ingest: which sources, read how, into what shards; and its digest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skelconv.ingest.discover import discover
from skelconv.ingest.generated import as_generated, generated_by
from skelconv.ingest.part import RECORD, Part
from skelconv.store import schema
from skelconv.store.digest import plan_digest
from skelconv.store.info import NotTaken
from skelconv.store.text import printable
from skelconv.store.writer import WriteOptions
from skelformats.errors import SkelconvError
from skelformats.raw_open import open_raw
from skelformats.raw_root import catalogue_of, shown, stamp
from skelformats.reader import Dataset, Reader, ReadOptions, Source, find_reader


class PlanError(SkelconvError):
    """There is nothing to ingest, or it cannot be ingested as asked."""


@dataclass(frozen=True)
class IngestPlan:
    """Everything the bytes of a store depend on.

    Two runs of one plan give the same store, whatever their number of workers or interruptions.
    """

    dataset: str
    root: Path
    sources: tuple[Source, ...]
    options: ReadOptions
    shard_frames: int
    precision: float | None
    tool: str
    limit: int | None = None
    not_taken: tuple[NotTaken, ...] = ()
    part: Part | None = field(default=None, kw_only=True)
    dataset_info: Dataset = field(init=False)
    digest: str = field(init=False)
    stamps: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Of each source: its time of modification in ns, the latest of its files; -1 where one is not there.

    Not part of the digest: the bytes of the store do not depend on it.
    """

    def __post_init__(self) -> None:
        dataset, how = self.reader.dataset_of(self.root, self.options), generated_by(self.root)
        object.__setattr__(self, "dataset_info", as_generated(dataset, how) if how else dataset)
        object.__setattr__(self, "digest", plan_digest(self.sources, self.settings()))
        object.__setattr__(self, "stamps", tuple(map(self.stamp, self.sources)))

    def stamp(self, source: Source) -> int:
        """Return the time of modification of a source as it is now."""
        try:
            if catalogue_of(self.root) is not None:
                return max(stamp(self.root, name) for name in (source.path, *source.members))
            # os.path: pathlib would take longer than all else that the writer does for a source
            return max(
                os.stat(os.path.join(self.root, name)).st_mtime_ns  # noqa: PTH116, PTH118
                for name in (source.path, *source.members)
            )
        except (OSError, ValueError):
            return -1

    def write_options(self) -> WriteOptions:
        """Return how the store is written; raises `StoreError` where none can be written so."""
        extras = {*self.options.extras, *self.dataset_info.always}
        return WriteOptions(extras=extras, shard_frames=self.shard_frames, precision=self.precision)

    def settings(self) -> dict[str, Any]:
        """Return what besides the source list decides the store's bytes, as plain data."""
        return {
            "tool": self.tool,
            "format_version": schema.FORMAT_VERSION,
            "dataset": self.dataset,
            "with": sorted(self.options.extras),
            "options": {name: _plain(value) for name, value in sorted(self.options.values.items())},
            "shard_frames": self.shard_frames,
            "precision": self.precision,
            "limit": self.limit,
            # a plan of recordings keeps the digest that it had before there was such a key
            **({"generated": how} if (how := self.dataset_info.generated) else {}),
            **({RECORD: {"of": str(self.part), "digest": self.part.digest}} if self.part else {}),
        }

    @property
    def reader(self) -> Reader:
        """The dataset's reader."""
        return find_reader(self.dataset)

    @property
    def size(self) -> int:
        """Bytes in all sources."""
        return sum(source.size for source in self.sources)

    def describe(self, out: Path) -> str:
        """Say what would be read and written: the text of ``--dry-run``."""
        listed = [f"    {printable(source.path)}  ({source.size:,} bytes)" for source in self.sources[:5]]
        if len(self.sources) > len(listed):
            listed.append(f"    ... and {len(self.sources) - len(listed):,} more")
        return "\n".join(
            [
                f"would read {len(self.sources):,} sources, {self.size / 1e6:,.1f} MB, of "
                f"{self.dataset_info.title} below {shown(self.root)}:",
                *listed,
                *(left.describe() for left in self.not_taken),
                f"and write {out}{' (which exists)' if out.exists() else ''}",
                f"plan {self.digest}",
            ]
        )

    def command(self) -> str:
        """Return the command that repeats this ingest, with neutral paths: part of the store's provenance."""
        words = ["skelconv", "ingest", self.dataset, "RAW", "OUT"]
        if self.options.extras:
            words += ["--with", ",".join(sorted(self.options.extras))]
        defaults = {option.name: option.default for option in self.reader.dataset.options}
        for name, value in sorted(self.options.values.items()):
            if value != defaults[name]:
                # an option that is True is a bare flag
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        if self.precision is not None:
            words += ["--precision", f"{self.precision:g}"]
        if self.shard_frames != schema.SHARD_FRAMES:
            words += ["--shard-frames", str(self.shard_frames)]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        if self.part is not None:
            words += ["--part", str(self.part)]
        return " ".join(words)


def make_plan(
    dataset: str,
    root: str | Path,
    tool: str,
    extras: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    shard_frames: int = schema.SHARD_FRAMES,
    precision: float | None = None,
) -> IngestPlan:
    """Look for the sources of ``dataset`` below ``root`` and plan their ingest.

    Only names and sizes are read. Where ``root`` is a file, the sources are those of its folder that it
    belongs to; `skelformats.raw_open.open_raw` makes one root of several folders, files and archives.

    Raises
    ------
    UnknownNameError
        No such dataset, optional array or option.
    PlanError
        ``root`` is not a folder, or holds no source of this dataset.
    RepeatedError
        A recording is there twice, with different bytes.
    """
    reader = find_reader(dataset)
    checked = reader.options(extras, **(options or {}))
    root = root if isinstance(root, Path) else Path(root)
    if catalogue_of(root) is None:
        root = open_raw([root])
    if catalogue_of(root) is None and root.is_file():
        root, checked = root.parent, replace(checked, only=root.name)
    if not root.is_dir():
        raise PlanError(f"{root}: found no folder, expected the raw files of {reader.dataset.title}")
    found = discover(reader, root, checked)
    sources = found.sources
    if not sources:
        home = reader.dataset.homepage
        raise PlanError(
            f"{shown(root)}: found no source of {dataset}, expected the raw files of {reader.dataset.title}. "
            "The documents say how the folders should look, and skelconv doctor what these files are"
            + (f"; the files come from {home}" if home else "")
            + "".join(f"\n    {left.describe()}" for left in found.not_taken)
        )
    if limit is not None:
        sources = sources[:limit]
    return IngestPlan(dataset, root, sources, checked, shard_frames, precision, tool, limit, found.not_taken)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
