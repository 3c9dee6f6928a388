"""Synthetic SMPL+H and SMPL body models: the trees, keys and meaning of the real ones, on made-up vertices.

The real models may not be passed on. This one has a cube of eight vertices about each joint, so that joints
are means of vertices; the lengths are those of the procedural human; the first shape coefficient is stature.
SMPL's 192 vertices are those of its joints among the 416 of SMPL+H, so that shapes and poses of one fit both.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.human import SIDES, Body
from skelformats.skeleton import load_skeleton
from skelformats.smpl import SMPL_FROM_SMPLH

Array = NDArray[np.float64]

STATURES = {"male": 1.75, "female": 1.62, "neutral": 1.69}
"""Stature in metres of the mean shape of each gender."""

STATURE_STEP = 0.03
"""Share of the mean stature that one unit of the first shape coefficient adds."""

PELVIS = (0.0, -0.22, 0.03)
"""Where the pelvis rests in the model's axes: like the real models', not at the origin."""

_BETAS, _DMPLS, _SMPL_BETAS = 16, 8, 10
_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.02
_FINGERS = {"index": 0.03, "middle": 0.01, "ring": -0.01, "pinky": -0.03, "thumb": 0.045}
"""How far before the hand's axis each finger lies, metres; the palm looks down in the rest pose."""


_H36M = {
    "pelvis": {"pelvis": 1.0},
    "spine": {"spine1": 0.5, "spine2": 0.5},
    "thorax": {"neck": 1.0},
    "nose": {"head": 1.0},
    "head_top": {"head": 2.0, "neck": -1.0},
    **{
        f"{side}_{joint}": {f"{side}_{joint}": 1.0}
        for side in SIDES
        for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    },
}
"""Joints of h36m17 as sums of SMPL's, each a mean of its vertices."""


def model_files() -> Mapping[str, bytes]:
    """Return the body and DMPL models of every gender by path, in the folders that AMASS has them in."""
    files = {}
    for gender in STATURES:
        files[f"smplh/{gender}/model.npz"] = npz_bytes(model_arrays(gender))
        files[f"dmpls/{gender}/model.npz"] = npz_bytes({"eigvec": _soft_directions(gender)})
    return files


@cache
def rest_pose(gender: str) -> Array:
    """Return the 52 joints (52, 3) of the mean shape: arms out to the sides, facing +z, left at +x, +y up."""
    body = Body.of_stature(STATURES[gender])
    height, trunk = body.stature, body["trunk"]
    at = {"pelvis": np.zeros(3)}
    for name, share in (("spine1", 0.25), ("spine2", 0.57), ("spine3", 0.8), ("neck", 1.0)):
        at[name] = np.array([0.0, share * trunk, 0.0])
    at["head"] = at["neck"] + (0.0, body["neck"] + body["head"], 0.2 * body["head"])
    for side, sign in SIDES.items():
        along = np.array([sign, 0.0, 0.0])
        at[f"{side}_hip"] = np.array([sign * body["hip"], -0.01 * height, 0.0])
        at[f"{side}_knee"] = at[f"{side}_hip"] - (0.0, body["thigh"], 0.0)
        at[f"{side}_ankle"] = at[f"{side}_knee"] - (0.0, body["shank"], 0.0)
        at[f"{side}_foot"] = at[f"{side}_ankle"] + (0.0, -0.6 * body["ankle_height"], 0.5 * body["foot"])
        at[f"{side}_collar"] = at["spine3"] + (sign * 0.4 * body["shoulder"], 0.12 * trunk, 0.0)
        at[f"{side}_shoulder"] = at["neck"] + (sign * body["shoulder"], -0.015 * height, 0.0)
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] + along * body["upper_arm"]
        at[f"{side}_wrist"] = at[f"{side}_elbow"] + along * body["forearm"]
        for finger, ahead in _FINGERS.items():
            for phalanx in (1, 2, 3):
                reach = body["hand"] * (0.15 if finger == "thumb" else 0.45) + 0.025 * (phalanx - 1)
                at[f"{side}_{finger}{phalanx}"] = at[f"{side}_wrist"] + along * reach + (0.0, 0.0, ahead)
    return np.stack([at[name] for name in load_skeleton("smplh52").names]) + PELVIS


