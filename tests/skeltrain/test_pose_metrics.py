from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from skeltrain.metrics import h36m_protocol, pose
from skeltrain.models.errors import ModelError
from tests.skeltrain.motion_goldens import Figures, close

Poses = NDArray[np.float64]


def poses(seed: int = 0, frames: int = 6) -> Poses:
    return np.random.default_rng(seed).normal(size=(frames, 17, 3)) * 300


def similar(x: Poses, seed: int = 1) -> Poses:
    """The same poses turned, scaled and shifted."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(len(x), random_state=seed).as_matrix()
    return rng.uniform(0.5, 2, (len(x), 1, 1)) * (x @ turn) + rng.normal(size=(len(x), 1, 3)) * 1000


def test_errors_are_means_over_joints() -> None:
    p, t = poses(0), poses(1)
    close(
        pose.mpjpe(p, t),
        [np.mean([math.dist(a, b) for a, b in zip(*f, strict=True)]) for f in zip(p, t, strict=True)],
    )
    steps = (p[1:] - p[:-1]) - (t[1:] - t[:-1])
    close(pose.mpjve(p, t), np.sqrt((steps**2).sum(axis=-1)).mean(axis=-1))
    assert pose.mpjve(p, t).shape == (5,)
    scaled = [
        np.linalg.lstsq(a.reshape(-1, 1), b.ravel(), rcond=None)[0][0] * a for a, b in zip(p, t, strict=True)
    ]
    close(pose.n_mpjpe(p, t), pose.mpjpe(np.array(scaled), t))


def test_a_similar_pose_has_no_error_after_alignment() -> None:
    t = poses()
    close(pose.p_mpjpe(similar(t), t), np.zeros(6), atol=1e-8)
    close(pose.p_mpjpe(t, t), np.zeros(6), atol=1e-8)


def test_the_alignment_is_that_of_scipy() -> None:
    p, t = poses(0), poses(0) + poses(1) * 0.3
    expected = []
    for a, b in zip(p - p.mean(axis=1, keepdims=True), t - t.mean(axis=1, keepdims=True), strict=True):
        turned = Rotation.align_vectors(b, a)[0].apply(a)
        scale = (turned * b).sum() / (a**2).sum()
        expected.append(np.linalg.norm(scale * turned - b, axis=1).mean())
    close(pose.p_mpjpe(p, t), expected, atol=1e-9)


def test_a_mirrored_pose_is_an_error_unless_reflection_is_allowed() -> None:
    t = poses()
    mirrored = similar(t * np.array([-1, 1, 1]))
    assert pose.p_mpjpe(mirrored, t).min() > 50
    close(pose.p_mpjpe(mirrored, t, reflection=True), np.zeros(6), atol=1e-8)


def test_the_antipodal_pose_has_no_error_with_a_negative_scale_only() -> None:
    t = poses()
    close(pose.n_mpjpe(-t, t), np.zeros(6), atol=1e-10)
    close(pose.n_mpjpe_pos(-t, t), np.linalg.norm(t, axis=-1).mean(axis=-1))
    close(pose.n_mpjpe_pos(2 * t, t), np.zeros(6), atol=1e-10)


def test_degenerate_poses_have_the_errors_that_are_left() -> None:
    t = poses()
    point = np.full_like(t, 7.0)
    spread = np.linalg.norm(t - t.mean(axis=1, keepdims=True), axis=-1).mean(axis=-1)
    close(pose.p_mpjpe(point, t), spread)
    close(pose.p_mpjpe(t, point), np.zeros(6), atol=1e-9)
    close(pose.p_mpjpe(point, point + 1), np.zeros(6), atol=1e-9)
    assert pose.degenerate(point, t).all()
    assert not pose.degenerate(t, point).any()
    close(pose.n_mpjpe(np.zeros_like(t), t), np.linalg.norm(t, axis=-1).mean(axis=-1))
    line = np.zeros_like(t)
    line[..., 0] = np.arange(17)
    flat = t * np.array([1, 1, 0])
    for strange in (line, flat):
        assert np.isfinite(pose.p_mpjpe(strange, t)).all()
    close(pose.p_mpjpe(similar(flat), flat), np.zeros(6), atol=1e-8)
    close(pose.p_mpjpe(similar(flat * np.array([-1, 1, 1])), flat), np.zeros(6), atol=1e-8)


def test_pck_is_strict_and_a_perfect_auc_is_30_of_31() -> None:
    t = poses()
    p = t.copy()
    p[0, 1] += [150.0, 0, 0]
    p[1, 1] += [149.999, 0, 0]
    p[2, 0] += [900.0, 0, 0]  # the root does not count
    close(pose.pck(p, t), [100 * 13 / 14, 100, 100, 100, 100, 100])
    close(pose.pck(p, t, joints=None)[2], 100 * 16 / 17)
    close(pose.auc(t, t), np.full(6, 100 * 30 / 31))
    p = t + np.array([62.5, 0, 0])
    close(pose.auc(p, t), np.full(6, 100 * 18 / 31))  # 65, 70, ... 150
    with pytest.raises(ModelError, match="joints=None"):
        pose.pck(t[:, :14], t[:, :14])


def test_a_joint_that_is_not_visible_takes_no_part() -> None:
    p, t = poses(0), poses(0) + poses(1) * 0.2
    seen = np.ones((6, 17), bool)
    seen[:, 5] = False
    kept = [joint for joint in range(17) if joint != 5]
    broken = p.copy()
    broken[:, 5] = np.nan
    for metric in (pose.mpjpe, pose.p_mpjpe, pose.n_mpjpe, pose.mpjve):
        close(metric(broken, t, visible=seen), metric(p[:, kept], t[:, kept]), atol=1e-9)
    seen[3] = False
    found = pose.p_mpjpe(broken, t, visible=seen)
    assert np.isnan(found[3])
    assert np.isfinite(np.delete(found, 3)).all()


def test_missing_joints_that_count_are_named() -> None:
    p = poses()
    p[2, 4, 1] = np.nan
    with pytest.raises(ModelError, match=r"1 of 6 frames.*the first frame 2.*visible"):
        pose.mpjpe(p, poses(1))
    with pytest.raises(ModelError, match=r"\(N, J, 3\)"):
        pose.mpjpe(p, p[:3])
    with pytest.raises(ModelError, match="visible of shape"):
        pose.mpjpe(p, p, visible=np.ones((6, 16), bool))


@pytest.mark.parametrize("metric", [pose.mpjpe, pose.p_mpjpe, pose.n_mpjpe, pose.mpjve, pose.pck, pose.auc])
def test_tensors_give_tensors_and_float32_the_accuracy_of_its_input(metric: Callable[..., Any]) -> None:
    p, t = poses(0), poses(1)
    found = metric(torch.tensor(p, dtype=torch.float32), torch.tensor(t, dtype=torch.float32))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    close(found, metric(p, t), atol=1e-3)


def test_the_mean_of_action_means_leaves_blocked_videos_out() -> None:
    source = ["s_09_act_02_subact_01_ca_01"] * 6 + ["s_09_act_05_subact_02_ca_02"] * 3
    action = ["Walking"] * 4 + ["Eating"] * 2 + ["Eating"] * 3
    clips = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    error = np.array([[1.0, 2, 3], [6, 10, 20], [1000, 1000, 1000]])
    result = h36m_protocol.evaluate_clips(error, clips, action, source)
    assert result.action == {"Eating": 15.0, "Walking": 3.0}
    assert result.mean == 9.0
    assert result.frame_mean == 7.0
    assert result.unscored == 3
    assert np.isnan(result.frame[6:]).all()
    assert h36m_protocol.blocked(source).sum() == 3


def test_a_repeated_frame_counts_once_with_parity_and_always_without() -> None:
    clips, error = np.array([[0, 0, 1], [1, 2, 2]]), np.array([[4.0, 2, 6], [10, 0, 0]])
    action, source = ["A"] * 3, ["s_01_act_02_subact_01_ca_01"] * 3
    official = h36m_protocol.evaluate_clips(error, clips, action, source)
    close(official.frame, [2.0, 8.0, np.nan])
    every = h36m_protocol.evaluate_clips(error, clips, action, source, parity=False)
    close(every.frame, [3.0, 8.0, 0.0])


def test_an_evaluation_of_nothing_is_named() -> None:
    source = ["s_09_act_05_subact_02_ca_02"] * 3
    with pytest.raises(ModelError, match="no frame"):
        h36m_protocol.evaluate_clips(np.ones((1, 3)), np.array([[0, 1, 2]]), ["A"] * 3, source)
    with pytest.raises(ModelError, match="each frame of each clip"):
        h36m_protocol.evaluate_clips(np.ones((1, 2)), np.array([[0, 1, 2]]), ["A"] * 3, source)


@pytest.mark.real
def test_the_official_figures(golden: Path) -> None:
    figures = Figures(golden, "metrics")
    p, t = figures["pred"].numpy(), figures["target"].numpy()
    close(pose.mpjpe(p, t), figures["mpjpe"], atol=1e-9, rtol=0)
    close(pose.p_mpjpe(p, t), figures["p_mpjpe"], atol=1e-9, rtol=0)
    relative = pose.mpjpe(pose.root_relative(p), pose.root_relative(t))
    close(relative, figures["mpjpe_rootrel"], atol=1e-9, rtol=0)
    close(pose.mpjve(p, t).mean(), figures["mpjve_videopose3d"], atol=1e-9, rtol=0)
