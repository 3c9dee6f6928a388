"""What can be asked for: datasets and joint layouts, as text."""

from __future__ import annotations

from collections.abc import Sequence

from skelformats.reader import usable_readers
from skelformats.skeleton import usable_skeletons


def dataset_rows() -> list[tuple[str, ...]]:
    """Return name, layout, number of classes, splits, optional arrays and title of each usable dataset."""
    return [
        (
            dataset.name,
            dataset.skeleton,
            str(len(dataset.classes)),
            ",".join(protocol.name for protocol in dataset.protocols) or "-",
            ",".join(extra.name for extra in dataset.extras) or "-",
            dataset.title,
        )
        for dataset in (reader.dataset for reader in usable_readers()[0])
    ]


def describe_datasets() -> str:
    """Return a table of the installed readers, and under it those that do not work and why."""
    listed = table(("dataset", "layout", "classes", "splits", "--with", "title"), dataset_rows())
    return "\n".join([listed, *usable_readers()[1]])


def describe_skeletons() -> str:
    """Return a table of the joint layouts, and under it those that do not work and why."""
    skeletons, problems = usable_skeletons()
    rows = [(skeleton.name, str(len(skeleton)), skeleton.title) for skeleton in skeletons]
    return "\n".join([table(("layout", "joints", "title"), rows), *problems])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out text in aligned columns, under a header; the last column is as wide as it needs."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
