"""One page about a store and what was learned from it: self-contained HTML that works from disk, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.extras import need
from skelconv.report import charts
from skelconv.report.html import data_url, render_page, write_page
from skelconv.report.runs import Run, read_run
from skelconv.s2i.picture import image_to_rgb, png_bytes
from skelconv.s2i.read import S2IStore, open_s2i
from skelconv.store.store import PARTS, Store, open_store
from skelconv.view.encoded import part_columns, time_axis
from skelconv.view.viewer import viewer_fragment

IMAGES_PER_CLASS = 3
CLASSES_SHOWN = 12
TABLE_ROWS = 8
LABELS_SHOWN = 30
TABLE_COLUMNS = ("recording", "label", "action", "subject", "camera", "body", "length")


def write_report(
    out: str | Path,
    store: str | Path,
    s2i: str | Path | None = None,
    runs: Sequence[str | Path] = (),
    title: str = "",
) -> None:
    """Write a report page.

    Parameters
    ----------
    out
        The HTML file.
    store
        A sequence store: its table, its lengths and labels, one of its recordings to turn and play.
    s2i
        An S2I store: images by class.
    runs
        Run folders: loss curves, and probe accuracies where the run was probed. Of several runs of one
        recipe under different seeds, the spread is reported.

    Raises
    ------
    SkelconvError
        A store or run cannot be read, or the extra ``view`` is not installed.
    """
    need("jinja2", "view")
    opened = open_store(store)
    encoded = open_s2i(s2i) if s2i is not None else None
    read = [read_run(folder) for folder in runs]
    page = render_page(
        "skelconv.report",
        "report.html.j2",
        title=title or opened.info.dataset.title,
        **_data_section(opened),
        images=_images(encoded) if encoded is not None else [],
        channels=encoded.channels if encoded is not None else (),
        parts=part_columns(encoded.plan) if encoded is not None else (),
        loss=_loss(read),
        probe=_probe(read),
    )
    write_page(Path(out), page)


def _data_section(store: Store) -> dict[str, Any]:
    table = store.to_frame()
    columns = [name for name in TABLE_COLUMNS if name in table]
    actions = table["action"].replace("", "none").value_counts()
    lengths = table["length"].to_numpy()
    # the recording of median length, with most bodies among those
    recordings = table.groupby("recording", sort=False)["length"].agg(["max", "size"])
    typical = recordings[recordings["max"] >= recordings["max"].median()].sort_values(
        ["size", "max"], ascending=[False, True], kind="stable"
    )
    shown = store.recording(str(typical.index[0]))
    made, rate = store.info.provenance, store.info.frame_rate
    splits = {
        protocol: {part: int((table[f"split_{protocol}"] == part).sum()) for part in PARTS}
        for protocol in store.info.protocols
    }
    return {
        "info": store.info,
        "facts": {
            "sequences": f"{made.sequences:,}",
            "recordings": f"{made.recordings:,}",
            "frames": f"{made.frames:,}",
            "joints": f"{len(store.skeleton)} ({store.skeleton.name})",
            "classes": f"{(actions.index != 'none').sum()}",
            "set aside": f"{len(made.set_aside):,}",
        },
        "table": table[columns]
        .head(TABLE_ROWS)
        .rename_axis(index=None, columns="sequence")
        .to_html(border=0, classes="data"),
        "lengths": charts.histogram(
            lengths if rate is None else lengths / rate, "frames" if rate is None else "seconds", "sequences"
        ),
        "labels": charts.bars(
            {str(name): int(n) for name, n in actions.head(LABELS_SHOWN).items()}, "sequences"
        ),
        "labels_shown": min(len(actions), LABELS_SHOWN),
        "labels_all": len(actions),
        "splits": splits,
        "split_bars": charts.bars(
            {
                f"{protocol} {part}": count
                for protocol, parts in splits.items()
                for part, count in parts.items()
                if count or part in ("train", "test")
            },
            "sequences",
        )
        if splits
        else "",
        "people": charts.bars(
            {
                f"{size} {'person' if size == 1 else 'people'}": int(count)
                for size, count in recordings["size"].value_counts().sort_index().items()
            },
            "recordings",
        ),
        "viewer": viewer_fragment([shown], store.skeleton, store.info.frame_rate),
    }


def _images(store: S2IStore) -> list[dict[str, Any]]:
    """Some images of each class, as data URLs."""
    table = store.to_frame()
    rows = []
    for action in list(dict.fromkeys(table["action"]))[:CLASSES_SHOWN]:
        numbers = np.flatnonzero((table["action"] == action).to_numpy())[:IMAGES_PER_CLASS]
        pictures = [
            {
                "url": data_url(png_bytes(image_to_rgb(store.images(n, n + 1)[0]))),
                "side": time_axis(store, table.iloc[n]),
            }
            for n in numbers
        ]
        rows.append({"action": action or "none", "pictures": pictures})
    return rows


def _loss(runs: Sequence[Run]) -> str:
    lines = {
        run.name: (run.metrics["epoch"].tolist(), run.metrics["loss"].tolist())
        for run in runs
        if "loss" in run.metrics
    }
    return charts.curves(lines, "epoch", "reconstruction loss") if lines else ""


def _probe(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Accuracies over all seeds of all runs, and by how much the pretrained encoder is ahead."""
    trained = [score for run in runs for score in run.scores("trained")]
    untrained = [score for run in runs for score in run.scores("untrained")]
    probed = [run.probe for run in runs if run.probe is not None]
    if not trained:
        return None
    data = probed[0].data
    scores = {"pretrained": trained, **({"untrained": untrained} if untrained else {})}
    return {
        "chart": charts.accuracies(scores, data.chance),
        "data": data,
        "rows": [
            {"name": name, "mean": np.mean(values), "std": _spread(values), "values": values}
            for name, values in scores.items()
        ],
        "margin": np.mean(trained) - np.mean(untrained) if untrained else None,
        # of the difference of the two means' spreads: what one pair of seeds would scatter by
        "margin_std": float(np.hypot(_spread(trained), _spread(untrained))) if untrained else None,
        "runs": len(probed),
    }


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
