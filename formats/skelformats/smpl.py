"""The SMPL family of body models: from pose, shape and translation to joints and vertices.

M. Loper et al., SMPL: A Skinned Multi-Person Linear Model (SIGGRAPH Asia 2015), equations 2 to 10; hands by
J. Romero et al., Embodied Hands (MANO and SMPL+H, 2017); G. Pavlakos et al., Expressive Body Capture (SMPL-X,
CVPR 2019); DMPL soft tissue as AMASS uses it (N. Mahmood et al., ICCV 2019, section 3). The model files are
licensed to each user; skelconv ships none.

All in float64: V vertices, K joints, T frames, B shape coefficients, D soft-tissue coefficients; metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.rotation import Array, to_matrix
from skelformats.safe_npz import load_npz
from skelformats.safe_pickle import load_pickle

KINDS: Mapping[int, str] = MappingProxyType({24: "smpl", 52: "smplh", 55: "smplx"})
"""Name of each model of the family by its number of joints."""

MAX_BYTES = 2**30
"""Limit of a model file; the largest in use (SMPL-X with 400 shape columns) takes 0.2 GB."""

SMPL_FROM_SMPLH = (*range(23), 37)
"""Joints of SMPL+H whose rotations SMPL's 24 take: its two hands turn as the first index joints do."""

_NEEDED = ("v_template", "shapedirs", "J_regressor", "kintree_table")
_FOR_VERTICES = ("posedirs", "weights", "f")
_SHAPE_COLUMNS = 300
"""SMPL-X keeps directions of facial expression behind 300 columns of body shape."""

_FRAMES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class BodyModel:
    """One body model of the family.

    Attributes
    ----------
    path
        The file it came from, for messages.
    template
        (V, 3) vertices of the mean shape.
    shape_directions
        (V, 3, B) what each shape coefficient adds.
    joint_regressor
        (K, V) joints from the shaped vertices.
    parents
        (K,) each joint's parent, which stands before it; -1 for the root.
    pose_directions
        (V, 3, 9 (K - 1)) pose-dependent corrections, or None: they are for vertices only.
    weights
        (V, K) skinning weights, or None.
    soft_directions
        (V, 3, D) what each DMPL coefficient adds, or None.
    faces
        (F, 3) int64 vertices of each triangle, or None.
    """

    path: str
    template: Array
    shape_directions: Array
    joint_regressor: Array
    parents: tuple[int, ...]
    pose_directions: Array | None = None
    weights: Array | None = None
    soft_directions: Array | None = None
    faces: NDArray[np.int64] | None = None

    @property
    def kind(self) -> str:
        """``smpl``, ``smplh`` or ``smplx``."""
        return KINDS[len(self.parents)]

    @property
    def joints(self) -> int:
        """K."""
        return len(self.parents)


@dataclass(frozen=True, eq=False)
class Motion:
    """What a body does over T frames.

    Attributes
    ----------
    pose
        (T, K, 3) axis-angle rotation of each joint against its parent, radians.
    translation
        (T, 3).
    betas
        Shape coefficients; those beyond the model's are left out, as human_body_prior does.
    dmpls
        (T, D) soft-tissue coefficients, or None for none.
    """

    pose: Array
    translation: Array
    betas: Array
    dmpls: Array | None = None

    def __len__(self) -> int:
        return len(self.pose)

    def part(self, start: int, stop: int) -> Motion:
        """Return frames ``start`` to ``stop`` - 1."""
        return Motion(
            self.pose[start:stop],
            self.translation[start:stop],
            self.betas,
            None if self.dmpls is None else self.dmpls[start:stop],
        )


def load_body_model(path: str | Path, soft: str | Path | None = None) -> BodyModel:
    """Load a model file, ``.npz`` or one of the original Python 2 pickles.

    Parameters
    ----------
    soft
        DMPL model (``.npz`` with ``eigvec``) of the same vertices.

    Raises
    ------
    FormatError
        It is not a model of the family, or the two do not belong together.
    """
    path = Path(path)
    arrays = _load_pickled(path) if path.suffix.lower() in (".pkl", ".pickle") else _load_npz(path)
    model = _build(path, arrays)
    if soft is None:
        return model
    directions = load_npz(soft, ["eigvec"], MAX_BYTES)["eigvec"]
    if directions.dtype.kind != "f" or directions.ndim != 3 or directions.shape[:2] != model.template.shape:
        raise FormatError(
            soft, f"'eigvec' of shape {directions.shape}", f"{(*model.template.shape, 'D')}, as {path} has"
        )
    return replace(model, soft_directions=directions.astype(np.float64))


