"""The journal of an ingest: what is safely on disk, one line of JSON a whole shard.

Each line is a list of two: the BLAKE2b-64 of the text of the second, and the second. Without it a flipped bit
would be a wrong label in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from skelconv.ingest.plan import IngestPlan
from skelconv.store.info import StoreError
from skelconv.store.publish import sync
from skelconv.store.writer import Begun
from skelformats.raw_root import shown

_RESTART = "Run the command again with --overwrite to start afresh"


class JournalError(StoreError):
    """What an interrupted ingest left cannot be continued; says why, and what to do."""


class Note(NamedTuple):
    """About a source, by its number in the plan: why it was set aside, or which recording is empty.

    ``recording`` names the one that is set aside where the source's others are not.
    """

    source: int
    kind: Literal["set_aside", "empty"]
    text: str
    line: int | None = None
    recording: str | None = None


@dataclass
class Progress:
    """How far an ingest has come, as its journal tells.

    Attributes
    ----------
    source
        Number of the plan's source from which reading must go on: some of its frames may be on disk already,
        those of the sources before it all are.
    shards
        For each whole shard, the digest of its file in each array.
    rows, side_rows
        Rows of the table that have begun; side rows of finished sources, by table.
    notes
        Notes on finished sources.
    """

    source: int = 0
    shards: list[dict[str, str]] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    side_rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def begun(self) -> Begun:
        """Return what the writer continues."""
        return Begun(tuple(self.shards), tuple(self.rows), self.side_rows)


@dataclass(frozen=True)
class Entry:
    """What is new since the last whole shard.

    ``digests`` are those of the shard's files by array; ``source`` as in `Progress`; ``stamps`` belong to the
    sources that were read since, the unfinished one included (`IngestPlan.stamps`).
    """

    digests: dict[str, str]
    source: int
    stamps: Sequence[int]
    rows: list[list[Any]]
    side_rows: dict[str, list[list[Any]]]
    notes: list[Note]


class Journal:
    """Appends a line after each whole shard; a line torn by a crash is as if it had not been written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, plan: IngestPlan) -> Progress:
        """Start a journal, or read the one that an interrupted run of the same plan left.

        A journal that names no whole shard is worth nothing, and is started anew whatever plan it is of.

        Raises
        ------
        JournalError
            The journal belongs to another plan, or is damaged, or a source has changed since it was read.
        """
        lines = self._lines()
        if len(lines) < 2:
            self._write_anew(
                [{"digest": plan.digest, "settings": plan.settings(), "sources": len(plan.sources)}]
            )
            return Progress()
        try:
            progress = _progress(lines, plan, self.path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"an entry that is not one ({error!r})") from error
        # what a torn last line left is cut off, so that the next line starts on a fresh one
        self._write_anew(lines)
        return progress

    def record(self, entry: Entry) -> None:
        """Write down that another shard is whole."""
        with self.path.open("a") as file:
            file.write(_line(vars(entry)))
            file.flush()
            os.fsync(file.fileno())

    def _write_anew(self, entries: Sequence[dict[str, Any]]) -> None:
        aside = self.path.with_suffix(".rewrite")
        aside.write_text("".join(map(_line, entries)))
        sync(aside)
        aside.replace(self.path)
        sync(self.path.parent)

    def _lines(self) -> list[dict[str, Any]]:
        if not os.path.lexists(self.path):
            return []
        if self.path.is_symlink() or not self.path.is_file():
            raise self._damaged("something that is not a file")
        content = self.path.read_bytes()
        return [
            self._entry(number, line)
            for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1)
        ]

    def _entry(self, number: int, line: bytes) -> dict[str, Any]:
        # ["<16 digits>",{...}]
        body = line[20:-1]
        if line != b'["%s",%s]' % (_digest(body), body):
            raise self._damaged(f"bytes in line {number} that are not those that were written")
        entry: dict[str, Any] = json.loads(body)
        return entry

    def _damaged(self, found: str) -> JournalError:
        return JournalError(f"{self.path}: found {found}, expected the journal of an ingest. {_RESTART}")


def _progress(lines: Sequence[dict[str, Any]], plan: IngestPlan, path: Path) -> Progress:
    header, *entries = lines
    if header["digest"] != plan.digest:
        raise JournalError(
            f"{path.parent}: found an unfinished ingest of another plan "
            f"({_difference(header['settings'], plan.settings())}), expected the same plan to resume. "
            "Run the earlier command again on the same files to finish it, or add --overwrite to throw it "
            "away"
        )
    progress, read = Progress(), 0
    for entry in entries:
        stamps, now = entry["stamps"], plan.stamps[read : read + len(entry["stamps"])]
        for number, (before, after) in enumerate(zip(stamps, now, strict=True), read):
            if before != after:
                raise JournalError(
                    f"{shown(plan.root, plan.sources[number].path)}: found another time of modification "
                    "than when the interrupted run read it, expected raw files that stay as they are. "
                    f"{_RESTART}"
                )
        progress.source = entry["source"]
        # the unfinished source is read again, and its stamp written again
        read = progress.source
        progress.shards.append(entry["digests"])
        progress.rows += entry["rows"]
        for table, rows in entry["side_rows"].items():
            progress.side_rows.setdefault(table, []).extend(rows)
        progress.notes += [Note(*note) for note in entry["notes"]]
    return progress


def _line(entry: dict[str, Any]) -> str:
    body = json.dumps(entry)
    return f'["{_digest(body.encode()).decode()}",{body}]\n'


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).hexdigest().encode()


def _difference(before: dict[str, Any], settings: dict[str, Any]) -> str:
    changed = [
        f"{key} was {before.get(key)!r}, is {settings.get(key)!r}"
        for key in sorted({*before, *settings})
        if before.get(key) != settings.get(key)
    ]
    return "; ".join(changed) or "the raw files have changed"
