"""From results to tables: cells with mean and spread over trials, those of other settings in rows of their
own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skeltrain.run_folder import RunError
from skeltrain.tables.facts import Facts
from skeltrain.tables.paper import PaperTable, paper_tables
from skeltrain.tables.place import Claim, UnplacedError, place
from skeltrain.tables.results import Left, read_results
from skeltrain.tasks.pretrain import OPTIONS

OBJECTIVE = "pretrain.model.objective"


@dataclass(frozen=True)
class Cell:
    """What the trials of one experiment scored.

    Attributes
    ----------
    mean, std
        Percent; ``std`` is the sample standard deviation, None for a single trial.
    trials
        Their number: pairs of a seed and a pretraining.
    pretrainings
        How many pretrainings there are among them; 0 from random weights.
    settings
        What the experiment has otherwise than those which claim the same cell, by name.
    where
        The files.
    """

    mean: float
    std: float | None
    trials: int
    pretrainings: int
    settings: dict[str, str]
    where: tuple[Path, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, what sets it apart from others of that name, and its cells by column."""

    name: str
    apart: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Drawn:
    """A group of a table of the paper, with the rows of both."""

    table: PaperTable
    group: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TestPart:
    """What accuracies on a dataset's test part are to be compared with; counts of recordings."""

    place: str
    generated: bool
    layout: str
    digest: str
    train_samples: int
    test_samples: int
    leaked: int
    classes: int
    chance: float
    majority: float


@dataclass(frozen=True)
class Tables:
    """Everything that some runs found.

    Attributes
    ----------
    drawn
        The tables that have a result.
    absent
        The tables of the paper that have none.
    data
        The test parts of the results.
    left
        What stands in no table, with the reason.
    """

    drawn: tuple[Drawn, ...]
    absent: tuple[PaperTable, ...]
    data: tuple[TestPart, ...]
    left: tuple[Left, ...]


def gather_tables(runs: Sequence[Path]) -> Tables:
    """Gather the results of runs in the tables of the S2I paper.

    Raises
    ------
    RunError
        One of ``runs`` is no folder of a finished run, or a file is damaged, or no result fits any table.
    """
    results, left = read_results(runs)
    claims: list[tuple[Claim, Facts]] = []
    for result in results:
        facts = Facts(result)
        try:
            claims += [(claim, facts) for claim in place(facts)]
        except UnplacedError as error:
            left.append(Left(result.where, str(error)))
    if not claims:
        reasons = "".join(f"\n    {one.where}: {one.reason}" for one in left)
        raise RunError(
            f"found {len(results)} results that fit no table, expected at least one that does:{reasons}"
        )
    drawn = []
    leading = {(claim.table, claim.group) for claim, _ in claims if claim.leads}
    for key, table in paper_tables().items():
        drawn += [_draw(table, group, claims) for own, group in sorted(leading) if own == key]
    called = {key for key, _ in leading}
    absent = tuple(table for key, table in paper_tables().items() if key not in called)
    data = _test_parts(facts for _, facts in claims)
    return Tables(tuple(drawn), absent, data, tuple(sorted(left, key=lambda one: str(one.where))))


def _draw(table: PaperTable, group: str, claims: Iterable[tuple[Claim, Facts]]) -> Drawn:
    """Make the rows of a group: the paper's, then others; columns likewise."""
    cells: dict[tuple[str, str], list[tuple[Claim, Facts]]] = defaultdict(list)
    for claim, facts in claims:
        if (claim.table, claim.group) == (table.key, group):
            cells[claim.row, claim.column].append((claim, facts))
    rows: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    for (row, column), found in cells.items():
        for apart, cell in _experiments(found):
            rows[row, apart][column] = cell
    ours = {row for row, _ in rows}
    names = [row for row in table.rows if row in ours or row in table.rows_of(group)]
    names += sorted(ours - set(names))
    made = []
    for name in names:
        variants = sorted(apart for row, apart in rows if row == name) or [""]
        made += [Row(name, apart, rows.get((name, apart), {})) for apart in variants]
    columns = _columns(table, {column for _, column in cells})
    return Drawn(table, group, columns, tuple(made))


def _columns(table: PaperTable, ours: set[str]) -> tuple[str, ...]:
    """Return the paper's columns, each followed by ours that are variants of it, then the rest."""
    bases = (*table.columns, *sorted(ours - set(table.columns), key=_column_order))
    ordered: list[str] = []
    for base in bases:
        variants = (
            column for column in bases[len(table.columns) :] if column.startswith((f"{base} ", f"{base},"))
        )
        ordered += [column for column in (base, *variants) if column not in ordered]
    return tuple(ordered)


def _column_order(column: str) -> tuple[float, str]:
    """Sort shares of labels by size, the rest by name."""
    number = column.partition(" %")[0]
    return (float(number) if number.replace(".", "", 1).isdigit() else float("inf"), column)


def _experiments(found: Sequence[tuple[Claim, Facts]]) -> list[tuple[str, Cell]]:
    """Return the cell of each experiment that claims one place, and what sets it apart from the others."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[Claim, Facts]]] = defaultdict(list)
    for claim, facts in found:
        series[tuple(sorted(facts.settings.items()))].append((claim, facts))
    every = [dict(key) for key in series]
    names = sorted({name for one in every for name in one})
    differing = [name for name in names if len({one.get(name) for one in every}) > 1]
    if OBJECTIVE in differing:
        # what one objective alone has differs with it
        alone = {f"pretrain.model.{name}" for own in OPTIONS.values() for name in own}
        differing = [name for name in differing if name not in alone]
    made = []
    for key, members in series.items():
        own = {name: dict(key).get(name, "-") for name in differing}
        made.append(
            (", ".join(f"{name}={_short(value)}" for name, value in own.items()), _cell(members, own))
        )
    return made


def _short(value: str) -> str:
    """Show a setting: without quotes, digests by their first digits."""
    plain = value.strip('"')
    return plain.removeprefix("sha256:")[:12] if "sha256:" in plain else plain


def _cell(members: Sequence[tuple[Claim, Facts]], settings: dict[str, str]) -> Cell:
    """Average trials; one that was done several times counts once, by its mean."""
    by_trial: dict[object, list[float]] = defaultdict(list)
    for claim, facts in members:
        by_trial[facts.trial].append(100 * facts.result.scores[claim.score])
    values = np.array([np.mean(scores) for scores in by_trial.values()])
    return Cell(
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
        trials=len(values),
        pretrainings=len({facts.pretrainings for _, facts in members} - {()}),
        settings=settings,
        where=tuple(sorted({facts.result.where for _, facts in members})),
    )


def _test_parts(found: Iterable[Facts]) -> tuple[TestPart, ...]:
    parts = set()
    for facts in found:
        data = facts.result.about["data"]
        parts.add(
            TestPart(
                place=facts.place,
                generated=facts.generated,
                layout=facts.layout,
                digest=str(data["digest"]),
                **{
                    name: data[name]
                    for name in (
                        "train_samples",
                        "test_samples",
                        "leaked",
                        "classes",
                        "chance",
                        "majority",
                    )
                },
            )
        )
    return tuple(sorted(parts, key=lambda part: (part.place, part.digest, part.train_samples)))
