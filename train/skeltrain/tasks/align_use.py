"""What the towers of an alignment are used for: embedding the poses of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skelformats.skeleton import Skeleton
from skeltrain.checkpoint import CheckpointError
from skeltrain.data.pose_pairs import Pairs, has_3d, open_pairs
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
    attributes = {
        "modality": kind,
        "skeleton": pairs.samples.skeleton.name,
        "store": pairs.samples.identity,
    }
    return Features(feature.cpu().numpy(), pairs.samples.table, attributes)


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


def skeleton_of(metadata: Mapping[str, Any], where: str) -> Skeleton:
    """Return the joint layout of a checkpoint of this task; raises `CheckpointError`."""
    try:
        return Skeleton.from_dict(metadata["skeleton"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: found no sound joint layout ({error}), expected a checkpoint of task align"
        ) from error
