"""Joint conversions to the 17 joints of Human3.6M, as MotionBERT makes them: data, and one function.

Each conversion is a table: for every joint of h36m17 the joints of the other layout whose mean it is. Four
belong to MotionBERT (``coco2h36m``, ``halpe2h36m`` and ``posetrack2h36m`` of lib/data/dataset_action.py,
dataset_wild.py and dataset_motion_2d.py, and the order of tools/convert_insta.py for OpenPose's joints);
that of MPI-INF-3DHP is the list of SPIN and P-STMO with the legs in the order of h36m17, that of MPII's 16
joints what 3d-pose-baseline calls them. That of the Kinect takes the joints that stand nearest on the way
up from its base of the neck. Those of SMPL take the nearest joints of the body model, which are
not quite Human3.6M's; a regressor and the body's vertices give those (``skelconv ingest amass --joints
h36m17``). Where no joint of the other layout is at the place, the joint is missing: NaN, confidence 0
(MotionBERT has zeros there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton

JOINTS = 17

Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Conversion:
    """How the joints of one layout become those of h36m17.

    Attributes
    ----------
    source
        Name of the layout that is converted.
    joints
        For each of the 17 joints the names of those it is the mean of; empty where there is none. The order
        is root, right leg, left leg, belly, neck, nose, head, left arm, right arm.
    steps
        Joints computed in a second step, from the result: index to the two indices whose mean it is.
    confidence
        What the confidence of such a mean is: the mean of the confidences, or the least of them.
    """

    source: str
    joints: Table
    steps: Mapping[int, tuple[int, int]]
    confidence: Literal["mean", "least"] = "mean"


def to_h36m17(
    layout: str, position: NDArray[Any], confidence: NDArray[Any] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Convert poses of ``layout`` to the 17 joints of Human3.6M.

    Parameters
    ----------
    layout
        A key of `CONVERSIONS`.
    position
        (..., J, A) in any unit; a missing joint is NaN, and so is what is made of it.
    confidence
        (..., J), or None.

    Returns
    -------
    (..., 17, A) float32 positions, and (..., 17) float32 confidences or None.

    Raises
    ------
    UnknownNameError
        There is no conversion for ``layout``.
    """
    if layout not in CONVERSIONS:
        raise UnknownNameError("conversion to h36m17 from the layout", layout, tuple(CONVERSIONS))
    conversion = CONVERSIONS[layout]
    placed = _combine(conversion, position.astype(np.float32), np.nan, least=False)
    if confidence is None:
        return placed, None
    rows = confidence.astype(np.float32)[..., None]
    return placed, _combine(conversion, rows, 0.0, conversion.confidence == "least")[..., 0]


def _combine(
    conversion: Conversion, values: NDArray[np.float32], absent: float, least: bool
) -> NDArray[np.float32]:
    """Return (..., 17, A) of (..., J, A): means, or the least, of the joints that the table names."""
    skeleton = load_skeleton(conversion.source)
    result = np.full((*values.shape[:-2], JOINTS, values.shape[-1]), absent, np.float32)
    for joint, names in enumerate(conversion.joints):
        if names:
            parts = values[..., [skeleton.index(name) for name in names], :]
            result[..., joint, :] = parts.min(axis=-2) if least else parts.mean(axis=-2)
    for joint, (one, other) in conversion.steps.items():
        pair = result[..., [one, other], :]
        result[..., joint, :] = pair.min(axis=-2) if least else pair.mean(axis=-2)
    return result


_LEGS = tuple((f"{side}_{joint}",) for side in ("right", "left") for joint in ("hip", "knee", "ankle"))
_ARMS = tuple((f"{side}_{joint}",) for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist"))
_HIPS = ("left_hip", "right_hip")
_BELLY_BETWEEN = MappingProxyType({7: (0, 8)})
"""The belly is halfway between root and neck."""


def _table(
    root: tuple[str, ...], belly: tuple[str, ...], neck: tuple[str, ...], nose: str, head: tuple[str, ...]
) -> Table:
    return (root, *_LEGS, belly, neck, (nose,) if nose else (), head, *_ARMS)


CONVERSIONS: Mapping[str, Conversion] = MappingProxyType(
    {
        conversion.source: conversion
        for conversion in (
            Conversion(
                "coco17",
                _table(_HIPS, (), ("left_shoulder", "right_shoulder"), "nose", ("left_eye", "right_eye")),
                _BELLY_BETWEEN,
            ),
            Conversion(
                "halpe26",
                _table(("pelvis",), ("neck", "pelvis"), ("neck",), "nose", ("head_top",)),
                MappingProxyType({}),
            ),
            # in PoseTrack a mean counts as seen only where both of its joints are
            Conversion(
                "posetrack17",
                _table(_HIPS, (), ("head_bottom",), "nose", ("head_top",)),
                _BELLY_BETWEEN,
                "least",
            ),
            # BODY_25 has neither belly nor head
            Conversion(
                "openpose25",
                _table(("pelvis",), (), ("neck",), "nose", ()),
                MappingProxyType({}),
            ),
            # its head stands at h36m17's nose, its top of the head at the head
            Conversion(
                "mpi28",
                _table(("pelvis",), ("spine",), ("neck",), "head", ("head_top",)),
                MappingProxyType({}),
            ),
            # the Kinect has neither nose nor top of the head: its neck and head are the next joints above
            Conversion(
                "ntu25",
                _table(("spine_base",), ("spine_mid",), ("spine_shoulder",), "neck", ("head",)),
                MappingProxyType({}),
            ),
            # as 3d-pose-baseline names the joints of its hourglass (SH_NAMES); there is no nose
            Conversion(
                "mpii16",
                _table(("pelvis",), ("thorax",), ("upper_neck",), "", ("head_top",)),
                MappingProxyType({}),
            ),
            # joints inside the body, each at the nearest place; Human3.6M's own are regressed from vertices
            *(
                Conversion(
                    model,
                    _table(("pelvis",), ("spine2",), ("neck",), "head", ()),
                    MappingProxyType({}),
                )
                for model in ("smpl22", "smpl24", "smplh52", "smplx55")
            ),
        )
    }
)
"""The conversions by the name of the layout they start from."""
