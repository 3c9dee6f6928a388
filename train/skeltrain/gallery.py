"""Looking for poses in a gallery: the embeddings that ``skeltrain embed`` wrote for a run of task ``align``.

Legend: N rows of the gallery, D width, J joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from skelconv.store.info import StoreError
from skelconv.store.location import locate, read_metadata
from skelformats.errors import SkelconvError, UnknownNameError
from skelformats.skeleton import Skeleton
from skeltrain.data.pose_pairs import POSES, Pairs
from skeltrain.features_store import FEATURE, SAMPLE
from skeltrain.metrics.faiss_index import nearest_by_index
from skeltrain.metrics.retrieval import retrieve
from skeltrain.models.decoders import SOURCES
from skeltrain.models.registry import load_model
from skeltrain.run import use
from skeltrain.tasks.align_use import embed_jpeg, embed_picture, embed_poses, open_queries, skeleton_of
from skeltrain.tasks.registry import Log, Trained


class GalleryError(SkelconvError):
    """Embeddings that cannot be searched, or a pose that cannot be looked for."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """N embeddings and what is known of each.

    Attributes
    ----------
    path
        Where it lies.
    table
        N rows: sequence, frame_index, and the columns of the store.
    modality
        What was embedded: ``pose3d`` or ``pose2d``.
    checkpoint
        The model that did.
    model
        Its family and settings.
    yaw
        Turn about +y after which its 3D poses are seen as their cameras saw them; None where that is not
        known.
    pictures
        The crop store that the rows were embedded from, if it was one.
    """

    path: Path
    table: pd.DataFrame
    modality: str
    checkpoint: Path
    model: Any
    yaw: float | None = None
    pictures: Path | None = None
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def feature(self) -> NDArray[np.floating[Any]]:
        """(N, D) float16, read when first asked for."""
        return self.given[FEATURE] if FEATURE in self.given else np.asarray(self._group[FEATURE])

    def rows(self, name: str, index: NDArray[np.int64]) -> NDArray[np.floating[Any]] | None:
        """Return some rows of an array, such as ``pose3d`` (n, J, 3); None where the gallery has none."""
        if name not in self._group:
            return None
        array: Any = self._group[name]
        order = np.argsort(index, kind="stable")
        found = np.asarray(array.get_orthogonal_selection((index[order],)))
        return found[np.argsort(order, kind="stable")]

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(str(self.path), mode="r")


class PoseQuery(NamedTuple):
    """A pose of a store to look for.

    Attributes
    ----------
    row, frame
        Name of a sequence of the store, and number of the frame in its recording; by default the first that
        has a pose.
    by
        ``pose3d``, ``pose2d`` or, of a crop store, ``image``: what the query is embedded from; by default the
        first where the store has it.
    picture
        Width and height of the pictures in pixels, for 2D poses of a sequence store; by default those of the
        training.
    """

    store: str
    row: str
    frame: int | None = None
    by: str | None = None
    picture: tuple[int, int] | None = None


class ImageQuery(NamedTuple):
    """A picture to look for the pose of: a file, and the person's box in pixels, or None for all of it."""

    file: Path
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What is nearest to a query.

    Attributes
    ----------
    table
        k rows, the nearest first: ``cosine``, and the gallery's columns.
    index
        (k,) rows of the gallery.
    skeleton
        The layout of all poses.
    query
        The query's words, its pose (J, 3) or (J, 2) or None, and its picture as a JPEG file or None.
    """

    table: pd.DataFrame
    index: NDArray[np.int64]
    skeleton: Skeleton
    query: tuple[str, NDArray[np.floating[Any]] | None, bytes | None]


def open_gallery(path: str | Path) -> Gallery:
    """Open a gallery; its embeddings are read when they are searched.

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
        found = Gallery(
            Path(path),
            pd.DataFrame(columns),
            known["modality"],
            Path(known["checkpoint"]),
            known["model"],
            known.get("yaw"),
            None if known.get("pictures") is None else Path(known["pictures"]),
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
    query: PoseQuery | ImageQuery,
    k: int = 10,
    *,
    run: Path | None = None,
    faiss: bool = False,
    log: Log = lambda line: None,
) -> Found:
    """Find the poses of a gallery that are nearest to a query, by the cosine of their embeddings.

    Parameters
    ----------
    run
        Run or checkpoint of the model; by default the gallery's.
    faiss
        Choose candidates by an index (`skeltrain.metrics.faiss_index`), which is built when first asked for
        and kept beside the gallery; they are ranked exactly all the same.

    Raises
    ------
    GalleryError
        The gallery is of another model, the store has no such frame with a pose, or the model no tower for
        pictures.
    UnknownNameError
        The store has no such sequence, or there is no such way to embed.
    RetrievalError
        k is not from 1 to the number of the gallery's rows, or widths differ.
    MissingExtraError
        faiss or pillow is not installed.
    SkelconvError
        The checkpoint, the store or the picture cannot be read.
    """
    if isinstance(query, PoseQuery) and query.by is not None and query.by not in SOURCES:
        raise UnknownNameError("way to embed a pose", query.by, SOURCES)
    with use(run if run is not None else gallery.checkpoint, [], log) as (_, _, trained):
        if trained.metadata.get("model") != gallery.model:
            raise GalleryError(
                f"{trained.path}: found a model with other settings than the gallery's, expected the one "
                f"that made it, {gallery.checkpoint}"
            )
        if isinstance(query, PoseQuery):
            embedding, shown = _of_pose(trained, query)
        else:
            embedding, shown = _of_picture(trained, query)
        if faiss:
            values, indices = nearest_by_index(embedding.cpu(), gallery.feature, k, gallery.path, log)
        else:
            values, indices = retrieve(embedding, torch.from_numpy(gallery.feature), k)
        skeleton = skeleton_of(trained.metadata, str(trained.path))
    index = indices[0].cpu().numpy()
    table = gallery.table.iloc[index].reset_index(drop=True)
    table.insert(0, "cosine", values[0].cpu().numpy())
    return Found(table, index, skeleton, shown)


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


Shown = tuple[str, NDArray[np.floating[Any]] | None, bytes | None]


def _of_pose(trained: Trained, query: PoseQuery) -> tuple[Tensor, Shown]:
    by_image = query.by == "image"
    kind, pairs = open_queries(trained, query.store, None if by_image else query.by, query.picture)
    one = pick(pairs, query.store, query.row, query.frame)
    pose2d, pose3d = pairs.poses(one)
    pose = (pose3d if kind == "pose3d" else pose2d)[0].cpu().numpy()
    jpeg = None if pairs.crops is None else pairs.crops.jpeg(int(pairs.crop[one[0]]))
    words = f"{query.row}, frame {int(pairs.frame[one[0]])}, by its {query.by or kind}"
    if by_image:
        if jpeg is None:
            raise GalleryError(
                f"{query.store}: found a store without pictures, expected a crop store to look by image"
            )
        return embed_jpeg(trained, jpeg), (words, pose, jpeg)
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    return embed_poses(model, kind, pairs, one), (words, pose, jpeg)


def _of_picture(trained: Trained, query: ImageQuery) -> tuple[Tensor, Shown]:
    embedding, jpeg = embed_picture(trained, query.file, query.box)
    return embedding, (query.file.name, None, jpeg)
