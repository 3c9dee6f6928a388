"""Stores as motion for MotionBERT: poses of h36m17 in the network's coordinates, and clips cut of them.

No file a clip: a set holds the rows of its store once, and a table of which rows each clip takes. The network
sees x to the right, y down and z away from the camera, in units of half a picture.

F frames of a set, N clips, T frames of a clip, J = 17 joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.store.schema import CONFIDENCE, POSITION
from skelconv.store.store import Store
from skelformats.conversions import CONVERSIONS, to_h36m17
from skelformats.h36m_cameras import CAMERA_TABLE, Camera
from skelformats.skeleton import Skeleton, load_skeleton, match_joints
from skeltrain.data.loader import DataError
from skeltrain.data.motion_cameras import factor_25d, image_pose, normalise_h36m
from skeltrain.data.motion_clips import resample
from skeltrain.data.samples import identify
from skeltrain.recipe import Fraction, Positive, Section

Kind = Literal["3d", "annotated", "detected"]
"""What a store teaches: depth; true 2D poses; or 2D poses that a detector found and scored."""

#: The network's unit of a pose without a camera, in metres: AMASS's poses times this (MotionBERT,
#: tools/convert_amass.py).
ORTHOGRAPHIC_SCALE = 0.298

DETECTION = "detection"
SCORE = "detection_score"
FACTOR = "factor"
TRUTH = "truth"
MILLIMETRES = 1000.0

Sizes = dict[int, tuple[float, float]]
"""Width and height of the picture of each sequence that has one."""


class Clips(Section):
    """Which clips are cut of the sequences of a store; none reaches over a gap in the observed frames.

    Attributes
    ----------
    length, stride
        Frames of a clip, and from the start of one to that of the next. The rest at the end is left out.
    first
        Take only the first clip of each sequence.
    stretch
        Repeat frames, evenly, of a stretch that is shorter than a clip; else it is left out.
    seen
        Least part of a clip's joints that are seen.
    root
        Frames of a clip in which the root must be seen.
    """

    length: Positive = 243
    stride: Positive = 81
    first: bool = False
    stretch: bool = True
    seen: Fraction = 0.0
    root: Literal["any", "first", "all"] = "any"


@dataclass(frozen=True, eq=False)
class MotionSet:
    """Poses of one or more stores of a kind, and the clips that are cut of them.

    Attributes
    ----------
    kind
        What there is to learn.
    pose
        (F, J, 3) float32 on the device. Of ``3d``: the pose as the network is to predict it, NaN where a
        joint is missing. Else: x and y in pixels, and the confidence; all 0 where a joint is missing.
    clips
        (N, T) int64 rows of each clip.
    detection
        (F, J, 3) float32 x, y and confidence that a detector found of a ``3d`` set, in its coordinates; None
        where they were not asked for.
    millimetres
        (F,) float64 millimetres in the network's unit; NaN where that is not known, and of sets without
        depth.
    truth
        (F, J, 3) float64 poses in millimetres that errors are measured against, where they are not ``pose``
        times ``millimetres``.
    sequence, frame
        (F,) int64 row of ``table``, and number of the frame in its recording.
    table
        Sequences, as in the store.
    identity
        Which data it is, as plain data.
    """

    kind: Kind
    pose: Tensor
    clips: NDArray[np.int64]
    detection: Tensor | None
    millimetres: NDArray[np.float64]
    sequence: NDArray[np.int64]
    frame: NDArray[np.int64]
    table: pd.DataFrame
    identity: tuple[dict[str, Any], ...]
    truth: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.clips)


def kind_of(store: Store) -> Kind:
    """Return what a store teaches: 3D poses, and of 2D ones those with a score a joint are detections."""
    if len(store.info.axes.names) == 3:
        return "3d"
    scored = store.info.confidence is not None and store.info.confidence.dtype == "f4"
    return "detected" if scored else "annotated"


def open_motion(
    store: Store,
    rules: Clips,
    device: torch.device,
    protocol: str | None = None,
    part: str = "train",
    detections: bool = False,
) -> MotionSet:
    """Read a store as motion, and cut it into clips.

    Poses of a store with cameras (Human3.6M's) are 2.5D: x and y as the camera sees them, without distortion,
    and depth in the same unit; so are those that a store has in pixels (``h36m25d``). All other 3D poses
    are seen from +z of the store's axes, without perspective, and `ORTHOGRAPHIC_SCALE` units a metre, as
    MotionBERT sees AMASS.

    Parameters
    ----------
    protocol, part
        Split whose part is read; None reads everything.
    detections
        Have the store's array ``detection`` along.

    Raises
    ------
    DataError
        There is no such part, no clip, no array ``detection``, or a unit that is not metres or pixels.
    SkeletonError
        The joints make no h36m17; those that are missing are named.
    StoreError
        The store cannot be read.
    """
    kind = kind_of(store)
    in_picture = kind == "3d" and store.info.unit == "px"
    expected = "m" if kind == "3d" and not in_picture else "px"
    if store.info.unit != expected:
        raise DataError(f"{store.path}: found poses in {store.info.unit!r}, expected {expected!r}")
    table = part_of(store, protocol, part)
    rows = np.concatenate([np.arange(a, a + n) for a, n in zip(table["start"], table["length"], strict=True)])
    sequence = np.repeat(np.arange(len(table)), table["length"])
    frame = store.array("frame_index")[rows].astype(np.int64)
    position = store.array(POSITION)[rows]
    detected = truth = None
    if kind == "3d":
        joints, _ = joints_of(store.skeleton, position)
        if in_picture:
            pose, millimetres, sizes = _picture_poses(store, joints, table, sequence, rows)
            truth = store.array(TRUTH)[rows].astype(np.float64) if TRUTH in store.arrays else None
        else:
            pose, millimetres, sizes = _network_poses(store, joints, table, sequence)
        if detections:
            detected = torch.from_numpy(_detections(store, rows, sequence, sizes)).to(device)
    else:
        pose = image_points(store, position, store.array(CONFIDENCE)[rows] if _scored(store) else None)
        millimetres = np.full(len(rows), np.nan)
    seen = np.asarray((np.isfinite(pose) if kind == "3d" else pose[..., 2:] > 0).all(axis=-1), np.bool_)
    clips = cut_clips(store, rules, seen, sequence, frame, kind)
    return MotionSet(
        kind=kind,
        pose=torch.from_numpy(pose.astype(np.float32)).to(device),
        clips=clips,
        detection=detected,
        millimetres=millimetres,
        sequence=sequence,
        frame=frame,
        table=table,
        identity=(identify(store),),
        truth=truth,
    )


def cut_clips(
    store: Store,
    rules: Clips,
    seen: NDArray[np.bool_],
    sequence: NDArray[np.int64],
    frame: NDArray[np.int64],
    kind: str,
) -> NDArray[np.int64]:
    """Return the clips (N, T) of the rows of a store, whose joints (F, J) were seen.

    Parameters
    ----------
    sequence, frame
        (F,) of each row; sequences stand one after another.
    kind
        What the data is, for the message.

    Raises
    ------
    DataError
        There is no clip.
    """
    lengths = np.bincount(sequence) if len(sequence) else np.zeros(1, np.int64)
    edges = np.searchsorted(sequence, np.arange(len(lengths) + 1))
    cut = [clip for a, b in pairwise(edges) for clip in _cut(np.arange(a, b), frame, rules)]
    kept = [clip for clip in cut if _usable(seen[clip], rules)]
    if not kept:
        raise DataError(
            f"{store.path}: found no clip of {rules.length} frames with enough joints seen among {len(cut)} "
            f"(the longest sequence has {lengths.max()} frames), expected at least one. Set length, stretch, "
            f"seen and root of the data of this kind ({kind})"
        )
    return np.stack(kept).astype(np.int64)


def join(sets: Sequence[MotionSet]) -> MotionSet:
    """Return sets of one kind and clip length as one; raises `DataError` where they are not."""
    first = sets[0]
    if len({(one.kind, one.clips.shape[1], one.detection is None) for one in sets}) != 1:
        raise DataError("found sets of several kinds or clip lengths, expected alike ones to be joined")
    if len(sets) == 1:
        return first
    frames = np.cumsum([0, *(len(one.pose) for one in sets)])
    sequences = np.cumsum([0, *(len(one.table) for one in sets)])
    detections = [one.detection for one in sets if one.detection is not None]
    return replace(
        first,
        pose=torch.cat([one.pose for one in sets]),
        clips=np.concatenate([one.clips + at for one, at in zip(sets, frames, strict=False)]),
        detection=torch.cat(detections) if detections else None,
        millimetres=np.concatenate([one.millimetres for one in sets]),
        sequence=np.concatenate([one.sequence + at for one, at in zip(sets, sequences, strict=False)]),
        frame=np.concatenate([one.frame for one in sets]),
        table=pd.concat([one.table for one in sets]),
        identity=tuple(entry for one in sets for entry in one.identity),
    )


def joints_of(
    layout: Skeleton, position: NDArray[Any], confidence: NDArray[Any] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return poses (F, J', A) of a layout as those of h36m17: by conversion, or joint for joint by name.

    Raises
    ------
    SkeletonError
        Joints of h36m17 are missing; all are named.
    """
    if layout.name in CONVERSIONS:
        return to_h36m17(layout.name, position, confidence)
    take = match_joints(layout, load_skeleton("h36m17"))
    scores = None if confidence is None else confidence[:, take].astype(np.float32)
    return position[:, take].astype(np.float32), scores


def image_points(
    store: Store, position: NDArray[Any], confidence: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Return pixels and confidence (F, 17, 3) of poses of a 2D store; all 0 where a joint is missing.

    Confidences that are states, not scores, become 1 where the joint is placed at all, and scores are kept
    within [0, 1].
    """
    scores = np.isfinite(position).all(axis=-1).astype(np.float32)
    if confidence is not None:
        states = confidence.dtype.kind in "ui"
        scores *= (confidence > 0) if states else np.clip(np.nan_to_num(confidence), 0, 1)
    points, weights = joints_of(store.skeleton, position, scores)
    assert weights is not None
    missing = ~np.isfinite(points).all(axis=-1) | (weights <= 0)
    result = np.concatenate([points, weights[..., None]], axis=-1)
    result[missing] = 0
    return np.asarray(result, np.float32)


def _scored(store: Store) -> bool:
    return CONFIDENCE in store.arrays


def part_of(store: Store, protocol: str | None, part: str) -> pd.DataFrame:
    """Return the sequences of a part of a split; None for everything. Raises `DataError` for none."""
    table = store.to_frame()
    if protocol is not None:
        column = f"split_{protocol}"
        if column not in table:
            known = ", ".join(store.info.protocols) or "none"
            raise DataError(
                f"{store.path}: found no protocol {protocol!r}, expected one of {known}. Set data.protocol"
            )
        table = table[table[column] == part]
    if not len(table):
        where = "" if protocol is None else f" in part {part!r} of protocol {protocol!r}"
        raise DataError(f"{store.path}: found no sequence{where}, expected at least one")
    return table


def _network_poses(
    store: Store, joints: NDArray[np.float32], table: pd.DataFrame, sequence: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], Sizes]:
    """Return poses (F, 17, 3), millimetres a unit (F,), and the size of each sequence before a camera."""
    cameras = _cameras(store)
    numbers = {"subject", "camera"} <= set(table.columns)
    sizes: Sizes = {}
    pose = (joints * np.array([1, -1, -1]) * ORTHOGRAPHIC_SCALE).astype(np.float32)
    millimetres = np.full(len(joints), MILLIMETRES / ORTHOGRAPHIC_SCALE)
    if not cameras or not numbers:
        return pose, millimetres, sizes
    raw = store.info.axes.axis_map().to_raw(joints)
    # VideoPose3D's file is in metres, the others in millimetres
    raw = raw * (store.info.axes.scale * MILLIMETRES)
    for at, key in enumerate(zip(table["subject"], table["camera"], strict=True)):
        camera = cameras.get((int(key[0]), int(key[1])))
        if camera is None:
            continue
        own, sizes[at] = sequence == at, (camera.width, camera.height)
        pose[own] = normalise_h36m(image_pose(raw[own], camera), sizes[at])
        millimetres[own] = factor_25d(raw[own], camera) * camera.width / 2
    return pose, millimetres, sizes


def _picture_poses(
    store: Store,
    joints: NDArray[np.float32],
    table: pd.DataFrame,
    sequence: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float64], Sizes]:
    """Return what `_network_poses` does of 2.5D poses in pixels, as MotionBERT's pickle has them."""
    if not {"width", "height"} <= set(table.columns):
        raise DataError(
            f"{store.path}: found 3D poses in pixels without the size of their pictures, expected it"
        )
    size = table[["width", "height"]].to_numpy(np.float64)
    raw = store.info.axes.axis_map().to_raw(joints)
    pose = normalise_h36m(raw.astype(np.float64), size[sequence]).astype(np.float32)
    factor = np.full(len(rows), np.nan)
    if FACTOR in store.arrays:
        factor = store.array(FACTOR)[rows].astype(np.float64)
    sizes = {at: (float(width), float(height)) for at, (width, height) in enumerate(size)}
    return pose, factor * size[sequence, 0] / 2, sizes


def _cameras(store: Store) -> dict[tuple[int, int], Camera]:
    if CAMERA_TABLE.name not in store.info.tables:
        return {}
    rows = store.table(CAMERA_TABLE.name)
    wanted = [column.name for column in CAMERA_TABLE.columns]
    if not set(wanted) <= set(rows.columns):
        return {}
    found = (Camera(**{name: row[name] for name in wanted}) for _, row in rows.iterrows())
    return {(int(camera.subject), int(camera.camera)): camera for camera in found}


def _detections(
    store: Store, rows: NDArray[np.int64], sequence: NDArray[np.int64], sizes: Sizes
) -> NDArray[np.float32]:
    """(F, 17, 3) x, y and confidence of the store's detections, in the network's coordinates."""
    if DETECTION not in store.arrays or not sizes:
        raise DataError(
            f"{store.path}: found no array {DETECTION!r} with cameras, expected what a 2D detector found. "
            "Ingest with --with detection, or set data.input to truth"
        )
    names = tuple(str(name) for name in store.array(f"{DETECTION}_joint"))
    layouts = [load_skeleton(name) for name in ("h36m17", *CONVERSIONS)]
    layout = next((layout for layout in layouts if layout.names == names), None)
    if layout is None:
        raise DataError(
            f"{store.path}: found detections of the joints {', '.join(names)}, expected those of one of "
            f"{', '.join(layout.name for layout in layouts)}"
        )
    pixel = store.array(DETECTION)[rows]
    found = np.isfinite(pixel).all(axis=-1).astype(np.float32)
    if SCORE in store.arrays:
        # MotionBERT's reader, too, takes 1 where the file has no scores
        found *= np.nan_to_num(store.array(SCORE)[rows], nan=1.0)
    points, scores = joints_of(layout, pixel, found)
    assert scores is not None
    result = np.zeros((len(rows), len(scores[0]), 3), np.float32)
    for at, size in sizes.items():
        own = sequence == at
        placed = normalise_h36m(points[own].astype(np.float64), size)
        result[own] = np.concatenate([placed, scores[own][..., None]], axis=-1)
    result[~np.isfinite(result).all(axis=-1) | (result[..., 2] <= 0)] = 0
    return result


def _cut(rows: NDArray[np.int64], frame: NDArray[np.int64], rules: Clips) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each clip of a sequence, whose ``rows`` rise."""
    edges = [0, *(np.flatnonzero(np.diff(frame[rows]) != 1) + 1).tolist(), len(rows)]
    for start, stop in pairwise(edges):
        count, length = stop - start, rules.length
        if count >= length:
            firsts = range(start, stop - length + 1, rules.stride)
            yield from (rows[first : first + length] for first in (firsts[:1] if rules.first else firsts))
        elif rules.stretch:
            yield rows[start + resample(count, length)]
        if rules.first and (count >= length or rules.stretch):
            return


def _usable(seen: NDArray[np.bool_], rules: Clips) -> bool:
    """Whether the joints seen (T, J) of a clip are enough."""
    root = {"any": True, "first": bool(seen[0, 0]), "all": bool(seen[:, 0].all())}[rules.root]
    return root and bool(seen.any()) and float(seen.mean()) >= rules.seen
