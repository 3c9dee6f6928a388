"""Stills of a recording: `film_strip`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from skelconv.extras import need
from skelconv.view.drawing import FAMILIES, LEFT, MIDDLE, RIGHT, Scene, family, grid_step, head, turn
from skelformats.skeleton import Skeleton

POSES = 8
INK = "#1d2127"
SOFT = "#5f6670"
GRID = "#e3e6ea"
_PANEL_HEIGHT = 2.2
_PANEL_WIDTHS = (0.9, 2.1)
"""Inches; a panel is as wide as its scene needs, within these bounds."""


def film_strip(scene: Scene, skeleton: Skeleton, frame_rate: float | None, poses: int = POSES) -> bytes:
    """Draw poses spread evenly over a recording, from the front and, where there is depth, from the side.

    All panels have one scale. A panel is centred on the bodies of its frame, so that somebody who walks
    stays in it; the vertical lines stand at fixed places on the ground and pass by.

    Parameters
    ----------
    poses
        How many; fewer where the recording has fewer frames.

    Returns
    -------
    PNG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    need("matplotlib", "view")
    from matplotlib.figure import Figure

    seen = scene.frames()
    chosen = seen[np.unique(np.linspace(0, len(seen) - 1, min(poses, len(seen))).round().astype(int))]
    yaws = {"": 0.0} if scene.flat else {"front": scene.yaw, "side": scene.yaw + np.pi / 2}
    panels = [[_Panel(scene, int(frame), yaw) for frame in chosen] for yaw in yaws.values()]
    reach = max((panel.reach for row in panels for panel in row), default=1.0) * 1.14
    low, high = scene.low[1], scene.high[1]
    for row in panels:
        for panel in row:
            low, high = min(low, panel.low), max(high, panel.high)
    pad = 0.05 * max(high - low, reach)
    low, high = low - pad, high + pad
    reach = max(reach, 0.5 * (high - low) * _PANEL_WIDTHS[0] / _PANEL_HEIGHT)
    width = min(_PANEL_HEIGHT * 2 * reach / (high - low), _PANEL_WIDTHS[1])
    height = width * (high - low) / (2 * reach)

    left, top, gap = 0.35, 0.78, 0.1
    size = (max(left + len(chosen) * width + 0.15, 6.5), top + len(yaws) * (height + gap) + 0.25)
    figure = Figure(figsize=size, facecolor="white")
    for number, (name, row) in enumerate(zip(yaws, panels, strict=True)):
        bottom = size[1] - top - (number + 1) * height - number * gap
        for column, panel in enumerate(row):
            box = ((left + column * width) / size[0], bottom / size[1], width / size[0], height / size[1])
            axes = figure.add_axes(box, xlim=(-reach, reach), ylim=(low, high))
            axes.set_axis_off()
            panel.draw(axes, skeleton, scene, low)
            if number == 0:
                axes.set_title(_when(panel.frame, frame_rate), fontsize=8, color=SOFT, pad=3)
        figure.text(
            0.14 / size[0],
            (bottom + height / 2) / size[1],
            name,
            rotation=90,
            va="center",
            color=SOFT,
            fontsize=8,
        )
    _heading(figure, scene, size)
    return png_of(figure, dpi=120)


class _Panel:
    """One frame as one viewer sees it, centred on the bodies along x."""

    def __init__(self, scene: Scene, frame: int, yaw: float) -> None:
        self.frame = frame
        self.poses = [(body, turn(pose, yaw)) for body, pose in scene.poses(frame)]
        points = np.concatenate([pose for _, pose in self.poses])
        points = points[np.isfinite(points).all(axis=1)]
        self.centre = float(points[:, 0].min() + points[:, 0].max()) / 2
        self.reach = float(np.ptp(points[:, 0])) / 2
        self.low, self.high = float(points[:, 1].min()), float(points[:, 1].max())

    def draw(self, axes: Any, skeleton: Skeleton, scene: Scene, low: float) -> None:
        from matplotlib.collections import LineCollection

        reach = axes.get_xlim()[1]
        if not scene.flat:
            step = grid_step(2 * (scene.high[1] - scene.low[1]))
            for x in (
                np.arange(np.ceil((self.centre - reach) / step), (self.centre + reach) / step + 1e-9) * step
            ):
                axes.axvline(x - self.centre, color=GRID, linewidth=0.8, zorder=0)
            axes.axhline(scene.low[1], color="#b9bfc8", linewidth=1, zorder=0)
        for body, pose in sorted(self.poses, key=lambda item: float(np.nanmean(item[1][:, 2]))):
            spots = pose[:, :2] - (self.centre, 0)
            colour = family(body, len(scene.bodies))
            # limbs far from the viewer first; those with a joint missing are left out
            depth = {limb: pose[limb.joint, 2] + pose[limb.other, 2] for limb in scene.limbs}
            drawn = sorted((limb for limb in scene.limbs if np.isfinite(depth[limb])), key=depth.__getitem__)
            lines = [spots[[limb.joint, limb.other]] for limb in drawn]
            colours = [colour[limb.side] for limb in drawn]
            axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.8, capstyle="round"))
            axes.plot(*spots.T, "o", color=colour[MIDDLE], markersize=1.8)
            if (top := head(skeleton)) is not None:
                axes.plot(*spots[top], "o", color=colour[MIDDLE], markersize=5.5)


def _heading(figure: Any, scene: Scene, size: tuple[float, float]) -> None:
    """Name and caption above, what the colours mean below."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    lines: tuple[tuple[float, str, dict[str, Any]], ...] = (
        (0.2, scene.name, {"fontsize": 10, "weight": "bold", "color": INK}),
        (0.4, scene.caption, {}),
    )
    for down, text, look in lines:
        style = {"fontsize": 8.5, "color": SOFT, "va": "center", "parse_math": False, **look}
        figure.text(0.12 / size[0], 1 - down / size[1], text, **style)
    words: list[tuple[str, str]] = []
    for body in range(min(len(scene.bodies), len(FAMILIES))):
        colour = family(body, len(scene.bodies))
        words += [(f"   person {body + 1}:", SOFT)] if len(scene.bodies) > 1 else []
        words += [("left", colour[LEFT]), ("right", colour[RIGHT])]
    areas: list[Any] = [TextArea(word, textprops={"color": colour, "fontsize": 8}) for word, colour in words]
    legend = HPacker(children=areas, pad=0, sep=5)
    place = (1 - 0.15 / size[0], 0.06 / size[1])
    figure.add_artist(
        AnchoredOffsetbox(
            "lower right",
            child=legend,
            frameon=False,
            pad=0,
            borderpad=0,
            bbox_to_anchor=place,
            bbox_transform=figure.transFigure,
        )
    )


def _when(frame: int, frame_rate: float | None) -> str:
    return f"frame {frame}" if frame_rate is None else f"{frame}  ({frame / frame_rate:.2f} s)"


def png_of(figure: Any, dpi: int) -> bytes:
    """Save a figure of matplotlib as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
