"""A run's page: curves, scores, confusions with the recordings behind them, features on a map.

Everything comes from the run's folder; what needs the model or the store (features, recordings,
reconstructions) is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pandas as pd

from skelconv.extras import need
from skelconv.report.charts import curves
from skelconv.report.html import render_page, write_page
from skelconv.report.runs import RunFolderError, read_run
from skelconv.store.store import Store, open_store
from skelformats.errors import SkelconvError
from skeltrain.checkpoint import find_checkpoint
from skeltrain.models.diffmae import DiffusionMAE
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.pages.classes import classes_section, read_predictions
from skeltrain.pages.embedding import map_features
from skeltrain.pages.explain import open_encoding
from skeltrain.pages.poses import spread
from skeltrain.pages.reconstruct import held_out, open_source, reconstruct
from skeltrain.pages.reconstruct_page import section as reconstruction_section
from skeltrain.recipe_file import Override
from skeltrain.run import run_of, use
from skeltrain.run_folder import ABOUT, RunFolder
from skeltrain.tasks.image_data import ImageSource, read_metadata
from skeltrain.tasks.registry import Log, Trained

OF_IMAGES = ("pretrain", "probe", "finetune")
"""Tasks whose models see S2I images, and so have features to be mapped and attention to be followed."""

NOT_CURVES = ("step", "epoch", "seconds")

FIRST = ("loss", "part of the samples")
LAST = MappingProxyType({"lr": "learning rate", "samples_per_second": "samples per second"})
"""Charts that stand at either end of the curves."""

SHOWN_RECONSTRUCTIONS = 2

POINTS = 1000
"""Samples on the map of features at most."""


@dataclass(frozen=True)
class Charted:
    """Curves that stand in one chart: a title, and lines (x, y) by name."""

    title: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


def write_run_page(
    where: Path,
    out: Path,
    store: str | None = None,
    points: int = POINTS,
    device: str | None = None,
    log: Log = lambda line: None,
) -> None:
    """Write the page of a run.

    Parameters
    ----------
    where
        The folder of a run of any task, or a checkpoint in it. Tasks on S2I images have every section,
        others curves, scores and settings.
    out
        The HTML file.
    store
        Where the recordings are, if not where the recipe says.
    points
        Most samples on the map of features.
    device
        Where the model runs; the recipe's by default.

    Raises
    ------
    SkelconvError
        Of the kind that fits: there is no run, its store cannot be read.
    MissingExtraError
        The extra ``view`` is not installed.
    """
    need("jinja2", "view")
    need("matplotlib", "view")
    need("sklearn", "view")
    folder = RunFolder(run_of(find_checkpoint(where)))
    if not folder.metrics.is_file():
        raise RunFolderError(f"{folder.path}: found no metrics.csv, expected the folder of a run")
    metrics = read_run(folder.path).metrics
    with use(where, [] if device is None else [Override(("device",), device)], log) as (
        task,
        recipe,
        trained,
    ):
        epochs = int(trained.checkpoint["progress"]["epoch"])
        values: dict[str, Any] = {
            "title": folder.path.name,
            "task": task.title,
            "facts": facts(metrics, trained, epochs),
            "command": _command(folder.recipe),
            "settings": folder.recipe.read_text(encoding="utf-8") if folder.recipe.is_file() else "",
            "charts": [
                {"title": chart.title, "svg": curves(chart.lines, "epoch", chart.title)}
                for chart in group_curves(metrics)
            ],
            "tables": tables(folder),
            "classes": None,
            "map": None,
            "reconstructions": [],
            "notes": [],
        }
        if task.name in OF_IMAGES:
            values |= _of_images(folder, trained, recipe.seed, store, points)
        else:
            values["notes"] = [
                f"Task {task.name}: confusion, features and reconstructions are for tasks on S2I images."
            ]
    write_page(out, render_page("skeltrain.pages", "run.html.j2", **values))


def facts(metrics: pd.DataFrame, trained: Trained, epochs: int) -> dict[str, str]:
    """What is said of a run in a few words."""
    seconds = float(metrics["seconds"].iloc[-1]) if len(metrics) and "seconds" in metrics else 0.0
    found = {"epochs": f"{epochs}", "minutes": f"{seconds / 60:.1f}"}
    if len(metrics) and "loss" in metrics and metrics["loss"].notna().any():
        found["last loss"] = f"{metrics['loss'].dropna().iloc[-1]:.4f}"
    state = trained.checkpoint["model"]
    found["M parameters"] = f"{sum(value.numel() for value in state.values()) / 1e6:.2f}"
    # other tasks say what they read in ways of their own
    images = trained.metadata.get("images") if trained.metadata["task"] in OF_IMAGES else None
    if images is not None:
        entries = trained.metadata["data"]
        found["data"] = ", ".join(dict.fromkeys(str(entry["store"]["dataset"]) for entry in entries))
        found["layout"] = ", ".join(dict.fromkeys(str(entry["skeleton"]["name"]) for entry in entries))
        streams, size = images["stream"], images["image_size"]
        found["stream"] = streams if isinstance(streams, str) else " + ".join(streams)
        found["pixels"] = f"{size} x {size}" if isinstance(size, int) else " x ".join(map(str, size))
    return found


def group_curves(metrics: pd.DataFrame) -> list[Charted]:
    """Put the columns of a table of metrics into charts: losses together, accuracies together, the rest each
    by itself.
    """
    groups: dict[str, list[str]] = {}
    for name in metrics.columns:
        if name in NOT_CURVES or not metrics[name].notna().any():
            continue
        groups.setdefault(_kind(str(name)), []).append(str(name))
    found = []
    # what is learned first, how it was run last
    places = {title: place for place, title in enumerate(FIRST)} | dict.fromkeys(LAST.values(), 1000)
    for title, names in sorted(groups.items(), key=lambda group: places.get(group[0], len(FIRST))):
        lines = {}
        for name in names:
            rows = metrics[["epoch", name]].dropna()
            lines[name] = (rows["epoch"].tolist(), rows[name].tolist())
        found.append(Charted(title, lines))
    return found


def tables(folder: RunFolder) -> list[dict[str, Any]]:
    """Scores that stand in the run's folder: of its evaluations, and of a probe."""
    found = []
    try:
        if folder.evaluation.is_file():
            for name, scores in orjson.loads(folder.evaluation.read_bytes()).items():
                if name == ABOUT:
                    continue  # what the evaluation says of itself
                rows = [(metric, f"{float(value):.4g}") for metric, value in scores.items()]
                found.append({"title": f"evaluation {name}", "rows": rows})
        probe = folder.path / "probe.json"
        if probe.is_file():
            encoders = orjson.loads(probe.read_bytes())["encoders"]
            for encoder, of_seeds in encoders.items():
                spread_of = of_seeds.get("std") or {}
                rows = [
                    (metric, _with_spread(value, spread_of.get(metric)))
                    for metric, value in of_seeds["mean"].items()
                ]
                found.append({"title": f"linear probe, {encoder} encoder", "rows": rows})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{folder.path}: found a damaged evaluation.json or probe.json ({error}). Evaluate again"
        ) from error
    return [table for table in found if table["rows"]]


