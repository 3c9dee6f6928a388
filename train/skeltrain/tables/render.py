"""Tables as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from skeltrain.tables.gather import Cell, Drawn, Row, Tables
from skeltrain.tables.paper import ALL

MARKDOWN, CSV = "tables.md", "tables.csv"

LEGEND = (
    "Accuracy in %, mean ± sample standard deviation over the trials, their number in brackets; over other "
    "than one pretraining, that number too. A score is that of the last epoch. Rows of one name are of other "
    "settings, which stand beside it. Columns `paper` are the S2I paper's figures on the real data, by a "
    "ViT-B."
)


def to_markdown(tables: Tables, title: str = "Tables of the S2I paper") -> str:
    """Return all tables, what accuracies compare with, and what stands in no table."""
    parts = [f"# {title}", LEGEND]
    made = sorted({part.place for part in tables.data if part.generated})
    if made:
        parts.append(f"Generated data, of which the paper's figures are not: {', '.join(made)}.")
    for drawn in tables.drawn:
        group = "" if drawn.group == ALL else f" · {drawn.group}"
        lines = _align([_header(drawn), *(_line(drawn, row) for row in drawn.rows)])
        parts.append(f"## {drawn.table.heading}{group}")
        parts.append("\n".join(lines))
        parts.append(f"{drawn.table.note} Paper: {drawn.table.source}.")
    parts += ["## What accuracies are to be compared with", "\n".join(_align(_data(tables)))]
    if tables.absent:
        names = "; ".join(table.heading for table in tables.absent)
        parts.append(f"No run for: {names}.")
    if tables.left:
        parts.append("## In no table")
        parts.append("\n".join(f"- `{one.where}`: {one.reason}" for one in tables.left))
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Tables) -> str:
    """Return a line a cell: those of runs, and those of the paper in the same groups."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "table",
            "title",
            "group",
            "row",
            "apart",
            "column",
            "mean",
            "std",
            "trials",
            "pretrainings",
            "paper",
            "source",
            "files",
        ]
    )
    for drawn in tables.drawn:
        table = drawn.table
        for row in drawn.rows:
            for column in drawn.columns:
                cell, figure = row.cells.get(column), table.figures.get((drawn.group, row.name, column))
                if cell is None and figure is None:
                    continue
                found = ["", "", "", ""] if cell is None else _numbers(cell)
                files = "" if cell is None else " ".join(map(str, cell.where))
                source = "" if figure is None else table.source
                writer.writerow(
                    [
                        table.number or "",
                        table.title,
                        drawn.group,
                        row.name,
                        row.apart,
                        column,
                        *found,
                        "" if figure is None else figure,
                        source,
                        files,
                    ]
                )
    return text.getvalue()


def write_tables(tables: Tables, out: Path, title: str) -> None:
    """Write ``tables.md`` and ``tables.csv`` into a folder, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in ((MARKDOWN, to_markdown(tables, title)), (CSV, to_csv(tables))):
        aside = out / f"{name}.partial"
        aside.write_text(text, encoding="utf-8")
        aside.replace(out / name)


def _numbers(cell: Cell) -> list[str]:
    spread = "" if cell.std is None else f"{cell.std:.4f}"
    return [f"{cell.mean:.4f}", spread, str(cell.trials), str(cell.pretrainings)]


def _has_paper(drawn: Drawn, column: str) -> bool:
    return any((drawn.group, row.name, column) in drawn.table.figures for row in drawn.rows)


def _header(drawn: Drawn) -> list[str]:
    words = [""]
    for column in drawn.columns:
        if _shown(drawn, column):
            words += [column, "paper"] if _has_paper(drawn, column) else [column]
    return words


def _shown(drawn: Drawn, column: str) -> bool:
    return _has_paper(drawn, column) or any(column in row.cells for row in drawn.rows)


def _line(drawn: Drawn, row: Row) -> list[str]:
    words = [f"{row.name} ({row.apart})" if row.apart else row.name]
    for column in drawn.columns:
        if not _shown(drawn, column):
            continue
        cell = row.cells.get(column)
        words.append("–" if cell is None else _cell(cell))
        if _has_paper(drawn, column):
            figure = drawn.table.figures.get((drawn.group, row.name, column))
            words.append("" if figure is None else f"{figure:.1f}")
    return words


def _cell(cell: Cell) -> str:
    spread = "" if cell.std is None else f" ± {cell.std:.1f}"
    count = f"{cell.trials}" if cell.pretrainings < 2 else f"{cell.trials} of {cell.pretrainings}"
    return f"{cell.mean:.1f}{spread} ({count})"


def _data(tables: Tables) -> list[list[str]]:
    head = [
        "",
        "layout",
        "data",
        "training samples",
        "test recordings",
        "leaked",
        "classes",
        "chance",
        "largest",
    ]
    lines = [
        [
            f"{part.place}, generated" if part.generated else part.place,
            part.layout,
            part.digest.removeprefix("sha256:")[:8],
            f"{part.train_samples}",
            f"{part.test_samples}",
            f"{part.leaked}",
            f"{part.classes}",
            f"{100 * part.chance:.1f}",
            f"{100 * part.majority:.1f}",
        ]
        for part in tables.data
    ]
    return [head, *lines]


def _align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns also stand below each other on a terminal."""
    widths = [max(len(word) for word in column) for column in zip(*lines, strict=True)]
    head, *rest = (
        "| " + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    return [head, "| " + " | ".join("-" * max(width, 3) for width in widths) + " |", *rest]
