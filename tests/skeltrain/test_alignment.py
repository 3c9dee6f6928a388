"""The alignment losses against loops in float64 that are written out here, and what is known of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from torch.nn import functional

from skelformats.errors import SkelconvError, UnknownNameError
from skeltrain.losses.alignment import (
    alignment_loss,
    gram_infonce,
    largest_eigenvalue,
    near_in_time,
    near_poses,
    pair_infonce,
    sample_negatives,
    triplet_infonce,
)
from skeltrain.losses.temperature import Temperature

Arrays = list[np.ndarray]


# The reference: one number after another.


def gram(vectors: Arrays) -> np.ndarray:
    units = [v / math.sqrt(sum(x * x for x in v)) for v in vectors]
    return np.array([[sum(x * y for x, y in zip(u, v, strict=True)) for v in units] for u in units])


def pair_loop(x: np.ndarray, y: np.ndarray, tau: float, near: np.ndarray | None = None) -> float:
    batch = len(x)
    total = 0.0
    for one, other in ((x, y), (y, x)):
        for i in range(batch):
            wrong = [j for j in range(batch) if j != i and (near is None or not near[i, j])]
            terms = [math.exp(gram([one[i], other[j]])[0, 1] / tau) for j in [i, *wrong]]
            total -= math.log(terms[0] / sum(terms))
    return total / (2 * batch)


def triplet_loop(
    modalities: Arrays, negatives: np.ndarray, tau: float, near: np.ndarray | None = None
) -> float:
    batch = len(modalities[0])
    total = 0.0
    for b in range(batch):
        chosen = [[b] * len(modalities)]
        far = [t for t in negatives[b] if near is None or not all(m == b or near[b, m] for m in t)]
        chosen += [list(triple) for triple in far]
        values = [
            np.linalg.eigvalsh(gram([x[m] for x, m in zip(modalities, triple, strict=True)]))[-1]
            for triple in chosen
        ]
        total -= values[0] / tau - math.log(sum(math.exp(v / tau) for v in values))
    return total / batch


def alignment_loop(
    modalities: Arrays, negatives: np.ndarray, tau: float, other: float, alpha: float
) -> float:
    pairs = sum(pair_loop(x, y, tau) for x, y in itertools.combinations(modalities, 2))
    return pairs + alpha * triplet_loop(modalities, negatives, other, None)


def differences(loss: Callable[[Arrays], float], modalities: Arrays, step: float = 1e-4) -> Arrays:
    """Gradients by central differences."""
    gradients = []
    for m, x in enumerate(modalities):
        gradient = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            for way in (1, -1):
                moved = [y.copy() for y in modalities]
                moved[m][place] += way * step
                gradient[place] += way * loss(moved) / (2 * step)
        gradients.append(gradient)
    return gradients


def cases() -> dict[str, Arrays]:
    rng = np.random.default_rng(0)
    random = [rng.normal(size=(5, 4)) * scale for scale in (1, 3, 0.1)]
    base = rng.normal(size=(5, 4))
    return {
        "random": random,
        "half aligned": [base + 0.5 * x for x in random],
        "aligned": [base.copy(), 2 * base, base.copy()],
        "sign-flipped": [base.copy(), base.copy(), -base],
    }


CASES = cases()


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_loop(case: str) -> None:
    modalities = CASES[case]
    negatives = sample_negatives(5, 4, torch.Generator().manual_seed(1))
    tensors = [torch.tensor(x, requires_grad=True) for x in modalities]
    loss = alignment_loss(*tensors, negatives, 0.2, 0.3, 0.7)
    loss.backward()

    def loop(moved: Arrays) -> float:
        return alignment_loop(moved, negatives.numpy(), 0.2, 0.3, 0.7)

    assert loss.item() == pytest.approx(loop(modalities), abs=1e-12)
    for tensor, expected in zip(tensors, differences(loop, modalities), strict=True):
        np.testing.assert_allclose(tensor.grad, expected, atol=1e-5)


def test_the_sum_is_that_of_its_parts_and_the_temperatures_get_gradients() -> None:
    image, pose2d, pose3d = (torch.tensor(x) for x in CASES["half aligned"])
    negatives = sample_negatives(5, 4, torch.Generator().manual_seed(1))
    taus = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (0.2, 0.3)]
    loss = alignment_loss(image, pose2d, pose3d, negatives, taus[0], taus[1], 0.7)
    pairs = [pair_infonce(x, y, 0.2) for x, y in itertools.combinations((image, pose2d, pose3d), 2)]
    parts = sum(pairs) + 0.7 * triplet_infonce(image, pose2d, pose3d, negatives, 0.3)
    assert loss.item() == pytest.approx(float(parts), abs=1e-12)
    loss.backward()
    arrays = CASES["half aligned"]
    for tau, number in zip(taus, range(2), strict=True):
        around = []
        for step in (1e-4, -1e-4):
            both = [0.2, 0.3]
            both[number] += step
            around.append(alignment_loop(arrays, negatives.numpy(), *both, 0.7))
        assert tau.grad is not None
        assert tau.grad.item() == pytest.approx((around[0] - around[1]) / 2e-4, abs=1e-5)


def test_float32_inside_autocast_gives_the_float32_value() -> None:
    tensors = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in CASES["half aligned"]]
    negatives = sample_negatives(5, 4, torch.Generator().manual_seed(1))
    outside = alignment_loss(*tensors, negatives, 0.2, 0.2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = alignment_loss(*tensors, negatives, 0.2, 0.2)
        half = alignment_loss(*(x.bfloat16() for x in tensors), negatives, 0.2, 0.2)
    assert inside.dtype == half.dtype == torch.float32
    assert inside.item() == outside.item()
    rounded = alignment_loss(*(x.detach().bfloat16().float() for x in tensors), negatives, 0.2, 0.2)
    assert half.item() == rounded.item()
    assert outside.item() == pytest.approx(
        alignment_loop(CASES["half aligned"], negatives.numpy(), 0.2, 0.2, 1.0), abs=2e-5
    )
    half.backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in tensors)


@pytest.mark.parametrize("case", ["aligned", "sign-flipped", "collapsed"])
def test_float32_gradients_are_finite_where_the_closed_form_divides_by_zero(case: str) -> None:
    arrays = [np.ones((4, 8))] * 3 if case == "collapsed" else CASES[case]
    tensors = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays]
    negatives = sample_negatives(len(arrays[0]), 3, torch.Generator().manual_seed(0))
    alignment_loss(*tensors, negatives, 1 / 14, 1 / 14).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in tensors)


def test_orthogonal_and_collapsed_embeddings_have_the_same_triplet_loss() -> None:
    """The specification's `identity_gram` and `collapsed` cases: ln 4, and 3 ln 4 for the pairs."""
    frames = torch.eye(12, dtype=torch.float64).view(4, 3, 12).unbind(1)
    same = [torch.ones(4, 12, dtype=torch.float64)] * 3
    negatives = sample_negatives(4, 3, torch.Generator().manual_seed(0))
    for image, pose2d, pose3d in (frames, same):
        triplet = triplet_infonce(image, pose2d, pose3d, negatives, 0.2).item()
        pairs = alignment_loss(image, pose2d, pose3d, negatives, 0.2, 0.2, 0.0).item()
        assert triplet == pytest.approx(math.log(4), abs=1e-12)
        assert pairs == pytest.approx(3 * math.log(4), abs=1e-12)


