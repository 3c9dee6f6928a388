"""Charts of a page, the same bytes every time: inline SVG and bars of HTML, in the colours of the page.

Text and lines take the page's own ``--ink`` and ``--soft`` (`base.html.j2`), so that they read on a light
and on a dark page; the colours of data have a contrast of at least 3 to the cards of both (WCAG 2.1, 1.4.11).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.view.drawing import HEAT

INK = "#80868b"
"""Of text and lines; where a page is, its own ``--soft`` takes the place of this grey."""

STRONG = "#7f868b"
"""Of text on coloured ground; where a page is, its own ``--ink`` takes its place."""

_OF_THE_PAGE = {INK: f"var(--soft, {INK})", STRONG: f"var(--ink, {STRONG})"}

TICKS, WORDS = 9, 10
"""Sizes of the numbers and of the words at axes, in points: legible where a phone shows a chart at four
fifths.
"""

NAMED_CLASSES = 40
"""Classes that a chart can name."""

LEGEND_CLASSES = 20
"""Classes that a legend can name."""

WRITTEN_CLASSES = 16
"""Classes whose counts fit into the cells of a confusion matrix."""

COLOURS = ("#4c78a8", "#c2711a", "#3f8f3a", "#a8618f", "#dd5452", "#1f928a", "#9d755d", "#e05780")


def histogram(values: NDArray[Any], xlabel: str, ylabel: str, bins: int = 30) -> str:
    """Draw how often values (N,) occur, as an SVG element."""
    figure, axes = _axes()
    axes.hist(values, bins=min(bins, max(1, len(np.unique(values)))), color=COLOURS[0])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, f"{ylabel} by {xlabel}")


def bars(counts: Mapping[str, float], label: str, limit: float | None = None) -> str:
    """Return a horizontal bar for each name with its number, as an element of HTML, so that names wrap.

    Parameters
    ----------
    label
        What is counted; stands below.
    limit
        The number of a whole bar, the largest by default.
    """
    whole = limit if limit is not None else max(counts.values(), default=0.0)
    rows = "".join(
        f'<div class="row"><span>{escape(name)}</span>'
        f'<i style="--part: {value / whole if whole > 0 else 0:.4f}"></i><b>{_number(value)}</b></div>'
        for name, value in counts.items()
    )
    return f'<div class="bars">{rows}</div><p class="axis">{escape(label)}</p>'


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str) -> str:
    """Draw a line for each name from its (x, y) values, as an SVG element."""
    figure, axes = _axes()
    for (name, (x, y)), colour in zip(lines.items(), _cycle(len(lines)), strict=True):
        # of few points a line alone does not show where they are
        axes.plot(x, y, color=colour, linewidth=1.4, label=name, marker="o" * (len(x) < 20), markersize=3)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(lines) > 1:
        # above the curves, in as many rows as the names need: nothing lies on a line
        _legend_above(figure, axes, max(map(len, lines)))
    return _svg(figure, f"{ylabel} by {xlabel}")


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
    axes.text(chance, 1.0, "chance", color=INK, fontsize=TICKS, ha="center", va="bottom", transform=above)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("top-1 accuracy on the test split")
    return _svg(figure, "top-1 accuracy by encoder")


def heat_map(
    values: NDArray[Any],
    names: Sequence[str],
    ends: tuple[float, float],
    xlabel: str,
    limits: tuple[float, float],
    label: str,
) -> str:
    """Draw values (rows, columns) as coloured cells, as an SVG element; NaN is left blank.

    Parameters
    ----------
    names
        Of the rows, from above.
    ends
        Where the first column begins and the last ends, in what ``xlabel`` says.
    limits
        Values of the first and the last colour.
    label
        What the values are.
    """
    figure, axes = _axes(width=7.5, height=0.9 + 0.15 * len(names))
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("heat", HEAT)
    low, high = limits if limits[1] > limits[0] else (limits[0] - 0.5, limits[0] + 0.5)
    shown = axes.imshow(
        values,
        aspect="auto",
        cmap=colours,
        vmin=low,
        vmax=high,
        extent=(*ends, len(names), 0),
        interpolation="nearest",
    )
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.set_xlabel(xlabel)
    _scale(figure, shown, axes, label)
    return _svg(figure, f"{label} by row and {xlabel}")


def confusion(counts: NDArray[np.integer[Any]], names: Sequence[str]) -> str:
    """Draw how often each true class (rows) was taken for each (columns), as part of the true class.

    Up to `NAMED_CLASSES` classes are named at the sides, more are numbered, and few have their counts written
    in.
    """
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    side = min(7.5, 2.6 + 0.32 * len(names))
    figure, axes = _axes(width=side + 0.4, height=side)
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("share", (f"{COLOURS[0]}10", COLOURS[0]))
    shown = axes.imshow(share, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    if len(names) <= NAMED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= WRITTEN_CLASSES:
        for row, column in np.argwhere(counts > 0):
            ink = "#ffffff" if share[row, column] > 0.8 else STRONG
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=ink)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    _scale(figure, shown, axes, "part of the true class")
    return _svg(figure, "confusion: true classes by predicted ones")


def scatter(points: NDArray[Any], group: NDArray[np.integer[Any]], names: Sequence[str]) -> str:
    """Draw points (N, 2) in the colour of their group (N,); a negative group is grey and has no name.

    A legend names up to `LEGEND_CLASSES` groups; where there are more, numbers stand in the middle of each.
    """
    figure, axes = _axes(width=5.6, height=4.2)
    from matplotlib.colors import hsv_to_rgb

    kinds = [int(kind) for kind in np.unique(group)]
    legend = 1 < len(kinds) <= LEGEND_CLASSES
    for n, kind in enumerate(kinds):
        own = points[group == kind]
        # neighbours on the circle of colours differ in brightness too
        colour = INK if kind < 0 else hsv_to_rgb((n / len(kinds), 0.62, (0.92, 0.72)[n % 2]))
        name = "no class" if kind < 0 else names[kind]
        axes.plot(*own.T, "o", color=colour, markersize=4.5, alpha=0.85, markeredgewidth=0, label=name)
        if len(kinds) > LEGEND_CLASSES and kind >= 0:
            axes.text(*np.median(own, axis=0), str(kind), fontsize=8, color=INK, ha="left", va="bottom")
    if legend:
        axes.legend(
            frameon=False,
            labelcolor=INK,
            fontsize=TICKS,
            loc="upper left",
            bbox_to_anchor=(1, 1),
            markerscale=1.3,
        )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _svg(figure, "features on a map, by class")


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _legend_above(figure: Any, axes: Any, longest: int) -> None:
    """Name the lines above a chart; as many beside each other as fit."""
    handles, names = axes.get_legend_handles_labels()
    beside = max(1, min(len(names), int(46 / (longest + 5))))
    figure.legend(
        handles, names, loc="outside upper left", ncols=beside, frameon=False, labelcolor=INK, fontsize=TICKS
    )


def _scale(figure: Any, shown: Any, axes: Any, label: str) -> None:
    """Say beside a chart which colour is which value."""
    scale = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
    scale.set_label(label, color=INK, fontsize=TICKS)
    scale.ax.tick_params(colors=INK, labelsize=8)
    scale.outline.set_visible(False)


def _axes(width: float = 4.4, height: float = 2.5) -> tuple[Any, Any]:
    need("matplotlib", "view")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.tick_params(colors=INK, labelsize=TICKS)
    axes.xaxis.label.set(color=INK, fontsize=WORDS)
    axes.yaxis.label.set(color=INK, fontsize=WORDS)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _svg(figure: Any, label: str) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # a fixed salt and no date: the same data gives the same page
    with mpl.rc_context({"svg.hashsalt": "skelconv"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    for colour, own in _OF_THE_PAGE.items():
        whole = whole.replace(colour, own)
    return f'<svg class="plot" role="img" aria-label="{escape(label)}"{whole[whole.index("<svg") + 4 :]}'
