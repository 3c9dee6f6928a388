from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skeltrain.losses import mesh, motion
from skeltrain.models.errors import ModelError
from tests.skeltrain.motion_goldens import Figures, close

PAIRED = (
    motion.mpjpe,
    motion.n_mpjpe,
    motion.velocity,
    motion.limb_length,
    motion.angle,
    motion.angle_velocity,
)


def poses(seed: int = 0, frames: int = 4) -> Tensor:
    return torch.randn(2, frames, 17, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norms(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).sum(axis=-1))


def test_distances_are_means_over_everything() -> None:
    p, t = poses(0), poses(1)
    a, b = p.numpy(), t.numpy()
    close(motion.mpjpe(p, t), norms(a - b).mean(), 1e-12)
    close(motion.velocity(p, t), norms((a[:, 1:] - a[:, :-1]) - (b[:, 1:] - b[:, :-1])).mean(), 1e-12)
    weight = torch.rand(2, 4, 17, dtype=torch.float64)
    close(motion.weighted_mpjpe(p, t, weight), (weight.numpy() * norms(a - b)).mean(), 1e-12)
    confidence = weight[..., None]
    close(motion.weighted_2d(p, t, confidence), norms((a - b)[..., :2] * confidence.numpy()).mean(), 1e-12)


def test_n_mpjpe_gives_each_frame_the_scale_of_least_squares() -> None:
    p, t = poses(0).numpy(), poses(1).numpy()
    total = 0.0
    for a, b in zip(p.reshape(-1, 51), t.reshape(-1, 51), strict=True):
        scale = np.linalg.lstsq(a[:, None], b, rcond=None)[0][0]
        total += norms((scale * a - b).reshape(17, 3)).mean() / 8
    close(motion.n_mpjpe(torch.tensor(p), torch.tensor(t)), total, 1e-12)


def test_limbs_and_angles_are_those_of_a_known_pose() -> None:
    pose = torch.zeros(1, 2, 17, 3)
    pose[..., 1, 0], pose[..., 4, 1], pose[..., 7, 2] = (
        1.0,
        2.0,
        3.0,
    )  # three limbs of the root, square to each other
    lengths, angles = motion.limb_lengths(pose)[0, 0], motion.limb_angles(pose)[0, 0]
    close(lengths[[0, 3, 6]], [1.0, 2.0, 3.0])
    close(angles[:3], [math.pi / 2] * 3)
    # from hip to knee the limb goes the whole way back, since the knee is at the root
    close(angles[3], math.pi, atol=1e-3)


def test_limb_variance_is_unbiased_over_time() -> None:
    p = poses()
    close(motion.limb_variance(p), motion.limb_lengths(p).numpy().var(axis=1, ddof=1).mean(), 1e-12)


def test_contrast_is_that_of_its_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator, dtype=torch.float64), dim=1)
    label = [0, 1, 0, 2, 1, 0]
    total, anchors = 0.0, 0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        alike = [j for j in others if label[j] == label[i]]
        if alike:  # sample 3 is alone
            below = math.log(sum(math.exp(float(z[i] @ z[j]) / 0.1) for j in others))
            total -= sum(float(z[i] @ z[j]) / 0.1 - below for j in alike) / len(alike)
            anchors += 1
    expected = 0.1 / 0.07 * total / anchors
    close(motion.supervised_contrastive(z, torch.tensor(label)), expected, 1e-10)
    close(motion.supervised_contrastive(z[:, None], torch.tensor(label)), expected, 1e-10)


