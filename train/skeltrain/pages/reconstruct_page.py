"""Reconstructions drawn: one picture, or a page with the skeletons that the images decode to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.report.html import data_url, render_page, write_page, write_whole
from skelconv.s2i.picture import image_to_rgb, png_bytes
from skelconv.view.viewer import viewer_fragment
from skeltrain.pages.errors import PageError
from skeltrain.pages.poses import decode_poses, seen_joints, why_no_poses
from skeltrain.pages.reconstruct import Reconstruction
from skeltrain.sections import AXES

PANELS = ("masked input", "reconstruction", "target")
"""What is shown of a sample, from left to right."""

HIDDEN = 112
"""Grey of what the model does not see."""

SIDE = 192
"""Pixels that a picture has at least on its longer side."""

SUFFIXES = (".html", ".png")


def check_suffix(out: Path) -> None:
    """Raise `PageError` unless the file's suffix is one of `SUFFIXES`."""
    if out.suffix not in SUFFIXES:
        raise PageError(f"{out}: found the suffix {out.suffix!r}, expected {' or '.join(SUFFIXES)}")


def write_reconstructions(out: Path, found: Sequence[Reconstruction], title: str) -> None:
    """Write reconstructions as a page or as one picture, by the suffix of ``out``.

    Raises
    ------
    PageError
        The suffix is neither of `SUFFIXES`.
    MissingExtraError
        The extra ``view`` is not installed.
    """
    check_suffix(out)
    if out.suffix == ".png":
        write_whole(out, picture(found))
        return
    write_page(
        out,
        render_page(
            "skeltrain.pages", "reconstruct.html.j2", title=title, samples=[section(one) for one in found]
        ),
    )


def section(one: Reconstruction) -> dict[str, Any]:
    """Return what the template ``reconstructions.html.j2`` shows of a sample."""
    images = one.sample.images
    reason = why_no_poses(images)
    return {
        "name": one.sample.name,
        "action": one.sample.action,
        "error": one.error,
        "hidden": float(1 - one.visible.mean()),
        "streams": [
            {"name": stream, "pictures": [data_url(png_bytes(rgb, _zoom(rgb))) for rgb in panels]}
            for stream, panels in zip(images.streams, pictures(one), strict=True)
        ],
        "panels": PANELS,
        "reason": reason,
        "viewer": "" if reason else skeletons(one),
    }


def pictures(one: Reconstruction) -> list[list[NDArray[np.uint8]]]:
    """For each stream the three panels (rows, columns, 3), in the target's range of colours."""
    found = []
    for first in range(0, len(one.target), AXES):
        target, filled = (image[first : first + AXES] for image in (one.target, one.filled))
        low, high = target.min(axis=(1, 2)), target.max(axis=(1, 2))
        shown, made = (image_to_rgb(image, low, high) for image in (target, filled))
        found.append([np.where(one.visible[..., None], shown, np.uint8(HIDDEN)), made, shown])
    return found


def skeletons(one: Reconstruction) -> str:
    """Return a viewer of what the three images decode to, side by side and in step."""
    target, filled = (decode_poses(image, one.sample) for image in (one.target, one.filled))
    seen = np.where(seen_joints(one.visible, one.sample)[..., None], target, np.nan)
    recording, _ = one.sample.recordings([seen, filled, target])
    count = one.sample.tracks.persons
    names = [f"{panel} {k + 1}" if count > 1 else panel for panel in PANELS for k in range(count)]
    return viewer_fragment([recording], one.sample.images.skeleton, one.sample.frame_rate, names=names)


def picture(found: Sequence[Reconstruction]) -> bytes:
    """Draw reconstructions as one PNG: a row a sample and stream, a column a panel."""
    need("matplotlib", "view")
    from matplotlib.figure import Figure

    rows = [
        (one, stream, panels)
        for one in found
        for stream, panels in zip(one.sample.images.streams, pictures(one), strict=True)
    ]
    height, width = rows[0][2][0].shape[:2]
    high = 2.0 * height / max(height, width)
    figure = Figure(figsize=(7.2, (high + 0.35) * len(rows) + 0.3), layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), len(PANELS), squeeze=False)
    for row, (one, stream, panels) in zip(grid, rows, strict=True):
        for axes, panel, title in zip(row, panels, PANELS, strict=True):
            axes.imshow(panel, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row is grid[0]:
                axes.set_title(title, fontsize=10)
        words = [one.sample.name, one.sample.action, stream, f"error {one.error:.3f}"]
        row[0].set_ylabel(
            "\n".join(word for word in words if word), fontsize=7, rotation=0, ha="right", va="center"
        )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def _zoom(rgb: NDArray[np.uint8]) -> int:
    return max(1, -(-SIDE // max(rgb.shape[:2])))