def rest_joints(model: BodyModel, betas: Array, dmpls: Array | None = None) -> Array:
    """Return the joints of the shaped body in the rest pose: (K, 3), or with dmpls (T, D) (T, K, 3)."""
    regressor = model.joint_regressor
    used, shape = _coefficients(model, betas)
    joints = regressor @ (model.template + shape @ used)
    if dmpls is None:
        return joints
    soft = _soft(model, dmpls)
    moves = np.einsum("kv,vad->kad", regressor, soft)
    return joints + np.einsum("kad,td->tka", moves, dmpls[:, : soft.shape[2]])


def forward_kinematics(rest: Array, parents: tuple[int, ...], rotations: Array) -> tuple[Array, Array]:
    """Turn each joint's rotation against its parent into positions and rotations in the body's frame.

    Parameters
    ----------
    rest
        (K, 3) or (T, K, 3) joints in the rest pose.
    rotations
        (T, K, 3, 3).

    Returns
    -------
    Positions (T, K, 3) and rotations (T, K, 3, 3). The root stays where it rests: the body turns about it.
    """
    rest = np.broadcast_to(rest, (len(rotations), len(parents), 3))
    position = rest.copy()
    turned = rotations.copy()
    for joint, parent in enumerate(parents):
        if parent < 0:
            continue
        offset = (rest[:, joint] - rest[:, parent])[..., None]
        position[:, joint] = position[:, parent] + (turned[:, parent] @ offset)[..., 0]
        turned[:, joint] = turned[:, parent] @ rotations[:, joint]
    return position, turned


def body_joints(model: BodyModel, motion: Motion) -> Array:
    """Return the joints (T, K, 3) of a moving body; raises `FormatError` where pose and model differ."""
    _check(model, motion)
    rest = rest_joints(model, motion.betas, motion.dmpls)
    position, _ = forward_kinematics(rest, model.parents, to_matrix(motion.pose))
    return position + motion.translation[:, None]


def body_vertices(model: BodyModel, motion: Motion, which: NDArray[np.intp] | None = None) -> Array:
    """Return the vertices (T, V, 3) of a moving body, or those with the numbers ``which``.

    Raises
    ------
    FormatError
        Pose and model differ, or the model file has no pose directions or weights.
    """
    _check(model, motion)
    if model.pose_directions is None or model.weights is None:
        raise FormatError(
            model.path, "a model without 'posedirs' and 'weights'", "a whole model, to have vertices from it"
        )
    which = np.arange(len(model.template)) if which is None else which
    rest = rest_joints(model, motion.betas, motion.dmpls)
    used, shape = _coefficients(model, motion.betas)
    shaped = model.template[which] + shape[which] @ used
    directions = model.pose_directions[which].reshape(3 * len(which), -1)
    parts = [np.zeros((0, len(which), 3))]
    for start in range(0, len(motion), _FRAMES_AT_ONCE):
        part = motion.part(start, start + _FRAMES_AT_ONCE)
        at = rest if rest.ndim == 2 else rest[start : start + _FRAMES_AT_ONCE]
        rotations = to_matrix(part.pose)
        posed = np.broadcast_to(shaped, (len(part), *shaped.shape))
        if part.dmpls is not None:
            soft = _soft(model, part.dmpls)[which]
            posed = posed + np.einsum("vad,td->tva", soft, part.dmpls[:, : soft.shape[2]])
        bends = (rotations[:, 1:] - np.eye(3)).reshape(len(part), -1)
        posed = posed + (bends @ directions.T).reshape(posed.shape)
        parts.append(
            _skin(model.weights[which], posed, at, model.parents, rotations) + part.translation[:, None]
        )
    return np.concatenate(parts)


def regress_joints(model: BodyModel, motion: Motion, regressor: Array) -> Array:
    """Return joints (T, R, 3) that a regressor (R, V) takes from the vertices of a moving body.

    Regressors are sparse, so only the vertices that they use are computed.

    Raises
    ------
    FormatError
        As `body_vertices`, or the regressor is for another number of vertices.
    """
    if regressor.ndim != 2 or regressor.shape[1] != len(model.template):
        raise FormatError(
            model.path,
            f"a model of {len(model.template)} vertices for a joint regressor of shape {regressor.shape}",
            "a regressor with a column for each vertex",
            action="Regressors for 6890 vertices fit SMPL and SMPL+H, not SMPL-X",
        )
    which = np.flatnonzero((regressor != 0).any(axis=0))
    return np.asarray(regressor[:, which] @ body_vertices(model, motion, which))