def test_the_triplet_term_does_not_see_the_sign_that_the_pairs_see() -> None:
    image, pose2d, pose3d = (torch.tensor(x) for x in CASES["aligned"])
    negatives = sample_negatives(5, 4, torch.Generator().manual_seed(0))
    one = triplet_infonce(image, pose2d, pose3d, negatives, 0.2).item()
    assert triplet_infonce(image, pose2d, -pose3d, negatives, 0.2).item() == pytest.approx(one, abs=1e-12)
    assert pair_infonce(image, -pose3d, 0.2).item() > pair_infonce(image, pose3d, 0.2).item() + 3


def test_the_order_of_the_batch_and_of_the_modalities_does_not_matter() -> None:
    tensors = [torch.tensor(x) for x in CASES["random"]]
    negatives = sample_negatives(5, 4, torch.Generator().manual_seed(0))
    loss = triplet_infonce(*tensors, negatives, 0.2).item()
    order = torch.tensor([3, 1, 4, 0, 2])
    moved = order.argsort()[negatives[order]]
    assert triplet_infonce(*(x[order] for x in tensors), moved, 0.2).item() == pytest.approx(loss, abs=1e-12)
    turned = triplet_infonce(tensors[2], tensors[0], tensors[1], negatives[..., [2, 0, 1]], 0.2)
    assert turned.item() == pytest.approx(loss, abs=1e-12)


