"""Frames with their 2D and 3D pose, and with their picture where there is one, from a crop store or a
sequence store: `open_pairs`.

What the towers of UniHPR (arXiv 2510.19078) read: 2D joints from the middle of the picture in half widths, 3D
joints in metres relative to the root, in the axes of the camera that saw the picture.

Legend: N frames, J joints.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.crops import CropStore, open_crops
from skelconv.crops.write import PIXEL_ARRAYS, pixel_array
from skelconv.crops.writer import ATTRIBUTE
from skelconv.store.info import StoreInfo
from skelconv.store.location import locate, read_metadata
from skelconv.store.schema import POSITION
from skelconv.store.store import Store, open_store
from skelformats.errors import UnknownNameError
from skelformats.skeleton import Skeleton, match_joints
from skeltrain.data.frames import Frames
from skeltrain.data.loader import DataError
from skeltrain.data.samples import SampleSet, identify
from skeltrain.sections import StoreData

METRES = {"m": 1.0, "mm": 1e-3}
"""By the name of a store's unit."""

POSES = ("pose2d", "pose3d")

LEAST_AGREEMENT = 0.8
"""Least correlation of 2D with 3D joints, sideways and upwards; poses seen through their own camera have more
than 0.95, those in the axes of a room little.
"""

_CHECKED = 1000
"""Poses that are looked at for it."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """N frames of one store.

    Attributes
    ----------
    samples
        A sample a frame. Its rows are the 3D poses, (N, J, 3) metres relative to the root; ``extras`` has
        ``pose2d``, (N, J, 2) half widths of the picture. A missing joint is NaN.
    sequence, frame
        (N,) int64: number of the sequence among those of the store, and of the frame in it.
    root
        The joint that 3D poses are relative to.
    rate
        Frames a second, where the store says so.
    crops, crop
        The pictures, where there are any, and (N,) the number of each frame's crop.
    left_out
        Frames of the store that lack a pose.
    pixels
        Name of the array that the 2D joints are of: true ones, or a detector's.
    every2d, row
        2D poses (R, J, 2) of all frames of the store, and (N,) which of these are the N frames'.
    edges
        (N, 2) int64: the first of those rows that is of the frame's sequence, and the one after the last.
    """

    samples: SampleSet
    sequence: NDArray[np.int64]
    frame: NDArray[np.int64]
    root: int
    rate: float | None
    crops: CropStore | None
    crop: NDArray[np.int64]
    left_out: int
    pixels: str
    every2d: Tensor
    row: NDArray[np.int64]
    edges: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.samples)

    def poses(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the 2D and the 3D poses of frames on the device, (n, J, 2) and (n, J, 3)."""
        rows = self.samples.gather(index)
        return rows.extras["pose2d"], rows.position

    def motion(self, index: NDArray[np.int64], length: int) -> Tensor:
        """Return windows of 2D poses (n, T, J, 2) about frames: those that the store has of the sequence, the
        first and the last repeated where it ends.
        """
        about = np.arange(length) - length // 2
        first, stop = self.edges[index, :1], self.edges[index, 1:]
        rows = np.clip(self.row[index][:, None] + about, first, stop - 1)
        return self.every2d[torch.from_numpy(rows).to(self.every2d.device)]


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is read of a store, before anything is left out."""

    pixel: NDArray[np.float64]
    position: NDArray[np.float64]
    size: NDArray[np.float64]
    table: pd.DataFrame
    skeleton: Skeleton
    info: StoreInfo
    identity: dict[str, Any]
    crops: CropStore | None
    pixels: str


def open_pairs(
    data: StoreData,
    device: torch.device,
    every: int = 1,
    picture: tuple[int, int] | None = None,
    skeleton: Skeleton | None = None,
    need: Collection[str] = POSES,
    pixels: str | None = None,
) -> Pairs:
    """Read the poses of a crop store, or of a sequence store with an array of pixels, onto a device.

    Parameters
    ----------
    every
        Take the frames whose number this divides: neighbours in a video are false negatives of each other.
    picture
        Width and height of the pictures in pixels, for a sequence store, which does not know.
    skeleton
        Layout to bring the joints to, by name; the store's own by default.
    need
        Which of ``pose2d`` and ``pose3d`` a frame must have; the other is NaN where it lacks.
    pixels
        Array of the joints in the picture, of a sequence store; found by default (`pixel_array`).

    Raises
    ------
    DataError
        No store is named, it lacks poses that are needed, no frame has them, or the 3D poses are not in the
        axes of the picture's camera.
    StoreError, SkeletonError
        The store cannot be read, or lacks joints of ``skeleton``.
    """
    if data.store is None:
        raise DataError(
            "found no store, expected the folder of a crop store or a sequence store. Give it with --store "
            "STORE, or as data.store"
        )
    crops = ATTRIBUTE in read_metadata(locate(data.store)).attributes
    rows = _of_crops(data.store, need, pixels) if crops else _of_sequences(data.store, picture, need, pixels)
    target = skeleton or rows.skeleton
    take = list(range(len(target))) if target == rows.skeleton else match_joints(rows.skeleton, target)
    root = target.parents.index(-1)
    position = rows.position[:, take] * _metres(rows.info, data.store)
    position = position - position[:, root : root + 1]
    width = rows.size[:, None, :1]
    pose2d = (2 * rows.pixel[:, take] - rows.size[:, None, :]) / width
    frame = rows.table["frame_index"].to_numpy(np.int64)
    due = frame % every == 0
    there = due.copy()
    for name, pose in (("pose2d", pose2d), ("pose3d", position)):
        if name in need:
            there &= _any_joint(pose)
    kept = np.flatnonzero(there).astype(np.int64)
    if not len(kept):
        raise DataError(
            f"{data.store}: found {int(due.sum())} frames, none with a joint in {' and in '.join(need)} "
            "(in 3D, the root too), expected at least one"
        )
    if set(need) == set(POSES):
        _check_camera(pose2d[kept], position[kept], data.store)
    table = rows.table.iloc[kept].reset_index(drop=True)
    frames = Frames(
        position[kept].astype(np.float32), device, extras={"pose2d": pose2d[kept].astype(np.float32)}
    )
    samples = SampleSet(
        frames=frames,
        start=np.arange(len(kept), dtype=np.int64),
        length=np.ones(len(kept), np.int64),
        table=table,
        skeleton=target,
        classes=rows.info.classes,
        identity=rows.identity,
    )
    number = pd.factorize(rows.table["sequence"])[0].astype(np.int64)
    # the rows of a sequence stand together, in a store as among crops
    edge = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(number)]])
    stretch = np.searchsorted(edge, kept, side="right")
    return Pairs(
        samples,
        number[kept],
        frame[kept],
        root,
        rows.info.frame_rate,
        rows.crops,
        kept,
        int((due & ~there).sum()),
        rows.pixels,
        torch.from_numpy(pose2d.astype(np.float32)).to(device),
        kept,
        np.stack([edge[stretch - 1], edge[stretch]], axis=1).astype(np.int64),
    )


def has_3d(path: str | Path) -> bool:
    """Whether a crop store or a sequence store has 3D poses; raises `StoreError`."""
    if ATTRIBUTE in read_metadata(locate(path)).attributes:
        return "position3d" in open_crops(path).arrays
    return bool(open_store(path).metadata(POSITION)["shape"][2] == 3)


def _of_crops(path: str | Path, need: Collection[str], pixels: str | None) -> _Rows:
    crops = open_crops(path)
    named = str(crops.attributes["pixels"])
    if pixels is not None and pixels != named:
        raise DataError(
            f"{path}: found crops cut by {named}, expected {pixels}. Cut them by it (skelconv crops "
            "--pixels), or leave data.pixels out"
        )
    joints, count = len(crops.skeleton), len(crops)
    known = crops.arrays
    if "pose3d" in need and "position3d" not in known:
        raise DataError(
            f"{path}: found crops with 2D poses alone, expected 3D poses too. They come from a sequence "
            "store of three axes"
        )
    position = np.full((count, joints, 3), np.nan)
    if "position3d" in known:
        position[:] = crops.poses("position3d", 0, count)
    identity = {
        "dataset": crops.source.dataset.name,
        "digest": crops.source.provenance.digest,
        "crops": count,
        "frames": count,
    }
    return _Rows(
        crops.poses("position2d", 0, count).astype(np.float64),
        position,
        crops.array("picture_size").astype(np.float64),
        crops.to_frame(),
        crops.skeleton,
        crops.source,
        identity,
        crops,
        named,
    )


def _of_sequences(
    path: str | Path, picture: tuple[int, int] | None, need: Collection[str], pixels: str | None
) -> _Rows:
    store = open_store(path)
    joints, count = len(store.skeleton), store.frames
    flat = store.metadata(POSITION)["shape"][2] == 2
    if "pose3d" in need and flat:
        raise DataError(f"{path}: found poses of two axes, expected 3D poses with an array of pixels")
    named = POSITION if flat else next((name for name in PIXEL_ARRAYS if name in store.arrays), None)
    if "pose2d" in need:
        named = pixel_array(store, pixels)
        _check_joints(store, named)
        if picture is None:
            raise DataError(
                f"{path}: found a sequence store, which does not say how large its pictures are, expected "
                "their width and height in pixels as data.picture, such as [1000, 1002]"
            )
    names = tuple({POSITION, "frame_index", *(() if named is None else (named,))})
    arrays = store.load(names)
    own = store.to_frame()
    rows = np.repeat(np.arange(len(own)), own["length"])
    table = own.drop(columns=["start", "length"]).iloc[rows].reset_index(drop=True)
    table["sequence"] = np.array(store.names, dtype=object)[rows]
    table["frame_index"] = np.asarray(arrays["frame_index"])
    nothing = np.full((count, joints, 3), np.nan)
    return _Rows(
        nothing[..., :2] if named is None else np.asarray(arrays[named], np.float64),
        nothing if flat else np.asarray(arrays[POSITION], np.float64),
        np.broadcast_to(np.array(picture or (1, 1), np.float64), (count, 2)),
        table,
        store.skeleton,
        store.info,
        identify(store),
        None,
        named or "none",
    )


def _check_joints(store: Store, pixels: str) -> None:
    """Raise `DataError` unless an array of pixels has the joints of the store's layout, in their order."""
    axis = store.metadata(pixels)["dimension_names"][1]
    if axis == "joint":
        return
    try:
        names = tuple(map(str, store.array(axis)))
    except UnknownNameError:
        names = ()
    if names != store.skeleton.names:
        raise DataError(
            f"{store.path}: found {pixels} of other joints ({', '.join(names) or axis}) than the poses', "
            f"expected those of {store.skeleton.name}"
        )