def test_contrast_without_a_pair_is_0_and_has_a_gradient() -> None:
    z = torch.eye(3, requires_grad=True)
    loss = motion.supervised_contrastive(z, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None


def degenerate() -> dict[str, Tensor]:
    same = poses(1).float()
    line = torch.zeros_like(same)
    line[..., 0] = torch.arange(17.0)
    return {"zero": torch.zeros_like(same), "perfect": same, "line": line, "tiny": same * 1e-12}


@pytest.mark.parametrize("case", ["zero", "perfect", "line", "tiny"])
@pytest.mark.parametrize("loss", PAIRED, ids=lambda loss: loss.__name__)
def test_degenerate_poses_have_finite_losses_and_gradients(
    loss: Callable[[Tensor, Tensor], Tensor], case: str
) -> None:
    pred = degenerate()[case].clone().requires_grad_()
    value = loss(pred, poses(1).float())
    value.backward()
    assert value.isfinite()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()
    assert pred.grad.abs().max() < 1e8


@pytest.mark.parametrize("case", ["zero", "perfect", "line", "tiny"])
def test_degenerate_poses_have_a_limb_variance(case: str) -> None:
    pred = degenerate()[case].clone().requires_grad_()
    motion.limb_variance(pred).backward()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss", [motion.velocity, motion.angle_velocity, lambda p, _: motion.limb_variance(p)]
)
def test_one_frame_has_no_change_over_time(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    pred = poses(0, frames=1).requires_grad_()
    value = loss(pred, poses(1, frames=1))
    value.backward()
    assert value.item() == 0


def test_a_joint_without_confidence_may_be_missing() -> None:
    pred, target = poses(0).requires_grad_(), poses(1)
    confidence = torch.ones(2, 4, 17, 1, dtype=torch.float64)
    target[0, 0, 3], confidence[0, 0, 3] = torch.nan, 0
    value = motion.weighted_2d(pred, target, confidence)
    value.backward()
    assert value.isfinite()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()
    assert (pred.grad[0, 0, 3] == 0).all()


def test_half_precision_keeps_the_angles_margin() -> None:
    pred = degenerate()["line"].bfloat16().requires_grad_()
    motion.angle(pred, poses(1).bfloat16()).backward()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_poses_of_different_shape_are_not_broadcast() -> None:
    with pytest.raises(ModelError, match="same shape"):
        motion.mpjpe(poses(), poses()[:1])
    with pytest.raises(ModelError, match="h36m17"):
        motion.limb_variance(torch.zeros(1, 2, 13, 3))


def test_mesh_losses_square_where_asked_and_bodies_at_rest_have_gradients() -> None:
    one, other = torch.zeros(2, 24, 3), torch.zeros(2, 24, 3)
    other[..., 0] = math.pi / 2
    # two entries of nine are 1 off, two more are 1 off in the other direction
    close(mesh.pose(one, other), 4 / 9)
    close(mesh.pose(one, 2 * other), 2 * 2 / 9)
    close(mesh.pose(one, 2 * other, squared=True), 2 * 4 / 9)
    theta = torch.zeros(1, 3, 82, requires_grad=True)
    joints = torch.zeros(1, 3, 17, 3, requires_grad=True)
    mesh.mesh_losses(joints, torch.randn(1, 3, 17, 3), theta, torch.randn(1, 3, 82))["loss"].backward()
    assert theta.grad is not None
    assert theta.grad.isfinite().all()


@pytest.fixture(scope="module")
def figures(golden: Path) -> Figures:
    return Figures(golden, "losses")


@pytest.mark.real
class TestOfficialCode:
    @pytest.mark.parametrize(
        ("name", "loss"),
        [
            ("loss_mpjpe", lambda p, t, c: motion.mpjpe(p, t)),
            ("loss_velocity", lambda p, t, c: motion.velocity(p, t)),
            ("loss_2d_weighted", motion.weighted_2d),
            ("loss_limb_var", lambda p, t, c: motion.limb_variance(p)),
        ],
    )
    def test_values_and_gradients(
        self, figures: Figures, name: str, loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> None:
        pred = figures["pred"].requires_grad_()
        value = loss(pred, figures["target"], figures["conf"])
        value.backward()
        close(value, figures[f"{name}/value"], rtol=0)
        close(pred.grad, figures[f"{name}/grad_pred"], rtol=0)

    def test_limbs_angles_and_the_sum_of_pretraining(self, figures: Figures) -> None:
        pred, target = figures["pred"], figures["target"]
        close(motion.limb_lengths(pred), figures["get_limb_lens"], rtol=0)
        close(motion.limb_angles(pred), figures["get_angles"], rtol=0)
        total = motion.mpjpe(pred, target) + 0.5 * motion.n_mpjpe(pred, target)
        close(total + 20 * motion.velocity(pred, target), figures["total_3d"])

    def test_contrast(self, figures: Figures) -> None:
        features = figures["supcon_T0.1/features"].requires_grad_()
        value = motion.supervised_contrastive(features, figures["supcon_T0.1/labels"])
        value.backward()
        close(value, figures["supcon_T0.1/value"], rtol=0)
        close(features.grad, figures["supcon_T0.1/grad"], rtol=0)

    def test_meshes(self, golden: Path) -> None:
        figures = Figures(golden, "mesh")
        joints, true_joints = figures["mesh_pred/0/kp_3d"], figures["mesh_gt/kp_3d"]
        terms = mesh.mesh_losses(joints, true_joints, figures["mesh_pred/0/theta"], figures["mesh_gt/theta"])
        expected = {
            "joints": "3d_pos",
            "velocity": "3d_velocity",
            "pose": "pose",
            "shape": "shape",
            "norm": "norm",
        }
        for name, official in expected.items():
            close(terms[name], figures[f"MeshLoss_L1/loss_{official}"])
        close(terms["loss"], sum(mesh.WEIGHTS[name] * terms[name].item() for name in expected))
        pred, target = joints - joints[:, :, :1], true_joints - true_joints[:, :, :1]
        for value, official in (
            (motion.n_mpjpe(pred, target), "3d_scale"),
            (motion.limb_variance(pred), "lv"),
            (motion.limb_length(pred, target), "lg"),
            (motion.angle(pred, target), "a"),
            (motion.angle_velocity(pred, target), "av"),
        ):
            close(value, figures[f"MeshLoss_L1/loss_{official}"])