class TestLargestEigenvalue:
    @staticmethod
    def matrix(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        one = torch.ones_like(a)
        return torch.stack([one, a, b, a, one, c, b, c, one], dim=-1).unflatten(-1, (3, 3))

    @pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9])
    def test_it_is_that_of_numpy(self, scale: float) -> None:
        cosines = torch.rand(3, 2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
        a, b, c = cosines * scale
        expected = np.linalg.eigvalsh(self.matrix(a, b, c).numpy())[:, -1]
        np.testing.assert_allclose(largest_eigenvalue(a, b, c), expected, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-8, 1e-4])
    def test_it_is_exact_to_rounding_where_eigenvalues_meet(self, noise: float) -> None:
        generator = torch.Generator().manual_seed(0)
        base = torch.tensor([[1.0, 1, 1], [-0.5, -0.5, -0.5], [0, 0, 0], [1, 1, -1], [1, 0, 0], [1, -1, -1]])
        rows = base.double().repeat(50, 1)
        rows += noise * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        a, b, c = rows.T
        expected = np.linalg.eigvalsh(self.matrix(a, b, c).numpy())[:, -1]
        np.testing.assert_allclose(largest_eigenvalue(a, b, c), expected, rtol=0, atol=1e-14)

    def test_the_gradient_is_that_of_the_eigenvector(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rows = torch.rand(500, 3, dtype=torch.float64, generator=generator) * 2 - 1
        rows[:100] *= 1e-7  # nearly orthogonal: the eigenvalue is close to double, the gradient is not small
        rows[100:110] = torch.tensor([1.0, 1, 1])
        a, b, c = rows.T.clone().requires_grad_()
        largest_eigenvalue(a, b, c).sum()
        found = torch.autograd.grad(largest_eigenvalue(a, b, c).sum(), (a, b, c))
        # without the ones on the diagonal, which would hide the small cosines
        apart = self.matrix(a, b, c).detach() - torch.eye(3, dtype=torch.float64)
        vector = np.linalg.eigh(apart.numpy())[1][:, :, -1]
        for gradient, (m, n) in zip(found, ((0, 1), (0, 2), (1, 2)), strict=True):
            np.testing.assert_allclose(gradient, 2 * vector[:, m] * vector[:, n], atol=1e-7)

    def test_it_passes_gradcheck(self) -> None:
        a, b, c = torch.rand(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) - 0.3
        assert torch.autograd.gradcheck(largest_eigenvalue, tuple(x.requires_grad_() for x in (a, b, c)))

    @pytest.mark.parametrize(
        "cosines",
        [(0, 0, 0), (1, 1, 1), (-0.5, -0.5, -0.5), (1, -1, -1), (-1, -1, -1), (1 + 2e-7,) * 3, (1e-30, 0, 0)],
    )
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_nothing_is_ever_nan(self, cosines: tuple[float, float, float], dtype: torch.dtype) -> None:
        a, b, c = (torch.tensor([x], dtype=dtype, requires_grad=True) for x in cosines)
        with torch.autocast("cpu", torch.bfloat16):
            value = largest_eigenvalue(a, b, c)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        value.sum().backward()
        assert value.isfinite().all()
        for cosine in (a, b, c):
            assert cosine.grad is not None
            assert cosine.grad.dtype == dtype
            assert cosine.grad.abs().item() <= 1

    def test_it_lies_between_one_and_three_and_broadcasts(self) -> None:
        vectors = functional.normalize(
            torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1
        )
        products = vectors @ vectors.transpose(1, 2)
        value = largest_eigenvalue(products[:, 0, 1], products[:, 0, 2], products[:, 1, 2])
        assert value.min() >= 1
        assert value.max() <= 3 + 1e-12
        assert largest_eigenvalue(torch.zeros(2, 1), torch.zeros(3), torch.tensor(0.5)).shape == (2, 3)


class TestNegatives:
    @pytest.mark.parametrize("mode", ["sampled", "full", "stratified"])
    @pytest.mark.parametrize(("B", "K"), [(2, 1), (3, 7), (8, 7)])
    def test_never_the_positive_and_always_a_member_of_the_anchor(self, B: int, K: int, mode: str) -> None:
        negatives = sample_negatives(B, K, torch.Generator().manual_seed(0), mode=mode)
        own = negatives == torch.arange(B)[:, None, None]
        assert negatives.shape == (B, 3 * B * (B - 1) if mode == "full" else K, 3)
        assert negatives.min() >= 0
        assert negatives.max() < B
        assert own.any(-1).all()
        assert not own.all(-1).any()

    @pytest.mark.parametrize("B", [2, 3, 5, 8])
    def test_the_full_set_is_that_of_the_definition(self, B: int) -> None:
        found = sample_negatives(B, 1, mode="full")
        for b in range(B):
            expected = [t for t in itertools.product(range(B), repeat=3) if b in t and t != (b, b, b)]
            assert [tuple(t) for t in found[b].tolist()] == expected
        assert found.shape[1] == B**3 - (B - 1) ** 3 - 1

    def test_the_sample_is_uniform_over_the_full_set(self) -> None:
        B, K = 4, 20_000
        drawn = sample_negatives(B, K, torch.Generator().manual_seed(0))
        for b in range(B):
            every = [tuple(t) for t in sample_negatives(B, 1, mode="full")[b].tolist()]
            counts = Counter(tuple(t) for t in drawn[b].tolist())
            expected = K / len(every)
            statistic = sum((counts[t] - expected) ** 2 / expected for t in every)
            assert set(counts) == set(every)
            assert statistic < chi2.ppf(0.999, len(every) - 1)

    def test_stratified_replaces_each_modality_equally_often(self) -> None:
        B, K = 7, 6
        replaced = sample_negatives(B, K, torch.Generator().manual_seed(0), mode="stratified")
        foreign = replaced != torch.arange(B)[:, None, None]
        assert (foreign.sum(-1) == 1).all()
        assert (foreign.sum(1) == K // 3).all()

    def test_a_generator_repeats_and_four_modalities_work(self) -> None:
        first, second = (sample_negatives(5, 9, torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(first, second)
        four = sample_negatives(3, 50, torch.Generator().manual_seed(0), modalities=4)
        own = four == torch.arange(3)[:, None, None]
        assert (own.any(-1) & ~own.all(-1)).all()
        assert sample_negatives(3, 1, mode="full", modalities=4).shape == (3, 3**4 - 2**4 - 1, 4)


class TestManyModalities:
    def test_three_are_the_closed_form(self) -> None:
        tensors = [torch.tensor(x, requires_grad=True) for x in CASES["half aligned"]]
        negatives = sample_negatives(5, 4, torch.Generator().manual_seed(0))
        closed, general = triplet_infonce(*tensors, negatives, 0.3), gram_infonce(tensors, negatives, 0.3)
        assert general.item() == pytest.approx(closed.item(), abs=1e-12)
        for one, other in zip(
            torch.autograd.grad(closed, tensors), torch.autograd.grad(general, tensors), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-10)

    def test_four_are_the_loop(self) -> None:
        arrays = [*CASES["half aligned"], CASES["random"][0][:, ::-1].copy()]
        negatives = sample_negatives(5, 3, torch.Generator().manual_seed(0), modalities=4)
        found = gram_infonce([torch.tensor(x) for x in arrays], negatives, 0.3)
        assert found.item() == pytest.approx(triplet_loop(arrays, negatives.numpy(), 0.3), abs=1e-12)


class TestNearDuplicates:
    def test_they_are_no_negatives(self) -> None:
        arrays = CASES["half aligned"]
        sequence, frame = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([10, 12, 40, 10, 11])
        near = near_in_time(sequence, frame, 2)
        assert near.nonzero().tolist() == [
            [0, 0],
            [0, 1],
            [1, 0],
            [1, 1],
            [2, 2],
            [3, 3],
            [3, 4],
            [4, 3],
            [4, 4],
        ]
        negatives = sample_negatives(5, 1, mode="full")
        tensors = [torch.tensor(x) for x in arrays]
        pair = pair_infonce(tensors[0], tensors[1], 0.2, near).item()
        triplet = triplet_infonce(*tensors, negatives, 0.3, near).item()
        assert pair == pytest.approx(pair_loop(arrays[0], arrays[1], 0.2, near.numpy()), abs=1e-12)
        assert triplet == pytest.approx(triplet_loop(arrays, negatives.numpy(), 0.3, near.numpy()), abs=1e-12)
        assert triplet < triplet_infonce(*tensors, negatives, 0.3).item()

    def test_poses_closer_than_the_distance(self) -> None:
        poses = torch.zeros(3, 4, 3)
        poses[1, 0, 0] = 30.0  # 7.5 in the mean over joints
        poses[2] = 100.0
        assert near_poses(poses, 10.0).tolist() == [
            [True, True, False],
            [True, True, False],
            [False, False, True],
        ]

    def test_where_all_are_near_nothing_is_left_to_learn(self) -> None:
        tensors = [torch.tensor(x, requires_grad=True) for x in CASES["random"]]
        near = torch.ones(5, 5, dtype=torch.bool)
        loss = alignment_loss(*tensors, sample_negatives(5, 4), 0.2, 0.2, 1.0, near)
        loss.backward()
        assert loss.item() == 0
        assert all(x.grad is not None and not x.grad.any() for x in tensors)


class TestTemperature:
    def test_it_is_clamped_after_the_step_and_can_come_back(self) -> None:
        tau = Temperature(0.2, 0.1, 1e4)
        optimiser = torch.optim.SGD(tau.parameters(), 10.0)
        tau().backward()
        optimiser.step()
        assert tau().item() < 0.1
        tau.clamp()
        assert tau().item() == pytest.approx(0.1)
        optimiser.zero_grad()
        (-tau()).backward()
        optimiser.step()
        tau.clamp()
        assert tau().item() > 0.1

    def test_a_frozen_tower_gets_no_gradient_while_the_temperature_does(self) -> None:
        tau = Temperature(0.2)
        image = torch.tensor(CASES["random"][0], requires_grad=True)
        frozen = torch.tensor(CASES["random"][1])
        pair_infonce(image, frozen, tau()).backward()
        assert image.grad is not None
        assert tau.log_tau.grad is not None
        assert tau.log_tau.grad.item() != 0
        assert frozen.grad is None

    def test_bounds_in_the_wrong_order_are_refused(self) -> None:
        with pytest.raises(SkelconvError, match="low <= initial <= high"):
            Temperature(0.01, 0.1, 1.0)


class TestRefused:
    GOOD = torch.eye(4)

    def test_a_batch_of_one(self) -> None:
        with pytest.raises(SkelconvError, match="batch of 1"):
            pair_infonce(self.GOOD[:1], self.GOOD[:1], 0.2)
        with pytest.raises(SkelconvError, match="batch of 1"):
            sample_negatives(1, 1)

    @pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
    def test_an_embedding_without_direction(self, bad: float) -> None:
        broken = self.GOOD.clone()
        broken[2] = bad
        negatives = sample_negatives(4, 3)
        with pytest.raises(SkelconvError, match=r"length .*modality 1, row 2"):
            triplet_infonce(self.GOOD, broken, self.GOOD, negatives, 0.2)

    def test_embeddings_of_different_widths(self) -> None:
        with pytest.raises(SkelconvError, match="one shape"):
            pair_infonce(self.GOOD, self.GOOD[:, :3], 0.2)

    def test_negatives_that_do_not_fit(self) -> None:
        three = (self.GOOD,) * 3
        with pytest.raises(SkelconvError, match="negatives of shape"):
            triplet_infonce(*three, sample_negatives(3, 2), 0.2)
        with pytest.raises(SkelconvError, match="rows of the batch"):
            triplet_infonce(*three, sample_negatives(4, 2) + 1, 0.2)
        with pytest.raises(SkelconvError, match="no negative"):
            triplet_infonce(*three, torch.zeros(4, 0, 3, dtype=torch.long), 0.2)
        with pytest.raises(SkelconvError, match="at least two to align"):
            gram_infonce([self.GOOD], sample_negatives(4, 2), 0.2)
        with pytest.raises(SkelconvError, match="duplicates of shape"):
            pair_infonce(self.GOOD, self.GOOD, 0.2, torch.zeros(3, 3, dtype=torch.bool))

    def test_an_unknown_mode_and_no_negatives(self) -> None:
        with pytest.raises(UnknownNameError, match="sampled"):
            sample_negatives(4, 3, mode="sample")
        with pytest.raises(SkelconvError, match="at least one negative"):
            sample_negatives(4, 0)


def matched_cosine_after(pairs: bool) -> float:
    """Train free embeddings of 16 frames, the 3D ones opposite to the others at first."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(16, 32, generator=generator)
    noise = 0.3 * torch.randn(3, 16, 32, generator=generator)
    towers = [(sign * base + part).requires_grad_() for sign, part in zip((1, 1, -1), noise, strict=True)]
    optimiser = torch.optim.Adam(towers, 0.02)
    for _ in range(150):
        negatives = sample_negatives(16, 15, generator)
        if pairs:
            loss = alignment_loss(*towers, negatives, 0.2, 0.2)
        else:
            loss = triplet_infonce(*towers, negatives, 0.2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return functional.cosine_similarity(towers[0], towers[2]).mean().item()


def test_the_triplet_term_alone_is_stuck_at_opposite_signs_and_with_pairs_it_is_not() -> None:
    assert matched_cosine_after(pairs=False) < -0.95
    assert matched_cosine_after(pairs=True) > 0.85
