from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skelconv.synth.smpl_body import model_arrays
from skelformats.rotation import to_matrix
from skelformats.smpl import BodyModel, Motion, body_joints, body_vertices
from skeltrain.models import smpl
from skeltrain.models.errors import ModelError
from tests.skeltrain.motion_goldens import Figures, close

ANGLES = (0.0, 1e-9, 1e-5, 9.9e-3, 1.01e-2, 1.0, 3.0, math.pi - 1e-6, math.pi)


def vectors(angle: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    axes[:3] = torch.eye(3)
    return angle * axes / axes.norm(dim=-1, keepdim=True)


def a_body(joints: int = 24) -> BodyModel:
    """A body of 30 random vertices with the tree of SMPL."""
    rng = np.random.default_rng(0)
    weights = rng.random((30, joints)) ** 8
    regressor = rng.random((joints, 30)) ** 4
    return BodyModel(
        path="body.npz",
        template=rng.normal(size=(30, 3)),
        shape_directions=rng.normal(size=(30, 3, 10)) * 0.1,
        joint_regressor=regressor / regressor.sum(axis=1, keepdims=True),
        parents=(-1, *(int(rng.integers(0, k)) for k in range(1, joints))),
        pose_directions=rng.normal(size=(30, 3, 9 * (joints - 1))) * 0.01,
        weights=weights / weights.sum(axis=1, keepdims=True),
    )


@pytest.mark.parametrize("angle", ANGLES)
def test_rodrigues_is_the_exponential_of_the_cross_product(angle: float) -> None:
    vector = vectors(angle)
    close(smpl.rodrigues(vector), to_matrix(vector.numpy()), atol=1e-14, rtol=0)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
    close(smpl.rodrigues(vector), torch.linalg.matrix_exp(cross), atol=1e-13, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_axis_angle_is_had_back_from_the_matrix(angle: float) -> None:
    vector = vectors(angle)
    found = smpl.matrix_to_axis_angle(smpl.rodrigues(vector))
    if angle == math.pi:  # the axis and its opposite turn alike
        found = torch.where((found * vector).sum(dim=-1, keepdim=True) < 0, -found, found)
    close(found, vector, atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_gradients_are_finite_and_true_at_every_angle(angle: float) -> None:
    vector = vectors(angle)[:4].requires_grad_()
    assert torch.autograd.gradcheck(smpl.rodrigues, (vector,))
    matrix = smpl.rodrigues(vector)
    gradient = torch.autograd.grad(smpl.matrix_to_axis_angle(matrix).sum(), vector)[0]
    assert gradient.isfinite().all()
    if angle < 3.1:  # of the way there and back: the identity
        close(gradient, torch.ones_like(gradient), atol=1e-6, rtol=0)


def test_gradients_are_finite_for_exact_half_turns() -> None:
    turns = torch.stack([torch.diag(torch.tensor(row)) for row in ([1.0, -1, -1], [-1, 1, -1], [-1, -1, 1])])
    turns = turns.requires_grad_()
    smpl.matrix_to_axis_angle(turns).sum().backward()
    assert turns.grad is not None
    assert turns.grad.isfinite().all()


def test_six_numbers_give_a_rotation_whose_first_columns_they_span() -> None:
    six = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = smpl.rot6d_to_matrix(six)
    close(matrix @ matrix.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-12)
    close(torch.linalg.det(matrix), torch.ones(50), atol=1e-12)
    first, second = six[:, 0::2], six[:, 1::2]
    close(torch.linalg.cross(first, matrix[:, :, 0]), torch.zeros(50, 3), atol=1e-12)
    close((second * matrix[:, :, 2]).sum(dim=1), torch.zeros(50), atol=1e-12)
    close(smpl.rot6d_to_matrix(smpl.matrix_to_rot6d(matrix)), matrix, atol=1e-12)


def test_six_zeros_have_finite_gradients() -> None:
    six = torch.zeros(2, 6, requires_grad=True)
    smpl.rot6d_to_matrix(six).sum().backward()
    assert six.grad is not None
    assert six.grad.isfinite().all()


def test_a_skinned_body_is_that_of_the_readers_own_mathematics() -> None:
    model = a_body()
    rng = np.random.default_rng(1)
    pose, betas = rng.normal(size=(4, 24, 3)), rng.normal(size=10)
    motion = Motion(pose, np.zeros((4, 3)), betas)
    body = smpl.Body(model, torch.float64)
    vertices, joints = smpl.skin(body, torch.tensor(betas).expand(4, -1), smpl.rodrigues(torch.tensor(pose)))
    close(vertices, body_vertices(model, motion), atol=1e-12)
    close(joints, body_joints(model, motion), atol=1e-12)


def test_skinning_is_differentiable_in_pose_and_shape() -> None:
    body = smpl.Body(a_body(), torch.float64)
    pose = torch.zeros(1, 24, 3, dtype=torch.float64, requires_grad=True)
    betas = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)

    def corners(pose: Tensor, betas: Tensor) -> Tensor:
        return smpl.skin(body, betas, smpl.rodrigues(pose))[0][:, :3]

    assert torch.autograd.gradcheck(corners, (pose, betas))


def test_a_body_model_stays_out_of_checkpoints() -> None:
    body = smpl.Body(a_body())
    assert not body.state_dict()
    assert body.to(torch.float64).template.dtype == torch.float64


def test_what_does_not_fit_a_body_is_named() -> None:
    body = smpl.Body(a_body())
    with pytest.raises(ModelError, match=r"body.npz: .*\(1, 23, 3, 3\).*24"):
        smpl.skin(body, torch.zeros(1, 10), torch.eye(3).expand(1, 23, 3, 3))
    with pytest.raises(ModelError, match="at most 10"):
        smpl.skin(body, torch.zeros(1, 11), torch.eye(3).expand(1, 24, 3, 3))
    with pytest.raises(ModelError, match="posedirs"):
        smpl.Body(BodyModel("joints.npz", *(np.zeros((1, 3)),) * 3, (-1,)))


def test_a_mirrored_pose_mirrors_the_body() -> None:
    """The joints of a body that is its own mirror image, in a mirrored pose, are the mirrored joints."""
    arrays = model_arrays("neutral")
    rest = torch.tensor(arrays["J_regressor"] @ arrays["v_template"])[:24]
    mirror = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    rest = (rest + rest[mirror] * torch.tensor([-1.0, 1, 1])) / 2
    parents = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
    pose = torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def joints(pose: Tensor) -> Tensor:
        return smpl._forward_kinematics(rest.expand(3, -1, -1), parents, smpl.rodrigues(pose))[0]

    flipped = smpl.flip_pose(pose)
    close(joints(flipped), joints(pose)[:, mirror] * torch.tensor([-1.0, 1, 1]), atol=1e-12)
    close(smpl.flip_pose(flipped), pose, atol=0)
    close(smpl.flip_pose(pose.flatten(1)), flipped.flatten(1), atol=0)
    with pytest.raises(ModelError, match="24, 3"):
        smpl.flip_pose(pose[:, :22])


@pytest.mark.real
class TestOfficialCode:
    def test_rotations(self, golden: Path) -> None:
        figures = Figures(golden, "mesh")
        close(smpl.rot6d_to_matrix(figures["rot6d/x"]), figures["rot6d/R"], rtol=0)
        close(smpl.matrix_to_axis_angle(figures["rotmat_to_aa/R"]), figures["rotmat_to_aa/aa"], rtol=0)
        close(smpl.flip_pose(figures["flip_thetas/x"]), figures["flip_thetas/y"], atol=0)

    def test_skinning(self, golden: Path) -> None:
        figures = Figures(golden, "mesh")
        lbs = {name: value.numpy().astype(float) for name, value in figures.below("lbs/").items()}
        body = smpl.Body(
            BodyModel(
                path="lbs",
                template=lbs["v_template"],
                shape_directions=lbs["shapedirs"],
                joint_regressor=lbs["J_regressor"],
                parents=tuple(int(parent) for parent in lbs["parents"]),
                pose_directions=lbs["posedirs"].T.reshape(60, 3, 207),
                weights=lbs["lbs_weights"],
            )
        )
        rotations = smpl.rodrigues(figures["lbs/pose_aa"].view(5, 24, 3))
        for turned, kind in ((rotations, ""), (figures["lbs/pose_rotmat"], "_rotmat")):
            vertices, joints = smpl.skin(body, figures["lbs/betas"], turned)
            close(vertices, figures[f"lbs/verts{kind}"], rtol=0)
            close(joints, figures[f"lbs/joints{kind}"], rtol=0)
