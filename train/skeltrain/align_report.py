"""One page about alignments under several seeds: a table beside chance and untrained towers, and searches.

    python -m skeltrain.align_report EVALUATED... --gallery gallery.zarr --store crops.zarr --out report.html

EVALUATED are folders that ``skeltrain evaluate RUN --out EVALUATED`` wrote, of one recipe under several
seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import orjson

from skelconv.cli.command import run
from skelconv.view.cards import Table
from skelformats.errors import SkelconvError
from skeltrain.gallery import Found, Gallery, PoseQuery, open_gallery, search
from skeltrain.gallery_page import write_found

FILE = click.Path(path_type=Path)
SHOWN, QUERIES = 5, 4


class ReportError(SkelconvError):
    """Evaluations that make no table."""


class Line(NamedTuple):
    """A row of the table: what it says, the metrics of chance, untrained and trained towers, and its unit."""

    words: str
    chance: str
    untrained: str
    trained: str
    percent: bool = False


def _looked(query: str, gallery: str, words: str) -> tuple[Line, ...]:
    key = f"{query}-{gallery}"
    return (
        Line(
            f"{words}: the very frame comes first, %",
            "retrieval/chance/exact index at 1",
            f"untrained/{key}/paper/exact index at 1",
            f"retrieval/{key}/paper/exact index at 1",
            True,
        ),
        Line(
            f"{words}: pose found without the query's half second, MPJPE mm",
            "retrieval/chance/mpjpe",
            f"untrained/{key}/apart/mpjpe",
            f"retrieval/{key}/apart/mpjpe",
        ),
        Line(
            f"{words}: pose found among other persons, MPJPE mm",
            "retrieval/chance/mpjpe",
            f"untrained/{key}/train/mpjpe",
            f"retrieval/{key}/train/mpjpe",
        ),
    )


LINES = (
    *_looked("image", "pose3d", "picture to 3D pose"),
    *_looked("pose2d", "pose3d", "2D pose to 3D pose"),
    Line(
        "3D pose to picture: the very picture comes first, %",
        "retrieval/chance/exact index at 1",
        "untrained/pose3d-image/paper/exact index at 1",
        "retrieval/pose3d-image/paper/exact index at 1",
        True,
    ),
    Line(
        "3D pose decoded from the picture, MPJPE mm", "poses/chance mean pose/mpjpe", "", "poses/image/mpjpe"
    ),
    Line("the same after Procrustes, mm", "poses/chance mean pose/pa-mpjpe", "", "poses/image/pa-mpjpe"),
    Line(
        "3D pose decoded from the true 2D pose, MPJPE mm",
        "poses/chance mean pose/mpjpe",
        "",
        "poses/pose2d of pixel/mpjpe",
    ),
)

ORACLE = "retrieval/image-pose3d/train/oracle mpjpe"


def score_table(folders: Sequence[Path]) -> Table:
    """Return the table of evaluations under several seeds: means, and the spread over seeds.

    Raises
    ------
    ReportError
        A folder holds no evaluation, or one that lacks a figure.
    """
    found = [_metrics(folder) for folder in folders]
    rows = []
    for line in LINES:
        cells = [line.words]
        for key in (line.chance, line.untrained, line.trained):
            if not key:
                cells.append("")
                continue
            values = np.array([_one(metrics, key, at) for metrics, at in zip(found, folders, strict=True)])
            cells.append(_said(values * (100 if line.percent else 1)))
        rows.append(cells)
    oracle = np.mean([_one(metrics, ORACLE, at) for metrics, at in zip(found, folders, strict=True)])
    frames = int(_one(found[0], "retrieval/frames", folders[0]))
    return Table(
        f"{frames:,} test frames, {len(found)} seed{'s' if len(found) > 1 else ''}",
        ("", "chance", "untrained", "trained"),
        rows,
        "Mean and standard deviation over seeds, each with its own first weights and order of frames. "
        "Chance: the pose of another frame; for decoded poses the mean pose of the training frames. No "
        f"search among other persons can come below {oracle:.0f} mm, the error of the nearest pose there is.",
    )


def searches(gallery: Gallery, store: str, queries: int = QUERIES) -> list[Found]:
    """Look for pictures of test frames, and for 2D poses, among the poses of the training frames.

    Raises
    ------
    ReportError
        The gallery has no split.
    """
    splits = [name for name in map(str, gallery.table) if name.startswith("split_")]
    column = next((name for name in ("split_xsub", *splits) if name in gallery.table), None)
    if column is None:
        raise ReportError(
            f"{gallery.path}: found no split, expected a gallery of training and of test frames"
        )
    parts = gallery.table[column].to_numpy(str)
    test = np.flatnonzero(parts == "test")
    if not len(test) or not (parts == "train").any():
        raise ReportError(f"{gallery.path}: found no training or no test frames by {column}, expected both")
    chosen = test[np.linspace(0, len(test) - 1, queries + 2).round().astype(int)[1:-1]]
    found = []
    for number, at in enumerate(chosen.tolist()):
        row = gallery.table.iloc[at]
        by = "pose2d" if number == queries - 1 else "image"
        whole = search(
            gallery, PoseQuery(store, str(row["sequence"]), int(row["frame_index"]), by), len(gallery.table)
        )
        kept = np.flatnonzero(parts[whole.index] == "train")[:SHOWN]
        index = whole.index[kept]
        truth, poses = (gallery.rows("pose3d", rows) for rows in (np.array([at]), index))
        table = whole.table.iloc[kept].reset_index(drop=True)
        if truth is not None and poses is not None:
            table["error"] = 1000 * np.linalg.norm(poses - truth, axis=-1).mean(axis=-1)
        found.append(replace(whole, table=table, index=index))
    return found


def _metrics(folder: Path) -> dict[str, float]:
    file = folder / "evaluation.json"
    try:
        found = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ReportError(
            f"{file}: found no evaluation ({error}), expected what skeltrain evaluate writes"
        ) from error
    return {f"{name}/{key}": value for name, part in found.items() for key, value in part.items()}


def _one(metrics: Mapping[str, float], key: str, folder: Path) -> float:
    if key not in metrics:
        raise ReportError(
            f"{folder}: found no figure {key!r}, expected the evaluation of a run of stage all, with "
            "pictures, on a store with a split and a frame rate"
        )
    return metrics[key]


def _said(values: np.ndarray) -> str:
    digits = 1 if abs(values.mean()) < 100 else 0
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 and values.std() > 0 else ""
    return f"{values.mean():.{digits}f}{spread}"


@click.command()
@click.argument("folders", type=FILE, nargs=-1, required=True)
@click.option("--gallery", required=True, help="Embeddings of a run on STORE.")
@click.option("--store", required=True, help="Crop store that the runs were evaluated on.")
@click.option("--out", type=FILE, required=True, help="HTML file to write.")
def main(folders: tuple[Path, ...], gallery: str, store: str, out: Path) -> None:
    """Print the table of FOLDERS, and write it with some searches as a page."""
    table = score_table(folders)
    widths = [max(len(row[n]) for row in (table.columns, *table.rows)) for n in range(len(table.columns))]
    click.echo(table.heading)
    for row in (table.columns, *table.rows):
        click.echo(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
        )
    opened = open_gallery(gallery)
    title = "Picture, 2D and 3D pose in one space"
    click.echo(write_found(out, opened, searches(opened, store), title, [table]))


if __name__ == "__main__":
    run(main)
