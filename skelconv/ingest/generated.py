"""Generated data says so: the marker in a raw folder, and what a store made of it carries instead of a
licence.

`skelconv synth` puts the marker into every folder that it writes. A store of such files has the format of a
dataset and nothing else of it: neither its licence nor its citation applies.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skelconv.store.text import printable
from skelformats.reader import Dataset

MARKER = "SYNTHETIC.txt"
"""Name of the file, at the top of a raw folder, that says nothing in the folder was recorded, and how it was
made.
"""

LONGEST = 600
"""Characters of the marker that a store keeps; what `skelconv synth` writes is shorter."""


def generated_by(root: Path) -> str:
    """Return what the marker of a raw folder says, in one line; empty where there is none.

    Raises
    ------
    OSError
        The marker is there and cannot be read.
    """
    marker = root / MARKER
    if not marker.is_file():
        return ""
    with marker.open("rb") as file:
        text = file.read(4 * LONGEST).decode("utf-8", "replace")
    words = printable(" ".join(text.split()))[:LONGEST]
    return words or f"an empty {MARKER} stands beside the raw files"


def as_generated(dataset: Dataset, how: str) -> Dataset:
    """Describe a dataset's format, but not the dataset: ``how`` is what `generated_by` returned."""
    return replace(
        dataset,
        title=f"generated files in the format of {dataset.title}",
        licence=f"none of the dataset's: nobody was recorded, the files were generated ({MARKER})",
        citation="",
        homepage="",
        generated=how,
    )
