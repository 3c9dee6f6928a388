"""A page of what a search found: the query, then small skeletons with their crops, the nearest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelconv.crops import CropStore, open_crops
from skelconv.store.info import StoreError
from skelconv.view.cards import Card, Page, Row, Table, write_cards
from skelconv.view.drawing import front_yaw
from skeltrain.gallery import Found, Gallery

SAID = ("action", "subject", "camera")
"""Columns that a card shows where the gallery has them."""


def write_found(
    out: Path, gallery: Gallery, found: Sequence[Found], title: str = "", tables: Sequence[Table] = ()
) -> str:
    """Write a page of one or several searches; returns a line about it.

    Parameters
    ----------
    title
        Heading; by default says what was looked for.
    tables
        Shown above.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    crops, note = _pictures(gallery)
    rows = [Row(_query(one, gallery), _cards(one, gallery, crops)) for one in found]
    page = Page(
        title or f"Nearest to {found[0].query[0]}",
        f"{len(gallery.table):,} poses of {gallery.path.name}, by the cosine of their embeddings. Each pose "
        f"is drawn as its camera saw it and from the side.{note}",
        rows,
        tables,
    )
    write_cards(out, page, found[0].skeleton)
    return f"{out}: {_count(len(rows), 'search', 'es')}, {sum(len(row.found) for row in rows)} poses{note}"


def _count(number: int, word: str, more: str) -> str:
    return f"{number} {word}{more if number != 1 else ''}"


def _pictures(gallery: Gallery) -> tuple[CropStore | None, str]:
    if gallery.pictures is None or "crop" not in gallery.table:
        return None, ""
    try:
        return open_crops(gallery.pictures), ""
    except StoreError:
        return None, f" The pictures of {gallery.pictures} are no longer there."


def _query(found: Found, gallery: Gallery) -> Card:
    words, pose, jpeg = found.query
    yaw = gallery.yaw or 0.0
    if pose is not None and pose.shape[1] == 3 and gallery.yaw is None:
        yaw = front_yaw([pose[None]], found.skeleton)
    return Card(words, ("what was looked for",), pose, jpeg, yaw)


def _cards(found: Found, gallery: Gallery, crops: CropStore | None) -> list[Card]:
    poses = gallery.rows(gallery.modality, found.index)
    cards = []
    for place in range(len(found.index)):
        row = found.table.iloc[place]
        lines = [f"cosine {row['cosine']:.4f}"]
        if "error" in found.table:
            lines.append(f"{row['error']:.0f} mm off the query")
        said = [f"{name} {row[name]}" for name in SAID if name in found.table and row[name] != ""]
        lines += [", ".join(said)] if said else []
        pose = None if poses is None else np.asarray(poses[place], np.float64)
        yaw = gallery.yaw or 0.0
        if pose is not None and pose.shape[1] == 3 and gallery.yaw is None:
            yaw = front_yaw([pose[None]], found.skeleton)
        jpeg = None if crops is None else crops.jpeg(int(row["crop"]))
        cards.append(Card(f"{row['sequence']}, frame {row['frame_index']}", lines, pose, jpeg, yaw))
    return cards
