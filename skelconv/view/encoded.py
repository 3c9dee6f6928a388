"""Pictures of encoded samples that say what is where: parts, joints, seconds, and a key of the colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.s2i.picture import file_name, image_to_rgb
from skelconv.s2i.plan import S2IPlan
from skelconv.s2i.read import ENCODED_FRAMES, ENCODED_ROWS, S2IStore
from skelconv.store.recording import Recording
from skelconv.view.drawing import caption, grid_step
from skelconv.view.pictures import INK, png_of

PRIMARIES = (("red", "#c62020"), ("green", "#1b7a2b"), ("blue", "#2457c5"))
"""What the three channels are shown as, and colours of their names that read on white."""

SHORT = {"left": "L", "right": "R"}


@dataclass(frozen=True)
class Sides:
    """What stands along the left side of an encoded image.

    Attributes
    ----------
    ticks
        (row of the image in parts of its height, text), from above.
    label
        What the texts count; may be empty.
    """

    ticks: tuple[tuple[float, str], ...]
    label: str


def labelled_image(
    image: NDArray[np.floating[Any]],
    plan: S2IPlan,
    title: str,
    about: str,
    sides: Sides,
    channels: tuple[str, ...],
) -> bytes:
    """Draw an encoded sample (3, rows, columns) with all that says what is where in it; returns PNG.

    Parameters
    ----------
    title, about
        Two lines above the picture.
    sides
        As `time_axis` gives it.
    channels
        What red, green and blue are.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    need("matplotlib", "view")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, columns = plan.size
    figure = Figure(figsize=(6.4, 6.4 * rows / columns + 1.5), facecolor="white")
    # room for the key below
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0.035, 1, 0.965)))
    axes = figure.add_subplot()
    axes.imshow(image_to_rgb(image), interpolation="nearest", extent=(0, columns, rows, 0))
    edges = plan.joint_edges
    names = [name.replace("_", " ") for name in plan.joints]
    axes.set_xticks((edges[:-1] + edges[1:]) / 2, names, rotation=90, fontsize=8)
    axes.set_yticks([at * rows for at, _ in sides.ticks], [text for _, text in sides.ticks], fontsize=9)
    axes.set_ylabel(sides.label, fontsize=9, color=INK)
    parts = plan.part_edges
    for edge in parts[1:-1]:
        axes.axvline(edge, color="white", linewidth=1.2)
    above = axes.secondary_xaxis("top")
    parted = [name.replace("_", " ") for name in dict.fromkeys(plan.joint_parts)]
    above.set_xticks((parts[:-1] + parts[1:]) / 2, parted, fontsize=9)
    above.tick_params(length=0, colors=INK)
    axes.tick_params(axis="x", length=0, colors=INK)
    axes.tick_params(axis="y", length=3, colors=INK)
    for one in (axes, above):
        for spine in one.spines.values():
            spine.set_visible(False)
    figure.suptitle(f"{title}\n{about}".strip(), fontsize=10, color=INK, parse_math=False, wrap=True)
    low, high = _spread(image)
    for number, ((colour, ink), channel) in enumerate(zip(PRIMARIES, channels, strict=True)):
        text = f"{colour}: {channel}, {low[number]:.2f} (dark) to {high[number]:.2f} (bright)"
        place = ((number + 0.5) / 3, 0.005)
        figure.text(*place, text, ha="center", va="bottom", fontsize=8, color=ink, parse_math=False)
    return png_of(figure, dpi=130)


def draw_sample(store: S2IStore, number: int) -> bytes:
    """Draw a sample of a store as `labelled_image`."""
    row = {str(column): value for column, value in store.to_frame().iloc[number].items()}
    name = str(store.to_frame().index[number])
    said = (caption(Recording(name, 0, (), row)), f"{store.stream} stream")
    about = " \u00b7 ".join(word for word in said if word)
    image = store.images(number, number + 1)[0]
    return labelled_image(image, store.plan, name, about, time_axis(store, row), store.channels)


def save_samples(store: S2IStore, folder: Path, limit: int) -> list[Path]:
    """Write the first ``limit`` samples as ``<folder>/<sample id>.png``, each as `labelled_image`; returns
    the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for number, name in enumerate(store.to_frame().index[:limit]):
        file = folder / f"{file_name(str(name))}.png"
        if file in written:  # two ids that differ only in what a file name cannot hold
            file = file.with_stem(f"{file.stem}_{number}")
        file.write_bytes(draw_sample(store, number))
        written.append(file)
    return written


def time_axis(store: S2IStore, row: Any) -> Sides:
    """Return what stands at the side of a sample's image, by its row of the table.

    Seconds (frames where the store knows no rate) in between are given where rows and time are in proportion:
    where every frame gave as many rows as every other. Else, and in stores that do not tell, the ends alone.
    Time is that of the encoded frames: those without a body were dropped.
    """
    rate = store.info.frame_rate
    rows, frames = (row.get(name) for name in (ENCODED_ROWS, ENCODED_FRAMES))
    if rows is None or frames is None or pd.isna(frames) or int(frames) < 1:
        return Sides(((0.0, "first\nframe"), (1.0, "last\nframe")), "")
    rows, frames = int(rows), int(frames)
    whole = frames if rate is None else frames / rate
    unit = "frames" if rate is None else "seconds"
    if store.persons == "concat" and rows > frames:
        return Sides(((0.0, "0"), (1.0, f"{whole:.4g}")), f"{unit}, one person after another")
    if rows % frames:
        return Sides(((0.0, "0"), (1.0, f"{whole:.4g}")), unit)
    step = max(grid_step(whole), 1.0 if rate is None else 0.0)
    ticks = np.arange(0, whole + 1e-9, step)
    return Sides(tuple((float(at / whole), f"{at:.4g}") for at in ticks), unit)


def part_columns(plan: S2IPlan) -> list[tuple[str, float]]:
    """Return the short name of each part and its share of the columns in percent, from the left."""
    widths = np.diff(plan.part_edges) / plan.size[1] * 100
    names = dict.fromkeys(plan.joint_parts)
    return [
        (" ".join(SHORT.get(word, word) for word in name.split("_")), float(width))
        for name, width in zip(names, widths[widths > 0], strict=True)
    ]


def _spread(image: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.where(np.isfinite(image), image, np.nan).astype(np.float64).reshape(len(image), -1)
    return np.nanmin(values, axis=1), np.nanmax(values, axis=1)
