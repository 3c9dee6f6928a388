"""Stores as bodies for mesh recovery: 2D poses of h36m17, and the pose and shape of SMPL that belong to them.

What a store gives follows from its arrays: MotionBERT's mesh files (`skelconv ingest motionbert_mesh`) have
detections in pixels; 3DPW has bodies in the world, a moving camera and detections; AMASS has bodies alone,
which are seen without perspective. The network sees x to the right, y down and z away from the camera.

F frames of a set, N clips, T frames of a clip, J = 17 joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.store.schema import CONFIDENCE, POSITION
from skelconv.store.store import Store
from skelformats.conversions import to_h36m17
from skelformats.pw3d import KEYPOINT_NAMES
from skelformats.rotation import to_matrix
from skelformats.skeleton import load_skeleton
from skelformats.smpl import SMPL_FROM_SMPLH
from skeltrain.data.loader import DataError
from skeltrain.data.motion_batches import Source
from skeltrain.data.motion_sets import ORTHOGRAPHIC_SCALE, Clips, cut_clips, image_points, part_of
from skeltrain.data.samples import identify
from skeltrain.models.mesh import BodyJoints
from skeltrain.models.motion_heads import MILLIMETRES, SMPL_BETAS, SMPL_JOINTS
from skeltrain.models.smpl import matrix_to_axis_angle

Array = NDArray[np.float64]

#: Side of the square that 3DPW's pixels are parts of, landscape and portrait alike (MotionBERT,
#: dataset_mesh.py).
PW3D_SIDE = 1920.0

#: From AMASS's axes, +z up, to those of a network that looks along +y (MotionBERT, convert_amass.py).
AMASS_TO_NETWORK = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])

_FRAMES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class MeshSet:
    """2D poses and bodies of a store, and the clips that are cut of them.

    Attributes
    ----------
    given
        (F, J, 3) float32 on the device: x and y as parts of half the picture's width, and confidence; all 0
        where a joint is missing.
    pose
        (F, 24, 3) float32 axis-angle vectors, the root's in the network's axes.
    shape
        (F, 10) float32 shape coefficients.
    estimate
        Pose and shape of the same forms that another method found; None where they were not asked for.
    clips
        (N, T) int64 rows of each clip.
    sequence, frame
        (F,) int64 row of ``table``, and number of the frame in its recording.
    table
        Sequences, as in the store.
    identity
        Which data it is, as plain data.
    """

    given: Tensor
    pose: Tensor
    shape: Tensor
    estimate: tuple[Tensor, Tensor] | None
    clips: NDArray[np.int64]
    sequence: NDArray[np.int64]
    frame: NDArray[np.int64]
    table: pd.DataFrame
    identity: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class MeshRules:
    """What is read of a store.

    Attributes
    ----------
    protocol, part
        Split whose part is read; None reads everything.
    input
        Whose 2D poses: a detector's, or those that the true bodies make.
    estimates
        Have another method's estimates along.
    """

    clips: Clips
    protocol: str | None
    part: str
    input: Source
    estimates: bool = False


def open_mesh(store: Store, rules: MeshRules, body: BodyJoints, device: torch.device) -> MeshSet:
    """Read a store of bodies, and cut it into clips.

    Frames that a store of 3DPW says are not valid are left out, and clips do not reach over them.

    Parameters
    ----------
    body
        Makes the joints of true bodies, where the input is made of them.

    Raises
    ------
    DataError
        The store has no bodies, or not the 2D poses or estimates that are asked for; there is no such part,
        or no clip.
    """
    table = part_of(store, rules.protocol, rules.part)
    rows = np.concatenate([np.arange(a, a + n) for a, n in zip(table["start"], table["length"], strict=True)])
    sequence = np.repeat(np.arange(len(table)), table["length"])
    if store.info.dataset.name == "pw3d":
        valid = (store.array(CONFIDENCE)[rows] > 0).all(axis=1)
        rows, sequence = rows[valid], sequence[valid]
    parts = _Rows(store, table, rows, sequence)
    pose, shape = parts.pose(), parts.shape()
    given = parts.given(rules.input, pose, shape, body)
    frame = store.array("frame_index")[rows].astype(np.int64)
    clips = cut_clips(store, rules.clips, given[..., 2] > 0, sequence, frame, "mesh")
    estimate = None
    if rules.estimates:
        estimate = (_tensor(parts.vectors("estimate_pose"), device), _tensor(parts.estimated_shape(), device))
    return MeshSet(
        given=_tensor(given, device),
        pose=_tensor(parts.in_view(pose), device),
        shape=_tensor(shape, device),
        estimate=estimate,
        clips=clips,
        sequence=sequence,
        frame=frame,
        table=table,
        identity=(identify(store),),
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows (F,) of a store that are read."""

    store: Store
    table: pd.DataFrame
    rows: NDArray[np.int64]
    sequence: NDArray[np.int64]

    def pose(self) -> Array:
        """(F, 24, 3) in the store's axes; the fingers of SMPL+H make the hands of SMPL."""
        if "pose" not in self.store.arrays:
            raise DataError(
                f"{self.store.path}: found no array 'pose', expected the rotations of SMPL's joints. Ingest "
                "3DPW with --with pose,translation,camera,keypoints, AMASS with --with pose,translation, or "
                "MotionBERT's mesh files with --with pose,shape"
            )
        return self.vectors("pose")

    def vectors(self, name: str) -> Array:
        """(F, 24, 3) axis-angle vectors of an array."""
        if name not in self.store.arrays:
            raise DataError(
                f"{self.store.path}: found no array {name!r}, expected another method's estimate of each "
                "body. Ingest MotionBERT's mesh files that have them with --with "
                "pose,shape,estimate_pose,estimate_shape"
            )
        values = self.store.array(name)[self.rows].astype(np.float64)
        if values.shape[1] > SMPL_JOINTS:
            values = values[:, list(SMPL_FROM_SMPLH) if values.shape[1] == 52 else [*range(22), 25, 40]]
        return values

    def shape(self) -> Array:
        """(F, 10) shape coefficients, of each frame or of its sequence."""
        if "shape" in self.store.arrays:
            return self.store.array("shape")[self.rows].astype(np.float64)
        return self._of_sequence("betas")[:, :SMPL_BETAS]

    def estimated_shape(self) -> Array:
        """(F, 10) shape coefficients of the estimates."""
        return self.store.array("estimate_shape")[self.rows].astype(np.float64)

    def in_view(self, pose: Array) -> Array:
        """(F, 24, 3) with the root's rotation in the network's axes."""
        turn = self._view()
        if turn is None:
            return pose
        seen = pose.copy()
        roots = torch.from_numpy(turn @ to_matrix(pose[:, 0]))
        seen[:, 0] = matrix_to_axis_angle(roots).numpy()
        return seen

    def given(self, source: Source, pose: Array, shape: Array, body: BodyJoints) -> NDArray[np.float32]:
        """(F, 17, 3) x, y and confidence of the input."""
        store = self.store
        if len(store.info.axes.names) == 2:
            if source == "truth":
                raise DataError(
                    f"{store.path}: found detections without cameras, expected data.input=detection for them"
                )
            scores = store.array(CONFIDENCE)[self.rows] if CONFIDENCE in store.arrays else None
            points = image_points(store, store.array(POSITION)[self.rows], scores)
            width, height = (self._number(name) for name in ("width", "height"))
            return _parts_of_picture(points, width, height)
        if source == "detection":
            return self._keypoints()
        return self._seen(pose, shape, body)

    def _keypoints(self) -> NDArray[np.float32]:
        """What 3DPW's detector found, as parts of half of `PW3D_SIDE`."""
        if "keypoints" not in self.store.arrays:
            raise DataError(
                f"{self.store.path}: found no array 'keypoints', expected what a detector found. Ingest with "
                "--with keypoints, or set data.input=truth"
            )
        found = self.store.array("keypoints")[self.rows]
        take = [KEYPOINT_NAMES.index(name) for name in load_skeleton("coco17").names]
        points, scores = to_h36m17("coco17", found[:, take, :2], np.nan_to_num(found[:, take, 2]))
        assert scores is not None
        result = np.concatenate([points, np.clip(scores, 0, 1)[..., None]], axis=-1)
        result[~np.isfinite(result).all(axis=-1) | (result[..., 2] <= 0)] = 0
        side = np.full(len(result), PW3D_SIDE)
        return _parts_of_picture(result, side, side)

    def _seen(self, pose: Array, shape: Array, body: BodyJoints) -> NDArray[np.float32]:
        """The joints of the true bodies as the camera sees them, or without a camera from afar."""
        if "translation" not in self.store.arrays:
            raise DataError(
                f"{self.store.path}: found no array 'translation', expected the places of the bodies. Ingest "
                "with --with translation, or set data.input=detection"
            )
        joints = _joints(body, pose, shape) / MILLIMETRES
        joints = joints + self.store.array("translation")[self.rows][:, None]
        view = self._view()
        assert view is not None
        ones = np.ones((*joints.shape[:2], 1))
        if "camera" not in self.store.arrays:
            flat = joints @ AMASS_TO_NETWORK.T * ORTHOGRAPHIC_SCALE
            return np.concatenate([flat[..., :2], ones], axis=-1).astype(np.float32)
        shift = self.store.array("camera")[self.rows][:, :3, 3].astype(np.float64)
        seen = joints @ view.transpose(0, 2, 1) + shift[:, None]
        lens = self._of_sequence("intrinsics")
        flat = seen @ lens.transpose(0, 2, 1)
        ahead = seen[..., 2:] > 0
        pixels = flat[..., :2] / np.where(ahead, flat[..., 2:], 1.0)
        points = np.where(ahead, np.concatenate([pixels, ones], axis=-1), 0.0)
        side = np.full(len(points), PW3D_SIDE)
        return _parts_of_picture(points, side, side)

    def _view(self) -> Array | None:
        """Rotations from the store's axes to the network's; None where they are the same."""
        if len(self.store.info.axes.names) == 2:
            return None
        if "camera" in self.store.arrays:
            return self.store.array("camera")[self.rows][:, :3, :3].astype(np.float64)
        if self.store.info.dataset.name != "amass":
            raise DataError(
                f"{self.store.path}: found no array 'camera', expected how bodies are seen. Ingest with "
                "--with camera"
            )
        return AMASS_TO_NETWORK[None].repeat(len(self.rows), axis=0)

    def _of_sequence(self, column: str) -> Array:
        """Values of an array column for each row."""
        if column not in self.store.array_columns:
            raise DataError(
                f"{self.store.path}: found no column {column!r}, expected it beside the array 'pose'"
            )
        at = self.store.to_frame().index.get_indexer(self.table.index)
        return self.store.array(column)[at][self.sequence].astype(np.float64)

    def _number(self, column: str) -> Array:
        if column not in self.table or not (self.table[column] > 0).all():
            raise DataError(
                f"{self.store.path}: found no {column} of the picture for each sequence, expected pixels in "
                f"the column {column!r}"
            )
        return self.table[column].to_numpy(np.float64)[self.sequence]


def _parts_of_picture(points: NDArray[Any], width: Array, height: Array) -> NDArray[np.float32]:
    """Return pixels (F, J, 3) as parts of half the width from the middle; missing joints stay 0."""
    half = width[:, None] / 2
    x = points[..., 0] / half - 1
    y = points[..., 1] / half - height[:, None] / width[:, None]
    result = np.stack([x, y, points[..., 2]], axis=-1)
    result[points[..., 2] <= 0] = 0
    return result.astype(np.float32)


def _joints(body: BodyJoints, pose: Array, shape: Array) -> Array:
    """(F, 17, 3) joints in millimetres of bodies, some thousand at once."""
    device = body.regressor.device
    parts = []
    for start in range(0, len(pose), _FRAMES_AT_ONCE):
        stop = start + _FRAMES_AT_ONCE
        turns = torch.from_numpy(to_matrix(pose[start:stop])).float().to(device)
        with torch.no_grad():
            joints = body(turns, torch.from_numpy(shape[start:stop]).float().to(device))
        parts.append(joints.double().cpu().numpy())
    return np.concatenate(parts)


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)