def _any_joint(pose: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole = np.logical_and.reduce(np.isfinite(pose), axis=2)
    return np.asarray(np.logical_or.reduce(whole, axis=1))


def _metres(info: StoreInfo, path: str | Path) -> float:
    if info.unit not in METRES and len(info.axes.names) == 3:
        raise DataError(
            f"{path}: found 3D positions in {info.unit!r}, expected {' or '.join(METRES)}: an encoder of "
            "poses is told their size"
        )
    return METRES.get(info.unit, 1.0)


def _check_camera(pose2d: NDArray[np.float64], pose3d: NDArray[np.float64], path: str | Path) -> None:
    """Raise `DataError` unless x and y of both go together, as they do through the picture's camera."""
    some = np.linspace(0, len(pose2d) - 1, min(len(pose2d), _CHECKED)).round().astype(int)
    flat, deep = pose2d[some], pose3d[some][..., :2]
    both = (np.isfinite(flat) & np.isfinite(deep)).all(axis=-1, keepdims=True)
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)

    def centred(pose: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = np.where(both, pose, 0.0)
        middle = seen - seen.sum(axis=1, keepdims=True) / count
        # of one size each, so that a body close to the camera counts no more than others
        middle = np.where(both, middle, 0.0)
        size = np.sqrt((middle**2).sum(axis=(1, 2), keepdims=True))
        return middle / np.where(size > 0, size, 1.0)

    one, other = centred(flat), centred(deep)
    powers = np.sqrt((one**2).sum(axis=(0, 1)) * (other**2).sum(axis=(0, 1)))
    agreement = np.abs((one * other).sum(axis=(0, 1))) / np.where(powers > 0, powers, 1.0)
    if (powers > 0).all() and agreement.min() < LEAST_AGREEMENT:
        raise DataError(
            f"{path}: found 2D and 3D joints whose x and y correlate by {agreement[0]:.2f} and "
            f"{agreement[1]:.2f}, expected at least {LEAST_AGREEMENT}: 3D poses in the axes of the camera "
            "that took the picture. Poses in the axes of a room cannot agree with a picture"
        )
