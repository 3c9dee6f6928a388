"""One page about 3D poses from 2D ones: pretrained beside from scratch, curves, and 2D beside predicted 3D.

    python -m skeltrain.motion_report --pretrained RUN --scratch RUN --poses poses.zarr --out page.html

RUN are finished runs of the task ``pose3d`` of one recipe under several seeds, their first weights a
pretraining's or fresh; ``poses.zarr`` is what ``skeltrain predict`` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
import yaml

from skelconv.cli.command import run
from skelconv.report.charts import curves
from skelconv.report.html import render_page, write_page
from skelconv.report.runs import read_run
from skelconv.store.store import Store, open_store
from skelconv.view.beside import CAMERA_YAW, beside_names, flat_beside
from skelconv.view.cards import Table
from skelconv.view.viewer import viewer_fragment
from skelformats.errors import SkelconvError
from skeltrain.run_folder import RunFolder

FILE = click.Path(path_type=Path)

LINES = (
    ("MPJPE, mm", "mpjpe", "constant_mpjpe"),
    ("P-MPJPE, mm", "p_mpjpe", "constant_p_mpjpe"),
    ("MPJVE, mm a frame", "mpjve", None),
)
"""Rows of the table: what it says, the metric, and that of the constant pose."""

SHOWN = 3
"""Recordings of each store of predictions that are shown, the longest."""

CURVE = "mpjpe"


class ReportError(SkelconvError):
    """Runs that make no table."""


def score_table(scratch: Sequence[Path], pretrained: Sequence[Path]) -> Table:
    """Return the table of runs from scratch and pretrained ones: means, and the spread over seeds.

    Raises
    ------
    ReportError
        A run was not evaluated, or the runs are not of one recipe with the same seeds.
    """
    plain, tuned = [_seeded(runs) for runs in (scratch, pretrained)]
    if sorted(plain) != sorted(tuned):
        raise ReportError(
            f"found seeds {sorted(plain)} from scratch and {sorted(tuned)} pretrained, expected the same"
        )
    rows = []
    for words, metric, constant in LINES:
        values = [np.array([_one(found[seed], metric) for seed in sorted(found)]) for found in (plain, tuned)]
        gain = values[0] - values[1]
        rows.append(
            [
                words,
                "" if constant is None else f"{_one(plain[min(plain)], constant):.1f}",
                *map(_said, values),
                f"{_said(gain)}, in {(gain > 0).sum()} of {len(gain)} seeds",
            ]
        )
    return Table(
        f"{len(plain)} seed{'s' if len(plain) > 1 else ''}",
        ("", "mean pose", "from scratch", "pretrained", "lower by"),
        rows,
        "Mean and standard deviation over seeds; each seed has its own first weights, order of clips and "
        "pretraining. Both take the same steps on the same clips. Mean pose: one pose, the mean of the test "
        "part, in place of every prediction.",
    )


def error_curves(scratch: Sequence[Path], pretrained: Sequence[Path]) -> str:
    """Draw the test error while training, a line for each run, as an SVG element; empty without any."""
    lines = {}
    for words, runs in (("from scratch", scratch), ("pretrained", pretrained)):
        for folder in runs:
            rows = _metrics(folder, "val/" + CURVE, CURVE)
            if rows is not None:
                lines[f"{words}, seed {_recipe(folder)['seed']}"] = rows
    return curves(lines, "epoch", "MPJPE, mm") if lines else ""


def loss_curves(runs: Sequence[Path], words: str) -> str:
    """Draw the loss of runs as an SVG element, a line for each."""
    lines = {}
    for folder in runs:
        rows = _metrics(folder, "loss")
        if rows is None:
            raise ReportError(f"{folder}: found no loss in metrics.csv, expected that of a training run")
        lines[f"{words}, seed {_recipe(folder)['seed']}"] = rows
    return curves(lines, "epoch", "loss") if lines else ""


def lifted(store: Store, shown: int = SHOWN) -> str:
    """Return a viewer of the longest recordings of a store of predictions, 2D and 3D side by side."""
    table = store.to_frame()
    longest = (
        table.groupby("recording", sort=False)["length"].sum().sort_values(ascending=False, kind="stable")
    )
    recordings = [store.recording(str(name)) for name in longest.index[:shown]]
    names = beside_names(max(len(recording.bodies) for recording in recordings))
    return viewer_fragment(
        [flat_beside(recording) for recording in recordings],
        store.skeleton,
        store.info.frame_rate,
        names=names,
        yaw=CAMERA_YAW,
    )


def _seeded(runs: Sequence[Path]) -> dict[int, tuple[Path, dict[str, float]]]:
    """Return folder and scores of each run, by its seed."""
    found: dict[int, tuple[Path, dict[str, float]]] = {}
    for folder in runs:
        file = RunFolder(folder).evaluation
        try:
            scores = orjson.loads(file.read_bytes())["test"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ReportError(
                f"{file}: found no scores of the test part ({error}), expected those of a finished run of "
                "pose3d. Run skeltrain evaluate"
            ) from error
        seed = int(_recipe(folder)["seed"])
        if seed in found:
            raise ReportError(
                f"{folder}: found seed {seed} twice, also in {found[seed][0]}, expected it once"
            )
        found[seed] = (folder, scores)
    return found


def _recipe(folder: Path) -> dict[str, Any]:
    file = RunFolder(folder).recipe
    try:
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(recipe, dict) or "seed" not in recipe:
            raise ValueError("no seed")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReportError(
            f"{file}: found no recipe of a run ({error}), expected the folder of a training run"
        ) from error
    return recipe


def _metrics(folder: Path, *columns: str) -> tuple[list[float], list[float]] | None:
    """Return epochs and values of the first of these columns that the run's table has."""
    metrics = read_run(folder).metrics
    for column in columns:
        if column in metrics:
            rows = metrics[["epoch", column]].dropna()
            return rows["epoch"].tolist(), rows[column].tolist()
    return None


