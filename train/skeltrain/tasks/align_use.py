"""What the towers of an alignment are used for: embedding the poses of a store, or a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skelconv.crops.cut import CropRefusedError, cut, open_picture, to_proportions
from skelconv.extras import need
from skelformats.skeleton import Skeleton
from skeltrain.checkpoint import CheckpointError
from skeltrain.data.crop_images import decode
from skeltrain.data.loader import DataError
from skeltrain.data.pose_pairs import POSES, Pairs, has_3d, open_pairs
from skeltrain.models.errors import ModelError
from skeltrain.models.registry import load_model
from skeltrain.sections import StoreData
from skeltrain.tasks.registry import Features, Trained

EMBEDDED_AT_ONCE = 1024


def embed_frames(trained: Trained, store: str) -> Features:
    """Return an embedding (D,) for each frame of a store: of its 3D pose, or of its 2D pose where the store
    has no other.

    Raises
    ------
    SkelconvError
        Of the kind that fits: the store cannot be read, or lacks joints of the model.
    """
    kind, pairs = open_queries(trained, store)
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    feature = embed_poses(model, kind, pairs)
    if pairs.left_out:
        trained.log(f"left out: {pairs.left_out} frames without a joint (in 3D, without the root)")
    poses = {
        name: pose.cpu().numpy()
        for name, pose in zip(POSES, pairs.poses(np.arange(len(pairs), dtype=np.int64)), strict=True)
        if bool(pose.isfinite().any())
    }
    attributes = {
        "modality": kind,
        "skeleton": pairs.samples.skeleton.name,
        "store": pairs.samples.identity,
        "yaw": camera_yaw(poses["pose2d"], poses["pose3d"]) if len(poses) == len(POSES) else None,
        "pictures": None if pairs.crops is None else str(Path(store).resolve()),
    }
    table = pairs.samples.table
    if pairs.crops is not None:
        table = table.assign(crop=pairs.crop)
    # float16 changes the first match of 0.3 % of queries among frames of videos, bfloat16 of 4 %
    return Features(feature.cpu().numpy(), table, attributes, "float16", poses)


def open_queries(
    trained: Trained, store: str, by: str | None = None, picture: tuple[int, int] | None = None
) -> tuple[str, Pairs]:
    """Open the poses of a store in the model's layout: ``by``, else ``pose3d`` or where there are none
    ``pose2d``, and the frames; raises as `embed_frames`.
    """
    skeleton = skeleton_of(trained.metadata, str(trained.path))
    kind = by or ("pose3d" if has_3d(store) else "pose2d")
    picture = picture or trained.metadata["recipe"].get("data", {}).get("picture")
    device = trained.world.device
    return kind, open_pairs(StoreData(store=store), device, 1, picture, skeleton, need=(kind,))


@torch.no_grad()
def embed_poses(model: nn.Module, kind: str, pairs: Pairs, index: NDArray[np.int64] | None = None) -> Tensor:
    """(n, D) float32 embeddings of the poses ``kind`` of frames, all by default."""
    tower = model.get_submodule(kind)
    found = []
    chosen = np.arange(len(pairs), dtype=np.int64) if index is None else index
    for start in range(0, len(chosen), EMBEDDED_AT_ONCE):
        pose2d, pose3d = pairs.poses(chosen[start : start + EMBEDDED_AT_ONCE])
        found.append(tower(pose2d if kind == "pose2d" else pose3d).float())
    return torch.cat(found)


@torch.no_grad()
def embed_picture(
    trained: Trained, file: Path, box: tuple[float, float, float, float] | None = None
) -> tuple[Tensor, bytes]:
    """(1, D) embedding of a person in a picture, and the crop that was embedded, as a JPEG file.

    The box is grown to a crop's proportions and cut as `skelconv crops` does, black beyond the edges.

    Parameters
    ----------
    box
        Left, top, right, bottom in pixels; None takes the whole picture.

    Raises
    ------
    ModelError
        As `embed_jpeg`.
    DataError
        The picture cannot be read, or the box is empty or outside of it.
    MissingExtraError
        Pillow is not installed.
    """
    need("PIL", "view")
    try:
        with open_picture(file) as picture:
            whole = np.array((0, 0, *picture.size) if box is None else box, np.float64)
            if not (whole[2:] > whole[:2]).all():
                raise DataError(f"found the box {box}, expected left < right and top < bottom, in pixels")
            jpeg, _ = cut(picture, to_proportions(whole))
    except CropRefusedError as error:
        raise DataError(f"{file}: {error}") from error
    return embed_jpeg(trained, jpeg), jpeg


@torch.no_grad()
def embed_jpeg(trained: Trained, jpeg: bytes) -> Tensor:
    """(1, D) embedding of a crop, a JPEG file.

    Raises
    ------
    ModelError
        The model has no tower of pictures.
    DataError
        The crop cannot be decoded.
    """
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    tower = getattr(model, "image", None)
    if tower is None:
        raise ModelError(
            f"{trained.path}: found a model without a tower of pictures, expected one of stage image or all"
        )
    rows, columns = trained.metadata["recipe"]["data"]["image_size"]
    image = decode(jpeg, (int(rows), int(columns)))
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(trained.world.device)
    found: Tensor = tower(batch).float()
    return found


def camera_yaw(pose2d: NDArray[np.floating[Any]], pose3d: NDArray[np.floating[Any]]) -> float | None:
    """Turn about +y after which 3D poses (N, J, 3) look as their 2D ones (N, J, 2) do: 0 or pi; None where no
    joint is in both.
    """
    both = np.isfinite(pose2d).all(axis=-1) & np.isfinite(pose3d).all(axis=-1)
    if not both.any():
        return None
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    flat, deep = (np.where(both, pose[..., 0], 0.0) for pose in (pose2d, pose3d))
    flat, deep = (np.where(both, x - x.sum(axis=1, keepdims=True) / count, 0.0) for x in (flat, deep))
    return 0.0 if float((flat * deep).sum()) >= 0 else math.pi


def skeleton_of(metadata: Mapping[str, Any], where: str) -> Skeleton:
    """Return the joint layout of a checkpoint of this task; raises `CheckpointError`."""
    try:
        return Skeleton.from_dict(metadata["skeleton"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: found no sound joint layout ({error}), expected a checkpoint of task align"
        ) from error
