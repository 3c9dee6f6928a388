"""Attention drawn on the skeleton: a page, or the numbers as a table or arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.report.charts import bars, heat_map
from skelconv.report.html import render_page, write_page, write_whole
from skelconv.view.viewer import viewer_fragment
from skeltrain.pages.errors import PageError
from skeltrain.pages.explain import Explained, as_arrays, as_table
from skeltrain.pages.poses import Tracks

SUFFIXES = (".html", ".csv", ".npz")

ABOUT = {
    "rollout": "attention rollout through all blocks (Abnar and Zuidema 2020)",
    "last": "the last block's attention, the mean of its heads",
}
WHOSE = {"token": "of the class token", "avg": "of all patches on average"}

OUTLIERS = (1, 99)
"""Percentiles at which the colours begin and end."""


def check_suffix(out: Path) -> None:
    """Raise `PageError` unless the file's suffix is one of `SUFFIXES`."""
    if out.suffix not in SUFFIXES:
        raise PageError(f"{out}: found the suffix {out.suffix!r}, expected one of {', '.join(SUFFIXES)}")


def write_explained(out: Path, found: Sequence[Explained], title: str, method: str) -> None:
    """Write where a model looks: a page, a csv table, or arrays, by the suffix of ``out``.

    Raises
    ------
    PageError
        The suffix is none of `SUFFIXES`.
    MissingExtraError
        A page is asked for, and the extra ``view`` is not installed.
    """
    check_suffix(out)
    if out.suffix == ".csv":
        write_whole(out, as_table(found).to_csv(index=False).encode())
    elif out.suffix == ".npz":
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **as_arrays(found))
        write_whole(out, content.getvalue())
    else:
        samples = [section(one) for one in found]
        how = f"{ABOUT[method]}, {WHOSE[found[0].pool]}"
        write_page(
            out, render_page("skeltrain.pages", "explain.html.j2", title=title, how=how, samples=samples)
        )


def section(one: Explained) -> dict[str, Any]:
    """Return what the template shows of a sample."""
    sample = one.sample
    relative = fill_between_rows(one)
    low, high = np.nanpercentile(relative, OUTLIERS)
    span = high - low if high > low else 1.0
    share = np.nan_to_num(np.clip((relative - low) / span, 0, 1))
    recording, rows = sample.recordings([sample.position])
    names = sample.images.skeleton.names
    total = one.weight.sum(axis=0)
    order = sample.images.plan.order
    top = sorted(order, key=lambda joint: -total[joint])
    parts = dict.fromkeys(sample.images.plan.joint_parts, 0.0)
    for joint, part in zip(order, sample.images.plan.joint_parts, strict=True):
        parts[part] += float(total[joint])
    return {
        "name": sample.name,
        "action": sample.action,
        "predicted": one.predicted,
        "viewer": viewer_fragment(
            [recording],
            sample.images.skeleton,
            sample.frame_rate,
            heat=[[share[own] for own in rows]],
            names=[f"person {k + 1}" for k in range(len(rows))] if len(rows) > 1 else ["attention"],
        ),
        "maps": [
            {
                "title": f"person {person + 1}" if sample.tracks.persons > 1 else "",
                "chart": heat_map(
                    _by_frame(relative, sample.tracks, own, order),
                    [names[joint].replace("_", " ") for joint in order],
                    _ends(one),
                    "frame" if sample.frame_rate is None else "seconds",
                    (low, high),
                    "times even attention",
                ),
            }
            for person, own in enumerate(rows)
        ],
        "joints": bars(
            {names[joint].replace("_", " "): 100 * float(total[joint]) for joint in top[:10]},
            "% of the attention",
        ),
        "parts": bars(
            {part.replace("_", " "): 100 * value for part, value in parts.items()}, "% of the attention"
        ),
    }


def fill_between_rows(one: Explained) -> NDArray[np.float64]:
    """Return `Explained.relative` (R, J) to be drawn: a frame that lies between the rows of an image of fewer
    rows, and so has no part in it, has that of the same person's nearest frame that has.
    """
    filled = one.relative.copy()
    has = np.asarray(np.isfinite(filled).any(axis=1))
    for person in range(one.sample.tracks.persons):
        own = np.flatnonzero(one.sample.tracks.person == person)
        known = own[has[own]]
        if len(known):
            frame = one.sample.tracks.frame
            nearest = np.abs(frame[own][:, None] - frame[known][None, :]).argmin(axis=1)
            filled[own] = filled[known[nearest]]
    return filled


def _by_frame(
    relative: NDArray[np.float64], tracks: Tracks, own: NDArray[np.bool_], order: Sequence[int]
) -> NDArray[np.float64]:
    """(joints, frames) of one person; NaN in frames that the person is not in."""
    whole = np.full((len(order), tracks.length), np.nan)
    whole[:, tracks.frame[own]] = relative[own][:, list(order)].T
    return whole


def _ends(one: Explained) -> tuple[float, float]:
    """Where the first frame begins and the last ends, in seconds where the store knows them."""
    rate = one.sample.frame_rate or 1.0
    return -0.5 / rate, (one.sample.tracks.length - 0.5) / rate
