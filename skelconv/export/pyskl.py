"""pyskl's annotation pickle, which mmaction2 and most graph networks read (Duan et al., ACM MM 2022).

``{"split": {"xsub_train": [names], "xsub_val": [names], ...}, "annotations": [{"frame_dir": name, "label":
int, "keypoint": (M, T, J, A) float16, "total_frames": T}]}`` (pyskl, tools/data/README.md). 2D stores add
``keypoint_score`` (M, T, J) float16 and, where the store knows it, ``img_shape`` (height, width).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.clean import Actors, gather_extra
from skelconv.export.forms import ExportForm
from skelconv.export.place import Exported, written_aside
from skelconv.export.takes import chain_of, cleaned_takes, expect_some
from skelconv.store.recording import Recording
from skelconv.store.schema import split_column
from skelconv.store.store import Store

CHAINS = {"ntu60": "pyskl", "ntu120": "pyskl"}
"""Chain of each dataset that pyskl's own script cleans; every body as stored for the others."""

OFFICIAL_TEST = ("xsub", "xview", "xset")
"""Protocols whose test part pyskl calls val."""


def export_pyskl(store: Store, path: str | Path, chain: str = "auto", overwrite: bool = False) -> Exported:
    """Write a store as one annotation pickle.

    Parameters
    ----------
    chain
        Cleaning chain; ``auto`` is pyskl's for NTU RGB+D, and none for other datasets and cleaned stores.

    Raises
    ------
    ExportError
        ``path`` exists and ``overwrite`` is false, or there is nothing to write.
    UnknownNameError
        There is no such chain.
    """
    path = Path(path)
    used = chain_of(store, chain, CHAINS)
    set_aside: list[tuple[str, str]] = []
    flat = len(store.info.axes.names) == 2
    annotations: list[dict[str, Any]] = []
    split: dict[str, list[str]] = {}
    for protocol in store.info.protocols:
        for part in ("train", "test"):
            split[_key(protocol, part)] = []
    for recording, actors in cleaned_takes(store, used, set_aside):
        annotations.append(_annotation(recording, actors, flat))
        for protocol in store.info.protocols:
            part = str(recording.row[split_column(protocol)])
            if part:
                split.setdefault(_key(protocol, part), []).append(recording.name)
    expect_some(len(annotations), store, set_aside)
    with written_aside(path, overwrite) as partial, partial.open("wb") as handle:
        # protocol 4: every Python that runs pyskl reads it, and arrays may exceed 4 GB
        pickle.dump({"split": split, "annotations": annotations}, handle, protocol=4)
    counts = {"annotations": len(annotations)} | {f"in {key}": len(names) for key, names in split.items()}
    left_out = tuple(name for name in store.info.extras)
    return Exported(path, counts, tuple(set_aside), left_out)


def _key(protocol: str, part: str) -> str:
    """Return pyskl's name of a part; a protocol called ``split`` is a file with one split."""
    if protocol in OFFICIAL_TEST and part == "test":
        part = "val"
    if protocol == "split":
        return part
    if protocol in ("split1", "split2", "split3"):
        return part + protocol.removeprefix("split")
    return f"{protocol}_{part}"


def _annotation(recording: Recording, actors: Actors, flat: bool) -> dict[str, Any]:
    keypoint = actors.position.astype(np.float16)
    annotation = {
        "frame_dir": recording.name,
        "label": int(recording.row["label"]),
        "keypoint": keypoint,
        "total_frames": int(keypoint.shape[1]),
    }
    if flat and all(body.confidence is not None for body in recording.bodies):
        score = gather_extra(recording, actors, "confidence")
        annotation["keypoint_score"] = np.nan_to_num(score, nan=0.0).astype(np.float16)
    height, width = (int(recording.row.get(side, -1)) for side in ("height", "width"))
    if flat and min(height, width) > 0:
        annotation["img_shape"] = annotation["original_shape"] = (height, width)
    return annotation


FORM = ExportForm(
    name="pyskl",
    title="annotation pickle of pyskl and mmaction2",
    write=lambda store, path, how: export_pyskl(store, path, how.chain, how.overwrite),
    choices=("clean",),
)
