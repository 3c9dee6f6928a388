"""A page of small skeletons beside pictures: what was looked for and what was found, row by row.

Self-contained HTML that works from disk, offline; skeletons are inline SVG. Legend: J joints.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.report.html import render_page, write_page
from skelconv.view.drawing import MIDDLE, SOLO, head, limbs, turn
from skelformats.skeleton import Skeleton

SIDE_VIEW = np.pi / 2
_REACH = 1.05
"""Metres from the middle of a body to the edge of its drawing, at least."""


@dataclass(frozen=True, eq=False)
class Card:
    """A pose, its picture where there is one, and what is said of it.

    Attributes
    ----------
    title, lines
        Text below.
    pose
        (J, 3) with +y up, or (J, 2) with y down; a missing joint is NaN. None draws none.
    jpeg
        A JPEG file, or None.
    yaw
        Turn about +y in radians after which a 3D pose is seen from where it is to be seen.
    """

    title: str
    lines: Sequence[str] = ()
    pose: NDArray[np.floating[Any]] | None = None
    jpeg: bytes | None = None
    yaw: float = 0.0


@dataclass(frozen=True)
class Row:
    """One query and what was found for it, the nearest first."""

    query: Card
    found: Sequence[Card]


@dataclass(frozen=True)
class Table:
    """A table for the top of a page: heading, names of the columns, rows of text."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What a page shows: title, introduction, tables, rows."""

    title: str
    introduction: str
    rows: Sequence[Row]
    tables: Sequence[Table] = field(default_factory=tuple)


def write_cards(out: Path, page: Page, skeleton: Skeleton) -> None:
    """Write a page, under a name that only ever holds all of it.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    rows = [
        {"query": _plain(row.query, skeleton), "found": [_plain(card, skeleton) for card in row.found]}
        for row in page.rows
    ]
    write_page(out, render_page("skelconv.view", "cards.html.j2", page=page, rows=rows))


def skeleton_svg(pose: NDArray[np.floating[Any]], skeleton: Skeleton, yaw: float = 0.0) -> str:
    """Draw one pose as an SVG element: 3D ones from the front and from their left, 2D ones as they are.

    Parameters
    ----------
    pose
        As in `Card`.
    yaw
        Turn about +y of a 3D pose.
    """
    if pose.shape[1] == 2:
        views = [np.stack([pose[:, 0], -pose[:, 1], np.zeros(len(pose))], axis=1)]
    else:
        views = [turn(pose, yaw), turn(pose, yaw + SIDE_VIEW)]
    panels = "".join(
        f'<g transform="translate({100 * number} 0)">{_limbs(view, skeleton, pose.shape[1] == 3)}</g>'
        for number, view in enumerate(views)
    )
    wide = 100 * len(views)
    return f'<svg class="pose" viewBox="0 0 {wide} 100" role="img" aria-label="a pose">{panels}</svg>'


def _limbs(view: NDArray[np.float64], skeleton: Skeleton, metric: bool) -> str:
    """Lines of one view (J, 3) in a square of 100; what is far is drawn first."""
    there: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(view), axis=1)
    if not there.any():
        return ""
    low, high = view[there, :2].min(axis=0), view[there, :2].max(axis=0)
    reach = max(float((high - low).max()) / 2 * 1.08, _REACH if metric else 1e-6)
    spot = 50 + (view[:, :2] - (low + high) / 2) * (1, -1) * (48 / reach)
    drawn = [limb for limb in limbs(skeleton) if there[limb.joint] and there[limb.other]]
    drawn.sort(key=lambda limb: float(view[limb.joint, 2] + view[limb.other, 2]))
    parts = []
    for limb in drawn:
        (x1, y1), (x2, y2) = spot[limb.joint], spot[limb.other]
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{SOLO[limb.side]}"/>'
        )
    top = head(skeleton)
    if top is None:
        top = next((n for n, name in enumerate(skeleton.names) if name.startswith("head")), None)
    if top is not None and there[top]:
        x, y = spot[top]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{SOLO[MIDDLE]}"/>')
    return "".join(parts)


def _plain(card: Card, skeleton: Skeleton) -> dict[str, Any]:
    return {
        "title": card.title,
        "lines": list(card.lines),
        "svg": "" if card.pose is None else skeleton_svg(card.pose, skeleton, card.yaw),
        "picture": "" if card.jpeg is None else base64.b64encode(card.jpeg).decode("ascii"),
    }