def _skin(weights: Array, posed: Array, rest: Array, parents: tuple[int, ...], rotations: Array) -> Array:
    """Move vertices (T, V, 3) with their joints: linear blend skinning."""
    position, turned = forward_kinematics(rest, parents, rotations)
    shift = position - (turned @ np.broadcast_to(rest, position.shape)[..., None])[..., 0]
    moves = np.concatenate([turned, shift[..., None]], axis=-1)
    blended = np.einsum("vk,tkx->tvx", weights, moves.reshape(*moves.shape[:2], 12), optimize=True)
    blended = blended.reshape(*blended.shape[:2], 3, 4)
    return np.asarray((blended[..., :3] @ posed[..., None])[..., 0] + blended[..., 3])


def _coefficients(model: BodyModel, betas: Array) -> tuple[Array, Array]:
    """Return the betas that the model has directions for, and these directions."""
    count = min(len(betas), model.shape_directions.shape[2], _SHAPE_COLUMNS)
    return betas[:count], model.shape_directions[..., :count]


def _soft(model: BodyModel, dmpls: Array) -> Array:
    if model.soft_directions is None or model.soft_directions.shape[2] < dmpls.shape[1]:
        raise FormatError(
            model.path, "a model without DMPL directions", f"one with {dmpls.shape[1]}, to use soft tissue"
        )
    return model.soft_directions[..., : dmpls.shape[1]]


def _check(model: BodyModel, motion: Motion) -> None:
    if motion.pose.shape[1:] != (model.joints, 3):
        raise FormatError(
            model.path,
            f"a {model.kind} model of {model.joints} joints for poses of {motion.pose.shape[1]}",
            "a model with a joint for each rotation",
        )


def _load_npz(path: Path) -> dict[str, Any]:
    return {**load_npz(path, _NEEDED, MAX_BYTES, optional=_FOR_VERTICES)}


def _load_pickled(path: Path) -> dict[str, Any]:
    content = load_pickle(path, MAX_BYTES)
    if not isinstance(content, dict) or any(key not in content for key in _NEEDED):
        raise FormatError(path, "a pickle of something else", f"a body model: {', '.join(_NEEDED)}")
    return {key: content[key] for key in (*_NEEDED, *_FOR_VERTICES) if key in content}


def _build(path: Path, arrays: Mapping[str, Any]) -> BodyModel:
    numbers: dict[str, Array] = {}
    for key, value in arrays.items():
        if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
            # numpy.savez keeps a sparse matrix as an array of one object
            value = value[()]
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            raise FormatError(
                path, f"{key!r} that is not an array of numbers", "a body model of the SMPL family"
            )
        numbers[key] = value.astype(np.float64)
        if not np.isfinite(numbers[key]).all():
            raise FormatError(path, f"{key!r} with values that are not finite", "a body model")
    template, regressor, tree = (numbers[key] for key in ("v_template", "J_regressor", "kintree_table"))
    vertices, joints = len(template) if template.ndim else 0, tree.shape[-1] if tree.ndim == 2 else 0
    expected = {
        "v_template": (vertices, 3),
        "kintree_table": (2, joints),
        "J_regressor": (joints, vertices),
        "shapedirs": (vertices, 3, numbers["shapedirs"].shape[-1] if numbers["shapedirs"].ndim else 0),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "weights": (vertices, joints),
        "f": (len(numbers["f"]) if "f" in numbers and numbers["f"].ndim else 0, 3),
    }
    for key, value in numbers.items():
        if value.shape != expected[key]:
            raise FormatError(path, f"{key!r} of shape {value.shape}", f"{expected[key]}")
    faces = numbers.get("f")
    if faces is not None and faces.size and not (faces.min() >= 0 and faces.max() < vertices):
        raise FormatError(path, "triangles 'f' of vertices that are not there", f"numbers below {vertices}")
    if joints not in KINDS:
        raise FormatError(path, f"a model of {joints} joints", "24 (SMPL), 52 (SMPL+H) or 55 (SMPL-X)")
    # the root's parent is -1, or as uint32 4294967295
    parents = (-1, *(int(parent) for parent in tree[0, 1:]))
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise FormatError(path, "a kinematic tree in which a child stands before its parent", "a body model")
    return BodyModel(
        path=str(path),
        template=template,
        shape_directions=numbers["shapedirs"],
        joint_regressor=regressor,
        parents=parents,
        pose_directions=numbers.get("posedirs"),
        weights=numbers.get("weights"),
        faces=None if faces is None else faces.astype(np.int64),
    )
