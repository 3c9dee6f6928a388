"""Augmentation moves bodies as rigid bodies, and mirrors them as a mirror does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from skelformats.skeleton import load_skeleton
from skeltrain.data.augment import Draw, JointAugment, draw, rotation
from skeltrain.sections import Augment

CPU = torch.device("cpu")
SKELETON = load_skeleton("ntu25")
AUGMENT = JointAugment(SKELETON, CPU)
MANY = 4000


@pytest.fixture
def body() -> Tensor:
    """Six rows of two samples: four of the first, two of the second."""
    return torch.randn(6, 25, 3, generator=torch.Generator().manual_seed(0))


SAMPLE = torch.tensor([0, 0, 0, 0, 1, 1])


def drawn(samples: int = 2, seed: int = 0, **settings: object) -> Draw:
    return draw(samples, Augment.model_validate(settings), torch.Generator().manual_seed(seed))


def test_with_everything_off_nothing_changes(body: Tensor) -> None:
    torch.testing.assert_close(AUGMENT(body, SAMPLE, drawn()), body, rtol=0, atol=0)


def test_a_flip_negates_x_and_swaps_left_and_right(body: Tensor) -> None:
    flipped = AUGMENT(body, SAMPLE, drawn(flip=1.0))
    left, right, head = (SKELETON.index(name) for name in ("left_wrist", "right_wrist", "head"))
    mirrored = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(flipped[:, left], body[:, right] * mirrored)
    torch.testing.assert_close(flipped[:, right], body[:, left] * mirrored)
    torch.testing.assert_close(flipped[:, head], body[:, head] * mirrored)
    torch.testing.assert_close(AUGMENT(flipped, SAMPLE, drawn(flip=1.0)), body)


def test_half_of_the_samples_are_flipped() -> None:
    assert drawn(MANY, flip=0.5).flip.double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_rotation_is_about_x_then_y_then_z() -> None:
    quarter = math.pi / 2
    x, y, z = torch.eye(3)
    about_x, about_y, about_z = rotation(torch.eye(3) * quarter)
    for matrix, start, end in ((about_x, y, z), (about_y, z, x), (about_z, x, y)):
        torch.testing.assert_close(matrix @ start, end, atol=1e-6, rtol=0)
    angles = torch.tensor([[0.3, -0.2, 0.5]])
    one_by_one = rotation(torch.diag(angles[0]))
    torch.testing.assert_close(rotation(angles)[0], one_by_one[2] @ one_by_one[1] @ one_by_one[0])


def test_a_sample_is_turned_as_one_rigid_body(body: Tensor) -> None:
    both = drawn(rotate=0.7)
    turned = AUGMENT(body, SAMPLE, both)
    torch.testing.assert_close(turned.norm(dim=-1), body.norm(dim=-1))
    for sample in range(2):
        rows = sample == SAMPLE
        torch.testing.assert_close(turned[rows], body[rows] @ both.matrix[sample].T)
    assert not torch.allclose(both.matrix[0], both.matrix[1])


def test_magnitudes_stay_within_their_settings() -> None:
    many = drawn(MANY, rotate=[0.3, 0.0, 0.0], scale=[0.8, 1.2], translate=0.1)
    size = torch.linalg.det(many.matrix.double()).pow(1 / 3)
    assert 0.8 <= size.min() < 0.81
    assert 1.19 < size.max() <= 1.2
    assert 0.099 < many.shift.abs().max() <= 0.1
    angle = torch.atan2(many.matrix[:, 2, 1], many.matrix[:, 2, 2])
    assert 0.297 < angle.abs().max() <= 0.3
    assert (many.matrix[:, 0, 1:] == 0).all(), "turned about x alone"


def test_the_order_is_mirror_turn_and_stretch_shift(body: Tensor) -> None:
    every = drawn(flip=1.0, rotate=0.5, scale=[0.9, 1.1], translate=0.2)
    flipped = AUGMENT(body, SAMPLE, drawn(flip=1.0))
    expected = torch.einsum("rab,rjb->rja", every.matrix[SAMPLE], flipped) + every.shift[SAMPLE][:, None]
    torch.testing.assert_close(AUGMENT(body, SAMPLE, every), expected)


def test_noise_has_the_spread_asked_for_and_spares_some_samples() -> None:
    many = drawn(MANY, noise=0.01, noise_probability=0.25)
    assert many.noise.unique().tolist() == pytest.approx([0.0, 0.01])
    assert (many.noise > 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    body, noise = (
        torch.ones(MANY, 25, 3),
        torch.randn(MANY, 25, 3, generator=torch.Generator().manual_seed(1)),
    )
    change = AUGMENT(body, torch.arange(MANY), many, noise) - 1
    assert (change[many.noise == 0] == 0).all()
    assert change[many.noise > 0].std().item() == pytest.approx(0.01, rel=0.01)


def test_missing_joints_stay_missing_and_the_origin_moves(body: Tensor) -> None:
    """A joint that was not seen is 0; so is the origin, which was."""
    lost, origin = SKELETON.index("left_wrist"), SKELETON.origin[0]
    body[:, [lost, origin]] = 0.0
    moved = AUGMENT(body, SAMPLE, drawn(rotate=0.3, translate=0.1, noise=0.1), torch.randn(body.shape))
    assert (moved[:, lost] == 0).all()
    assert (moved[:, origin] != 0).all()


def test_a_flipped_missing_joint_changes_sides(body: Tensor) -> None:
    left, right = SKELETON.index("left_wrist"), SKELETON.index("right_wrist")
    body[:, left] = 0.0
    moved = AUGMENT(body, SAMPLE, drawn(flip=1.0, translate=0.1))
    assert (moved[:, right] == 0).all()
    assert (moved[:, left] != 0).any()


def test_some_samples_can_be_taken_out_of_a_step() -> None:
    every = drawn(6, flip=0.5, rotate=0.3, translate=0.1, noise=0.1)
    some = every.take(slice(2, 5), CPU)
    assert torch.equal(some.matrix, every.matrix[2:5])
    assert torch.equal(some.flip, every.flip[2:5])


@pytest.mark.parametrize("noisy", [True, False])
def test_the_compiled_form_gives_the_bits_of_the_tensor_form(noisy: bool) -> None:
    """Mirrored and not, with missing joints, negative zeros and values that are not finite."""
    generator = torch.Generator().manual_seed(4)
    position = torch.randn(400, len(SKELETON), 3, generator=generator)
    position[::7, 4:9] = 0.0
    position[::11, 2, 1] = -0.0
    position[5, 3, 0], position[6, 3, 2] = float("nan"), float("inf")
    sample = torch.arange(400) % 20
    settings = Augment(flip=0.5, rotate=(0.3, 0.5, 0.1), scale=(0.5, 1.5), translate=0.2, noise=0.05)
    drawn = draw(20, settings.model_copy(update={"noise_probability": 0.5}), generator)
    noise = torch.randn(position.shape, generator=generator) if noisy else None
    found, expected = (
        AUGMENT(position, sample, drawn, noise),
        AUGMENT.by_tensors(position, sample, drawn, noise),
    )
    finite = expected.isfinite()
    assert torch.equal(found.isfinite(), finite)
    assert torch.equal(found[finite], expected[finite])
    assert 0 < int(drawn.flip.sum()) < 20
