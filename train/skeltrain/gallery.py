"""Looking for poses in a gallery: the embeddings that ``skeltrain embed`` wrote for a run of task ``align``.

Legend: N rows of the gallery, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import zarr
from numpy.typing import NDArray

from skelconv.store.info import StoreError
from skelconv.store.location import locate, read_metadata
from skelformats.errors import SkelconvError, UnknownNameError
from skeltrain.data.pose_pairs import POSES, Pairs
from skeltrain.features_store import FEATURE, SAMPLE
from skeltrain.metrics.retrieval import retrieve
from skeltrain.models.registry import load_model
from skeltrain.run import use
from skeltrain.tasks.align_use import embed_poses, open_queries
from skeltrain.tasks.registry import Log


class GalleryError(SkelconvError):
    """Embeddings that cannot be searched, or a pose that cannot be looked for."""


@dataclass(frozen=True)
class Gallery:
    """N embeddings and what is known of each.

    Attributes
    ----------
    feature
        (N, D).
    table
        N rows: sequence, frame_index, and the columns of the store.
    modality
        What was embedded: ``pose3d`` or ``pose2d``.
    checkpoint
        The model that did.
    model
        Its family and settings.
    """

    feature: NDArray[np.float32]
    table: pd.DataFrame
    modality: str
    checkpoint: Path
    model: Any


def open_gallery(path: str | Path) -> Gallery:
    """Read a gallery.

    Raises
    ------
    StoreError
        There is nothing, or something damaged.
    GalleryError
        It is not what ``skeltrain embed`` makes of a run of task ``align``.
    """
    metadata = read_metadata(locate(path))
    known = metadata.attributes.get("skeltrain")
    if not isinstance(known, dict) or known.get("modality") not in POSES or FEATURE not in metadata.arrays:
        raise GalleryError(
            f"{path}: found no embeddings of poses, expected what skeltrain embed writes for a run of task "
            "align"
        )
    try:
        group = zarr.open_group(str(path), mode="r")
        columns = {
            name: np.asarray(group[name])
            for name, array in metadata.arrays.items()
            if array.get("dimension_names") == [SAMPLE]
        }
        feature = np.asarray(group[FEATURE], np.float32)
        found = Gallery(
            feature, pd.DataFrame(columns), known["modality"], Path(known["checkpoint"]), known["model"]
        )
    except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise StoreError(
            f"{path}: found embeddings that cannot be read ({error}). Make them again"
        ) from error
    missing = {"sequence", "frame_index"} - set(found.table)
    if missing:
        raise GalleryError(f"{path}: found no column {', '.join(sorted(missing))}, expected one of each")
    return found


def search(
    gallery: Gallery,
    store: str,
    row: str,
    frame: int | None = None,
    k: int = 10,
    *,
    by: str | None = None,
    picture: tuple[int, int] | None = None,
    run: Path | None = None,
    log: Log = lambda line: None,
) -> pd.DataFrame:
    """Find the poses of a gallery that are nearest to one of a store, by the cosine of their embeddings.

    Parameters
    ----------
    row, frame
        Name of a sequence of the store, and number of the frame in its recording; by default the first that
        has a pose.
    by
        ``pose3d`` or ``pose2d``: what the query is embedded from; by default the former where the store has
        it.
    picture
        Width and height of the pictures in pixels, for 2D poses of a sequence store; by default those of the
        training.
    run
        Run or checkpoint of the model; by default the gallery's.

    Returns
    -------
    DataFrame
        k rows, the nearest first: ``cosine``, and the gallery's columns.

    Raises
    ------
    GalleryError
        The gallery is of another model, or the store has no such frame with a pose.
    UnknownNameError
        The store has no such sequence, or there is no such way to embed.
    RetrievalError
        k is not from 1 to the number of the gallery's rows, or widths differ.
    SkelconvError
        The checkpoint or the store cannot be read.
    """
    if by is not None and by not in POSES:
        raise UnknownNameError("way to embed a pose", by, POSES)
    with use(run if run is not None else gallery.checkpoint, [], log) as (_, _, trained):
        if trained.metadata.get("model") != gallery.model:
            raise GalleryError(
                f"{trained.path}: found a model with other settings than the gallery's, expected the one "
                f"that made it, {gallery.checkpoint}"
            )
        kind, pairs = open_queries(trained, store, by, picture)
        one = pick(pairs, store, row, frame)
        model = load_model(trained.checkpoint).to(trained.world.device).eval()
        query = embed_poses(model, kind, pairs, one)
        values, indices = retrieve(query, torch.from_numpy(gallery.feature), k)
    table = gallery.table.iloc[indices[0].cpu().numpy()].reset_index(drop=True)
    table.insert(0, "cosine", values[0].cpu().numpy())
    return table


def pick(pairs: Pairs, store: str, row: str, frame: int | None) -> NDArray[np.int64]:
    """(1,) number of the frame that is looked for; raises as `search`."""
    table = pairs.samples.table
    own = np.flatnonzero((table["sequence"] == row).to_numpy(bool)).astype(np.int64)
    if not len(own):
        raise UnknownNameError("sequence with a pose", row, tuple(map(str, table["sequence"].unique())))
    if frame is None:
        return own[:1]
    chosen = own[pairs.frame[own] == frame]
    if not len(chosen):
        first, last = int(pairs.frame[own].min()), int(pairs.frame[own].max())
        raise GalleryError(
            f"{store}: found no pose in frame {frame} of {row}, expected one of those from {first} to {last} "
            "that have one"
        )
    return chosen[:1]


def describe_found(table: pd.DataFrame) -> str:
    """Format what was found: rank, cosine, sequence, frame."""
    width = max(len("sequence"), *(len(str(name)) for name in table["sequence"]))
    lines = [f"{'rank':>4}  cosine  {'sequence':<{width}}  frame"]
    lines += [
        f"{rank:>4}  {cosine:6.4f}  {name:<{width}}  {frame}"
        for rank, (cosine, name, frame) in enumerate(
            zip(table["cosine"], table["sequence"], table["frame_index"], strict=True), 1
        )
    ]
    return "\n".join(lines)
