"""Whether a store is what docs/store.md specifies, undamaged, and still equal to its sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skelconv.store.info import StoreError
from skelconv.store.integrity import ATTRIBUTE, STORED, metadata_digest, recorded_digest
from skelconv.store.location import Metadata, locate, read_metadata
from skelconv.store.store import Store, open_store
from skelconv.verify.chunks import check_chunks
from skelconv.verify.content import check_content, check_table
from skelconv.verify.findings import Findings, Progress, no_progress
from skelconv.verify.raw import check_raw
from skelconv.verify.remote import LEFT_OUT, check_remote_chunks
from skelconv.verify.structure import check_structure


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    path
        The store.
    problems
        One line each; empty for a sound store.
    checked
        What was looked at, counted: arrays, files, absent files, chunks, bytes, sequences, frames, joints,
        missing joints, sources.
    leakage
        Test sequences by protocol whose motion also occurs in the training set. Not a problem of the store.
    left_out
        What could not be looked at.
    """

    path: str
    problems: list[str]
    checked: dict[str, int]
    leakage: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def finite(self) -> float:
        """Share of the joints that are there, 0 to 1; 1 for a store without frames."""
        joints = self.checked.get("joints", 0)
        return 1 - self.checked.get("missing joints", 0) / joints if joints else 1.0

    def describe(self) -> str:
        """Return the report as text."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.checked.items())
        lines = [f"{self.path}: checked {counts}"]
        lines += [
            f"  {protocol}: {count:,} test sequences also stand in the training set"
            for protocol, count in self.leakage.items()
            if count
        ]
        lines += [f"  not looked at: {what}" for what in self.left_out]
        lines += [f"  {problem}" for problem in self.problems]
        verdict = (
            "sound" if self.ok else f"{len(self.problems):,} problem{'s' if len(self.problems) != 1 else ''}"
        )
        return "\n".join([*lines, verdict])


def verify(
    path: str | Path, raw: Path | Sequence[Path] | None = None, progress: Progress | None = None
) -> Report:
    """Check a sequence store: its structure, every byte of every chunk, its table, its values.

    Checked are the digest of the metadata, where there is one, and the layout; the crc32c of every chunk and
    of every shard's index, and that each decodes; that sequences follow one another and fill the frames; ids,
    labels, splits, frame numbers and tracking states; that the digest of each sequence is that of its
    positions.

    Parameters
    ----------
    path
        The store's folder, or its URL: then everything is fetched, and what only a folder shows is left out.
    raw
        Folder of the raw files, or the several folders, files and archives that were ingested together. Every
        source is read again, with the options that the store records, and compared bit for bit.
    progress
        Called as (steps, unit, bytes) before each check that takes long (`skelconv.cli.command.progress`).

    Raises
    ------
    StoreError
        There is no store of this version to be checked, or ``raw`` is given for a store that was made from
        another store.
    PlanError, UnknownNameError
        ``raw`` holds no source of the dataset, or the dataset's reader is not installed.
    """
    show, places = progress or no_progress, [raw] if isinstance(raw, Path) else list(raw or ())
    location = locate(path)
    metadata = read_metadata(location)
    store = open_store(path)
    if places and store.info.provenance.derived_from is not None:
        raise StoreError(
            f"{path}: found a store made from another store, expected one made from sources to compare with "
            "them. Leave out --raw, or verify the store that it was made from"
        )
    findings = Findings()
    if location.folder is not None:
        check_seal(location.folder, metadata, findings)
    readable = check_structure(location.folder, metadata, store.info, findings)
    if location.folder is None:
        damaged = check_remote_chunks(location, metadata, findings, show)
    else:
        damaged = check_chunks(location.folder, metadata, findings, show)
    leakage: dict[str, int] = {}
    if readable and not damaged & {*store.columns, *store.array_columns} and check_table(store, findings):
        leakage = {protocol: int(store.leaked(protocol).sum()) for protocol in store.info.protocols}
        _check_leakage(store, leakage, findings)
        check_content(store, location, metadata, findings, show)
        if places:
            check_raw(store, places, findings, show)
    elif places:
        findings.add("raw", "not compared with the sources, since the table cannot be read")
    left_out = LEFT_OUT if location.folder is None else ()
    return Report(str(path), findings.problems(), dict(findings.checked), leakage, left_out)


def check_seal(folder: Path, metadata: Metadata, findings: Findings) -> None:
    """Check the digest of the metadata, where the store records one."""
    recorded = recorded_digest(metadata.attributes)
    if recorded is None:
        sealed = any((node.get("attributes") or {}).get(STORED) for node in metadata.arrays.values())
        findings.expect(
            not sealed,
            "metadata",
            f"{folder}: found no root attribute {ATTRIBUTE!r}, expected it, since arrays have {STORED!r}",
        )
        return
    findings.checked["metadata files"] += 1 + len(metadata.arrays)
    found = metadata_digest(folder, recorded)
    findings.expect(
        found == recorded,
        "metadata",
        f"{folder}: found metadata (zarr.json) of digest {found}, expected {recorded}: it is not as it was "
        "written",
    )


def _check_leakage(store: Store, leakage: dict[str, int], findings: Findings) -> None:
    recorded = store.info.provenance.leakage
    for protocol, count in leakage.items():
        findings.expect(
            recorded.get(protocol, 0) == count,
            "leakage",
            f"found {count} leaked test sequences of {protocol}, expected the recorded "
            f"{recorded.get(protocol, 0)}",
        )