def _one(run: tuple[Path, Mapping[str, float]], metric: str) -> float:
    folder, scores = run
    if metric not in scores:
        raise ReportError(
            f"{folder}: found no {metric} in its evaluation, expected that of a run of the task pose3d"
        )
    return float(scores[metric])


def _said(values: np.ndarray) -> str:
    return f"{values.mean():.1f}" + (f" \u00b1 {values.std(ddof=1):.1f}" if len(values) > 1 else "")


@click.command()
@click.option("--scratch", type=FILE, multiple=True, required=True, help="Run that began fresh.")
@click.option("--pretrained", type=FILE, multiple=True, required=True, help="Run that began pretrained.")
@click.option("--pretraining", type=FILE, multiple=True, help="Pretraining whose loss is drawn.")
@click.option("--poses", multiple=True, help="Store that skeltrain predict wrote.")
@click.option("--title", default="3D poses from 2D poses", help="Heading of the page.")
@click.option("--out", type=FILE, required=True, help="HTML file to write.")
def main(
    scratch: tuple[Path, ...],
    pretrained: tuple[Path, ...],
    pretraining: tuple[Path, ...],
    poses: tuple[str, ...],
    title: str,
    out: Path,
) -> None:
    """Print the table of runs from scratch and pretrained ones, and write a page with what they predict.

    Options that name a run or a store may be repeated.
    """
    table = score_table(scratch, pretrained)
    widths = [max(len(row[n]) for row in (table.columns, *table.rows)) for n in range(len(table.columns))]
    click.echo(table.heading)
    for row in (table.columns, *table.rows):
        cells = zip(row[1:], widths[1:], strict=True)
        click.echo("  ".join([row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in cells)]))
    stores = [open_store(where) for where in poses]
    page = render_page(
        "skeltrain.pages",
        "motion.html.j2",
        title=title,
        table=table,
        errors=error_curves(scratch, pretrained),
        losses=loss_curves(pretraining, "pretraining"),
        lifted=[{"name": store.info.dataset.title, "viewer": lifted(store)} for store in stores],
    )
    write_page(out, page)
    click.echo(str(out))


if __name__ == "__main__":
    run(main)
