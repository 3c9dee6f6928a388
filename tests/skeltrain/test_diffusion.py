from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from skeltrain.models.diffusion import add_noise, alpha_bar, sample, sampling_steps
from skeltrain.models.errors import ModelError


def reference(steps: int, rho: float) -> np.ndarray:
    """The cumulative product, one step after the other."""
    left, values = 1.0, []
    for i in range(steps):
        beta = 1e-4 + (0.02 - 1e-4) * (i / (steps - 1))
        left *= 1 - beta**rho
        values.append(left)
    return np.array(values)


@pytest.mark.parametrize("rho", [1.0, 0.8, 0.6])
def test_the_schedule_is_the_cumulative_product(rho: float) -> None:
    left = alpha_bar(rho=rho)
    assert left.shape == (1000,)
    assert left.dtype == torch.float64
    np.testing.assert_allclose(left.numpy(), reference(1000, rho), rtol=1e-11)


def test_a_smaller_rho_means_more_noise() -> None:
    """Figures of three schedules, computed independently."""
    expected = {1.0: (0.259, 0.391, 4.0e-5), 0.8: (0.134, 0.217, 1.7e-11), 0.6: (0.057, 0.102, 9e-28)}
    for rho, (half, root, last) in expected.items():
        left = alpha_bar(rho=rho)
        assert (left > 0.5).double().mean().item() == pytest.approx(half, abs=1e-3)
        assert left.sqrt().mean().item() == pytest.approx(root, abs=1e-3)
        assert left[-1].item() == pytest.approx(last, rel=0.05)


@pytest.mark.parametrize(("steps", "rho"), [(0, 1.0), (10, 0.0), (10, -1.0), (10, math.nan)])
def test_a_schedule_that_is_none_is_refused(steps: int, rho: float) -> None:
    with pytest.raises(ModelError, match=f"found {steps} steps and rho"):
        alpha_bar(steps, rho)


def test_the_forward_process_mixes_clean_values_and_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    left = alpha_bar(rho=0.8)
    step = torch.tensor([0, 250, 999])
    noisy = add_noise(clean, step, noise, left)
    for i, t in enumerate(step.tolist()):
        a = reference(1000, 0.8)[t]
        expected = math.sqrt(a) * clean[i] + math.sqrt(1 - a) * noise[i]
        torch.testing.assert_close(noisy[i], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("steps", "of"), [(1, 1000), (2, 1000), (50, 1000), (999, 1000), (1000, 1000)])
def test_sampling_runs_from_the_last_step_to_the_first(steps: int, of: int) -> None:
    chosen = sampling_steps(steps, of)
    assert len(chosen) == steps
    assert chosen[0] == of - 1
    assert chosen[-1] == 0 or steps == 1
    assert all(one > other for one, other in itertools.pairwise(chosen))


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_there_are_are_refused(steps: int) -> None:
    with pytest.raises(ModelError, match=f"found {steps} sampling steps, expected from 1 to the 1000"):
        sampling_steps(steps, 1000)


def test_all_steps_with_eta_one_are_ancestral_sampling() -> None:
    """Against the posterior of the forward process, mean and variance in closed form."""
    left = alpha_bar(25)
    start = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def predict(x: Tensor, step: Tensor) -> Tensor:
        return 0.7 * x.tanh() + 0.01 * step[:, None]

    given = sample(predict, start, left, 25, eta=1.0, generator=torch.Generator().manual_seed(2))

    generator, x = torch.Generator().manual_seed(2), start
    for t in reversed(range(25)):
        now = left[t]
        before = left[t - 1] if t else torch.ones((), dtype=torch.float64)
        alpha = now / before
        beta = 1 - alpha
        mean = before.sqrt() * beta / (1 - now) * predict(x, torch.full((6,), t))
        mean = mean + alpha.sqrt() * (1 - before) / (1 - now) * x
        variance = beta * (1 - before) / (1 - now)
        x = mean if t == 0 else mean + variance.sqrt() * torch.randn(6, 2, generator=generator).double()
    torch.testing.assert_close(given, x, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (7, 0.0), (7, 1.0), (100, 0.5)])
def test_with_the_truth_predicted_sampling_ends_at_the_truth(steps: int, eta: float) -> None:
    truth = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(3))
    start = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(4))
    given = sample(lambda x, step: truth, start, alpha_bar(100), steps, eta)
    torch.testing.assert_close(given, truth, atol=1e-5, rtol=0)


def best_guess(mean: float, spread: float, left: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What to predict where clean values are N(mean, spread): their expectation given the noisy ones."""

    def predict(x: Tensor, step: Tensor) -> Tensor:
        a = left[step].to(x.dtype)[:, None]
        gain = spread**2 * a.sqrt() / (a * spread**2 + 1 - a)
        return mean + gain * (x - a.sqrt() * mean)

    return predict


@pytest.mark.parametrize(("steps", "eta", "within"), [(1000, 1.0, 0.03), (1000, 0.0, 0.03), (50, 0.0, 0.1)])
def test_sampling_draws_from_the_distribution_that_was_diffused(
    steps: int, eta: float, within: float
) -> None:
    """Few steps narrow the spread: it is .272 after 50, .285 after 100, and .296 after all 1000."""
    left = alpha_bar()
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(20_000, 1, generator=generator)
    drawn = sample(best_guess(1.5, 0.3, left), start, left, steps, eta, generator)
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.3, rel=within)


def test_an_eta_out_of_range_is_refused() -> None:
    with pytest.raises(ModelError, match=r"found eta 1\.5"):
        sample(lambda x, step: x, torch.zeros(1, 1), alpha_bar(), 5, eta=1.5)
