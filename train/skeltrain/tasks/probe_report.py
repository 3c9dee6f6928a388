"""What a probe or a fine-tuning under several seeds found, as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROWS = {
    "top1": "top-1, last epoch",
    "top1_best": "top-1, best epoch",
    "mean_class": "mean per class",
    "top1_without_leaked": "top-1 without leaked",
    "mean_class_without_leaked": "mean per class without leaked",
    "knn_top1": "nearest neighbour (cosine, k = 1)",
    "knn_top1_without_leaked": "nearest neighbour without leaked",
}
"""Scores, in the order in which they are shown."""


def describe_probe(report: Mapping[str, Any]) -> str:
    """Return the table of a probe's accuracies in percent, mean ± standard deviation over seeds."""
    return describe_scores("linear probe", f"{report['data']['train_samples']}", report)


def describe_finetuning(report: Mapping[str, Any]) -> str:
    """Return the table of a fine-tuning's accuracies in percent, as `describe_probe`."""
    used, every = (report["data"]["labelled"][key] for key in ("used", "of"))
    count = f"{used}" if used == every else f"{used} of {every}"
    return describe_scores("fine-tuning", count, report)


def describe_scores(title: str, training: str, report: Mapping[str, Any]) -> str:
    """Return the table of a report; ``training`` says how many training samples there were."""
    data, encoders = report["data"], report["encoders"]
    seeds = len(next(iter(encoders.values()))["seeds"])
    names = [name for name in ROWS if name in next(iter(encoders.values()))["mean"]]
    width = max(len(ROWS[name]) for name in names)
    lines = [
        f"{title}, protocol {data['protocol']}: {training} training and "
        f"{data['test_samples']} test samples ({data['leaked']} leaked), {data['classes']} classes; "
        f"{seeds} seed{'s' if seeds > 1 else ''}",
        "",
        f"  {'accuracy in %':<{width}}" + "".join(f"  {arm:>14}" for arm in encoders),
    ]
    for name in names:
        cells = [_cell(encoder["mean"][name], encoder["std"][name]) for encoder in encoders.values()]
        lines.append(f"  {ROWS[name]:<{width}}" + "".join(f"  {cell:>14}" for cell in cells))
    lines += [
        f"  {'chance':<{width}}  {100 * data['chance']:>14.2f}",
        f"  {'always the largest class':<{width}}  {100 * data['majority']:>14.2f}",
    ]
    return "\n".join(lines)


def _cell(mean: float, std: float | None) -> str:
    return f"{100 * mean:.2f}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}"
