"""The journal of an ingest: what is safely on disk, one line of JSON a whole shard."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from skelconv.store.info import StoreError


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

    ``source`` is the number of the plan's source from which reading must go on: some of its frames may be
    on disk already, those of the sources before it all are.
    """

    shards: int = 0
    source: int = 0
    rows: list[list[Any]] = field(default_factory=list)
    side_rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


class Journal:
    """Appends a line after each whole shard; a line torn by a crash is as if it had not been written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, digest: str, settings: dict[str, Any]) -> Progress:
        """Start a journal, or read the one that an interrupted run of the same plan left.

        Raises
        ------
        StoreError
            The journal belongs to another plan; says which settings differ.
        """
        lines = self._lines()
        if not lines:
            self.path.write_text("")
            self._write({"digest": digest, "settings": settings})
            return Progress()
        header, *shards = lines
        if header["digest"] != digest:
            raise StoreError(
                f"{self.path.parent}: found an unfinished ingest of another plan "
                f"({_difference(header, settings)}), expected the same plan to resume. Run the earlier "
                "command again to finish it, or add --overwrite to throw it away"
            )
        progress = Progress()
        for line in shards:
            progress.shards = line["shards"]
            progress.source = line["source"]
            progress.rows += line["rows"]
            for table, side_rows in line["side_rows"].items():
                progress.side_rows.setdefault(table, []).extend(side_rows)
            progress.notes += [Note(*note) for note in line["notes"]]
        # what a torn last line left is cut off, so that the next line starts on a fresh one
        whole = "".join(json.dumps(line) + "\n" for line in lines)
        aside = self.path.with_suffix(".rewrite")
        aside.write_text(whole)
        aside.replace(self.path)
        return progress

    def belongs_to(self, digest: str) -> bool:
        """Whether this journal was begun by a run of the plan with this digest."""
        lines = self._lines()
        return bool(lines) and lines[0]["digest"] == digest

    def record(
        self,
        shards: int,
        source: int,
        rows: list[list[Any]],
        side_rows: dict[str, list[list[Any]]],
        notes: list[Note],
    ) -> None:
        """Write down that ``shards`` shards are whole; rows and notes are those since last time.

        Rows of the table are those that have begun; side rows and notes are those of finished sources.
        """
        self._write(
            {"shards": shards, "source": source, "rows": rows, "side_rows": side_rows, "notes": notes}
        )

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        text = self.path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _difference(header: dict[str, Any], settings: dict[str, Any]) -> str:
    before = header["settings"]
    changed = [
        f"{key} was {before.get(key)!r}, is {settings.get(key)!r}"
        for key in sorted({*before, *settings})
        if before.get(key) != settings.get(key)
    ]
    return "; ".join(changed) or "the raw files have changed"
