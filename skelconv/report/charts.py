"""Charts of a report as inline SVG: legible on a light and on a dark page, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need

INK = "#80868b"
"""Grey that reads on white and on black."""
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756")


def histogram(values: NDArray[Any], xlabel: str, bins: int = 30) -> str:
    """Draw how often values (N,) occur, as an SVG element."""
    figure, axes = _axes()
    axes.hist(values, bins=min(bins, max(1, len(np.unique(values)))), color=COLOURS[0])
    axes.set_xlabel(xlabel)
    return _svg(figure)


def bars(counts: Mapping[str, int], xlabel: str) -> str:
    """Draw a horizontal bar for each name, as an SVG element."""
    figure, axes = _axes(height=0.7 + 0.24 * len(counts))
    axes.barh(list(counts), list(counts.values()), color=COLOURS[0])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    return _svg(figure)


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str) -> str:
    """Draw a line for each name from its (x, y) values, as an SVG element."""
    figure, axes = _axes()
    for (name, (x, y)), colour in zip(lines.items(), _cycle(len(lines)), strict=True):
        axes.plot(x, y, color=colour, linewidth=1.4, label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return _svg(figure)


def accuracies(scores: Mapping[str, Sequence[float]], chance: float) -> str:
    """Draw the mean of each name's scores, its standard deviation, each score as a dot, and chance."""
    figure, axes = _axes(height=0.9 + 0.45 * len(scores))
    for row, ((_, values), colour) in enumerate(zip(scores.items(), _cycle(len(scores)), strict=True)):
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        axes.barh(row, float(np.mean(values)), xerr=spread, color=colour, height=0.55, ecolor=INK, capsize=3)
        axes.plot(values, [row] * len(values), "o", color=INK, markersize=3)
    axes.axvline(chance, color=INK, linestyle="--", linewidth=1)
    # above the frame, where no bar and no tick label is
    above = axes.get_xaxis_transform()
    axes.text(chance, 1.0, "chance", color=INK, fontsize=8, ha="center", va="bottom", transform=above)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("top-1 accuracy on the test split")
    return _svg(figure)


def _axes(width: float = 5.2, height: float = 2.6) -> tuple[Any, Any]:
    need("matplotlib", "view")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # a fixed salt and no date: the same data gives the same page
    with mpl.rc_context({"svg.hashsalt": "skelconv"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]
