"""Forward kinematics of the SMPL family, against official code and against what must hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.synth.smpl_body import model_arrays, npz_bytes, shaped_rest
from skelformats.errors import FormatError
from skelformats.rotation import to_matrix
from skelformats.smpl import Motion, body_joints, body_vertices, load_body_model, regress_joints, rest_joints

TOLERANCE = 1e-6
RNG = np.random.default_rng(0)


def save(folder: Path, leave: str = "", **changes: Any) -> Path:
    arrays = {key: value for key, value in {**model_arrays("male"), **changes}.items() if key != leave}
    (folder / "model.npz").write_bytes(npz_bytes(arrays))
    return folder / "model.npz"


def moving(frames: int = 5, betas: int = 16) -> Motion:
    rng = np.random.default_rng(1)
    return Motion(rng.normal(0, 0.5, (frames, 52, 3)), rng.normal(size=(frames, 3)), rng.normal(size=betas))


@pytest.fixture(scope="module")
def official(golden_numbers: Path) -> Any:
    with np.load(golden_numbers / "smplh.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def official_model(golden_numbers: Path) -> Any:
    return load_body_model(
        golden_numbers / "synthetic_smplh_model.npz", golden_numbers / "synthetic_dmpl_model.npz"
    )


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_joints_and_vertices_are_those_of_human_body_prior_and_smplx(
    official: Any, official_model: Any, precision: str
) -> None:
    pose = official["poses"].reshape(-1, 52, 3)
    plain = Motion(pose, official["trans"], official["betas"])
    soft = Motion(pose, official["trans"], official["betas"], official["dmpls"])
    ten = Motion(pose, official["trans"], official["betas"][:10])
    opened = pose.copy()
    opened[:, 22:37] += official["model_hands_meanl"].reshape(15, 3)
    opened[:, 37:] += official["model_hands_meanr"].reshape(15, 3)
    found = {
        "hbp_joints52": body_joints(official_model, plain),
        "hbp_joints52_dmpl": body_joints(official_model, soft),
        "hbp_joints52_b10": body_joints(official_model, ten),
        "smplx_joints52_b10_flat": body_joints(official_model, ten),
        # what smplx gives where its default adds the mean hand pose to AMASS's hands
        "smplx_joints52_b10_handmean": body_joints(
            official_model, Motion(opened, ten.translation, ten.betas)
        ),
        "hbp_verts": body_vertices(official_model, plain),
        "hbp_verts_dmpl": body_vertices(official_model, soft),
        "hbp_reg17_dmpl": regress_joints(official_model, soft, official["reg17"]),
    }
    want = {key for key in official if key.startswith("expect_") and key.endswith(precision)}
    assert want == {f"expect_{key}_{precision}" for key in found}
    for key, value in found.items():
        np.testing.assert_allclose(value, official[f"expect_{key}_{precision}"], rtol=0, atol=TOLERANCE)


def test_rest_joints_are_the_official_ones(official: Any, official_model: Any) -> None:
    assert official_model.kind == "smplh"
    assert official_model.parents == tuple(official["parents"])
    found = rest_joints(official_model, official["betas"])
    np.testing.assert_allclose(found, official["J_rest"], atol=1e-12)
    found = rest_joints(official_model, official["betas"], official["dmpls"])
    np.testing.assert_allclose(found, official["J_rest_dmpl"], atol=1e-12)


def test_a_body_at_rest_stands_where_its_joints_rest(tmp_path: Path) -> None:
    model = load_body_model(save(tmp_path))
    betas = RNG.normal(size=16)
    still = Motion(np.zeros((2, 52, 3)), np.array([[0.0, 0, 0], [1, 2, 3]]), betas)
    found = body_joints(model, still)
    np.testing.assert_allclose(found[0], shaped_rest("male", betas), atol=1e-12)
    np.testing.assert_allclose(found[1] - found[0], np.tile([1.0, 2, 3], (52, 1)), atol=1e-12)


def test_the_body_turns_about_its_pelvis_and_not_about_the_origin(tmp_path: Path) -> None:
    model = load_body_model(save(tmp_path))
    motion = moving()
    turn = to_matrix(np.array([0.3, -1.2, 0.8]))
    found = body_joints(model, motion)
    root = to_matrix(motion.pose[:, 0])
    turned = motion.pose.copy()
    turned[:, 0] = vectors(turn @ root)
    again = body_joints(model, Motion(turned, motion.translation, motion.betas))
    np.testing.assert_allclose(again[:, 0], found[:, 0], atol=1e-12)
    np.testing.assert_allclose(again - again[:, :1], (found - found[:, :1]) @ turn.T, atol=1e-9)


def vectors(matrix: Any) -> Any:
    """Axis-angle by the textbook formula, for angles away from 0 and pi."""
    angle = np.arccos((np.trace(matrix, axis1=1, axis2=2) - 1) / 2)
    skew = matrix - np.swapaxes(matrix, 1, 2)
    axis = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], -1)
    return axis / (2 * np.sin(angle))[:, None] * angle[:, None]


def test_bones_keep_their_length_in_every_pose(tmp_path: Path) -> None:
    model = load_body_model(save(tmp_path))
    motion = moving()
    found, rest = body_joints(model, motion), rest_joints(model, motion.betas)
    for child, parent in enumerate(model.parents[1:], start=1):
        length = np.linalg.norm(found[:, child] - found[:, parent], axis=-1)
        np.testing.assert_allclose(length, np.linalg.norm(rest[child] - rest[parent]), atol=1e-12)


def test_vertices_asked_for_by_number_are_those_of_all(tmp_path: Path) -> None:
    model = load_body_model(save(tmp_path))
    motion = moving(300)
    all_of_them = body_vertices(model, motion)
    assert all_of_them.shape == (300, 416, 3)
    which = np.array([3, 17, 400])
    np.testing.assert_allclose(body_vertices(model, motion, which), all_of_them[:, which], atol=1e-12)
    regressor = np.zeros((2, 416))
    regressor[0, 3], regressor[1, [17, 400]] = 1.0, 0.5
    want = np.stack([all_of_them[:, 3], all_of_them[:, [17, 400]].mean(axis=1)], axis=1)
    np.testing.assert_allclose(regress_joints(model, motion, regressor), want, atol=1e-12)


def test_joints_need_neither_pose_directions_nor_weights_and_vertices_say_so(tmp_path: Path) -> None:
    whole = body_joints(load_body_model(save(tmp_path)), moving())
    for leave in ("posedirs", "weights"):
        model = load_body_model(save(tmp_path, leave))
        np.testing.assert_array_equal(body_joints(model, moving()), whole)
        with pytest.raises(FormatError, match="a model without 'posedirs' and 'weights'"):
            body_vertices(model, moving())


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("sparse", [False, True])
def test_an_old_pickle_is_the_same_model(tmp_path: Path, protocol: int, sparse: bool) -> None:
    arrays = dict(model_arrays("male"))
    if sparse:
        matrices = pytest.importorskip("scipy.sparse")
        arrays["J_regressor"] = matrices.csc_matrix(arrays["J_regressor"])
    path = tmp_path / "SMPLH_male.pkl"
    path.write_bytes(pickle.dumps({**arrays, "bs_style": "lbs"}, protocol))
    want = body_joints(load_body_model(save(tmp_path)), moving())
    np.testing.assert_allclose(body_joints(load_body_model(path), moving()), want, atol=1e-12)


def test_fewer_betas_than_the_model_has_are_as_zeros(tmp_path: Path) -> None:
    model = load_body_model(save(tmp_path))
    motion = moving(betas=10)
    longer = Motion(motion.pose, motion.translation, np.concatenate([motion.betas, np.zeros(6)]))
    np.testing.assert_allclose(body_joints(model, motion), body_joints(model, longer), atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"v_template": np.zeros((416, 2))}, "'v_template' of shape"),
        ({"J_regressor": np.zeros((52, 400))}, "'J_regressor' of shape"),
        ({"weights": np.zeros((416, 51))}, "'weights' of shape"),
        ({"posedirs": np.zeros((416, 3, 1))}, "'posedirs' of shape"),
        ({"shapedirs": np.zeros(())}, "'shapedirs' of shape"),
        ({"kintree_table": np.zeros(52)}, "of shape"),
        ({"kintree_table": np.tile(np.arange(52), (2, 1))}, "a child stands before its parent"),
        ({"v_template": np.full((416, 3), np.nan)}, "not finite"),
        ({"v_template": np.array(["a"])}, "not an array of numbers"),
    ],
)
def test_what_is_no_body_model_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        load_body_model(save(tmp_path, **changes))


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    np.savez(tmp_path / "dmpl.npz", eigvec=np.zeros((50, 3, 8)))
    with pytest.raises(FormatError, match="'eigvec' of shape"):
        load_body_model(path, tmp_path / "dmpl.npz")
    model = load_body_model(path)
    with pytest.raises(FormatError, match="for poses of 55"):
        body_joints(model, Motion(np.zeros((1, 55, 3)), np.zeros((1, 3)), np.zeros(16)))
    with pytest.raises(FormatError, match="without DMPL directions"):
        body_joints(model, Motion(np.zeros((1, 52, 3)), np.zeros((1, 3)), np.zeros(16), np.zeros((1, 8))))
    with pytest.raises(FormatError, match="a regressor with a column for each vertex"):
        regress_joints(model, moving(), np.zeros((17, 6890)))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"v_template": np.zeros(3)}))
    with pytest.raises(FormatError, match="a pickle of something else"):
        load_body_model(tmp_path / "m.pkl")
