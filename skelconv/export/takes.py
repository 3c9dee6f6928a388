"""The recordings that an export of action samples takes: cleaned, without those listed as missing."""

from __future__ import annotations

from collections.abc import Iterator

from skelconv.clean import Actors, CleaningError, clean
from skelconv.export.place import ExportError
from skelconv.store.recording import Recording
from skelconv.store.store import Store

LISTED = "listed_missing"
"""Column of the NTU stores: 1 where the authors list the skeleton as missing or incomplete."""


def chain_of(store: Store, asked: str, of_dataset: dict[str, str]) -> str:
    """Return the chain to run: the one asked for; ``auto`` is the dataset's, none for a cleaned store."""
    if asked != "auto":
        return asked
    if "chain" in (store.info.provenance.derived_from or {}):
        return "none"
    return of_dataset.get(store.info.dataset.name, "none")


def cleaned_takes(
    store: Store, chain: str, set_aside: list[tuple[str, str]]
) -> Iterator[tuple[Recording, Actors]]:
    """Yield every recording, by name, with what the chain makes of it; note those that are left out.

    Names go by the alphabet, as the published scripts sort their files. Recordings that the authors list as
    missing are left out, as they do.
    """
    for name in sorted(store.recording_names()):
        recording = store.recording(name)
        if recording.row.get(LISTED) == 1:
            set_aside.append((name, "the authors list its skeleton as missing or incomplete"))
            continue
        try:
            actors = clean(recording, chain, store.skeleton)
        except CleaningError as error:
            set_aside.append((name, error.reason))
            continue
        yield recording, actors


def expect_some(count: int, store: Store, set_aside: list[tuple[str, str]]) -> None:
    """Raise `ExportError` where nothing was exported."""
    if not count:
        first = f"; the first: {set_aside[0][0]}: {set_aside[0][1]}" if set_aside else ""
        raise ExportError(f"{store.path}: found no recording to export, expected at least one{first}")