def _of_images(
    folder: RunFolder, trained: Trained, seed: int, store: str | None, points: int
) -> dict[str, Any]:
    """Sections that need the run's model, or its store."""
    found: dict[str, Any] = {"notes": []}
    source: ImageSource | None = None
    opened: Store | None = None
    try:
        source = open_source(trained, store)
        opened = open_store(str(source.stores[0].store))
    except SkelconvError as error:
        if store is not None:
            raise
        found["notes"].append(
            f"No recordings, features or reconstructions: {error}. Name the store: skeltrain page ... "
            "--store STORE"
        )
    predictions = read_predictions(folder, read_metadata(trained.metadata, str(trained.path)).classes[0])
    if predictions is None:
        found["notes"].append(_why_no_classes(trained))
    else:
        found["classes"] = classes_section(predictions, opened)
    if source is None:
        return found
    encoding = open_encoding(trained)
    found["map"] = map_features(encoding, source, held_out(source), points)
    if isinstance(encoding.model, MaskedAutoencoder | DiffusionMAE):
        if isinstance(encoding.model, DiffusionMAE) and encoding.model.norm_pix_loss:
            found["notes"].append(
                "No reconstructions: the model denoises normalised patches, whose mean and spread are "
                "unknown."
            )
        else:
            chosen = spread(held_out(source), SHOWN_RECONSTRUCTIONS)
            shown = reconstruct(encoding.model, source, chosen, seed, encoding.precision)
            found["reconstructions"] = [reconstruction_section(one) for one in shown]
    elif trained.metadata["task"] == "pretrain":
        found["notes"].append("No reconstructions: the objective features predicts no pixels.")
    return found


def _why_no_classes(trained: Trained) -> str:
    if trained.metadata["task"] == "pretrain":
        return (
            "No confusion matrix: a pretraining predicts no classes. Fine-tune it, or train a probe as a run "
            "of its own (skeltrain train linprobe --set encoder.run=RUN), and make that run's page."
        )
    return (
        "No confusion matrix: the run has no predictions yet. They are written when it ends, or by "
        "skeltrain evaluate."
    )


def _kind(name: str) -> str:
    """The chart that a metric stands in."""
    if "loss" in name:
        return "loss"
    scores = ("top1", "accuracy", "mean_class", "recall", "retrieval_map")
    if any(score in name for score in scores):
        return "part of the samples"
    return LAST[name] if name in LAST else name.replace("_", " ")


def _with_spread(value: float, spread_of: float | None) -> str:
    return f"{value:.4f}" if spread_of is None else f"{value:.4f} ± {spread_of:.4f}"


def _command(recipe: Path) -> str:
    """The comment that a run's recipe begins with: the command that made it, or which of several it is."""
    lines = recipe.read_text(encoding="utf-8").splitlines() if recipe.is_file() else []
    return lines[0].lstrip("# ") if lines and lines[0].startswith("#") else ""