@cache
def model_arrays(gender: str) -> Mapping[str, Any]:
    """Return the arrays of a gender's model file."""
    skeleton = load_skeleton("smplh52")
    joints = len(skeleton)
    rng = np.random.default_rng((7, list(STATURES).index(gender)))
    template = (rest_pose(gender)[:, None] + _CUBE).reshape(-1, 3)
    owner = np.repeat(np.arange(joints), len(_CUBE))
    regressor = np.zeros((joints, len(template)))
    regressor[owner, np.arange(len(template))] = 1.0 / len(_CUBE)
    # the first coefficient makes taller; the others move each joint with its vertices, alike on both sides
    moves = rng.normal(0.0, 0.002, (joints, 3, _BETAS))
    mirrored = moves[list(skeleton.mirror)] * np.array([-1.0, 1.0, 1.0])[:, None]
    shape = ((moves + mirrored) / 2.0)[owner]
    shape[..., 0] = STATURE_STEP * (template - PELVIS)
    weights = np.zeros((len(template), joints))
    weights[np.arange(len(template)), owner] = 0.8
    parents = np.maximum(np.array(skeleton.parents), 0)
    weights[np.arange(len(template)), parents[owner]] += 0.2
    tree = np.array([[2**32 - 1, *skeleton.parents[1:]], range(joints)], np.uint32)
    return {
        "v_template": template,
        "shapedirs": shape,
        "posedirs": rng.normal(0.0, 1e-4, (len(template), 3, 9 * (joints - 1))).astype(np.float32),
        "J_regressor": regressor,
        "kintree_table": tree,
        "weights": weights,
        "f": np.arange(len(template) // 4 * 3, dtype=np.uint32).reshape(-1, 3),
    }


@cache
def smpl_arrays(gender: str) -> Mapping[str, Any]:
    """Return the arrays of a gender's SMPL model file: 24 joints, 192 vertices, 10 shape coefficients."""
    skeleton = load_skeleton("smpl24")
    whole = model_arrays(gender)
    joints, cube = len(skeleton), len(_CUBE)
    which = (np.array(SMPL_FROM_SMPLH)[:, None] * cube + np.arange(cube)).reshape(-1)
    owner = np.repeat(np.arange(joints), cube)
    number = np.arange(len(which))
    regressor = np.zeros((joints, len(which)))
    regressor[owner, number] = 1.0 / cube
    weights = np.zeros((len(which), joints))
    weights[number, owner] = 0.8
    weights[number, np.maximum(np.array(skeleton.parents), 0)[owner]] += 0.2
    rng = np.random.default_rng((9, list(STATURES).index(gender)))
    return {
        "v_template": whole["v_template"][which],
        "shapedirs": whole["shapedirs"][which][..., :_SMPL_BETAS],
        "posedirs": rng.normal(0.0, 1e-4, (len(which), 3, 9 * (joints - 1))).astype(np.float32),
        "J_regressor": regressor,
        "kintree_table": np.array([[2**32 - 1, *skeleton.parents[1:]], range(joints)], np.uint32),
        "weights": weights,
        "f": _cube_faces(joints),
    }


def h36m_regressor() -> Array:
    """Return what makes the 17 joints of h36m17 (17, 192) of the vertices of the SMPL model."""
    names, layout = load_skeleton("smpl24").names, load_skeleton("h36m17")
    shares = np.zeros((len(layout), len(names)))
    for row, joint in enumerate(layout.names):
        for name, share in _H36M[joint].items():
            shares[row, names.index(name)] = share
    result = np.asarray(shares @ smpl_arrays("neutral")["J_regressor"])
    # the nose is on the face, ahead of the middle of the head
    head = names.index("head") * len(_CUBE) + np.arange(len(_CUBE))
    result[layout.index("nose"), head] = np.where(_CUBE[:, 2] > 0, 2.0, 0.0) / len(_CUBE)
    return result


def smpl_files() -> Mapping[str, bytes]:
    """Return the SMPL model of every gender and the regressor to h36m17, by path."""
    files = {f"smpl/{gender}/model.npz": npz_bytes(smpl_arrays(gender)) for gender in STATURES}
    stream = io.BytesIO()
    np.save(stream, h36m_regressor())
    return files | {"J_regressor_h36m.npy": stream.getvalue()}


def smpl_rest(gender: str, betas: Array) -> Array:
    """Return the 24 joints (24, 3) of a shaped SMPL body in the rest pose."""
    arrays = smpl_arrays(gender)
    joints = arrays["J_regressor"] @ (arrays["v_template"] + (arrays["shapedirs"] * betas).sum(axis=-1))
    return np.asarray(joints)


def shaped_rest(gender: str, betas: Array) -> Array:
    """Return the 52 joints (52, 3) of a shaped body in the rest pose."""
    arrays = model_arrays(gender)
    joints = arrays["J_regressor"] @ (arrays["v_template"] + (arrays["shapedirs"] * betas).sum(axis=-1))
    return np.asarray(joints)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return the content of a ``.npz`` file; the same bytes for the same arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _cube_faces(cubes: int) -> NDArray[np.uint32]:
    """Return the triangles (12 a cube, 3) of cubes whose corners are numbered as in `_CUBE`."""
    square = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    one = np.array([triple for a, b, c, d in square for triple in ((a, b, c), (a, c, d))], np.uint32)
    return (np.arange(cubes, dtype=np.uint32)[:, None, None] * len(_CUBE) + one).reshape(-1, 3)


def _soft_directions(gender: str) -> Array:
    rng = np.random.default_rng((8, list(STATURES).index(gender)))
    return rng.normal(0.0, 0.002, (len(model_arrays(gender)["v_template"]), 3, _DMPLS))
