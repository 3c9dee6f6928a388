"""A synthetic SMPL+H body model: the tree, the keys and the meaning of the real one, on 416 made-up vertices.

The real models may not be passed on. This one has a cube of eight vertices about each joint, so that joints
are means of vertices; the lengths are those of the procedural human; the first shape coefficient is stature.
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

Array = NDArray[np.float64]

STATURES = {"male": 1.75, "female": 1.62, "neutral": 1.69}
"""Stature in metres of the mean shape of each gender."""

STATURE_STEP = 0.03
"""Share of the mean stature that one unit of the first shape coefficient adds."""

PELVIS = (0.0, -0.22, 0.03)
"""Where the pelvis rests in the model's axes: like the real models', not at the origin."""

_BETAS, _DMPLS = 16, 8
_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.02
_FINGERS = {"index": 0.03, "middle": 0.01, "ring": -0.01, "pinky": -0.03, "thumb": 0.045}
"""How far before the hand's axis each finger lies, metres; the palm looks down in the rest pose."""


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


def _soft_directions(gender: str) -> Array:
    rng = np.random.default_rng((8, list(STATURES).index(gender)))
    return rng.normal(0.0, 0.002, (len(model_arrays(gender)["v_template"]), 3, _DMPLS))
