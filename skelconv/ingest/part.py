"""``--part i/n``: an ingest in parts, each a store of its own, that merge to the bytes of one run.

Parts are stretches of the plan of about as many bytes each, so that every machine that sees the same raw
files cuts it alike. A part's store records which part of which plan it is (docs/store.md, section 5); what
puts them together is `skelconv.derive.merge_parts`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from skelformats.errors import SkelconvError
from skelformats.reader import Dataset, Source

if TYPE_CHECKING:
    from skelconv.ingest.plan import IngestPlan

RECORD = "part"
"""Key of a part's record in the provenance of its store."""


class PartError(SkelconvError):
    """No such part can be made of a plan."""


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``of``, counted from 1, of the plan with ``digest``, and what that plan records."""

    number: int
    of: int
    sources: int
    digest: str
    command: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def record(self, dataset: Dataset) -> dict[str, Any]:
        """Return what the store of this part says of the whole, as plain data."""
        return {
            "number": self.number,
            "of": self.of,
            "digest": self.digest,
            "sources": self.sources,
            "command": self.command,
            "options": self.settings,
            "keys": {table.name: list(table.key) for table in dataset.tables},
        }


def parse_part(text: str) -> tuple[int, int]:
    """Read ``3/8`` as (3, 8); raises `PartError` for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise PartError(f"found the part {text!r}, expected i/n with i from 1 to n, such as 3/8")
    return int(match[1]), int(match[2])


def take_part(plan: IngestPlan, number: int, of: int) -> IngestPlan:
    """Return the plan of one part.

    Raises
    ------
    PartError
        The plan has fewer sources than parts are asked for.
    """
    count = len(plan.sources)
    if of > count:
        raise PartError(f"found {of} parts asked for, expected at most {count}, as many as there are sources")
    bounds = cuts(plan.sources, of)
    whole = Part(number, of, count, plan.digest, plan.command(), plan.settings())
    return replace(plan, sources=plan.sources[bounds[number - 1] : bounds[number]], part=whole)


def cuts(sources: Sequence[Source], of: int) -> list[int]:
    """Where ``of`` parts begin and end: of + 1 numbers of sources, none the same as the one before."""
    ends = list(accumulate(source.size for source in sources))
    bounds, at = [0], 0
    for number in range(1, of):
        while at < len(ends) and ends[at] * of <= ends[-1] * number:
            at += 1
        # every part has a source, however large its neighbours are
        bounds.append(min(max(at, bounds[-1] + 1), len(sources) - (of - number)))
    return [*bounds, len(sources)]
