"""Joint conversions to h36m17, against the formulas of MotionBERT written out by index."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skelformats.conversions import CONVERSIONS, to_h36m17
from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton

Array = NDArray[np.float32]


def poses(joints: int) -> Array:
    return np.random.default_rng(joints).normal(size=(3, 4, joints, 3)).astype(np.float32)


def limbs(y: Array, x: Array) -> None:
    """Legs and arms of COCO's, Halpe's and PoseTrack's orders."""
    for target, source in zip(
        (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16), (12, 14, 16, 11, 13, 15, 5, 7, 9, 6, 8, 10), strict=True
    ):
        y[..., target, :] = x[..., source, :]


def coco(x: Array) -> Array:
    y = np.zeros((*x.shape[:-2], 17, x.shape[-1]), np.float32)
    limbs(y, x)
    y[..., 0, :] = (x[..., 11, :] + x[..., 12, :]) / 2
    y[..., 8, :] = (x[..., 5, :] + x[..., 6, :]) / 2
    y[..., 7, :] = (y[..., 0, :] + y[..., 8, :]) / 2
    y[..., 9, :] = x[..., 0, :]
    y[..., 10, :] = (x[..., 1, :] + x[..., 2, :]) / 2
    return y


def halpe(x: Array) -> Array:
    y = np.zeros((*x.shape[:-2], 17, x.shape[-1]), np.float32)
    limbs(y, x)
    y[..., 0, :] = x[..., 19, :]
    y[..., 7, :] = (x[..., 18, :] + x[..., 19, :]) / 2
    y[..., 8, :] = x[..., 18, :]
    y[..., 9, :] = x[..., 0, :]
    y[..., 10, :] = x[..., 17, :]
    return y


def posetrack(x: Array) -> Array:
    y = np.zeros((*x.shape[:-2], 17, x.shape[-1]), np.float32)
    limbs(y, x)
    y[..., 0, :] = (x[..., 11, :] + x[..., 12, :]) / 2
    y[..., 8, :] = x[..., 1, :]
    y[..., 7, :] = (y[..., 0, :] + y[..., 8, :]) / 2
    y[..., 9, :] = x[..., 0, :]
    y[..., 10, :] = x[..., 2, :]
    return y


@pytest.mark.parametrize(
    ("layout", "formula"), [("coco17", coco), ("halpe26", halpe), ("posetrack17", posetrack)]
)
def test_positions_follow_motionbert(layout: str, formula: object) -> None:
    x = poses(len(load_skeleton(layout)))
    found, sure = to_h36m17(layout, x)
    assert callable(formula)
    np.testing.assert_allclose(found, formula(x), rtol=0, atol=1e-6)
    assert found.dtype == np.float32
    assert sure is None


@pytest.mark.parametrize(("layout", "formula"), [("coco17", coco), ("halpe26", halpe)])
def test_confidence_is_averaged_like_a_coordinate(layout: str, formula: object) -> None:
    x = poses(len(load_skeleton(layout)))
    _, sure = to_h36m17(layout, x[..., :2], x[..., 2])
    assert callable(formula)
    assert sure is not None
    np.testing.assert_allclose(sure, formula(x)[..., 2], rtol=0, atol=1e-6)


def test_posetrack_takes_the_least_confidence_of_a_mean() -> None:
    flags = np.random.default_rng(0).integers(0, 2, (50, 17)).astype(np.uint8)
    _, sure = to_h36m17("posetrack17", np.zeros((50, 17, 2), np.float32), flags)
    assert sure is not None
    root = np.minimum(flags[:, 11], flags[:, 12])
    np.testing.assert_array_equal(sure[:, 0], root)
    np.testing.assert_array_equal(sure[:, 7], np.minimum(root, flags[:, 1]))
    np.testing.assert_array_equal(sure[:, 8], flags[:, 1])


def test_openpose_has_no_belly_and_no_head() -> None:
    x = poses(25)
    found, sure = to_h36m17("openpose25", x, x[..., 2])
    order = [8, 9, 10, 11, 12, 13, 14, -1, 1, 0, -1, 5, 6, 7, 2, 3, 4]
    for target, source in enumerate(order):
        if source < 0:
            assert np.isnan(found[..., target, :]).all()
            assert sure is not None
            assert (sure[..., target] == 0).all()
        else:
            np.testing.assert_array_equal(found[..., target, :], x[..., source, :])


def test_mpi_inf_3dhp_is_a_choice_of_its_joints() -> None:
    x = poses(28)
    order = [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
    np.testing.assert_array_equal(to_h36m17("mpi28", x)[0], x[..., order, :])


@pytest.mark.parametrize("layout", CONVERSIONS)
def test_what_is_made_of_a_missing_joint_is_missing(layout: str) -> None:
    x = poses(len(load_skeleton(layout)))
    x[..., load_skeleton(layout).index("left_hip"), :] = np.nan
    lost: NDArray[np.bool_] = np.asarray(np.isnan(to_h36m17(layout, x)[0]).all(axis=-1))
    middle = layout in ("coco17", "posetrack17")
    assert lost[..., 4].all()
    assert lost[..., 0].all() == middle
    assert not lost[..., 1].any()


def test_the_hourglass_is_named_as_3d_pose_baseline_does() -> None:
    """SH_NAMES: thorax is Human3.6M's spine, the upper neck its thorax; there is no nose."""
    x = poses(16)
    order = [6, 2, 1, 0, 3, 4, 5, 7, 8, 9, 13, 14, 15, 12, 11, 10]
    found = to_h36m17("mpii16", x)[0]
    np.testing.assert_array_equal(np.delete(found, 9, axis=-2), x[..., order, :])
    assert np.isnan(found[..., 9, :]).all()


def test_a_layout_without_a_conversion_is_named() -> None:
    with pytest.raises(UnknownNameError, match="coco17"):
        to_h36m17("coco", np.zeros((17, 2)))


@pytest.mark.parametrize("layout", CONVERSIONS)
def test_limbs_come_from_the_joints_of_the_same_name(layout: str) -> None:
    target = load_skeleton("h36m17")
    for joint, names in enumerate(CONVERSIONS[layout].joints):
        side = target.names[joint].split("_")[0]
        if side in ("left", "right"):
            assert names == (target.names[joint],)
